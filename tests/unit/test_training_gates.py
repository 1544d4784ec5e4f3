"""Gates compare on rows that neither model has learned from, judge every slice, and show all that they find."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kaizen.api.training_gates import Gate
from kaizen.serving.engine.compile import Compiled, compile_pipeline, save
from kaizen.training.data.prepare import prepare
from kaizen.training.data.split import Parts, split
from kaizen.training.errors import Failure
from kaizen.training.judge.gates import Champion, GateResult, Judged, judge, new_rows, split_record
from kaizen.training.judge.slices import cut
from kaizen.training.models.estimators import choose
from kaizen.training.models.fit import fit, outputs
from tests.support import training


def gate(**fields: Any) -> Gate:
    return Gate.model_validate({"name": "it", "metric": "roc_auc", **fields})


GATE = gate(metric="log_loss", againstProduction={"worseByAtMost": 0.01})
STRICT = gate(againstProduction={"notComparable": "Fail"})
WEAK = {"name": "HistGradientBoostingClassifier", "parameters": {"max_iter": 1}}


def parts_of(rows: int = 1500, **changes: Any) -> tuple[Parts, Any]:
    spec = training.spec("x", **changes)
    return split(prepare(training.table(rows), spec), spec.data), spec


def trial_of(**changes: Any) -> Judged:
    parts, spec = parts_of(**changes)
    fitted = fit(choose(spec.estimator, spec.task), parts.train, {})
    classes = fitted.pipeline.classes_.tolist() if spec.task == "Classification" else None
    return Judged(fitted.pipeline, parts, outputs(fitted.pipeline, parts.test.frame), classes, None, spec.data)


def champion(directory: Path, name: str = "version 3", *, flipped: bool = False, weak: bool = False, **manifest: Any) -> Champion:
    """A served model that learned from other rows; `flipped` has learned the contrary, `weak` little."""
    directory.mkdir(exist_ok=True)
    parts, spec = parts_of(500, **({"estimator": WEAK} if weak else {}))
    fitted = fit(choose(spec.estimator, spec.task), parts.train, {})
    compiled = compile_pipeline(fitted.pipeline, parts.train.frame)
    assert isinstance(compiled, Compiled)
    document = dict(compiled.document)
    if flipped:
        document["classes"] = document["classes"][::-1]
    save(Compiled(document, compiled.files), directory)
    (directory / "manifest.json").write_text(json.dumps({"trainedUntil": None, **manifest}))
    return Champion.open(directory, name, f"sha256:{name}")


def judged(against: Champion | None, *gates: Gate, anchors: Sequence[Champion] = (), **changes: Any) -> tuple[GateResult, ...]:
    return judge(gates, trial_of(**changes), against, anchors)


EARLY = "2013-01-10T00:00:00Z"


def test_without_a_champion_gates_are_skipped() -> None:
    (result,) = judged(None, GATE)
    assert (result.outcome, result.passed, result.blocks) == ("Skipped", None, False)


def test_a_better_one_passes_and_a_worse_one_fails(tmp_path: Path) -> None:
    good = champion(tmp_path / "good", trainedUntil=EARLY)
    bad = champion(tmp_path / "bad", flipped=True, trainedUntil=EARLY)
    (passed,) = judged(bad, GATE)
    assert (passed.outcome, passed.champion, passed.against) == ("Passed", "sha256:version 3", "version 3")
    assert "on 300 rows new to both, where version 3 has" in passed.message
    results = judged(good, GATE, STRICT, estimator=WEAK)
    assert [result.outcome for result in results] == ["Failed", "Failed"]
    assert results[0].value is not None
    assert results[0].limit is not None
    assert results[0].value > results[0].limit


def test_as_good_by_the_value_is_not_as_good_for_sure(tmp_path: Path) -> None:
    same = champion(tmp_path, trainedUntil=EARLY)
    margin = {"worseByAtMost": 0.0}
    bound, estimate = judged(same, gate(againstProduction=margin), gate(againstProduction=margin, judge="Estimate"))
    assert (bound.outcome, estimate.outcome) == ("Failed", "Passed")
    assert bound.low is not None
    assert bound.limit is not None
    assert bound.value is not None
    assert bound.low < bound.limit < bound.value
    needed = float(bound.message.split("worseByAtMost ")[1].split()[0])
    (enough,) = judged(same, gate(againstProduction={"worseByAtMost": needed}))
    assert enough.outcome == "Passed"


def test_the_best_of_the_last_year_counts_as_well(tmp_path: Path) -> None:
    weak = champion(tmp_path / "weak", "version 4", weak=True, trainedUntil=EARLY)
    strong = champion(tmp_path / "strong", "version 2", trainedUntil=EARLY)
    seen = champion(tmp_path / "seen", "version 1", trainedUntil="2013-04-01T00:00:00Z")
    loose = gate(metric="log_loss", againstProduction={"worseByAtMost": 0.05}, judge="Estimate")
    (alone,) = judged(weak, loose, estimator=WEAK)
    assert alone.outcome == "Passed"
    (anchored,) = judged(weak, loose, anchors=[weak, seen, strong], estimator=WEAK)
    assert (anchored.outcome, anchored.against, anchored.champion) == ("Failed", "version 2", "sha256:version 4")
    assert anchored.message.endswith("; not compared with version 1, which has learned from all but 0 of these rows")
    assert [(one.name, one.passed) for one in anchored.details] == [("version 4", True), ("version 2", False)]
    (better,) = judged(weak, loose, anchors=[strong])
    assert (better.outcome, better.against) == ("Passed", "version 4")
    assert "; of the last year's, version 2 is best with" in better.message


def test_rows_that_the_champion_has_seen_do_not_count(tmp_path: Path) -> None:
    seen_all = champion(tmp_path, trainedUntil="2013-04-01T00:00:00Z")
    pass_it, fail_it = judged(seen_all, GATE, STRICT)
    assert (pass_it.outcome, pass_it.passed, fail_it.passed) == ("NotComparable", True, False)
    assert pass_it.message == (
        "0 test rows are new to version 3, which learned until 2013-04-01T00:00:00Z; at least 200 are needed"
    )


def test_new_rows_are_those_after_the_champions_last() -> None:
    parts, spec = parts_of()
    assert parts.test.times is not None
    until = int(parts.test.times[99]) // 1_000_000
    stamp = str(np.datetime64(until, "s")) + "Z"
    assert new_rows(parts, spec.data, {"trainedUntil": stamp}).tolist() == [False] * 100 + [True] * 200


def test_with_random_splits_the_test_part_of_both_counts() -> None:
    parts, spec = parts_of(data={"split": {"method": "Random"}})
    of = {"method": "Random", "testShare": 0.1, "identity": ["flight:int64"]}
    assert parts.draws is not None
    assert (new_rows(parts, spec.data, {"split": of}) == (parts.draws < 0.1)).all()
    assert not new_rows(parts, spec.data, {"split": {**of, "identity": ["tail:object"]}}).any()
    assert not new_rows(parts, spec.data, {"split": {**of, "method": "Temporal"}}).any()
    assert not new_rows(parts, spec.data, {"split": of, "refit": {"done": True}}).any()


@pytest.mark.parametrize("how", [{"method": "Grouped", "groups": ["carrier"]}, {"method": "Stratified"}, {"method": "Random"}])
def test_what_a_hashed_split_records_names_exactly_what_it_held_out(how: dict[str, Any]) -> None:
    parts, spec = parts_of(data={"split": {**how, "testShare": 0.5}})
    manifest = json.loads(json.dumps({"split": split_record(parts, spec.data)}))
    assert new_rows(parts, spec.data, manifest).all()
    again = split(prepare(training.table(1500), spec), spec.data)
    assert new_rows(again, spec.data, manifest).all()
    manifest["split"]["bounds"] = {}
    assert how["method"] == "Random" or not new_rows(parts, spec.data, manifest).any()


def test_a_champion_with_other_columns_or_classes_is_not_comparable(tmp_path: Path) -> None:
    other = champion(tmp_path, trainedUntil=EARLY)
    (result,) = judged(other, GATE, data={"features": {"exclude": ["delay", "wind"]}})
    assert result.message == "version 3 does not take these columns: input 'wind' is missing"
    (result,) = judged(other, GATE, data={"target": "carrier", "targetMissing": "Drop"})
    assert result.message == "version 3 knows other classes: False, True"


def test_absolute_limits() -> None:
    gates = [
        gate(name="plain", atLeast=0.6),
        gate(name="high", atLeast=0.999, required=False),
        gate(name="between", atLeast=0.5, atMost=0.6),
        gate(name="sure", atLeast=0.9, judge="Bound"),
        gate(name="absent", metric="r2", atLeast=0.1),
    ]
    plain, high, between, sure, absent = judged(None, *gates)
    assert (plain.outcome, plain.limit) == ("Passed", 0.6)
    assert plain.value is not None
    assert plain.low is not None
    assert plain.high is not None
    assert plain.low < plain.value < plain.high
    ends = f"({plain.low:.4f} to {plain.high:.4f} over 13 days)"
    assert plain.message == f"roc_auc is {plain.value:.4f} {ends} on 300 test rows: at least 0.6000 is wanted"
    assert (high.outcome, high.required, high.passed, high.blocks) == ("Failed", False, False, False)
    assert (between.outcome, between.limit, between.blocks) == ("Failed", 0.6, True)
    assert plain.low < 0.9 < plain.value
    assert (sure.outcome, sure.value) == ("Failed", plain.value)
    assert sure.message.endswith("at least 0.9000 is wanted of the whole interval")
    assert (absent.outcome, absent.value) == ("Failed", None)
    assert absent.message.startswith("r2 is no metric of task Classification")
    shown = high.to_json()
    assert json.loads(json.dumps(shown)) == shown
    assert (shown["required"], shown["passed"]) == (False, False)


def test_each_slice_must_keep_the_limit_and_small_ones_are_judged_together() -> None:
    each = gate(metric="accuracy", atLeast=0.5, slices=["carrier"], minimumGroupRows=50)
    (found,) = judged(None, each, gates=[each.model_dump(by_alias=True, exclude_none=True)])
    assert found.outcome == "Passed"
    names = [detail.name for detail in found.details]
    assert names == ["carrier=AA", "carrier=B6", "carrier=UA"]
    assert found.message.endswith("the worst of 3 slices; carrier=missing not judged, being too small even together")
    worst = min(found.details, key=lambda detail: detail.low or 0)
    assert (worst.value, worst.low) == (found.value, found.low)
    three = [gate(metric="accuracy", atLeast=0.99, slices=["carrier"], minimumGroupRows=50, judge="Estimate")]
    (failed,) = judge(three, trial_of(), None)
    assert failed.message.count("3 of 3 slices fail") == 1
    (none,) = judge([gate(atLeast=0.5, slices=["carrier"], minimumGroupRows=5000)], trial_of(), None)
    assert (none.outcome, none.value) == ("Failed", None)
    assert none.message.startswith("no value of carrier has 5000 test rows or more of the relevant class: lower minimumGroupRows")


def test_bounds_of_many_slices_are_wider_than_that_of_one() -> None:
    trial = trial_of(rows=3000)
    one, many = judge(
        [
            gate(metric="accuracy", atLeast=0.1, slices=["weekend"], minimumGroupRows=50),
            gate(metric="accuracy", atLeast=0.1, slices=["weekend", "carrier", "distance"], minimumGroupRows=50),
        ],
        trial,
        None,
    )
    assert [detail.name for detail in many.details[-4:]] == [
        f"distance={name}" for name in _quartiles(trial.parts.test.frame["distance"])
    ]
    for narrow, wide in zip(one.details, many.details, strict=False):
        assert narrow.name == wide.name
        assert narrow.low is not None
        assert wide.low is not None
        assert wide.low < narrow.low


def _quartiles(values: "pd.Series[Any]") -> list[str]:
    first, second, third = (f"{one:g}" for one in values.quantile([0.25, 0.5, 0.75]))
    return [f"below {first}", f"{first} to {second}", f"{second} to {third}", f"from {third}"]


CUTS = [
    (pd.Series(["a", "b", "a", "c", None], dtype=object), 2, ["x=a", "x=(others)"], ("x=b", "x=c", "x=missing"), ()),
    (pd.Series(["a", "b", "a", "c", "a"], dtype=object), 3, ["x=a"], (), ("x=b", "x=c")),
    (pd.Series([10.0, 9.5, 9.5, 10.0, 9.5]), 1, ["x=9.5", "x=10"], (), ()),
    (pd.Series([True, False, True]), 1, ["x=False", "x=True"], (), ()),
]


@pytest.mark.parametrize(("values", "minimum", "judged", "pooled", "left"), CUTS)
def test_columns_are_cut_into_slices(values: Any, minimum: int, judged: list[str], pooled: Any, left: Any) -> None:
    found = cut("x", values, [np.ones(len(values), dtype=np.bool_)], minimum)
    assert [one.name for one in found.judged] == judged
    assert (found.pooled, found.left_out) == (pooled, left)


def test_a_gate_on_a_column_that_is_not_there() -> None:
    with pytest.raises(Failure, match="gate it names column tail, and the data has") as caught:
        judge([gate(atLeast=0.5, slices=["tail"])], trial_of(), None)
    assert caught.value.code == "ColumnMissing"
