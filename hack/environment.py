"""The development environment: `.venv`, and the pinned requirements of it and of every image."""

import venv

from hack.paths import CACHE, REPOSITORY
from hack.steps import Step, Stop, step

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
    python = VENV / "bin" / "python"
    with step("Install the development tools") as current:
        if not python.exists():
            try:
                venv.create(VENV, with_pip=True, clear=True)
            except Exception as problem:
                raise Stop(f"{VENV} cannot be made ({problem}); on Debian run `apt-get install python3-venv`.") from problem
        pip = (python, "-m", "pip", "--disable-pip-version-check")
        current.run(*pip, "install", "--quiet", "--require-hashes", "-r", REPOSITORY / "requirements" / "dev.txt")
        _compile(current)


def _compile(current: Step) -> None:
    """The library that walks trees, as images/shared/compile.sh makes it."""
    library, compiler = VENV / "lib" / "libkaizenwalk.so", (VENV / "bin" / "python", "-m", "ziglang", "cc")
    current.run(
        *compiler,
        "-O3",
        "-mcpu=baseline",
        "-ffp-contract=off",
        "-shared",
        "-fPIC",
        "-o",
        library,
        WALKER,
        env={"ZIG_GLOBAL_CACHE_DIR": str(CACHE / "zig")},
    )


def lock() -> None:
    """Pin the newest allowed versions of all requirements, with the hashes of their files and without any host."""
    with step("Pin the requirements") as current:
        first: str | None = None
        for extra, target in _LOCKS.items():
            options = ["--constraint", first] if first else []
            options += [word for package in _LEFT_OUT.get(extra, ()) for word in ("--no-emit-package", package)]
            current.run(
                VENV / "bin" / "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--upgrade",
                "--generate-hashes", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
                "--custom-compile-command", "make lock", *options, "--extra", extra, "--output-file", target,
                "pyproject.toml", cwd=REPOSITORY,
            )  # fmt: skip
            first = first or target
