"""The server's side: what it imports, what it refuses, how it takes columns, and what it makes of broken directories."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from kaizen.serving.engine import native, runtime
from kaizen.serving.engine.base import ENGINE_FILE, Answer, EngineError, Input, Refused, prepare
from kaizen.serving.engine.compile import Compiled, compile_pipeline, save

TREES = "trees-0.treelite"
OPERATOR = Path(__file__).parents[2] / "operator"
TREES = "trees-0.treelite"
ROW: dict[str, list[Any]] = {"x": [1.5], "n": [3], "flag": [True], "w": ["a"]}

ALONE = """
import sys
from pathlib import Path
from kaizen.serving.engine import runtime
engine = runtime.load(Path(sys.argv[1]))
answer = engine.predict(engine.columns({"x": [1.5] * 9, "n": [3] * 9, "flag": [True] * 9, "w": ["a"] * 9}), 9)
one = engine.predict(engine.columns({"x": [1.5], "n": [3], "flag": [True], "w": ["a"]}), 1)
assert answer.scores == one.scores * 9
heavy = {"sklearn", "scipy", "pandas", "treelite", "skops", "joblib", "boto3"} & set(sys.modules)
assert not heavy, heavy
"""


def frame() -> pd.DataFrame:
    chance = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": np.where(chance.random(150) < 0.1, np.nan, chance.normal(size=150)),
            "n": chance.integers(0, 5, 150),
            "flag": chance.random(150) < 0.5,
            "w": pd.Series(chance.choice(["a", "b"], 150), dtype=object),
        }
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled histogram boosting."""
    data = frame()
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = ColumnTransformer([("n", "passthrough", ["x", "n"]), ("f", "passthrough", ["flag"]), ("w", codes, ["w"])])
    labels = (data["n"] + data["flag"] > 2).to_numpy()
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features=[False, False, False, True])
    made = compile_pipeline(Pipeline([("columns", columns), ("model", model)]).fit(data, labels), data)
    assert isinstance(made, Compiled)
    place = tmp_path_factory.mktemp("engine")
    save(made, place)
    return place


def test_the_runtime_needs_numpy_and_the_native_library_alone(directory: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(OPERATOR)}
    command = [sys.executable, "-W", "error", "-c", ALONE, str(directory)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_lists_arrays_and_every_number_of_rows_answer_alike(directory: Path) -> None:
    engine = runtime.load(directory)
    data = frame()
    lists = {name: data[name].tolist() for name in data}
    whole = engine.predict(engine.columns(lists), len(data))
    arrays: dict[str, Any] = {name: data[name].to_numpy() for name in data}
    assert engine.predict(engine.columns(arrays), len(data)).scores == whole.scores
    for rows in (1, 2, 3, 4, 10):
        part = engine.predict(engine.columns({name: values[:rows] for name, values in lists.items()}), rows)
        assert part.labels == whole.labels[:rows]
        assert part.probabilities is not None
        assert whole.probabilities is not None
        assert np.abs(part.probabilities - whole.probabilities[:rows]).max() <= 1e-15
    nothing = engine.predict(engine.columns({name: [] for name in lists}), 0)
    assert (nothing.labels, nothing.scores) == ([], [])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"x": ["1.5"]}, "input 'x' must be a number, not '1.5'"),
        ({"x": [True]}, "input 'x' must be a number, not True"),
        ({"flag": [1]}, "input 'flag' must be true or false, not 1"),
        ({"w": [7]}, "input 'w' must be a string, not 7"),
        ({"w": [["a"]]}, "input 'w' must be a string, not ['a']"),
        ({"n": [2**63]}, "input 'n' is outside the range of a 64-bit integer"),
        ({"n": [10**400]}, "input 'n' is outside the range of a 64-bit integer"),
        ({"x": np.array(["1"])}, "input 'x' must be a number, not <U1"),
        ({"x": np.array([[1.0]])}, "input 'x' must have one value a row"),
        ({"w": np.array([1.0])}, "input 'w' must be a string, not float64"),
    ],
)
def test_a_value_of_another_type_is_refused(directory: Path, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused) as refusal:
        runtime.load(directory).columns({**ROW, **changed})
    assert str(refusal.value) == sentence


def test_an_absent_input_is_refused_and_a_superfluous_one_left_alone(directory: Path) -> None:
    engine = runtime.load(directory)
    with pytest.raises(Refused, match="input 'w' is missing"):
        engine.columns({name: values for name, values in ROW.items() if name != "w"})
    assert engine.columns({**ROW, "key": ["AA1"]}) == engine.columns(ROW)


def test_a_refusal_names_the_row() -> None:
    inputs = [Input("x", "FP64", False)]
    with pytest.raises(Refused, match="input 'x', row 1, must not be missing"):
        prepare(inputs, {"x": [0.5, None]})
    with pytest.raises(Refused, match="input 'x', row 2, must be a number, not 'a'"):
        prepare(inputs, {"x": [0.5, 1, "a"]})


def test_null_is_a_missing_value_where_the_pipeline_takes_one(directory: Path) -> None:
    engine = runtime.load(directory)
    assert all(one.nullable for one in engine.inputs)
    absent = engine.predict(engine.columns({name: [None] for name in ROW}), 1)
    assert (
        absent.scores
        == engine.predict(engine.columns({**{n: [float("nan")] for n in ("x", "n")}, "flag": [None], "w": [None]}), 1).scores
    )


def test_a_number_too_large_for_a_forest_is_refused_as_scikit_learn_does(tmp_path: Path) -> None:
    data = frame()
    columns = ColumnTransformer([("n", "passthrough", ["n"]), ("w", OneHotEncoder(), ["w"])])
    pipeline = Pipeline([("columns", columns), ("model", RandomForestRegressor(3))]).fit(data, data["n"])
    made = compile_pipeline(pipeline, data)
    assert isinstance(made, Compiled)
    save(made, tmp_path)
    engine = runtime.load(tmp_path)
    for rows in (1, 8):
        with pytest.raises(Refused, match="too large for a 32-bit number"):
            engine.predict(engine.columns({"n": [1e39] * rows, "w": ["a"] * rows}), rows)
        with pytest.raises(Refused, match="'c' is a category never seen in training"):
            engine.predict(engine.columns({"n": [1.0] * rows, "w": ["c"] * rows}), rows)


def broken(directory: Path, tmp_path: Path, **changes: Any) -> Path:
    document = json.loads((directory / ENGINE_FILE).read_text()) | changes
    (tmp_path / ENGINE_FILE).write_text(json.dumps(document))
    (tmp_path / TREES).write_bytes((directory / TREES).read_bytes())
    return tmp_path


def test_a_directory_that_does_not_fit_is_one_sentence(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"engine\.json cannot be read"):
        runtime.load(tmp_path)
    with pytest.raises(EngineError, match="has format 1; this server reads 2"):
        runtime.load(broken(directory, tmp_path, format=1))
    with pytest.raises(EngineError, match="asks for an engine 'java'"):
        runtime.load(broken(directory, tmp_path, kind="java"))
    with pytest.raises(EngineError, match="does not fit this version of the server: KeyError\\('Quantile'\\)"):
        runtime.load(broken(directory, tmp_path, steps=[{"name": "Quantile"}]))


def test_trees_of_another_width_are_not_loaded(directory: Path, tmp_path: Path) -> None:
    model = json.loads((directory / ENGINE_FILE).read_text())["model"]
    with pytest.raises(EngineError, match="holds trees of 4 columns and 1 outputs, not 5 columns and 1 outputs"):
        runtime.load(broken(directory, tmp_path, model={**model, "width": 5}))
    with pytest.raises(EngineError, match="not 4 columns and 2 outputs"):
        runtime.load(broken(directory, tmp_path, model={**model, "outputs": 2}))
    (tmp_path / TREES).unlink()
    with pytest.raises(EngineError):
        native.Trees(tmp_path / TREES, 4, 1)
    with pytest.raises(EngineError, match="the trees take 4 columns, not 3"):
        native.Trees(directory / TREES, 4, 1).many(np.zeros((2, 3)))


def test_the_native_library_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.find().is_file()
    monkeypatch.setenv(native.LIBRARY_VARIABLE, "/nowhere/libtreelite.so")
    assert native.find() == Path("/nowhere/libtreelite.so")


def test_answers_are_arrays_too() -> None:
    strings = Answer(["a", "b"], [0.1, 0.9, 0.4, 0.6], 2)
    assert strings.predict.dtype == object
    assert strings.probabilities is not None
    assert strings.probabilities.tolist() == [[0.1, 0.9], [0.4, 0.6]]
    numbers = Answer([1.5], None, 0)
    assert numbers.predict.dtype == np.float64
    assert numbers.probabilities is None


def test_rows_columns_and_matrices_get_the_same_answers(tmp_path: Path) -> None:
    data = frame()[["x", "n"]].astype(np.float64)
    made = compile_pipeline(HistGradientBoostingClassifier(max_iter=5).fit(data, data["n"] > 2), data)
    assert isinstance(made, Compiled)
    save(made, tmp_path)
    engine = runtime.load(tmp_path)
    table = data.to_numpy()
    for rows in (1, 2, 3, 20):
        matrix, columns = table[:rows], table[:rows].T.tolist()
        expected = engine.predict(columns, rows)
        alone = [engine.predict(tuple(row), 1) for row in matrix.tolist()]
        for found in (engine.predict(matrix, rows), engine.predict(list(matrix.T), rows)):
            assert (found.labels, found.scores) == (expected.labels, expected.scores)
        assert [label for one in alone for label in one.labels] == expected.labels
        assert [score for one in alone for score in one.scores or ()] == pytest.approx(expected.scores, rel=1e-12)
        assert engine.explain(matrix, rows) == engine.explain(columns, rows)
    assert engine.explain(tuple(table[0].tolist()), 1) == engine.explain(table[:1], 1)
