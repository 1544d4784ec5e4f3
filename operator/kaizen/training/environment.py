"""What made a run: code, packages, machine, time and memory; and all of it, with the figures, as run.json holds it.

The readings come from the kernel and the installed files; everything else is a pure function of them.
"""

import hashlib
import importlib.metadata
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaizen import __version__

__all__ = ["CGROUP", "PACKAGES", "Meter", "Usage", "code_digest", "describe", "limits", "run_document", "trial_points"]

PACKAGES = (
    "cmaes", "duckdb", "fairlearn", "lightgbm", "numpy", "optuna", "pandas", "pyarrow", "scikit-learn", "scipy", "shap", "skops",
    "treelite", "xgboost-cpu",
)  # fmt: skip
"""Those whose version may change a model or its figures."""
SOURCES = ("training", "serving", "monitoring", "api")
"""Of the package kaizen: what makes and checks a model."""
MOST_METRICS = 256
MOST_PARAMETERS = 256
MOST_POINTS = 1000
LONGEST_NAME = 128
LONGEST_TEXT = 1024
UNLIMITED = 1 << 60
"""What cgroup v1 says where there is no limit is above this."""
CGROUP = Path("/sys/fs/cgroup")
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Usage:
    """What a run has cost so far."""

    duration_seconds: float
    cpu_seconds: float
    """Of this process and of its children that have ended."""
    peak_memory_bytes: int
    """Most that this process held at once (ru_maxrss)."""


def _rusage(who: int) -> tuple[float, int]:
    """CPU seconds and peak resident bytes."""
    found = resource.getrusage(who)
    unit = 1 if sys.platform == "darwin" else 1024
    return found.ru_utime + found.ru_stime, found.ru_maxrss * unit


@dataclass(frozen=True)
class Meter:
    """Begins when it is made."""

    clock: Callable[[], float] = time.monotonic
    rusage: Callable[[int], tuple[float, int]] = _rusage
    _begun: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_begun", self.clock())

    def read(self) -> Usage:
        """Until now.  CPU time and memory are those of the whole process, whose imports belong to the run as well."""
        # A child's peak is not told: before it runs its own program it counts as large as its parent.
        (own, peak), (others, _) = self.rusage(resource.RUSAGE_SELF), self.rusage(resource.RUSAGE_CHILDREN)
        return Usage(self.clock() - self._begun, own + others, peak)


def describe(environment: Mapping[str, str] = os.environ, cgroup: Path = CGROUP, cpu_info: Path = CPU_INFO) -> dict[str, Any]:
    """The code and the machine of this process, in about 5 ms.  Unknown things are left out."""
    memory, cores = limits(cgroup)
    found = {
        "kaizen": __version__,
        "image": environment.get("KAIZEN_IMAGE"),
        "python": platform.python_version(),
        "packages": versions(),
        "platform": platform.platform(),
        "cpu": _cpu_model(cpu_info) or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "coresLimit": cores,
        "memoryLimitBytes": memory,
    }
    return {name: value for name, value in found.items() if value}


def versions() -> dict[str, str]:
    """The installed ones of PACKAGES."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def limits(cgroup: Path = CGROUP) -> tuple[int | None, float | None]:
    """Bytes of memory and number of cores that the container may use, by cgroup v2 or v1; None where there is no limit."""
    memory = _number(cgroup / "memory.max") or _number(cgroup / "memory" / "memory.limit_in_bytes")
    quota, _, period = _text(cgroup / "cpu.max").partition(" ")
    if not quota:
        quota, period = (_text(cgroup / "cpu" / f"cpu.cfs_{one}_us") for one in ("quota", "period"))
    cores = int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None
    return (memory if memory and memory < UNLIMITED else None), cores


def code_digest(package: Path | None = None, packages: Mapping[str, str] | None = None, more: Iterable[str] = ()) -> str:
    """What the same data and spec are turned into a model by: `sha256:` over Kaizen's sources and the packages' versions.

    Args:
        package: the directory of the package kaizen.
        packages: names and versions.
        more: digests of the user's own code: of a file, a git commit, an image.
    """
    root = package or Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(path for part in SOURCES for path in (root / part).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    used = versions() if packages is None else packages
    python = ".".join(platform.python_version_tuple()[:2])
    for name, version in sorted({"python": python, **used}.items()):
        digest.update(f"{name}=={version}\n".encode())
    for one in more:
        digest.update(f"{one}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def run_document(
    manifest: Mapping[str, Any],
    usage: Usage,
    environment: Mapping[str, Any],
    code: str,
    points: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What stands in run.json beside the winning attempt: less than half a MiB.

    Args:
        manifest: of the model.
        usage: of the attempt.
        environment: see describe.
        code: see code_digest.
        points: metrics over time, each {name, step, value}; at most MOST_POINTS are kept, evenly by name.
    """
    return {
        "codeDigest": code,
        "code": manifest.get("code"),
        "dataDigest": manifest.get("dataDigest"),
        "modelDigest": manifest.get("modelDigest"),
        "estimator": (manifest.get("estimator") or {}).get("name"),
        "parameters": _bounded((manifest.get("estimator") or {}).get("parameters") or {}),
        "metrics": [dict(one) for one in manifest.get("metrics", ())[:MOST_METRICS]],
        "metricsOverTime": _thinned(points),
        "environment": dict(environment),
        "durationSeconds": round(usage.duration_seconds, 3),
        "cpuSeconds": round(usage.cpu_seconds, 3),
        "peakMemoryBytes": usage.peak_memory_bytes,
    }


def trial_points(trials: Iterable[Any], metric: str) -> list[dict[str, Any]]:
    """The search as metrics over time: `search/METRIC` of each finished trial, its number the step."""
    return [
        {"name": f"search/{metric}", "step": trial.number, "value": trial.value}
        for trial in trials
        if trial.state == "Complete" and trial.value is not None
    ]


def _thinned(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Finite ones, by name and step; of too many every n-th and the last of each name."""
    series: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        value = point["value"]
        if isinstance(value, int | float) and math.isfinite(value):
            name = str(point["name"])[:LONGEST_NAME]
            series.setdefault(name, []).append({"name": name, "step": int(point["step"]), "value": float(value)})
    kept = dict(sorted(series.items())[:MOST_METRICS])
    each = max(MOST_POINTS // max(len(kept), 1), 2)
    result = []
    for found in kept.values():
        found.sort(key=lambda point: point["step"])
        count = min(each, len(found))
        result += [found[round(position * (len(found) - 1) / max(count - 1, 1))] for position in range(count)]
    return result


def _bounded(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, flags and short texts as they are, anything else as text."""
    result: dict[str, Any] = {}
    for name, value in list(parameters.items())[:MOST_PARAMETERS]:
        plain = value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
        result[str(name)[:LONGEST_NAME]] = value if plain else str(value)[:LONGEST_TEXT]
    return result


def _cpu_model(path: Path) -> str:
    for line in _text(path).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
