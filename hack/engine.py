"""The container engine, and which of two worlds this machine is in.

Public world: Docker runs and an image registry answers, so stock images are used.  Packages world: only package
registries answer, so podman comes from Debian and every image is made from packages.  Both build the same Dockerfiles.
"""

import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from hack.paths import CACHE
from hack.steps import Step, Stop, quietly, step

PYTHON_IMAGE = "docker.io/library/python:3.13-slim-trixie"
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_DEBIAN_PACKAGES = (
    "podman", "buildah", "runc", "conmon", "netavark", "aardvark-dns", "containernetworking-plugins", "iptables",
    "debootstrap",
)  # fmt: skip
_CONTAINERS_CONF = """\
# Made by hack/engine.py; only Kaizen's own containers use it.
[containers]
# Below the hard limits of a nested machine: a privileged container with systemd starts only then.
default_ulimits = ["nofile=19000:19000", "nproc=30000:30000"]
[engine]
# crun refuses the hybrid cgroup layout.
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
# Networks of other users of podman are none of our business, and go on when ours are removed.
network_config_dir = "{networks}"
"""
_STORAGE_CONF = """\
# Made by hack/engine.py: images and containers live with the rest of Kaizen's cache and go away with it.
[storage]
driver = "overlay"
graphroot = "{graph}"
runroot = "{run}"
"""


@dataclass(frozen=True)
class Engine:
    """A container engine that runs, as a command and the environment that it and kind need."""

    command: str
    public: bool
    env: dict[str, str] = field(default_factory=dict)

    def run(self, current: Step, *words: str | Path, timeout: float | None = None) -> str:
        """Run a command of the engine for a step; raises Stop when it fails."""
        return current.run(self.command, *words, env=self.env, timeout=timeout)

    def ask(self, *words: str | Path, timeout: float = 60) -> str | None:
        """Standard output of a command of the engine, or None when it fails."""
        answer = quietly(self.command, *words, env=self.env, timeout=timeout)
        return answer.stdout if answer.returncode == 0 else None

    def has_image(self, image: str) -> bool:
        return self.ask("image", "inspect", "--format", "{{.Id}}", image) is not None

    def image_bytes(self, image: str) -> int:
        """Size of an image's unpacked layers, in bytes."""
        return int(self.ask("image", "inspect", "--format", "{{.Size}}", image) or 0)

    def build(
        self,
        current: Step,
        context: Path,
        image: str,
        *,
        dockerfile: str = "Dockerfile",
        target: str | None = None,
        arguments: dict[str, str] | None = None,
        contexts: dict[str, Path] | None = None,
    ) -> None:
        """Build an image from a Dockerfile, with named extra build contexts and, where packages come through a
        private certificate authority, the machine's certificates."""
        words: list[str | Path] = [
            *(["buildx", "build", "--load"] if self.public else ["build"]),
            "--tag",
            image,
            "--file",
            context / dockerfile,
        ]
        if target:
            words += ["--target", target]
        for name, value in (arguments or {}).items():
            words += ["--build-arg", f"{name}={value}"]
        for name, path in (contexts or {}).items():
            words += ["--build-context", f"{name}={path}"]
        if not self.public:
            words += ["--layers", "--network", "host", "--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"]
        self.run(current, *words, context)

    def drop_other_tags(self, image: str) -> None:
        """Remove older builds of the same image."""
        repository, _, tag = image.rpartition(":")
        listed = self.ask("images", "--format", "{{.Repository}}:{{.Tag}}", repository) or ""
        for other in listed.split():
            if other != image and other.startswith(repository + ":") and tag:
                self.ask("rmi", other)


def detect() -> Engine:
    """The engine of the world this machine is in; nothing is installed or started.

    KAIZEN_ENGINE=docker or KAIZEN_ENGINE=podman overrides what would be found.
    """
    wish = os.environ.get("KAIZEN_ENGINE", "")
    if wish not in ("", "docker", "podman"):
        raise Stop(f"KAIZEN_ENGINE is {wish!r}; it must be docker, podman or unset.")
    if wish != "podman" and quietly("docker", "info", timeout=10).returncode == 0:
        docker = Engine("docker", public=True)
        if docker.has_image(PYTHON_IMAGE) or docker.ask("pull", "--quiet", PYTHON_IMAGE, timeout=180) is not None:
            return docker
    if wish == "docker":
        raise Stop(f"KAIZEN_ENGINE is docker, but `docker info` fails or {PYTHON_IMAGE} cannot be pulled.")
    home = CACHE / "engine"
    return Engine(
        "podman",
        public=False,
        env={
            "CONTAINERS_CONF": str(home / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
            "KIND_EXPERIMENTAL_PROVIDER": "podman",
        },
    )


def check_machine(engine: Engine) -> None:
    """Say in one sentence what cannot work, before anything is started; raises Stop."""
    need, free = (6 if engine.public else 14), shutil.disk_usage(CACHE).free / 2**30
    built = engine.public or (CACHE / "engine" / "storage").exists()
    if free < (3 if built else need):
        raise Stop(
            f"{CACHE} has {free:.1f} GiB free and the cluster needs {3 if built else need}; free some space or set KAIZEN_CACHE."
        )
    if engine.public and quietly("docker", "buildx", "version").returncode != 0:
        raise Stop(
            "Docker has no buildx, which the images are built with; install it, on Debian with `apt-get install docker-buildx`."
        )
    if quietly(sys.executable, "-m", "pip", "--version").returncode != 0:
        raise Stop("python3 has no pip; install it, on Debian with `apt-get install python3-pip python3-venv`.")
    if engine.public:
        return
    if shutil.which("apt-get") is None:
        raise Stop(
            "There is no working Docker with an image registry, and no apt-get to make one from Debian's packages; start Docker."
        )
    if os.geteuid() != 0:
        why = "There is no working Docker with an image registry, so the cluster is made from packages, which needs root"
        raise Stop(f"{why}; run this as root or start Docker.")


def install(engine: Engine) -> None:
    """Install the engine where it comes from packages, and write its settings; does nothing in the public world."""
    if engine.public:
        return
    home = CACHE / "engine"
    home.mkdir(parents=True, exist_ok=True)
    (home / "networks").mkdir(exist_ok=True)
    (home / "containers.conf").write_text(_CONTAINERS_CONF.format(networks=home / "networks"))
    (home / "storage.conf").write_text(_STORAGE_CONF.format(graph=home / "storage", run="/run/kaizen-containers"))
    Path("/lib/modules").mkdir(exist_ok=True)  # kind mounts it into its nodes
    if not all(quietly("dpkg-query", "-W", "-f", "${db:Status-Status}", p).stdout == "installed" for p in _DEBIAN_PACKAGES):
        with step("Install the container engine from Debian's packages") as current:
            env = {"DEBIAN_FRONTEND": "noninteractive"}
            current.run("apt-get", "update", env=env)
            current.run("apt-get", "install", "--yes", "--no-install-recommends", *_DEBIAN_PACKAGES, env=env)


def debian_mirror() -> str:
    """The Debian mirror that this machine's apt sources name; raises Stop when none does."""
    listed = quietly("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages").stdout
    for uri, label in re.findall(r"^(\S+) (.*)$", listed, re.MULTILINE):
        if label == "Debian":
            return str(uri)
    raise Stop("apt's sources name no Debian mirror; add one to /etc/apt/sources.list and run `apt-get update`.")
