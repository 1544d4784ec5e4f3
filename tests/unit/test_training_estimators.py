"""Every estimator by name trains on every kind of column, alike each time; what cannot be chosen says why."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.utils import all_estimators

from kaizen.api.training_data import Data
from kaizen.api.training_job import Estimator
from kaizen.training.errors import Failure
from kaizen.training.models.catalogue import CATALOGUE, NOT_OFFERED, Task
from kaizen.training.models.estimators import NamedChoice, choose
from kaizen.training.models.fit import fit, freeze, outputs
from tests.support import mixed

NEEDED: dict[str, dict[str, Any]] = {
    "AdaBoostClassifier": {"n_estimators": 5},
    "AdaBoostRegressor": {"n_estimators": 5},
    "ExtraTreesClassifier": {"n_estimators": 5},
    "ExtraTreesRegressor": {"n_estimators": 5},
    "GradientBoostingClassifier": {"n_estimators": 5},
    "GradientBoostingRegressor": {"n_estimators": 5},
    "HistGradientBoostingClassifier": {"max_iter": 5},
    "HistGradientBoostingRegressor": {"max_iter": 5},
    "LGBMClassifier": {"n_estimators": 5},
    "LGBMRegressor": {"n_estimators": 5},
    "LinearSVR": {"max_iter": 20_000},
    "LogisticRegressionCV": {"Cs": 2},
    "MLPClassifier": {"hidden_layer_sizes": [4]},
    "MLPRegressor": {"hidden_layer_sizes": [4]},
    "OneVsOneClassifier": {"estimator": {"name": "LogisticRegression", "parameters": {"C": 0.5}}},
    "OneVsRestClassifier": {"estimator": {"name": "LogisticRegression"}},
    "RandomForestClassifier": {"n_estimators": 5},
    "RandomForestRegressor": {"n_estimators": 5},
    "TheilSenRegressor": {"max_subpopulation": 50},
    "VotingClassifier": {"estimators": [{"name": "GaussianNB"}, {"name": "XGBClassifier", "parameters": {"n_estimators": 3}}]},
    "VotingRegressor": {"estimators": [{"name": "Ridge"}, {"name": "Ridge", "parameters": {"alpha": 9}}]},
    "XGBClassifier": {"n_estimators": 5},
    "XGBRegressor": {"n_estimators": 5},
}
"""What must be given, or makes the test quick."""


def chosen(name: str, **parameters: Any) -> NamedChoice:
    return choose(Estimator(name=name, parameters={**NEEDED.get(name, {}), **parameters}), CATALOGUE[name].task)


def data(method: str = "Temporal") -> Data:
    sources = [{"name": "rows", "uri": "s3://bucket/rows.parquet"}]
    return Data.model_validate({"sources": sources, "target": "target", "timestamp": "time", "split": {"method": method}})


def test_every_classifier_and_regressor_of_scikit_learn_is_offered_or_says_why_not() -> None:
    every = {name for kind in ("classifier", "regressor") for name, _ in all_estimators(type_filter=kind)}
    ours = {name for name, entry in CATALOGUE.items() if entry.module.startswith("sklearn.")}
    assert ours | set(NOT_OFFERED) == every
    assert not ours & set(NOT_OFFERED)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_estimator_trains_on_every_kind_of_column(name: str) -> None:
    task = CATALOGUE[name].task
    table, new = mixed.rows(task=task), mixed.rows(20, task, seed=5).frame
    new.loc[0, "category"] = "never seen"
    one, other = (fit(chosen(name), table, {}).pipeline for _ in range(2))
    answers = outputs(one, new)
    assert answers.shape == ((20, 2) if task == "Classification" else (20,))
    assert (answers == outputs(other, new)).all()
    if task == "Classification":
        assert answers.sum(axis=1) == pytest.approx(np.ones(20))
        assert one.classes_.tolist() == ["no", "yes"]
        assert set(one.predict(new)) <= {"no", "yes"}


@pytest.mark.parametrize("name", ["SVC", "LinearSVC", "RidgeClassifier", "XGBClassifier", "LGBMClassifier", "OneVsOneClassifier"])
def test_three_classes(name: str) -> None:
    table = mixed.rows(240, classes=3)
    made = fit(chosen(name), table, {}).pipeline
    answers = outputs(made, table.frame)
    assert made.classes_.tolist() == ["no", "yes", "yes, very"]
    assert answers.sum(axis=1) == pytest.approx(np.ones(240))
    assert (made.classes_[answers.argmax(axis=1)] == table.target).mean() > 0.6


@pytest.mark.parametrize(
    "name", ["HistGradientBoostingClassifier", "LogisticRegression", "SVC", "XGBClassifier", "LGBMRegressor"]
)
def test_a_fitted_pipeline_is_stored_and_loaded_without_kaizen(name: str) -> None:
    table = mixed.rows(task=CATALOGUE[name].task)
    made = fit(chosen(name), table, {}).pipeline
    stored = skops.io.dumps(made)
    types = skops.io.get_untrusted_types(data=stored)
    assert {one.split(".")[0] for one in types} <= {"sklearn", "numpy", "lightgbm", "xgboost", "collections", "functools"}
    assert (outputs(skops.io.loads(stored, trusted=types), table.frame) == outputs(made, table.frame)).all()


def test_scores_become_probabilities_by_rows_that_were_not_learned_from() -> None:
    """A support vector machine that knows its own rows by heart must not be sure of new ones."""
    table, new = mixed.rows(400), mixed.rows(2000, seed=1)
    made = fit(chosen("SVC", C=1000.0, gamma=1.0), table, {}).pipeline
    known = outputs(made, new.frame)[np.arange(2000), (new.target == "yes").astype(int)]
    assert -np.log(known).mean() < 0.75


WRONG: dict[str, tuple[Task, str, dict[str, Any], str]] = {
    "nearly right": (
        "Classification",
        "RandomForestClasifier",
        {},
        "there is no estimator RandomForestClasifier: did you mean R",
    ),
    "of no library": ("Regression", "Prophet", {}, "there is no estimator Prophet: "),
    "of the other task": ("Regression", "SVC", {}, "SVC is for task Classification, not Regression: did you mean SVR?"),
    "several targets": (
        "Regression",
        "MultiTaskLasso",
        {},
        "MultiTaskLasso is not supported: it predicts several targets at once",
    ),
    "random folds": (
        "Classification",
        "StackingClassifier",
        {},
        "not supported: its own cross-validation learns from rows later",
    ),
    "no parameter": ("Classification", "SVC", {"c": 1}, "SVC has no parameter c: did you mean C?"),
    "no parameter of LightGBM": (
        "Classification",
        "LGBMClassifier",
        {"num_leafs": 3},
        "LGBMClassifier has no parameter num_leafs: did you mean num_leaf",
    ),
    "no parameter of XGBoost": (
        "Classification",
        "XGBClassifier",
        {"max_deph": 3},
        "XGBClassifier has no parameter max_deph: did you mean max_depth",
    ),
    "value": (
        "Classification",
        "LogisticRegression",
        {"C": -1},
        "The 'C' parameter of LogisticRegression must be a float in the range (0.0, inf]. Got -1 instead",
    ),
    "type": (
        "Regression",
        "KNeighborsRegressor",
        {"n_neighbors": "five"},
        "'n_neighbors' parameter of KNeighborsRegressor must be",
    ),
    "ours": (
        "Regression",
        "RandomForestRegressor",
        {"n_jobs": 4},
        "n_jobs of RandomForestRegressor cannot be set: the final fit uses",
    ),
    "own folds": (
        "Regression",
        "LassoCV",
        {"cv": 3},
        "parameter cv of LassoCV cannot be set: the inner folds are cut as data.split",
    ),
    "random stop": (
        "Classification",
        "MLPClassifier",
        {"early_stopping": True},
        "parameter early_stopping of MLPClassifier cannot be set: it would stop by a random part of the rows: use search",
    ),
    "hard votes": (
        "Classification",
        "VotingClassifier",
        {"estimators": [{"name": "GaussianNB"}], "voting": "hard"},
        "parameter voting of VotingClassifier must be soft here",
    ),
    "nothing inside": ("Classification", "OneVsRestClassifier", {}, "OneVsRestClassifier cannot be made: "),
    "no estimator inside": (
        "Classification",
        "OneVsRestClassifier",
        {"estimator": "LogisticRegression"},
        "parameter estimator of OneVsRestClassifier must be {name, parameters}, e.g. {name: LogisticRegression}",
    ),
    "wrong inside": (
        "Regression",
        "VotingRegressor",
        {"estimators": [{"name": "Ridge", "parameters": {"alfa": 1}}]},
        "Ridge has no parameter alfa: did you mean alpha?",
    ),
    "no probabilities inside": (
        "Classification",
        "BaggingClassifier",
        {"estimator": {"name": "LinearSVC"}},
        "LinearSVC has no probabilities and cannot be inside another estimator",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_chosen_says_why(case: str) -> None:
    task, name, parameters, message = WRONG[case]
    with pytest.raises(Failure) as failed:
        choose(Estimator(name=name, parameters=parameters), task)
    assert (failed.value.step, failed.value.code, failed.value.retry) == ("Prepare", "InvalidEstimator", False)
    assert message in failed.value.message


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("XGBClassifier", {"max_depth": -2}, "max_depth"),
        ("LGBMClassifier", {"objective": "nonsense"}, "nonsense"),
        ("GammaRegressor", {}, "GammaRegressor cannot be fitted: Some value(s) of y are out of the valid range of the loss"),
    ],
)
def test_what_the_library_refuses_only_at_the_fit_is_told_in_its_words(
    name: str, parameters: dict[str, Any], message: str
) -> None:
    table = mixed.rows(task=CATALOGUE[name].task)
    if name == "GammaRegressor":
        table.target[0] = -1.0
    with pytest.raises(Failure) as failed:
        fit(chosen(name, **parameters), table, {})
    assert failed.value.code == "InvalidEstimator"
    assert message in failed.value.message
    assert "Stack trace" not in failed.value.message


def test_changed_parameters_are_checked_and_the_others_stay() -> None:
    choice = chosen("LogisticRegression")
    assert choice.changed({"C": 3.0}).parameters == {"max_iter": 1000, "random_state": 0, "C": 3.0}
    for wrong in ({"D": 1}, {"C": 0}, {"n_jobs": 2}):
        with pytest.raises(Failure):
            choice.changed(wrong)
    assert choice.parameters == {"max_iter": 1000, "random_state": 0}


@pytest.mark.parametrize(
    ("name", "wanted"), [("SVC", "C"), ("XGBClassifier", "max_depth"), ("LGBMClassifier", "min_child_samples")]
)
def test_a_search_may_name_every_parameter_that_a_user_may_set(name: str, wanted: str) -> None:
    names = chosen(name).parameter_names()
    assert wanted in names
    assert list(names) == sorted(names)
    assert not {"n_jobs", "verbose", "categorical_features"} & set(names)


@pytest.mark.parametrize("method", ["Temporal", "Random"])
@pytest.mark.parametrize(
    ("name", "parameters", "count"),
    [
        ("HistGradientBoostingClassifier", {"early_stopping": True, "max_iter": 60}, "max_iter"),
        ("XGBClassifier", {"early_stopping_rounds": 5, "n_estimators": 60}, "n_estimators"),
        ("LGBMClassifier", {"early_stopping_round": 5, "n_estimators": 60}, "n_estimators"),
        ("LGBMRegressor", {"early_stopping_rounds": 5, "n_estimators": 60}, "n_estimators"),
    ],
)
def test_early_stopping_freezes_the_iterations(method: str, name: str, parameters: dict[str, Any], count: str) -> None:
    table = mixed.rows(300, CATALOGUE[name].task)
    choice = chosen(name, **parameters)
    frozen = freeze(choice, table, data(method))
    assert 1 <= frozen[count] < 60
    assert freeze(choice, table, data(method)) == frozen
    model = fit(choice, table, frozen).pipeline["model"]
    if name == "XGBClassifier":
        model = model.named_estimators_["xgboost"]
    assert model.get_params()[count] == frozen[count]


def test_penalties_are_chosen_on_our_folds() -> None:
    table = mixed.rows(task="Regression")
    seen: list[Any] = []
    choice = chosen("LassoCV")
    made = choice.pipeline(table.frame)
    set_params = type(made["model"]).set_params

    class Watched(type(made["model"])):  # type: ignore[misc]
        def set_params(self, **changes: Any) -> Any:
            seen.append(changes["cv"])
            return set_params(self, **changes)

    Watched.__module__, Watched.__name__ = "sklearn.linear_model", "LassoCV"
    made["model"].__class__ = Watched
    from kaizen.training.models import fit as module

    module._fit(made, table)
    folds, after = seen
    assert [learn.max() < judge.min() for learn, judge in folds] == [True] * 3
    assert after is None


def test_a_plain_job_does_not_pay_for_what_it_does_not_use() -> None:
    program = (
        "import sys\n"
        "from kaizen.api.training_job import Estimator\n"
        "from kaizen.training.models.estimators import choose\n"
        "import kaizen.training.models.fit\n"
        "choose(Estimator(name='Ridge'), 'Regression')\n"
        "print(*sorted({'lightgbm', 'xgboost', 'sklearn.ensemble', 'sklearn.neural_network', 'sklearn.cluster', 'dulwich'}"
        " & set(sys.modules)))"
    )
    path = [one for one in sys.path if one]
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(path)}
    )
    assert found.stdout.split() == []
