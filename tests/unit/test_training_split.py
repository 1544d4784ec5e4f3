"""Splits: nothing is learned from rows later than those that judge, and a random part stays the same from run to run."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaizen.training.data.prepare import Rows, prepare
from kaizen.training.data.split import by_time, draw, split
from kaizen.training.errors import Failure
from kaizen.training.models.estimators import choose
from kaizen.training.models.fit import freeze
from tests.support import training

Times = st.lists(st.integers(-(10**12), 10**12) | st.integers(0, 5), min_size=1, max_size=60).map(np.array)
Shares = st.floats(0.01, 0.5)


@given(Times, Shares)
def test_no_row_learned_from_is_as_late_as_one_that_judges(times: npt.NDArray[np.int64], share: float) -> None:
    held_out = by_time(times, share)
    if len(np.unique(times)) == 1:
        assert not held_out.any()
    else:
        assert times[~held_out].max() < times[held_out].min()


@given(Times, Shares)
def test_the_share_held_out_is_the_nearest_possible(times: npt.NDArray[np.int64], share: float) -> None:
    moments = np.unique(times)[1:]
    if len(moments):
        possible = [abs((times >= moment).mean() - share) for moment in moments]
        assert abs(by_time(times, share).mean() - share) == pytest.approx(min(possible), abs=1e-12)


@given(st.integers(20, 300), Shares, st.integers(0, 5))
def test_the_parts_of_a_temporal_split_are_in_the_order_of_time(rows: int, share: float, seed: int) -> None:
    data = training.table(rows, seed=seed)
    spec = training.spec("x", data={"minimumRows": 10, "split": {"testShare": share}})
    prepared = prepare(data, spec)
    try:
        parts = split(prepared, spec.data)
    except Failure as failure:
        assert failure.code == "TargetConstant"  # noqa: PT017 -- few rows may have one class only
        return
    assert parts.train.times is not None
    assert parts.test.times is not None
    assert parts.train.times.max() < parts.test.times.min()
    assert len(parts.train) + len(parts.test) == rows


def test_the_fold_of_early_stopping_is_later_than_what_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = training.spec(
        "x", estimator={"name": "HistGradientBoostingClassifier", "parameters": {"early_stopping": True, "max_iter": 80}}
    )
    rows = prepare(training.table(600), spec)
    seen: list[Rows] = []
    taken = Rows.take

    def take(self: Rows, chosen: npt.NDArray[np.bool_]) -> Rows:
        seen.append(taken(self, chosen))
        return seen[-1]

    monkeypatch.setattr(Rows, "take", take)
    assert spec.estimator is not None
    frozen = freeze(choose(spec.estimator, spec.task), rows, spec.data)
    inner, judge = seen
    assert inner.times is not None
    assert judge.times is not None
    assert inner.times.max() < judge.times.min()
    assert len(judge) == pytest.approx(60, abs=2)
    assert frozen["early_stopping"] is False
    assert 1 <= frozen["max_iter"] <= 80


def test_random_parts_depend_on_keys_alone() -> None:
    keys = pd.DataFrame({"flight": np.arange(20_000), "origin": pd.Series(["JFK", "LGA"] * 10_000, dtype=object)})
    held_out = draw(keys) < 0.2
    assert held_out.mean() == pytest.approx(0.2, abs=0.01)
    order = np.random.default_rng(0).permutation(len(keys))
    assert ((draw(keys.iloc[order]) < 0.2) == held_out[order]).all()
    # Another library version that hashes otherwise would move rows that a champion learned from into the test part.
    assert np.round(draw(keys)[:3], 9).tolist() == [0.449033117, 0.527159627, 0.799127315]


def test_one_time_only_cannot_be_split() -> None:
    data = training.table(100)
    same = data.set_column(0, "time", data["time"].combine_chunks().take([0] * 100))
    spec = training.spec("x")
    with pytest.raises(Failure) as failed:
        split(prepare(same, spec), spec.data)
    assert (failed.value.step, failed.value.code) == ("Split", "TimestampConstant")


def test_one_key_only_cannot_be_split() -> None:
    data = training.table(100).drop(["flight"]).append_column("flight", [[7] * 100])
    spec = training.spec("x", data={"split": {"method": "Random"}})
    with pytest.raises(Failure) as failed:
        split(prepare(data, spec), spec.data)
    assert failed.value.message == "100 rows cannot be split by flight: too few differ"
