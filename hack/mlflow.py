"""A real MLflow server for the tests: a virtual environment in the cache, with exactly what requirements/mlflow.txt pins."""

import fcntl
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.environment import VENV
from hack.paths import CACHE, CACHE_TAG, REPOSITORY
from hack.steps import Stop, digest, discard, step

REQUIREMENTS = REPOSITORY / "requirements" / "mlflow.txt"
MLFLOW = "mlflow[auth]==3.17.2"
_LEFT_OUT = (
    "contourpy", "cycler", "fonttools", "joblib", "kiwisolver", "matplotlib", "narwhals", "pillow", "pyarrow", "pyparsing",
    "scikit-learn", "scipy", "skops", "threadpoolctl",
)  # fmt: skip
"""What MLflow's client uses and its server does not: more than half of it all."""
_DIRECTORY = CACHE / "mlflow"


def install() -> Path:
    """The Python that `python -m mlflow server` runs with, installed first when it has to be.  Raises Stop."""
    with _alone():
        home = _DIRECTORY / digest(REQUIREMENTS)
        python = home / "bin" / "python"
        if not (home / ".installed").exists():
            with step("Install MLflow for the tests") as current:
                for older in _DIRECTORY.glob("*"):
                    discard(older)
                try:
                    venv.create(home, with_pip=True, clear=True)
                except Exception as problem:
                    raise Stop(f"{home} cannot be made ({problem}); on Debian run `apt-get install python3-venv`.") from problem
                # Not its dependencies: some are left out.
                pip = (python, "-m", "pip", "--disable-pip-version-check")
                current.run(*pip, "install", "--quiet", "--require-hashes", "--no-deps", "-r", REQUIREMENTS)
                (home / ".installed").touch()
        return python


def lock() -> None:
    """Pin MLflow's server and what it needs, with hashes and without any host."""
    with step("Pin MLflow for the tests") as current:
        left_out = [word for package in _LEFT_OUT for word in ("--no-emit-package", package)]
        current.run(
            VENV / "bin" / "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--upgrade",
            "--generate-hashes", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
            "--custom-compile-command", "make lock", *left_out, "--output-file", REQUIREMENTS, "-",
            cwd=REPOSITORY, stdin=MLFLOW + "\n",
        )  # fmt: skip


@contextmanager
def _alone() -> Iterator[None]:
    """Two test runs install one after the other; the lock goes away with the process, however it ends."""
    if not CACHE.exists():
        CACHE.mkdir(parents=True)
        CACHE_TAG.write_text("Signature: 8a477f597d28d172789f06886806bc55\n# Made by Kaizen, and removed by `make distclean`.\n")
    with (CACHE / ".mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
