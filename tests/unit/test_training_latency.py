"""Latency is that of the real server process, asked for one row at a time."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kaizen.api.training_gates import Gate
from kaizen.serving.engine.compile import Compiled, compile_pipeline, save
from kaizen.training.data.prepare import prepare
from kaizen.training.errors import Failure
from kaizen.training.judge import latency
from kaizen.training.judge.gates import Judged, judge
from kaizen.training.judge.latency import Latency, measure_latency
from kaizen.training.models.estimators import choose
from kaizen.training.models.fit import fit, outputs
from tests.support import training


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server needs of a model directory."""
    directory = tmp_path_factory.mktemp("latency")
    spec = training.spec("x", estimator={"name": "LogisticRegression"})
    rows = prepare(training.table(500), spec)
    assert spec.estimator is not None
    fitted = fit(choose(spec.estimator, spec.task), rows, {}).pipeline
    compiled = compile_pipeline(fitted, rows.frame)
    assert isinstance(compiled, Compiled)
    save(compiled, directory)
    few = rows.frame.iloc[:10]
    columns = {name: [None if value != value else value for value in few[name].tolist()] for name in few}
    answers = {"predict": fitted.predict(few).tolist(), "probabilities": outputs(fitted, few).tolist()}
    (directory / "examples.json").write_text(json.dumps({"format": 1, "rows": len(few), "columns": columns, **answers}))
    files = [
        {"path": path.name, "size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(directory.iterdir())
    ]
    (directory / "manifest.json").write_text(json.dumps({"format": 1, "model": "flight-delay", "files": files}))
    return directory


def gate(metric: str = "latency_p99_seconds", **limits: Any) -> Gate:
    return Gate.model_validate({"name": "fast", "metric": metric, **limits})


def test_the_median_of_five_runs_of_the_server(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"REQUESTS": 100, "WARM_UP": 20}.items():
        monkeypatch.setattr(latency, name, value)
    measured = measure_latency(model)
    assert [len(one) for one in measured.runs] == [100] * 5
    middle, tail = measured.quantile(0.5), measured.quantile(0.99)
    assert 0 < middle.value < tail.value < 5
    fast = latency.latency(gate(atMost=10.0), measured)
    assert (fast.outcome, fast.value, fast.low, fast.high) == ("Passed", tail.value, tail.low, tail.high)
    assert "over 500 requests of one row to the server process here: at most 10.0000 is wanted" in fast.message
    slow = latency.latency(gate("latency_p50_seconds", atMost=1e-9), measured)
    assert (slow.outcome, slow.limit, slow.blocks) == ("Failed", 1e-9, True)


def test_one_disturbed_run_does_not_count_unless_the_bound_is_asked_for() -> None:
    measured = Latency(((0.001,) * 9, (0.001,) * 9, (0.002,) * 9, (0.003,) * 9, (9.0,) * 9))
    assert measured.quantile(0.99).value == 0.002
    assert latency.latency(gate(atMost=0.002), measured).passed
    assert not latency.latency(gate(atMost=0.002, judge="Bound"), measured).passed


def test_what_cannot_be_measured(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert latency.latency(gate(atMost=1), None).message == "latency_p99_seconds needs a packaged model, and there is none"
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "engine.json").write_bytes((broken / "engine.json").read_bytes() + b" ")
    with pytest.raises(Failure, match=r"the server ended with exit code 10: .*engine\.json") as caught:
        measure_latency(broken)
    assert (caught.value.code, caught.value.retry) == ("ServerUnusable", False)
    monkeypatch.setattr(latency, "SERVER_PACKAGES", ("msgspec", "nowhere_to_be_found"))
    with pytest.raises(Failure, match="which needs nowhere_to_be_found: install") as caught:
        measure_latency(model)
    assert caught.value.code == "ServerPackagesMissing"


def test_a_model_is_packaged_only_where_a_gate_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def package() -> Path:
        asked.append("packaged")
        raise Failure("Package", "Stop", "far enough")

    trial: Any = Judged(None, None, None, None, None, None, package)  # type: ignore[arg-type]
    assert judge([], trial, None) == ()
    assert not asked
    with pytest.raises(Failure, match="far enough"):
        judge([gate(atMost=1), gate("latency_p50_seconds", atMost=1)], trial, None)
    assert asked == ["packaged"]
