"""The flights example: its jobs are valid, and its client, which knows nothing of Kaizen, computes the same figures."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hack.paths import REPOSITORY
from kaizen.training.judge.evaluate import classification
from kaizen.training.spec import read_job

FLIGHTS = REPOSITORY / "examples" / "flights"


def load(name: str) -> ModuleType:
    """A script of the example as a module."""
    spec = importlib.util.spec_from_file_location(name, FLIGHTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_both_jobs_say_the_same_of_other_files() -> None:
    lake, local = read_job(FLIGHTS / "job.yaml"), read_job(FLIGHTS / "job-local.yaml")
    assert lake.data.sources[0].uri == "s3://lake/flights/"
    assert local.data.sources[0].uri == f"{FLIGHTS}/data/2013-0[1-3].parquet"
    assert lake.model_copy(update={"data": None}) == local.model_copy(update={"data": None})
    assert lake.data.query == local.data.query


def test_the_client_computes_the_same_figures() -> None:
    random = np.random.default_rng(0)
    probabilities, late = random.random(500).round(2), random.random(500) < 0.3
    mine = load("replay").figures(probabilities, late)
    ours = classification(np.column_stack([1 - probabilities, probabilities]), late, [False, True])
    assert mine["roc_auc"] == pytest.approx(ours["roc_auc"])
    assert mine["calibration_gap"] == pytest.approx(ours["calibration_gap"])
    inside = (probabilities > 0.01) & (probabilities < 0.99)
    mine = load("replay").figures(probabilities[inside], late[inside])
    ours = classification(np.column_stack([1 - probabilities, probabilities])[inside], late[inside], [False, True])
    assert mine["log_loss"] == pytest.approx(ours["log_loss"])


def test_the_client_reads_a_period(tmp_path: Path) -> None:
    times = pa.array(np.arange(48) * 3_600_000_000, pa.timestamp("us", tz="UTC"))
    delays = pa.array([None if hour == 30 else hour for hour in range(48)])
    pq.write_table(pa.table({"time_hour": times, "flight": list(range(48)), "dep_delay": delays}), tmp_path / "a.parquet")
    found = load("replay").read_flights(tmp_path, "1970-01-02", "1970-01-02T12:00:00")
    assert found["flight"].to_pylist() == [24, 25, 26, 27, 28, 29, 31, 32, 33, 34, 35]
    with pytest.raises(ValueError, match=r"no flight of .* took off from 1980-01-01 to 1981-01-01"):
        load("replay").read_flights(tmp_path, "1980-01-01", "1981-01-01")


def test_months() -> None:
    months = load("lake").parse_months
    assert (list(months("7")), list(months("1-3"))) == ([7], [1, 2, 3])
    for wrong in ("0", "3-1", "12-13", "x"):
        with pytest.raises(ValueError, match=r"months must be|invalid literal"):
            months(wrong)
