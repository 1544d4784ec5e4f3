"""Inner folds and outer cuts: a moment, a group or equal keys are never on both sides, whatever the rows are."""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaizen.api.training_data import Data
from kaizen.training.data.prepare import Rows
from kaizen.training.data.split import Fold, Parts, also_held_out, folds, hold_out, implied_folds, split
from kaizen.training.errors import Failure

Numbers = npt.NDArray[np.int64]


def data(method: str, share: float = 0.2) -> Data:
    split: dict[str, Any] = {"method": method, "testShare": share, **({"groups": ["group"]} if method == "Grouped" else {})}
    sources = [{"name": "rows", "uri": "s3://bucket/rows.parquet"}]
    return Data.model_validate({"sources": sources, "target": "target", "timestamp": "time", "keys": ["key"], "split": split})


def rows(target: Any, *, times: Any = None, groups: Any = None, keys: Any = None) -> Rows:
    """Rows of which only these count."""
    target = np.asarray(target)
    number = np.arange(len(target))
    return Rows(
        frame=pd.DataFrame({"feature": number}),
        kinds={"feature": "Numeric"},
        target=target,
        times=None if times is None else np.asarray(times, dtype=np.int64),
        identity=pd.DataFrame({"key": number if keys is None else keys}),
        sensitive=pd.DataFrame(index=number),
        groups=None if groups is None else np.asarray(groups, dtype=np.int64),
    )


Targets = st.lists(st.integers(0, 3), min_size=2, max_size=60)
Counts = st.integers(2, 5)


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Few moments, groups, keys and classes, so that rows share them."""
    target = draw(Targets)
    few = st.lists(st.integers(0, draw(st.sampled_from([0, 2, 5, 10**6]))), min_size=len(target), max_size=len(target))
    return rows(target, times=np.sort(draw(few)), groups=draw(few), keys=draw(few))


def _cut(table: Rows, method: str, count: int) -> tuple[Fold, ...]:
    try:
        return folds(table, data(method), count)
    except Failure as failure:
        assert (failure.step, failure.code) == ("Split", "FoldsImpossible")  # noqa: PT017 -- few rows may not be cut
        return ()


@given(tables(), st.sampled_from(["Temporal", "Random", "Stratified", "Grouped"]), Counts)
def test_every_fold_can_be_used_and_is_the_same_again(table: Rows, method: str, count: int) -> None:
    found = _cut(table, method, count)
    assert len(found) <= count
    for fold, again in zip(found, _cut(table, method, count), strict=True):
        assert len(fold.learn)
        assert len(fold.judge)
        assert len(np.unique(table.target[fold.learn])) > 1
        assert not set(fold.learn) & set(fold.judge)
        for one, other in ((fold.learn, again.learn), (fold.judge, again.judge)):
            assert (np.diff(one) > 0).all()
            assert one.tolist() == other.tolist()


@given(tables(), Counts)
def test_no_fold_learns_from_rows_as_late_as_those_it_judges(table: Rows, count: int) -> None:
    assert table.times is not None
    found = _cut(table, "Temporal", count)
    for fold in found:
        assert table.times[fold.learn].max() < table.times[fold.judge].min()
    for fold, following in pairwise(found):
        assert table.times[fold.judge].max() < table.times[following.judge].min()


@given(tables(), Counts)
def test_no_group_is_on_both_sides(table: Rows, count: int) -> None:
    assert table.groups is not None
    for fold in _cut(table, "Grouped", count):
        assert not set(table.groups[fold.learn]) & set(table.groups[fold.judge])
        assert len(fold.learn) + len(fold.judge) == len(table)


@given(tables(), Counts)
def test_equal_keys_are_on_one_side(table: Rows, count: int) -> None:
    keys = table.identity["key"].to_numpy()
    for fold in _cut(table, "Random", count):
        assert not set(keys[fold.learn]) & set(keys[fold.judge])


@given(Targets, Counts)
def test_every_class_is_learned_from_and_judged_as_often_as_it_can_be(target: list[int], count: int) -> None:
    table = rows(target)
    found = _cut(table, "Stratified", count)
    for fold in found:
        assert set(table.target[fold.learn]) == set(table.target)
    judged = [row for fold in found for row in fold.judge]
    assert len(judged) == len(set(judged))
    if found:
        for one, size in zip(*np.unique(table.target, return_counts=True), strict=True):
            sizes = [int((table.target[fold.judge] == one).sum()) for fold in found]
            assert sum(sizes) == (0 if size == 1 else size)
            assert size == 1 or max(sizes) <= -(-size // len(found)) + 1


def test_random_folds_do_not_follow_the_outer_cut() -> None:
    """All training rows have draws above the test share, so the same hash would fill the folds unevenly."""
    table = rows(np.arange(3000) % 2)
    train = split(table, data("Random", 0.5)).train
    sizes = [len(fold.judge) for fold in folds(train, data("Random", 0.5))]
    assert sum(sizes) == len(train)
    assert min(sizes) > 0.28 * len(train)


def test_large_groups_do_not_fill_one_fold() -> None:
    groups = np.repeat([1, 2, 3, 4, 5, 6], [400, 300, 300, 200, 100, 100])
    table = rows(np.arange(1400) % 2, groups=groups)
    assert sorted(len(fold.judge) for fold in folds(table, data("Grouped"))) == [400, 500, 500]


def test_without_the_declaration_the_strictest_folds_are_cut() -> None:
    target = np.arange(90) % 2
    for table, method in (
        (rows(target, times=np.arange(90), groups=np.arange(90) % 9), "Grouped"),
        (rows(target, times=np.arange(90)), "Temporal"),
        (rows(target), "Stratified"),
        (rows(target * 1.5), "Random"),
    ):
        for fold, wanted in zip(implied_folds(table), folds(table, data(method)), strict=True):
            assert fold.judge.tolist() == wanted.judge.tolist()


@pytest.mark.parametrize(
    ("table", "method", "message"),
    [
        (
            rows([0, 1] * 9, times=[7] * 18),
            "Temporal",
            "all 18 rows to learn from have the same time, so no inner fold can be newer than another",
        ),
        (rows([0, 1] * 9, groups=[3] * 18), "Grouped",
 "the 18 rows to learn from are all of one group, so no inner fold can be cut",),
        (
            rows([0, 1] * 9, keys=[3] * 18),
            "Random",
            "the 18 rows to learn from have all the same keys or values, so no inner fold can be cut",
        ),
        (
            rows([0] * 18, times=np.arange(18)),
            "Temporal",
            "each of the 3 inner folds of 18 rows would learn from one target value: use more rows",
        ),
    ],
)  # fmt: skip
def test_impossible_folds_are_named(table: Rows, method: str, message: str) -> None:
    with pytest.raises(Failure) as failed:
        folds(table, data(method))
    assert (failed.value.code, failed.value.message) == ("FoldsImpossible", message)


Shares = st.floats(0.05, 0.5)


def _split(table: Rows, method: str, share: float) -> Parts | None:
    try:
        return split(table, data(method, share))
    except Failure as failure:
        assert failure.code in {"SplitEmpty", "ClassTooSmall", "TargetConstant"}  # noqa: PT017 -- few rows may not be cut
        return None


@given(tables(), Shares)
def test_no_group_is_learned_from_and_judged_by(table: Rows, share: float) -> None:
    parts = _split(table, "Grouped", share)
    if parts is not None:
        assert parts.train.groups is not None
        assert parts.test.groups is not None
        assert not set(parts.train.groups) & set(parts.test.groups)


@given(st.lists(st.integers(0, 3), min_size=8, max_size=80), Shares)
def test_each_class_is_on_both_sides_in_its_share(target: list[int], share: float) -> None:
    table = rows(target)
    parts = _split(table, "Stratified", share)
    sizes = dict(zip(*np.unique(target, return_counts=True), strict=True))
    if parts is None:
        assert 1 in sizes.values() or len(sizes) == 1
        return
    for one, size in sizes.items():
        held_out = int((parts.test.target == one).sum())
        assert 0 < held_out < size
        assert abs(held_out - share * size) <= max(0.5, 1 - share * size, share * size - size + 1) + 1e-9


def test_a_group_keeps_its_side_when_rows_are_added() -> None:
    groups = np.arange(300) % 60
    before = split(rows(groups % 2, groups=groups), data("Grouped"))
    more = np.concatenate([groups, np.arange(60, 90)])
    after = split(rows(more % 2, groups=more), data("Grouped"))
    assert before.test.groups is not None
    assert after.test.groups is not None
    assert set(before.test.groups) == {one for one in after.test.groups if one < 60}
    assert also_held_out(after, before.bounds).all()


def test_few_groups_are_cut_all_the_same() -> None:
    for groups in ([1, 2], [10, 20], [7, 8, 9]):
        several = np.repeat(groups, 20)
        parts = split(rows(np.arange(len(several)) % 2, groups=several), data("Grouped", 0.05))
        assert len(parts.train)
        assert len(parts.test)


def test_rows_that_another_split_learned_from_are_told_apart() -> None:
    target = np.where(np.arange(2000) % 10 == 0, "rare", "common").astype(object)
    wide, narrow = (split(rows(target), data("Stratified", share)) for share in (0.4, 0.2))
    also = also_held_out(wide, narrow.bounds)
    assert int(also.sum()) == len(narrow.test)
    assert also_held_out(narrow, wide.bounds).all()
    assert not also_held_out(wide, {"common": 0.2})[wide.test.target == "rare"].any()
    temporal = split(rows(np.arange(50) % 2, times=np.arange(50)), data("Temporal"))
    assert not also_held_out(temporal, {}).any()


def test_a_class_of_one_row_cannot_be_stratified() -> None:
    with pytest.raises(Failure) as failed:
        split(rows(["a"] * 10 + ["b"]), data("Stratified"))
    assert failed.value.code == "ClassTooSmall"
    assert failed.value.message == "class b has 1 row and cannot be on both sides: leave it out in data.query or use Random"


@given(tables(), st.sampled_from(["Temporal", "Random", "Stratified", "Grouped"]), Shares)
def test_what_stops_early_is_held_out_like_the_test_part(table: Rows, method: str, share: float) -> None:
    held_out = hold_out(table, data(method), share)
    if held_out.any():
        assert not held_out.all()
        shared = {"Temporal": table.times, "Grouped": table.groups, "Random": table.identity["key"].to_numpy()}.get(method)
        if shared is not None:
            assert not set(shared[held_out]) & set(shared[~held_out])
