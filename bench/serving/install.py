"""What the benchmark loads beside Kaizen, and with: each peer in an environment of its own, wrk and nginx from Debian's packages.

All of it lies below Kaizen's cache.  The packages are unpacked there, not installed: nginx as a package starts a server.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hack.environment import installed, pin
from hack.paths import CACHE, REPOSITORY
from hack.steps import Step, Stop, digest, discard, quietly, step

__all__ = ["BENCH", "PEERS", "Tools", "install_peer", "install_tools", "lock"]

BENCH = CACHE / "bench"
REQUIREMENTS = REPOSITORY / "bench" / "serving" / "peers"
PEERS: Mapping[str, tuple[str, ...]] = {
    # Its default inference process dies with newer uvloop; httptools, which it does not ask for, makes it faster.
    "mlserver": ("mlserver==1.7.1", "mlserver-sklearn==1.7.1", "httptools", "uvloop<0.22"),
    "kserve": ("kserve==0.21.0",),
}
SAME = ("scikit-learn", "numpy", "joblib")
"""Of these each peer has the version that Kaizen has."""
PACKAGES = ("wrk", "nginx")


@dataclass(frozen=True)
class Tools:
    """Programs from Debian's packages, and the environment in which they find their libraries."""

    wrk: Path
    nginx: Path
    environment: Mapping[str, str]


def install_peer(name: str) -> Path:
    """The Python of a peer, installed first when it has to be.  Raises Stop."""
    requirements = REQUIREMENTS / f"{name}.txt"
    return installed(BENCH / f"{name}-{digest(requirements)}", requirements, f"Install {name} for the benchmark")


def install_tools() -> Tools:
    """wrk and nginx, unpacked first when they have to be.  Raises Stop."""
    home = BENCH / "debian"
    if not (home / ".installed").exists():
        with step("Unpack wrk and nginx from Debian's packages") as current:
            _unpack(current, home)
            (home / ".installed").touch()
    libraries = sorted({str(path.parent) for path in home.glob("usr/lib/**/*.so*")})
    return Tools(home / "usr/bin/wrk", home / "usr/sbin/nginx", {"LD_LIBRARY_PATH": os.pathsep.join(libraries)})


def _unpack(current: Step, home: Path) -> None:
    discard(home)
    home.mkdir(parents=True)
    if os.geteuid() == 0:
        current.run("apt-get", "update")
    elif quietly("apt-cache", "policy", *PACKAGES).stdout.count("Candidate:") < len(PACKAGES):
        raise Stop("apt knows no wrk or no nginx; run `apt-get update` as root once.")
    would = current.run("apt-get", "install", "--simulate", "--no-install-recommends", *PACKAGES)
    wanted = {*PACKAGES, *re.findall(r"^Inst (\S+)", would, re.MULTILINE)}
    current.run("apt-get", "download", *sorted(wanted), cwd=home)
    for package in home.glob("*.deb"):
        current.run("dpkg", "-x", package, home)
        package.unlink()


def lock() -> None:
    """Pin the peers and what they need."""
    ours = (REPOSITORY / "requirements" / "dev.txt").read_text()
    same = [f"{name}=={found[1]}" for name in SAME if (found := re.search(rf"^{name}==([^ ;]+)", ours, re.MULTILINE))]
    with step("Pin the benchmark's peers") as current:
        for name, wanted in PEERS.items():
            pin(current, REQUIREMENTS / f"{name}.txt", "-", stdin="\n".join([*wanted, *same]) + "\n")
