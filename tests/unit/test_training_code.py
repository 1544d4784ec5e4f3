"""A user's own function: called, checked and trained like the built-in estimators; its mistakes are told with file and line."""

from pathlib import Path
from typing import Any

import pytest

from kaizen.api.training_job import Code
from kaizen.training.access import Access
from kaizen.training.errors import Failure
from kaizen.training.models.code import CodeChoice, load
from kaizen.training.models.code_source import CodeFile, obtain
from kaizen.training.models.estimators import Choice
from kaizen.training.models.fit import fit, freeze, outputs
from tests.support import mixed, training
from tests.unit.test_training_estimators import data


def code_file(text: str) -> CodeFile:
    return CodeFile("model.py", text.encode(), "00", None)


def loaded(text: str, task: Any = "Classification", **parameters: Any) -> CodeChoice:
    return load(code_file(text), "build_pipeline", parameters, task)


BARE = """
from sklearn.ensemble import RandomForestClassifier

def build_pipeline(trees=5, *, depth=None):
    return RandomForestClassifier(n_estimators=trees, max_depth=depth, n_jobs=4)
"""

WHOLE = """
import numpy as np
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

def build_pipeline():
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["category"]),
        (FunctionTransformer(np.abs), make_column_selector(dtype_include=float)),
    )
    return make_pipeline(columns, HistGradientBoostingRegressor(max_iter=5))
"""

SCORES = """
from sklearn.svm import LinearSVC

def build_pipeline():
    return LinearSVC()
"""


@pytest.mark.parametrize(("text", "task"), [(BARE, "Classification"), (WHOLE, "Regression"), (SCORES, "Classification")])
def test_it_trains_like_any_other_and_alike_each_time(text: str, task: str) -> None:
    choice: Choice = loaded(text, task)
    table = mixed.rows(task=task)
    one, other = (fit(choice, table, freeze(choice, table, data())).pipeline for _ in range(2))
    answers = outputs(one, table.frame)
    assert answers.shape == ((160, 2) if task == "Classification" else (160,))
    assert (answers == outputs(other, table.frame)).all()


def test_a_pipeline_is_used_as_it_is_and_anything_else_gets_the_preprocessing() -> None:
    frame = mixed.rows().frame
    assert list(loaded(WHOLE, "Regression").pipeline(frame).named_steps) == ["columntransformer", "histgradientboostingregressor"]
    made = loaded(BARE, trees=7).pipeline(frame)
    assert list(made.named_steps) == ["columns", "model"]
    assert (made["model"].n_estimators, made["model"].n_jobs, made["model"].random_state) == (7, 1, 0)


def test_random_early_stopping_is_off_unless_it_was_asked_for() -> None:
    assert loaded(WHOLE, "Regression").build().steps[-1][1].early_stopping is False


def test_parameters_are_those_of_the_function() -> None:
    choice = loaded(BARE, trees=3)
    assert choice.parameter_names() == ("depth", "trees")
    assert choice.changed({"depth": 2}).pipeline(mixed.rows().frame)["model"].max_depth == 2
    with pytest.raises(Failure) as failed:
        choice.changed({"dept": 2})
    assert failed.value.code == "InvalidEstimator"
    assert failed.value.message == "function build_pipeline of model.py has no parameter dept: did you mean depth?"


WRONG: dict[str, tuple[str, str]] = {
    "syntax": ("def build_pipeline(:\n", "model.py:1: it cannot be imported: SyntaxError: invalid syntax"),
    "import": (
        "\nimport torch_of_mine\n",
        "model.py:2: it cannot be imported: ModuleNotFoundError: No module named 'torch_of_mine' (there are numpy, pandas,",
    ),
    "no function": ("def build_pipelines(): ...\n", "model.py has no function build_pipeline: did you mean build_pipelines?"),
    "nothing": ("", "model.py has no function build_pipeline: it has no functions at all"),
    "raises": (
        "def helper():\n    raise KeyError('colour')\n\ndef build_pipeline():\n    return helper()\n",
        "model.py:2: build_pipeline failed: KeyError: 'colour'",
    ),
    "exits": ("import sys\ndef build_pipeline():\n    sys.exit(3)\n", "model.py:3: build_pipeline failed: SystemExit: 3"),
    "none": ("def build_pipeline():\n    pass\n", "must return a scikit-learn estimator, and returns NoneType"),
    "class": (
        "from sklearn.svm import SVC\ndef build_pipeline():\n    return SVC\n",
        "must return a scikit-learn estimator, and returns the class SVC: call it",
    ),
    "own class": (
        "from sklearn.svm import SVC\nclass Mine(SVC): pass\ndef build_pipeline():\n    return Mine()\n",
        "uses its own Mine, which cannot be loaded where the model is served: use classes and functions of scikit-learn",
    ),
    "own function": (
        "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import FunctionTransformer\n"
        "from sklearn.svm import SVC\ndef build_pipeline():\n"
        "    return make_pipeline(FunctionTransformer(lambda x: x), SVC())\n",
        "uses its own build_pipeline.<locals>.<lambda>, which cannot be loaded",
    ),
    "other package": (
        "import pandas as pd\nfrom sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import FunctionTransformer\n"
        "from sklearn.svm import SVC\ndef build_pipeline():\n"
        "    return make_pipeline(FunctionTransformer(pd.isna), SVC())\n",
        "isna, which cannot be loaded",
    ),
    "other task": (
        "from sklearn.svm import SVR\ndef build_pipeline():\n    return SVR()\n",
        "must return a classifier for task Classification, and returns SVR",
    ),
    "transformer": (
        "from sklearn.preprocessing import StandardScaler\ndef build_pipeline():\n    return StandardScaler()\n",
        "must return a classifier for task Classification, and returns StandardScaler",
    ),
    "fitted": (
        "from sklearn.naive_bayes import GaussianNB\ndef build_pipeline():\n    return GaussianNB().fit([[0], [1]], [0, 1])\n",
        "returns a fitted GaussianNB: leave the fit to the training",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_told_with_file_and_line(case: str) -> None:
    text, message = WRONG[case]
    with pytest.raises(Failure) as failed:
        loaded(text)
    assert (failed.value.step, failed.value.code, failed.value.retry) == ("Prepare", "InvalidCode", False)
    assert message in failed.value.message
    assert failed.value.message.count("model.py") == 1


def test_a_parameter_that_must_be_given() -> None:
    with pytest.raises(Failure) as failed:
        loaded("def build_pipeline(depth): ...\n")
    assert failed.value.message == "function build_pipeline of model.py needs depth: give it in code.parameters"


def _code(uri: object, **more: Any) -> Code:
    return Code.model_construct(uri=str(uri), **{"revision": None, "path": None, "secret_name": None, **more})


def test_a_local_file_and_one_on_a_claim(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    for path in (tmp_path / "model.py", tmp_path / "work" / "model.py"):
        path.write_text(BARE)
    access = Access(None, claims=tmp_path)
    local, claimed = (obtain(_code(uri), access, tmp_path) for uri in (tmp_path / "model.py", "pvc://work/model.py"))
    assert local.content == claimed.content == BARE.encode()
    assert local.sha256 == claimed.sha256
    assert claimed.to_json() == {"name": "pvc://work/model.py", "digest": f"sha256:{local.sha256}", "commit": None}


def test_a_file_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = training.MemoryBucket({"code/model.py": BARE.encode()})
    monkeypatch.setattr(Access, "open", lambda *_: bucket.as_bucket())
    assert obtain(_code("s3://data/code/model.py"), Access(None), tmp_path).content == BARE.encode()
    with pytest.raises(Failure) as failed:
        obtain(_code("s3://data/code/other.py"), Access(None), tmp_path)
    assert failed.value.code == "CodeMissing"


@pytest.mark.parametrize(
    ("uri", "more", "code", "message"),
    [
        ("{here}/missing.py", {}, "CodeMissing", "cannot be read: No such file or directory"),
        ("pvc://nowhere/model.py", {}, "CodeMissing", "the PersistentVolumeClaim nowhere of code.uri is not mounted"),
        ("pvc://work/../model.py", {}, "InvalidCode", "leads out of the PersistentVolumeClaim work"),
        ("https://host/code.git", {"path": "a.py"}, "InvalidCode", "is a git repository: add code.revision"),
        ("https://host/code.git", {"revision": "v1"}, "InvalidCode", "is a git repository: add code.path"),
        ("ftp://host/a.py", {}, "InvalidCode", "must be s3://BUCKET/PATH.py, pvc://CLAIM/PATH.py or https://HOST/PATH"),
        ("{here}/large.py", {}, "InvalidCode", "has 1000001 bytes, more than 1000000"),
    ],
)
def test_a_file_that_is_not_there(tmp_path: Path, uri: str, more: dict[str, str], code: str, message: str) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "large.py").write_bytes(b"#" * 1_000_001)
    with pytest.raises(Failure) as failed:
        obtain(_code(uri.format(here=tmp_path), **more), Access(None, claims=tmp_path), tmp_path)
    assert failed.value.code == code
    assert message in failed.value.message
