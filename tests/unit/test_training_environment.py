"""What made a run: digests that change with the code and with nothing else, limits as the kernel writes them, bounds."""

import json
import math
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hack.paths import REPOSITORY
from kaizen.training import environment
from kaizen.training.environment import Meter, Usage, code_digest, describe, limits, run_document, trial_points

VERSIONS = {"numpy": "2.4.6"}
USAGE = Usage(12.3456, 20.5, 3 << 30)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package's sources."""
    return Path(shutil.copytree(REPOSITORY / "operator" / "kaizen", tmp_path / "kaizen"))


def test_the_code_digest_is_of_source_and_versions(package: Path) -> None:
    first = code_digest(package, VERSIONS)
    assert first == code_digest(REPOSITORY / "operator" / "kaizen", VERSIONS)
    (package / "training" / "__pycache__").mkdir(exist_ok=True)
    (package / "training" / "__pycache__" / "fit.pyc").write_bytes(b"compiled")
    (package / "control" / "new.py").write_text("of the operator")
    assert code_digest(package, VERSIONS) == first
    changed = {code_digest(package, {"numpy": "2.4.7"}), code_digest(package, VERSIONS, ["sha256:of the user's file"])}
    with (package / "training" / "fit.py").open("a") as file:
        file.write("\n")
    changed.add(code_digest(package, VERSIONS))
    (package / "serving" / "new.py").write_text("")
    changed.add(code_digest(package, VERSIONS))
    assert len(changed - {first}) == 4


def test_the_code_digest_is_the_same_in_another_process() -> None:
    program = "from kaizen.training.environment import code_digest; print(code_digest())"
    path = {"PYTHONPATH": str(REPOSITORY / "operator"), "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", program], env=path, capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == code_digest()


CGROUPS: dict[str, tuple[dict[str, str], tuple[int | None, float | None]]] = {
    "none": ({}, (None, None)),
    "v2": ({"memory.max": "536870912\n", "cpu.max": "150000 100000\n"}, (536870912, 1.5)),
    "v2 unlimited": ({"memory.max": "max\n", "cpu.max": "max 100000\n"}, (None, None)),
    "v1": (
        {"memory/memory.limit_in_bytes": "536870912\n", "cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        (536870912, 0.5),
    ),
    "v1 unlimited": (
        {
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000",
        },
        (None, None),
    ),
    "broken": ({"memory.max": "?", "cpu.max": "1 0"}, (None, None)),
}


@pytest.mark.parametrize(("files", "expected"), CGROUPS.values(), ids=CGROUPS)
def test_limits(tmp_path: Path, files: dict[str, str], expected: tuple[int | None, float | None]) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert limits(tmp_path) == expected


def test_a_description_leaves_out_what_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Abacus 7: fast\nmodel name\t: another\n")
    (tmp_path / "memory.max").write_text("1048576")
    found = describe({"KAIZEN_IMAGE": "registry/trainer@sha256:ab"}, tmp_path, tmp_path / "cpuinfo")
    assert found["image"] == "registry/trainer@sha256:ab"
    assert (found["cpu"], found["memoryLimitBytes"]) == ("Abacus 7: fast", 1048576)
    assert "coresLimit" not in found
    assert {"numpy", "scikit-learn", "duckdb", "lightgbm"} <= found["packages"].keys()
    without = describe({}, tmp_path / "none", tmp_path / "none")
    assert "image" not in without
    assert without["cpu"]
    json.dumps(without)


def test_the_meter_counts_this_process_and_its_children() -> None:
    times = iter([100.0, 107.5])
    read = Meter(lambda: next(times), lambda who: (2.0, 1000) if who == resource.RUSAGE_SELF else (0.5, 300)).read()
    assert read == Usage(7.5, 2.5, 1000)
    before = Meter().read()
    block = bytearray(64 << 20)
    sum(range(3_000_000))
    after = Meter().read()
    assert after.cpu_seconds > before.cpu_seconds
    assert 64 << 20 <= len(block) <= after.peak_memory_bytes < 1 << 40


@dataclass(frozen=True)
class Trial:
    """As tuning.py has it, the part that matters here."""

    number: int
    state: str
    value: float | None


def test_trials_become_points() -> None:
    trials = [Trial(0, "Complete", 0.5), Trial(1, "Pruned", 0.9), Trial(2, "Failed", None), Trial(3, "Complete", 0.4)]
    assert trial_points(trials, "log_loss") == [
        {"name": "search/log_loss", "step": 0, "value": 0.5},
        {"name": "search/log_loss", "step": 3, "value": 0.4},
    ]


def test_a_run_is_told_once_and_in_order() -> None:
    manifest = {
        "dataDigest": "sha256:d",
        "modelDigest": "sha256:m",
        "estimator": {"name": "Ridge", "parameters": {"alpha": 0.1, "solver": "x" * 5000, "weights": {"a": 1}, "tol": math.inf}},
        "metrics": [{"name": "rmse", "value": 1.5, "dataset": "test"}],
    }
    document = run_document(manifest, USAGE, {"cpu": "Abacus"}, "sha256:c", [{"name": "loss", "step": 1, "value": 0.5}])
    assert document == {
        "codeDigest": "sha256:c",
        "code": None,
        "dataDigest": "sha256:d",
        "modelDigest": "sha256:m",
        "estimator": "Ridge",
        "parameters": {"alpha": 0.1, "solver": "x" * 1024, "weights": "{'a': 1}", "tol": "inf"},
        "metrics": [{"name": "rmse", "value": 1.5, "dataset": "test"}],
        "metricsOverTime": [{"name": "loss", "step": 1, "value": 0.5}],
        "environment": {"cpu": "Abacus"},
        "durationSeconds": 12.346,
        "cpuSeconds": 20.5,
        "peakMemoryBytes": 3 << 30,
    }
    assert {"format", "pod", "model", "digest", "gatesPassed", "completionTime", "writer"}.isdisjoint(document)


@given(
    st.lists(
        st.fixed_dictionaries({"name": st.sampled_from(["a", "b", "c"]), "step": st.integers(0, 5000), "value": st.floats()}),
        max_size=50,
    ),
    st.integers(1, 100),
)
def test_points_are_bounded_finite_and_keep_their_ends(points: list[dict[str, Any]], times: int) -> None:
    given_points = [{**point, "step": point["step"] + 5001 * repeat} for repeat in range(times) for point in points]
    kept = run_document({}, USAGE, {}, "", given_points)["metricsOverTime"]
    assert len(kept) <= environment.MOST_POINTS
    json.dumps(kept, allow_nan=False)
    for name in "abc":
        finite = sorted(p["step"] for p in given_points if p["name"] == name and math.isfinite(p["value"]))
        steps = [point["step"] for point in kept if point["name"] == name]
        assert steps == sorted(steps)
        assert steps[:1] + steps[-1:] == finite[:1] + finite[-1:]
        assert len(steps) == len(finite) or len(finite) > environment.MOST_POINTS // 3


def test_a_document_is_bounded() -> None:
    many = {f"p{n}" * 1000: "v" * 10_000 for n in range(1000)}
    points = [{"name": f"n{n}" * 1000, "step": n, "value": 1.0} for n in range(3000)]
    metrics = [{"name": f"m{n}", "value": 1.0, "dataset": "test"} for n in range(1000)]
    document = run_document({"estimator": {"parameters": many}, "metrics": metrics}, USAGE, {}, "", points)
    assert len(json.dumps(document)) < 1 << 19
