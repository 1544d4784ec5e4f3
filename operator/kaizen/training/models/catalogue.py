"""Every estimator by its name: where it is imported from, which preprocessing it needs, what is set for it, or why not.

A table, so that a name is checked without importing all of scikit-learn; a test compares it with scikit-learn's own list.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["CATALOGUE", "NESTED", "NOT_OFFERED", "OURS", "RANDOM_STOP", "Entry", "Family", "Task"]

Family = Literal["Scaled", "Counts", "Binary", "Forest", "Boosting", "LightGBM", "XGBoost"]
"""Estimators that need the same preprocessing: see preprocess.py."""
Task = Literal["Classification", "Regression"]


@dataclass(frozen=True)
class Entry:
    """An estimator that can be chosen."""

    module: str
    task: Task
    family: Family
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the library's own defaults, besides the seed."""


_LINEAR = "sklearn.linear_model"
_TABLE: tuple[tuple[str, Task, Family, str], ...] = (
    (
        _LINEAR,
        "Classification",
        "Scaled",
        "LogisticRegression LogisticRegressionCV Perceptron RidgeClassifier RidgeClassifierCV SGDClassifier",
    ),
    ("sklearn.discriminant_analysis", "Classification", "Scaled", "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis"),
    ("sklearn.dummy", "Classification", "Scaled", "DummyClassifier"),
    ("sklearn.gaussian_process", "Classification", "Scaled", "GaussianProcessClassifier"),
    ("sklearn.multiclass", "Classification", "Scaled", "OneVsOneClassifier OneVsRestClassifier"),
    ("sklearn.naive_bayes", "Classification", "Scaled", "GaussianNB"),
    ("sklearn.naive_bayes", "Classification", "Counts", "ComplementNB MultinomialNB"),
    ("sklearn.naive_bayes", "Classification", "Binary", "BernoulliNB CategoricalNB"),
    ("sklearn.neighbors", "Classification", "Scaled", "KNeighborsClassifier NearestCentroid"),
    ("sklearn.neural_network", "Classification", "Scaled", "MLPClassifier"),
    ("sklearn.semi_supervised", "Classification", "Scaled", "LabelPropagation LabelSpreading"),
    ("sklearn.svm", "Classification", "Scaled", "LinearSVC NuSVC SVC"),
    ("sklearn.tree", "Classification", "Forest", "DecisionTreeClassifier ExtraTreeClassifier"),
    (
        "sklearn.ensemble",
        "Classification",
        "Forest",
        "AdaBoostClassifier BaggingClassifier ExtraTreesClassifier GradientBoostingClassifier RandomForestClassifier",
    ),
    ("sklearn.ensemble", "Classification", "Scaled", "VotingClassifier"),
    ("sklearn.ensemble", "Classification", "Boosting", "HistGradientBoostingClassifier"),
    ("lightgbm", "Classification", "LightGBM", "LGBMClassifier"),
    ("xgboost", "Classification", "XGBoost", "XGBClassifier"),
    (
        _LINEAR,
        "Regression",
        "Scaled",
        "ARDRegression BayesianRidge ElasticNet ElasticNetCV GammaRegressor HuberRegressor Lars LarsCV Lasso LassoCV LassoLars "
        "LassoLarsCV LassoLarsIC LinearRegression OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV "
        "PoissonRegressor QuantileRegressor RANSACRegressor Ridge RidgeCV SGDRegressor "
        "TheilSenRegressor TweedieRegressor",
    ),
    ("sklearn.cross_decomposition", "Regression", "Scaled", "CCA PLSCanonical PLSRegression"),
    ("sklearn.dummy", "Regression", "Scaled", "DummyRegressor"),
    ("sklearn.gaussian_process", "Regression", "Scaled", "GaussianProcessRegressor"),
    ("sklearn.kernel_ridge", "Regression", "Scaled", "KernelRidge"),
    ("sklearn.neighbors", "Regression", "Scaled", "KNeighborsRegressor"),
    ("sklearn.neural_network", "Regression", "Scaled", "MLPRegressor"),
    ("sklearn.svm", "Regression", "Scaled", "LinearSVR NuSVR SVR"),
    ("sklearn.tree", "Regression", "Forest", "DecisionTreeRegressor ExtraTreeRegressor"),
    (
        "sklearn.ensemble",
        "Regression",
        "Forest",
        "AdaBoostRegressor BaggingRegressor ExtraTreesRegressor GradientBoostingRegressor RandomForestRegressor",
    ),
    ("sklearn.ensemble", "Regression", "Scaled", "VotingRegressor"),
    ("sklearn.ensemble", "Regression", "Boosting", "HistGradientBoostingRegressor"),
    ("lightgbm", "Regression", "LightGBM", "LGBMRegressor"),
    ("xgboost", "Regression", "XGBoost", "XGBRegressor"),
)

_ONE_THREAD = {"n_jobs": 1}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "LogisticRegression": {"max_iter": 1000},
    "LogisticRegressionCV": {"max_iter": 1000, "l1_ratios": [0.0], "scoring": "neg_log_loss", "use_legacy_attributes": False},
    "HistGradientBoostingClassifier": {"early_stopping": False},
    "HistGradientBoostingRegressor": {"early_stopping": False},
    "VotingClassifier": {"voting": "soft"},
    "QuadraticDiscriminantAnalysis": {"reg_param": 0.01},
    "CCA": {"n_components": 1},
    "PLSCanonical": {"n_components": 1},
    "LGBMClassifier": {**_ONE_THREAD, "deterministic": True, "force_row_wise": True, "verbose": -1},
    "LGBMRegressor": {**_ONE_THREAD, "deterministic": True, "force_row_wise": True, "verbose": -1},
    "XGBClassifier": _ONE_THREAD,
    "XGBRegressor": _ONE_THREAD,
}

CATALOGUE: Mapping[str, Entry] = {
    name: Entry(module, task, family, _DEFAULTS.get(name, {})) for module, task, family, names in _TABLE for name in names.split()
}

_SEVERAL = "it predicts several targets at once, and data.target is one column"
_CALIBRATES = "probabilities are calibrated on inner folds by calibration Automatic: name the classifier itself"
_THRESHOLD = "the threshold is found on inner folds by decision: name the classifier itself, and set decision"
_STACKS = "its own cross-validation learns from rows later than those it judges: use estimator Auto, which stacks on inner folds"
_LEAVES = "scikit-learn 1.10 removes it"
_RADIUS = "a row with no neighbour inside the radius has no answer"

NOT_OFFERED: Mapping[str, str] = {
    "CalibratedClassifierCV": _CALIBRATES,
    "ClassifierChain": _SEVERAL,
    "FixedThresholdClassifier": _THRESHOLD,
    "IsotonicRegression": "it takes a single feature",
    "MultiOutputClassifier": _SEVERAL,
    "MultiOutputRegressor": _SEVERAL,
    "MultiTaskElasticNet": _SEVERAL,
    "MultiTaskElasticNetCV": _SEVERAL,
    "MultiTaskLasso": _SEVERAL,
    "MultiTaskLassoCV": _SEVERAL,
    "OutputCodeClassifier": "it has neither probabilities nor scores, which gates and metrics need: use OneVsRestClassifier",
    "PassiveAggressiveClassifier": f"{_LEAVES}: use SGDClassifier with loss hinge, penalty null, learning_rate pa1, eta0 1.0",
    "PassiveAggressiveRegressor": f"{_LEAVES}: use SGDRegressor with loss epsilon_insensitive, penalty null, learning_rate pa1",
    "RadiusNeighborsClassifier": f"{_RADIUS}: use KNeighborsClassifier",
    "RadiusNeighborsRegressor": f"{_RADIUS}: use KNeighborsRegressor",
    "RegressorChain": _SEVERAL,
    "SelfTrainingClassifier": "it learns from rows without a target, which are failures or dropped here",
    "StackingClassifier": _STACKS,
    "StackingRegressor": _STACKS,
    "TransformedTargetRegressor": "its functions cannot be written in YAML: transform the target in data.query, or use code",
    "TunedThresholdClassifierCV": _THRESHOLD,
}
"""Names that exist in scikit-learn, and why each cannot be trained here."""

NESTED: Mapping[str, Literal["One", "Several"]] = {"estimator": "One", "estimators": "Several"}
"""Parameters that are estimators themselves, written as {name, parameters}: one of them, or a list."""

_SPLITS = "the inner folds are cut as data.split says"
_CATEGORIES = "it follows from the columns' types"

OURS: Mapping[str, str] = {
    "callbacks": "it cannot be written in YAML",
    "categorical_feature": _CATEGORIES,
    "categorical_features": _CATEGORIES,
    "cv": _SPLITS,
    "device": "training runs on the CPU, where it can be repeated exactly",
    "device_type": "training runs on the CPU, where it can be repeated exactly",
    "enable_categorical": _CATEGORIES,
    "feature_types": _CATEGORIES,
    "missing": "missing values are NaN",
    "n_jobs": "the final fit uses one thread, so that it can be repeated exactly",
    "num_threads": "the final fit uses one thread, so that it can be repeated exactly",
    "oob_score": "the test part judges the model",
    "probability": "probabilities always exist: they are calibrated on inner folds",
    "store_cv_results": _SPLITS,
    "use_legacy_attributes": "it is about attributes that nothing here reads",
    "verbose": "progress is shown by step",
    "verbosity": "progress is shown by step",
    "warm_start": "every fit starts anew",
}
"""Parameters that a user may not set, and why."""

RANDOM_STOP: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "MLPClassifier",
            "MLPRegressor",
            "Perceptron",
            "SGDClassifier",
            "SGDRegressor",
        ),
        "early_stopping",
    ),
    "GradientBoostingClassifier": "n_iter_no_change",
    "GradientBoostingRegressor": "n_iter_no_change",
}
"""By estimator, the parameter that has it stop by a random part of the rows."""
