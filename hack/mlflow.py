"""A real MLflow server for the tests: a virtual environment in the cache, with exactly what requirements/mlflow.txt pins."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.environment import installed, pin
from hack.paths import CACHE, CACHE_TAG, REPOSITORY
from hack.steps import digest, step

REQUIREMENTS = REPOSITORY / "requirements" / "mlflow.txt"
MLFLOW = "mlflow[auth]==3.17.2"
_LEFT_OUT = (
    "contourpy", "cycler", "fonttools", "joblib", "kiwisolver", "matplotlib", "narwhals", "pillow", "pyarrow", "pyparsing",
    "scikit-learn", "scipy", "skops", "threadpoolctl",
)  # fmt: skip
"""What MLflow's client uses and its server does not: more than half of it all."""


def install() -> Path:
    """The Python that `python -m mlflow server` runs with, installed first when it has to be.  Raises Stop."""
    with _alone():
        return installed(CACHE / f"mlflow-{digest(REQUIREMENTS)}", REQUIREMENTS, "Install MLflow for the tests")


def lock() -> None:
    """Pin MLflow's server and what it needs."""
    with step("Pin MLflow for the tests") as current:
        pin(current, REQUIREMENTS, "-", left_out=_LEFT_OUT, stdin=MLFLOW + "\n")


@contextmanager
def _alone() -> Iterator[None]:
    """Two test runs install one after the other; the lock goes away with the process, however it ends."""
    if not CACHE.exists():
        CACHE.mkdir(parents=True)
        CACHE_TAG.write_text("Signature: 8a477f597d28d172789f06886806bc55\n# Made by Kaizen, and removed by `make distclean`.\n")
    with (CACHE / ".mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
