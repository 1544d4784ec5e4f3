"""pipeline.py: what it says trains the same model, to the last bit, and looks as if a person had written it."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from lightgbm import LGBMClassifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor, StackingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits
from xgboost import XGBRegressor

from kaizen.api.training_job import Estimator
from kaizen.training.data.prepare import Rows, prepare
from kaizen.training.models.catalogue import CATALOGUE
from kaizen.training.models.estimators import choose
from kaizen.training.models.fit import fit, freeze
from kaizen.training.models.pipeline_source import source
from kaizen.training.models.source_printer import text
from tests.support import training

ROWS = training.table(400)
NUMBERS, TEXTS = ["distance", "wind"], ["carrier"]


def columns(numbers: Any) -> ColumnTransformer:
    encoder = OneHotEncoder(handle_unknown="ignore", max_categories=100, sparse_output=False)
    return ColumnTransformer([("numbers", numbers, NUMBERS), ("categories", encoder, TEXTS)], sparse_threshold=0.0)


def around(model: Any) -> Pipeline:
    return Pipeline([("columns", columns(SimpleImputer(strategy="median", add_indicator=True))), ("model", model)])


def coded(model: Any) -> Pipeline:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    return Pipeline([("columns", ColumnTransformer([("n", "passthrough", NUMBERS), ("c", encoder, TEXTS)])), ("model", model)])


def words() -> Pipeline:
    fill = SimpleImputer(strategy="constant", fill_value="")
    steps = [
        ("fill", fill),
        ("flat", FunctionTransformer(np.ravel)),
        ("w", TfidfVectorizer(token_pattern=r"\w", dtype=np.float32)),
    ]
    return Pipeline([("columns", ColumnTransformer([("texts", Pipeline(steps), TEXTS)])), ("model", LogisticRegression())])


SCALED = Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler())])
FILLED = Pipeline([("fill", FunctionTransformer(np.nan_to_num)), ("scale", StandardScaler())])
FOREST = {"n_estimators": 7, "random_state": 0}
LOGISTIC = LogisticRegression(max_iter=1000)
CODED = {"categorical_features": [False, False, True], "random_state": 0}
MODELS: dict[str, tuple[str, Any]] = {
    "linear": ("late", Pipeline([("columns", columns(SCALED)), ("model", LogisticRegression(C=0.3, max_iter=1000))])),
    "function": ("delay", Pipeline([("columns", columns(FILLED)), ("model", Ridge())])),
    "forest": ("delay", around(RandomForestRegressor(max_features=0.5, **FOREST))),
    "boosting": ("carrier", coded(HistGradientBoostingClassifier(max_iter=5, **CODED))),
    "lightgbm": ("late", around(LGBMClassifier(n_estimators=5, verbosity=-1, deterministic=True, random_state=0, n_jobs=1))),
    "xgboost": ("delay", around(XGBRegressor(n_estimators=5, tree_method="hist", missing=np.nan, random_state=0, n_jobs=1))),
    "threshold": ("late", FixedThresholdClassifier(FrozenEstimator(around(LOGISTIC)), threshold=0.3, pos_label=True)),
    "calibrated by scikit-learn": ("late", around(CalibratedClassifierCV(LinearSVC(random_state=0), cv=3))),
    "stacking": (
        "late",
        StackingClassifier([("a", around(LOGISTIC)), ("b", around(KNeighborsClassifier(5)))], LogisticRegression(), cv=3),
    ),
    "words": ("late", words()),
}


def rows(target: str) -> Rows:
    task = "Regression" if target == "delay" else "Classification"
    table = ROWS.filter(ROWS["carrier"].is_valid())
    if target == "carrier":
        table = table.append_column("airline", table["carrier"])
    name = "airline" if target == "carrier" else target
    excluded = [other for other in ("late", "delay", "airline") if other != name and other in table.column_names]
    spec = training.spec("x", task=task, data={"target": name, "features": {"exclude": excluded}})
    return prepare(table, spec)


def written(model: Any, of: Rows, **data: Any) -> str:
    spec = training.spec("s3://lake/flights/*.parquet", data=data)
    return source(model, of.frame, of.target, spec.data, "flight-delay: a test")


def run(program: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "pipeline"}
    exec(compile(program, "pipeline.py", "exec"), names)
    return names


def answers(model: Any, frame: pd.DataFrame) -> npt.NDArray[Any]:
    return np.asarray(model.predict_proba(frame) if hasattr(model, "predict_proba") else model.predict(frame))


@pytest.mark.parametrize(("target", "model"), MODELS.values(), ids=MODELS)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_the_file_trains_the_same_model(target: str, model: Any) -> None:
    of = rows(target)
    if isinstance(model, FixedThresholdClassifier):
        model.estimator.estimator.fit(of.frame, of.target)
    with threadpool_limits(1):
        model.fit(of.frame, of.target)
        program = written(model, of)
        again = run(program)["build_pipeline"]().fit(of.frame, of.target)
    assert np.array_equal(answers(model, of.frame), answers(again, of.frame))
    assert np.array_equal(model.predict(of.frame), again.predict(of.frame))
    assert_shape(program)


def assert_shape(program: str) -> None:
    """As ruff would write it: its own verdict."""
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["format", "--diff"], ["check", "--select", "E,F,I,B,UP"]):
        done = subprocess.run(
            [ruff, *command, "--isolated", "--no-cache", "-"], input=program, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("target", ["late", "carrier"])
@pytest.mark.parametrize("method", ["Sigmoid", "Isotonic"])
@pytest.mark.parametrize("base", [LogisticRegression(max_iter=1000), KNeighborsClassifier(9)], ids=["decision", "shares"])
def test_calibration_curves_are_kept_as_they_were_found(target: str, method: Any, base: Any) -> None:
    """With calibrate.py's own wrapper: two classes and three, by decision function and by probability."""
    from kaizen.training.models import calibrate

    of = rows(target)
    pipeline = around(base).fit(of.frame, of.target)
    scores = pipeline.decision_function(of.frame) if hasattr(base, "decision_function") else pipeline.predict_proba(of.frame)
    scores = scores[:, 1] if scores.ndim == 2 and scores.shape[1] == 2 else scores
    curves = calibrate._fit(method, scores, of.target, list(pipeline.classes_))
    model = calibrate.wrap(pipeline, calibrate.Calibration(method, 0.2, 0.1, "", curves))
    program = written(model, of)
    again = run(program)["build_pipeline"]().fit(of.frame, of.target)
    assert np.array_equal(answers(model, of.frame), answers(again, of.frame))
    assert_shape(program)


LOADS: dict[str, dict[str, Any]] = {
    "all": {},
    "newest": {"windowSeconds": 200 * 3600},
    "time as a feature": {"features": {"include": ["time"], "exclude": ["delay"]}},
    "no time": {"timestamp": None, "features": {"exclude": ["delay", "time"]}},
    "dropped": {"targetMissing": "Drop"},
}


@pytest.mark.parametrize("data", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_the_rows_are_read_as_kaizen_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: dict[str, Any], suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    from kaizen.training.access import Access
    from kaizen.training.data.ingest import ingest

    table = training.table(300)
    if "targetMissing" in data:
        late = table["late"].to_pylist()
        table = table.set_column(
            table.column_names.index("late"), "late", [[None if n % 7 == 0 else x for n, x in enumerate(late)]]
        )
    if suffix == "parquet":
        path = training.write(table.take(np.random.default_rng(1).permutation(300)), Path("rows.parquet"))
    else:
        path = Path("rows.csv")
        table.to_pandas().to_csv(path, index=False)
    spec = training.spec(path, data=data)
    of = prepare(ingest(spec.data, Access(None), tmp_path).rows, spec)
    model = Pipeline([("columns", ColumnTransformer([("n", SimpleImputer(), NUMBERS)])), ("model", LogisticRegression())])
    program = source(model, of.frame, of.target, spec.data, "flight-delay: a test")
    features, target = run(program)["load"](path)
    pd.testing.assert_frame_equal(features, of.frame, check_exact=True)
    assert target.dtype == of.target.dtype
    assert np.array_equal(target, of.target)
    assert_shape(program)


def test_it_runs_without_kaizen(tmp_path: Path) -> None:
    of = prepare(ROWS, training.spec("x"))
    model = around(LogisticRegression(max_iter=1000))
    (tmp_path / "pipeline.py").write_text(written(model, of), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "pipeline.py", training.write(ROWS, tmp_path / "rows.parquet")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    score = model.fit(of.frame, of.target).score(of.frame, of.target)
    assert done.stdout.endswith(f"score on the 400 rows that it has learned from: {score:.4f}\n")


def test_no_text_of_the_spec_can_break_the_file() -> None:
    query = 'SELECT """\\ \r\n-- ünicode\x0cimport os\u2028raise\n  FROM rows'
    program = written(around(Ridge()), rows("late"), query=query, target='"late"', sources=[{"name": "rows", "uri": 'a"""\nb'}])
    names = run(program)
    assert names["TARGET"] == '"late"'
    assert "# by this query in DuckDB's SQL:\n#   SELECT" in program


SMALL: dict[str, Any] = {"MLPClassifier": {"max_iter": 20}, "MLPRegressor": {"max_iter": 20}}
NEEDS: dict[str, Any] = {
    "QuadraticDiscriminantAnalysis": {"solver": "eigen", "shrinkage": 0.5, "reg_param": 0.0},
    "OneVsRestClassifier": {"estimator": {"name": "LogisticRegression"}},
    "OneVsOneClassifier": {"estimator": {"name": "GaussianNB"}},
    "VotingClassifier": {"estimators": [{"name": "GaussianNB"}, {"name": "DecisionTreeClassifier"}]},
    "VotingRegressor": {"estimators": [{"name": "Ridge"}, {"name": "DecisionTreeRegressor"}]},
    "HistGradientBoostingClassifier": {"max_iter": 5, "early_stopping": True},
    "LGBMRegressor": {"n_estimators": 30, "early_stopping_rounds": 2},
    "XGBClassifier": {"n_estimators": 30, "early_stopping_rounds": 2},
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_estimator_of_the_catalogue(name: str) -> None:
    """With dates and prose among the columns, as Kaizen fits it; those that choose on folds of their own say so."""
    task = CATALOGUE[name].task
    target, other = ("late", "delay") if task == "Classification" else ("delay", "late")
    words = pa.array([f"flight {row % 7} was {'very ' * (row % 3)}late {row % 40}" for row in range(150)])
    table = training.table(150).append_column("remark", words)
    table = table.set_column(table.column_names.index("delay"), "delay", pc.add(table["delay"], 100))  # some take positive ones
    data = {"target": target, "features": {"exclude": [other], "include": ["time"]}}
    spec = training.spec("x", task=task, data=data)
    of = prepare(table, spec)
    parameters = {**SMALL.get(name, {}), **NEEDS.get(name, {})}
    choice = choose(Estimator(name=name, parameters=parameters), task)
    fitted = fit(choice, of, freeze(choice, of, spec.data)).pipeline
    if name.endswith("CV"):
        with pytest.raises(ValueError, match="which chose its penalty on inner folds, has no short form"):
            written(fitted, of)
        return
    program = written(fitted, of)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = run(program)["build_pipeline"]().fit(of.frame, of.target)
        assert np.array_equal(answers(fitted, of.frame), answers(again, of.frame))
    assert_shape(program)


UNWRITABLE: dict[str, tuple[Any, str]] = {
    "a function of somebody's": (around(FunctionTransformer(rows)), "test_training_pipeline_source.rows has no short form"),
    "a lambda": (around(FunctionTransformer(lambda x: x)), "<lambda> has no short form"),
    "a generator of random numbers": (around(Ridge(random_state=np.random.RandomState(1))), "type RandomState"),
}


@pytest.mark.parametrize(("model", "sentence"), UNWRITABLE.values(), ids=UNWRITABLE)
def test_what_cannot_be_written_is_named(model: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"has no short form in Python$") as refused:
        written(model, rows("late"))
    assert sentence in str(refused.value)


@pytest.mark.parametrize("value", ["", "a", "it's", 'say "x"', 'it\'s "x"', "\\", "\n\t\0", "ü\u2028\U0001f600", "'''\"\"\""])
def test_texts_mean_what_they_are(value: str) -> None:
    assert eval(text(value)) == value
