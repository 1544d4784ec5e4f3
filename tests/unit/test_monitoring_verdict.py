"""The verdict: who votes, what was answered, and when nothing can be said."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kaizen.monitoring.bins import count
from kaizen.monitoring.reference import Reference, build
from kaizen.monitoring.verdict import Verdict, judge
from kaizen.monitoring.windows import Counts

DAYS, ROWS = 91, 50


def reference() -> Reference:
    """Two numbers alike on all days, and a predicted probability."""
    random = np.random.default_rng(0)
    columns = {name: random.standard_normal(DAYS * ROWS) for name in ("stays", "moves")}
    times = np.repeat(np.arange(DAYS) * 86400, ROWS)
    return build(columns, {"stays": "Numeric", "moves": "Numeric"}, times, random.random(1000), "2013-03-31T23:00:00Z")


REFERENCE = reference()


def counts(shift: float = 0.0, rows: int = 700, made: Reference = REFERENCE) -> Counts:
    random = np.random.default_rng(1)
    values = {"stays": random.standard_normal(rows), "moves": random.standard_normal(rows) + shift}
    counted = {one.bins.name: tuple(count(one.bins, values[one.bins.name]).tolist()) for one in made.features}
    return Counts(rows, counted, tuple(count(made.prediction.bins, random.random(rows)).tolist()))


def verdict(of: Counts, made: Reference = REFERENCE, **changes: Any) -> Verdict:
    settings: dict[str, Any] = {"floor": 0.1, "span_seconds": 7 * 86400, "block_seconds": None, "minimum_rows": 500}
    return judge(made, of, **settings | changes)


def test_nothing_changed() -> None:
    found = verdict(counts())
    assert (found.kind, found.rows, [one.name for one in found.features]) == ("Stable", 700, ["stays", "moves"])
    assert all(one.distance < one.threshold == 0.1 for one in found.features)
    assert found.prediction_distance is not None
    assert found.prediction_distance < 0.1


def test_a_feature_moved() -> None:
    found = verdict(counts(1.0))
    assert (found.kind, [one.drifted for one in found.features]) == ("Drifted", [False, True])
    assert found.features[1].distance > 0.8


@pytest.mark.parametrize(
    ("rows", "minimum", "kind"), [(499, 500, "NotEnoughData"), (500, 500, "Stable"), (0, 0, "NotEnoughData")]
)
def test_too_few_rows_say_nothing(rows: int, minimum: int, kind: str) -> None:
    found = verdict(counts(rows=rows), minimum_rows=minimum)
    assert (found.kind, found.rows, bool(found.features)) == (kind, rows, kind == "Stable")


def test_windows_of_nothing_say_nothing() -> None:
    assert verdict(Counts()) == Verdict("NotEnoughData", 0)


def test_the_floor_outweighs_significance() -> None:
    shifted = counts(1.0)
    distance = verdict(shifted).features[1].distance
    assert verdict(shifted, floor=distance * 1.01).kind == "Stable"
    assert verdict(shifted, floor=distance * 0.99).kind == "Drifted"


def test_significance_outweighs_the_floor() -> None:
    few = verdict(counts(0.4, rows=60), floor=0.0, minimum_rows=50)
    many = verdict(counts(0.4, rows=7000), floor=0.0)
    assert (few.kind, many.kind) == ("Stable", "Drifted")
    assert few.features[1].threshold > few.features[1].distance


def test_context_is_reported_and_has_no_vote() -> None:
    named = verdict(counts(1.0), context=("moves",))
    features = tuple(replace(one, role="Context") if one.bins.name == "moves" else one for one in REFERENCE.features)
    for found in (named, verdict(counts(1.0), made=replace(REFERENCE, features=features))):
        moves = found.features[1]
        assert (found.kind, moves.drifted, moves.context, moves.distance > moves.threshold) == ("Stable", False, True, True)


def test_an_answered_drift_fires_again_when_it_grew_by_half() -> None:
    distance = verdict(counts(1.0)).features[1].distance
    answered = verdict(counts(1.0), acknowledged={"moves": distance / 1.49})
    assert (answered.kind, answered.features[1].acknowledged, answered.features[1].drifted) == ("Stable", True, False)
    grown = verdict(counts(1.0), acknowledged={"moves": distance / 1.51})
    assert (grown.kind, grown.features[1].acknowledged, grown.features[1].drifted) == ("Drifted", False, True)


def test_an_answered_drift_that_is_over_is_not_reported_as_answered() -> None:
    assert not any(one.acknowledged for one in verdict(counts(), acknowledged={"moves": 5.0}).features)


def test_the_span_lasts_as_long_as_the_training_data_say() -> None:
    replayed = verdict(counts(rows=60), floor=0, minimum_rows=1, span_seconds=300, block_seconds=7 * 86400)
    assert replayed == verdict(counts(rows=60), floor=0, minimum_rows=1, span_seconds=7 * 86400)


def test_a_model_without_held_out_predictions_has_no_distance_of_them() -> None:
    made = build({"stays": np.zeros(9), "moves": np.zeros(9)}, {"stays": "Numeric", "moves": "Numeric"}, None, np.array([]), None)
    assert verdict(counts(made=made), made=made).prediction_distance is None


@pytest.mark.parametrize(
    "other",
    [
        replace(counts(), counts={"stays": counts().counts["stays"]}),
        replace(counts(), counts=dict(counts().counts) | {"moves": (700,)}),
        replace(counts(), prediction=(700,)),
    ],
    ids=["a feature less", "other cells", "other predictions"],
)
def test_counts_of_another_version_are_refused(other: Counts) -> None:
    with pytest.raises(ValueError, match="another version"):
        verdict(other)
