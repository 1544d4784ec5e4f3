"""Base images: public ones where a registry answers, otherwise Debian installed from its packages and cleaned."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from hack.engine import PYTHON_IMAGE, Engine, debian_mirror
from hack.paths import CACHE
from hack.steps import Step, digest, discard, step, unmount_below

_NOT_NEEDED = (
    "usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bash-completion",
    "usr/lib/python3.13/test", "usr/lib/python3.13/idlelib", "var/cache/apt", "var/lib/apt/lists", "var/cache/debconf",
    "var/log",
)  # fmt: skip


@dataclass(frozen=True)
class Base:
    """A Debian release with some packages, and the public image that serves in its place."""

    name: str
    release: str
    packages: tuple[str, ...]
    public: str | None
    removed: tuple[str, ...] = _NOT_NEEDED

    @property
    def image(self) -> str:
        return f"localhost/kaizen/base-{self.name}:{digest(self.release, *self.packages, '-', *self.removed)}"


PYTHON = Base("python", "trixie", ("python3", "python3-venv", "ca-certificates"), PYTHON_IMAGE)
"""What Kaizen's own images start from: Python 3.13 on Debian trixie."""
NODE = Base("node", "bookworm", (), None)
"""What a cluster node starts from: bookworm, because the systemd of later releases does not start on cgroup v1."""


def provide(engine: Engine, base: Base) -> str:
    """The name of a base image that exists on this machine, made first when it has to be."""
    if engine.public and base.public:
        return base.public
    if not engine.has_image(base.image):
        with step(f"Make the base image {base.name} from Debian {base.release}") as current:
            _bootstrap(engine, current, base)
        engine.drop_other_tags(base.image)
    return base.image


def _bootstrap(engine: Engine, current: Step, base: Base) -> None:
    work = CACHE / "bootstrap" / base.name
    root, archive = work / "root", work / "base.tar"
    unmount_below(work)
    discard(work)
    work.mkdir(parents=True)
    include = [f"--include={','.join(base.packages)}"] if base.packages else []
    current.run("debootstrap", "--variant=minbase", *include, base.release, root, debian_mirror())
    _clean(root, base)
    current.run("tar", "--create", "--file", archive, "--numeric-owner", "--directory", root, ".")
    engine.run(current, "import", archive, base.image)  # from a file: a pipe fails
    shutil.rmtree(work)


def _clean(root: Path, base: Base) -> None:
    for path in base.removed:
        for entry in (root / path).iterdir() if (root / path).is_dir() else ():
            discard(entry)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/apt/lists/partial").mkdir(parents=True, exist_ok=True)
    for compiled in root.rglob("__pycache__"):
        if compiled.is_dir():
            shutil.rmtree(compiled)
