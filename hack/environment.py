"""The development environment: `.venv`, and the pinned requirements of it and of every image."""

import venv
from collections.abc import Iterable
from pathlib import Path

from hack.paths import CACHE, REPOSITORY
from hack.steps import Step, Stop, discard, step

VENV = REPOSITORY / ".venv"
WALKER = REPOSITORY / "operator" / "kaizen" / "serving" / "engine" / "walk.c"
_LOCKS = {
    "dev": "requirements/dev.txt",
    "compiler": "images/shared/compiler.txt",
    "operator": "images/operator/requirements.txt",
    "trainer": "images/trainer/requirements.txt",
    "server": "images/server/requirements.txt",
    "server-sklearn": "images/server/requirements-sklearn.txt",
}
"""Extra of pyproject.toml → the file with its pinned requirements; all agree with the first, which has everything."""
_NOT_SERVED = ("annotated-types", "pydantic", "pydantic-core", "pyyaml", "typing-inspection")
_LEFT_OUT = {
    "compiler": (*_NOT_SERVED, "typing-extensions"),
    "server": (*_NOT_SERVED, "packaging", "scipy"),
    "server-sklearn": _NOT_SERVED,
}
"""By extra, what is not installed although something names it: the command's packages are not imported by `kaizen serve`,
and of Treelite the compiled engine loads the native library alone, which needs no other package."""


def install() -> None:
    """Make `.venv` hold exactly what requirements/dev.txt pins."""
    with step("Install the development tools") as current:
        fill(VENV, REPOSITORY / "requirements" / "dev.txt", current, dependencies=True)
        _compile(current)


def installed(home: Path, requirements: Path, title: str) -> Path:
    """The Python of an environment of its own, made below the cache when it is not there yet; those it replaces are deleted.

    `home` is <name>-<digest of the requirements>.  Not the dependencies of what is named: some are left out.  Raises Stop.
    """
    complete = home / ".installed"
    if not complete.exists():
        with step(title) as current:
            for older in home.parent.glob(f"{home.name.rpartition('-')[0]}-*"):
                discard(older)
            fill(home, requirements, current, dependencies=False)
            complete.touch()
    return home / "bin" / "python"


def fill(home: Path, requirements: Path, current: Step, *, dependencies: bool) -> None:
    """Make a virtual environment, or go on with it, and install what is pinned."""
    python = home / "bin" / "python"
    if not python.exists():
        try:
            venv.create(home, with_pip=True, clear=True)
        except Exception as problem:
            raise Stop(f"{home} cannot be made ({problem}); on Debian run `apt-get install python3-venv`.") from problem
    options = () if dependencies else ("--no-deps",)
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    current.run(*pip, "install", "--quiet", "--require-hashes", *options, "-r", requirements)


def _compile(current: Step) -> None:
    """The library that walks trees, as images/shared/compile.sh makes it."""
    library, compiler = VENV / "lib" / "libkaizenwalk.so", (VENV / "bin" / "python", "-m", "ziglang", "cc")
    current.run(
        *compiler, "-O3", "-mcpu=baseline", "-ffp-contract=off", "-shared", "-fPIC", "-o", library, WALKER,
        env={"ZIG_GLOBAL_CACHE_DIR": str(CACHE / "zig")},
    )  # fmt: skip


def lock() -> None:
    """Pin the requirements of `.venv` and of every image."""
    with step("Pin the requirements") as current:
        first: str | None = None
        for extra, target in _LOCKS.items():
            options = ["--constraint", first] if first else []
            pin(current, target, "pyproject.toml", "--extra", extra, *options, left_out=_LEFT_OUT.get(extra, ()))
            first = first or target


def pin(
    current: Step, target: str | Path, source: str, *options: str, left_out: Iterable[str] = (), stdin: str | None = None
) -> None:
    """Pin the newest allowed versions of what a source (`-`: stdin) names: with the hashes of their files, without any host."""
    without = [word for package in left_out for word in ("--no-emit-package", package)]
    current.run(
        VENV / "bin" / "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--upgrade",
        "--generate-hashes", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
        "--custom-compile-command", "make lock", *options, *without, "--output-file", target, source,
        cwd=REPOSITORY, stdin=stdin,
    )  # fmt: skip
