"""A refusal names the row and the input, whatever the pipeline is made of and however the rows came."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from kaizen.serving.engine import runtime
from kaizen.serving.engine.base import Answer, Engine, Prepared, Refused, as_columns
from kaizen.serving.engine.compile import Compiled, compile_pipeline, save
from kaizen.serving.engine.refusals import located
from tests.support.serving import FakeEngine

FRAME = pd.DataFrame({"x": np.linspace(0, 1, 60), "z": np.linspace(1, 0, 60) ** 2, "word": ["a", "b", "c"] * 20})
KNOWN = (0.5, 0.25, "a")
INFINITE = "a value is missing or infinite, or too large; this model takes neither"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    columns = ColumnTransformer([("numbers", StandardScaler(), ["x", "z"]), ("words", OneHotEncoder(), ["word"])])
    compiled = compile_pipeline(make_pipeline(columns, LogisticRegression()).fit(FRAME, FRAME["x"] > 0.4), FRAME)
    assert isinstance(compiled, Compiled), compiled
    directory: Path = tmp_path_factory.mktemp("model")
    save(compiled, directory)
    return runtime.load(directory)


def told(engine: Engine, columns: Prepared, rows: int, known: Any = KNOWN) -> str:
    with pytest.raises(Refused) as refused:
        engine.predict(columns, rows)
    return str(located(engine, columns, rows, known, refused.value))


def test_one_row_names_its_input(engine: Engine) -> None:
    infinite = float("inf")
    assert told(engine, (0.1, infinite, "a"), 1).startswith("input 'z', row 0: a value is infinite")
    assert told(engine, (0.1, 0.2, "{row}"), 1) == "input 'word', row 0: '{row}' is a category never seen in training"
    assert told(engine, (0.1, infinite, "a"), 1, None).startswith("row 0: a value is infinite")
    assert told(engine, (infinite, infinite, "?"), 1).startswith("input 'x', row 0: ")


@pytest.mark.parametrize("rows", [2, 3, 10, 513])
def test_of_many_rows_the_first_refused_one_is_named(engine: Engine, rows: int) -> None:
    for bad in {0, rows // 2, rows - 1}:
        x, z, words = [0.1] * rows, [0.2] * rows, ["a"] * rows
        words[bad] = words[-1] = "never"
        assert told(engine, [x, z, words], rows) == f"input 'word', row {bad}: 'never' is a category never seen in training"
        z[bad] = -float("inf")
        assert f", row {bad}: " in told(engine, [np.array(x), np.array(z), words], rows)


class Touchy(FakeEngine):
    """Refuses rows whose hours add up to too much, and counts how many rows it was asked for."""

    def __init__(self, most: float) -> None:
        self.most, self.asked = most, 0

    def predict(self, columns: Prepared, rows: int) -> Answer:
        self.asked += rows
        if sum(as_columns(columns)[2]) > self.most:
            raise Refused("too much")
        return super().predict(columns, rows)


@given(st.lists(st.integers(0, 23), min_size=1, max_size=200))
def test_the_search_costs_as_much_as_the_refused_call(hours: list[int]) -> None:
    engine, rows = Touchy(11.0), len(hours)
    columns: Prepared = [["AA"] * rows, [1.0] * rows, hours, [True] * rows]
    refusal = Refused("too much")
    found = located(engine, columns, rows, ("AA", 1.0, 6, True), refusal)
    assert engine.asked <= rows + 12
    if found is refusal:
        return  # no row alone is too much, where the search looked
    assert found.row is not None
    assert hours[found.row] > 11
    assert str(found) == f"input 'hour', row {found.row}: too much"
    assert str(found.after(1000)) == f"input 'hour', row {found.row + 1000}: too much"
