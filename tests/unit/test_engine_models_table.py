"""Every estimator that is compiled, against its library: the same labels, numbers and refusals, row by row and together."""

import functools
import itertools
import json
import os
import re
import tempfile
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import AdaBoostClassifier, GradientBoostingClassifier, IsolationForest, VotingClassifier
from sklearn.linear_model import Ridge
from sklearn.svm import SVC
from xgboost import XGBClassifier

from kaizen.serving.engine import models
from kaizen.serving.engine.base import Refused
from kaizen.serving.engine.compile import Files
from kaizen.serving.engine.estimators import compile_model
from kaizen.serving.engine.transformers import Flow, Uncovered
from tests.support.estimators import (
    EXTREME,
    FOREST,
    HGB,
    LIGHT,
    LOGISTIC,
    MILD,
    SINGLE,
    SMALL,
    TREE,
    WIDTH,
    WILD,
    Case,
    numbers,
    target,
)
from tests.support.wrapped_estimators import AROUND

CASES = {**SINGLE, **AROUND}


@functools.cache
def fitted(name: str) -> tuple[Any, Any, np.ndarray[Any, Any], float]:
    """The estimator, its model, its table, its tolerance."""
    maker, kind, table = CASES[name]
    given = numbers(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = maker()
        extra = {"eval_set": [(given, target(kind, given))], "verbose": False} if "that stopped" in name and "XGB" in name else {}
        estimator.fit(given, target(kind, given), **extra)
    files = Files()
    document = json.loads(json.dumps(compile_model(estimator, Flow.numbers(WIDTH), files), allow_nan=False))
    with tempfile.TemporaryDirectory() as directory:
        for file, content in files.contents.items():
            (Path(directory) / file).write_bytes(content)
        return estimator, models.restore(document, Path(directory)), given, models.tolerance(document)


def library(estimator: Any, table: np.ndarray[Any, Any]) -> tuple[list[Any], np.ndarray[Any, Any] | None] | None:
    """Labels (or numbers) and probabilities; None: refused."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            shares = estimator.predict_proba(table) if hasattr(estimator, "predict_proba") else None
            return estimator.predict(table).ravel().tolist(), shares
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def engine(estimator: Any, answer: tuple[Any, Any]) -> tuple[list[Any], np.ndarray[Any, Any] | None]:
    """The same from a model's indices and scores."""
    indices, scores = answer
    if not hasattr(estimator, "classes_"):
        return np.asarray(scores)[:, 0].tolist(), None
    labels = np.asarray(estimator.classes_)[indices].tolist()
    return labels, np.asarray(scores) if hasattr(estimator, "predict_proba") else None


def differ(wanted: Any, got: Any, tolerance: float) -> str:
    """What is different; empty when nothing is."""
    (labels, shares), (mine, scores) = wanted, got
    if shares is not None:
        if labels != mine:
            return f"labels {mine} instead of {labels}"
        apart = np.abs(scores - shares)
        same = (apart <= tolerance) | (np.isnan(scores) & np.isnan(shares))
        return "" if scores.shape == shares.shape and same.all() else f"{scores} instead of {shares}"
    if isinstance(labels[0], float):
        one, other = np.array(labels), np.array(mine)
        with np.errstate(all="ignore"):
            same = (
                (np.abs(one - other) <= tolerance * np.maximum(1.0, np.abs(one)))
                | (one == other)
                | (np.isnan(one) & np.isnan(other))
            )
        return "" if same.all() else f"{other[~same]} instead of {one[~same]}"
    return "" if labels == mine else f"labels {mine} instead of {labels}"


def check(name: str, table: np.ndarray[Any, Any], *, alone: bool = True) -> None:
    """The model answers the rows as the library does, together and one by one; refusals are the same, too."""
    estimator, model, _, tolerance = fitted(name)
    wanted = library(estimator, table)
    with np.errstate(all="ignore"):
        try:
            got = engine(estimator, model.batch(table))
        except Refused:
            got = None
    assert (wanted is None) == (got is None), f"{name}: {wanted} and {got} for {table}"
    if wanted is not None:
        assert not (problem := differ(wanted, got, tolerance)), f"{name}: {problem}"
    if alone:
        answers = [row_of(model, row) for row in table]
        assert (None in answers) == (wanted is None), f"{name}: alone {answers} for {table}"
        if wanted is not None:
            indices, scores = [one[0] for one in answers], np.array([one[1] for one in answers])
            assert not (problem := differ(wanted, engine(estimator, (indices, scores)), tolerance)), f"{name}, alone: {problem}"


def row_of(model: Any, row: np.ndarray[Any, Any]) -> Any:
    try:
        return model.row(row.tolist())
    except Refused:
        return None


def hostile(given: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows whose values are half-way between those learned from, where trees split, and one step on either side."""
    base = np.nan_to_num(given[:30])
    middle = np.round(base + 0.05, 2)
    near = middle.astype(np.float32)
    steps = [np.nextafter(middle, np.inf), np.nextafter(middle, -np.inf)]
    steps += [near.astype(np.float64), np.nextafter(near, np.float32(np.inf)).astype(np.float64)]
    mild = np.resize(base, (len(MILD) * WIDTH, WIDTH)).copy()
    for place, (value, column) in enumerate(itertools.product(MILD, range(WIDTH))):
        mild[place, column] = value
    return np.vstack([base, middle, *steps, mild])


@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_library(name: str) -> None:
    given = fitted(name)[2]
    if CASES[name][2] in ("counts", "flags"):
        check(name, given[:40])
        check(name, np.where(given[:10] == 1, 1.5, given[:10]))
    else:
        check(name, np.vstack([given[:20], hostile(given)]) if CASES[name][2] == "plain" else np.vstack([given, hostile(given)]))
    for place, value in enumerate(WILD):
        row = np.nan_to_num(given[place : place + 1])
        row[0, place % WIDTH] = value
        check(name, row)


MIXED = ("logistic, three", "QDA, two", "forest, three", "histogram boosting, two", "XGBoost, three", "soft vote, three")


@pytest.mark.parametrize("name", MIXED)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    rows=st.lists(
        st.lists(
            st.one_of(st.floats(width=64), st.integers(-9, 9).map(lambda tenths: tenths / 10)), min_size=WIDTH, max_size=WIDTH
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_numbers(name: str, rows: list[list[float]]) -> None:
    for row in rows:
        check(name, np.array([row]))


NEVER: dict[str, Case] = {
    "SVC is not compiled: it compares each row with rows of the training data": (SVC, "two", "plain"),
    "IsolationForest is not compiled: it answers 1 or -1": (IsolationForest, "two", "plain"),
    "DummyClassifier answers by chance": (lambda: DummyClassifier(strategy="stratified"), "two", "plain"),
    "begins with LogisticRegression": (lambda: GradientBoostingClassifier(init=LOGISTIC(), **SMALL), "two", "plain"),
    "AdaBoostClassifier of LogisticRegression": (lambda: AdaBoostClassifier(LOGISTIC(), **SMALL), "two", "plain"),
    "with the booster dart": (lambda: XGBClassifier(booster="dart", **EXTREME), "two", "plain"),
    "with several in a leaf": (
        lambda: XGBClassifier(multi_strategy="multi_output_tree", tree_method="hist", **EXTREME),
        "three",
        "plain",
    ),
    "the objective 'binary:hinge'": (lambda: XGBClassifier(objective="binary:hinge", **EXTREME), "two", "plain"),
    "boosting_type rf": (
        lambda: LGBMClassifier(boosting_type="rf", bagging_freq=1, bagging_fraction=0.6, **LIGHT),
        "two",
        "plain",
    ),
    "with the function '<lambda>'": (
        lambda: TransformedTargetRegressor(Ridge(), func=lambda y: y, inverse_func=lambda y: y),
        "number",
        "plain",
    ),
    "the scores of a model Quadratic": (
        lambda: CalibratedClassifierCV(QuadraticDiscriminantAnalysis(reg_param=0.1), cv=2),
        "two",
        "plain",
    ),
}


@pytest.mark.parametrize("reason", NEVER)
def test_what_is_not_covered_says_why(reason: str) -> None:
    maker, kind, table = NEVER[reason]
    given = numbers(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = maker().fit(given, target(kind, given))
    with pytest.raises(Uncovered, match=re.escape(reason)):
        compile_model(estimator, Flow.numbers(WIDTH), Files())


def test_what_reaches_a_model_must_be_numbers_of_64_bits() -> None:
    given = numbers("plain")
    estimator = LOGISTIC().fit(given, target("two", given))
    with pytest.raises(Uncovered, match="on 32-bit numbers is not compiled"):
        compile_model(estimator, Flow.numbers(WIDTH, single=True), Files())
    with pytest.raises(Uncovered, match="strings that reach LogisticRegression without an encoder"):
        compile_model(estimator, Flow(["BYTES"] * WIDTH, [None] * WIDTH, [None] * WIDTH), Files())


def test_several_forests_in_one_model_have_a_file_each() -> None:
    given = numbers("plain")
    estimator = VotingClassifier([("a", FOREST()), ("b", TREE()), ("c", HGB())], voting="soft").fit(given, target("two", given))
    files = Files()
    document = compile_model(estimator, Flow.numbers(WIDTH), files)
    assert [one["model"]["trees"] for one in document["members"]] == ["trees-0.treelite", "trees-1.treelite", "trees-2.treelite"]
    assert list(files.contents) == ["trees-0.treelite", "trees-1.treelite", "trees-2.treelite"]


def test_arrays_of_many_numbers_are_files() -> None:
    estimator, files = fitted("perceptrons, number")[0], Files()
    weights = compile_model(estimator, Flow.numbers(WIDTH), files)["weights"]
    assert weights[1] == {"array": "numbers-0.npy"}
    assert np.array_equal(np.load(BytesIO(files.contents["numbers-0.npy"])), estimator.coefs_[1])


def test_trees_answer_in_a_forked_child() -> None:
    """With more than one thread Treelite hangs there."""
    _, model, given, _ = fitted("forest, three")
    wanted = model.batch(given)[0]
    child = os.fork()
    if child == 0:
        os._exit(0 if (model.batch(given)[0] == wanted).all() and model.row(given[0].tolist())[0] == wanted[0] else 1)
    assert os.waitpid(child, 0)[1] == 0
