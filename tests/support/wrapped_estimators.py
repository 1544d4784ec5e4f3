"""Estimators around others: the further cases of tests that compare the engine with the libraries."""

import functools
import itertools
from typing import Any

import numpy as np
from sklearn import linear_model as linear
from sklearn import naive_bayes as bayes
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC
from xgboost import XGBClassifier

from tests.support.estimators import BOTH, EXTREME, FOREST, HGB, HISTOGRAM, LOGISTIC, SMALL, TREE, Case, each, scaled

TARGETS: dict[str, Any] = {
    "logarithm": {"func": np.log, "inverse_func": np.exp},
    "logarithm of one more": {"func": np.log1p, "inverse_func": np.expm1},
    "root": {"func": np.sqrt, "inverse_func": np.square},
    "scaled": {"transformer": StandardScaler()},
    "squeezed": {"transformer": MinMaxScaler((1, 3))},
    "robust": {"transformer": RobustScaler()},
    "as it is": {},
}

AROUND: dict[str, Case] = {
    **each({"bagging": lambda: BaggingClassifier(LOGISTIC(), max_features=0.6, **SMALL)}, BOTH),
    "bagging of numbers": (
        lambda: BaggingRegressor(linear.Ridge(), max_features=3, bootstrap_features=True, **SMALL),
        "number",
        "plain",
    ),
    "bagging of votes": (lambda: BaggingClassifier(LinearSVC(random_state=0), **SMALL), "three", "plain"),
    "bagging of pipelines": (lambda: BaggingClassifier(scaled(), **SMALL), "two", "plain"),
    **each(
        {
            f"{method} over {name}{'' if ensemble else ', one'}": functools.partial(
                CalibratedClassifierCV, inner(), method=method, cv=2, ensemble=ensemble
            )
            for method, ensemble in itertools.product(("sigmoid", "isotonic", "temperature"), (True, False))
            for name, inner in (("logistic", LOGISTIC), ("forest", FOREST))
        },
        BOTH,
    ),
    **each(
        {
            "sigmoid over histogram boosting": lambda: CalibratedClassifierCV(HGB(), cv=2),
            "sigmoid over a linear SVC": lambda: CalibratedClassifierCV(LinearSVC(random_state=0), cv=2),
            "sigmoid over a modified huber": lambda: CalibratedClassifierCV(
                linear.SGDClassifier(loss="modified_huber", random_state=0), cv=2
            ),
        },
        BOTH,
    ),
    **each(
        {
            "sigmoid over gradient boosting": lambda: CalibratedClassifierCV(GradientBoostingClassifier(**SMALL), cv=2),
            "isotonic over AdaBoost": lambda: CalibratedClassifierCV(AdaBoostClassifier(**SMALL), method="isotonic", cv=2),
        },
        BOTH,
    ),
    **each(
        {
            "soft vote": lambda: VotingClassifier(
                [("a", scaled()), ("b", FOREST()), ("c", bayes.GaussianNB())], voting="soft", weights=[1, 2.5, 0.5]
            ),
            "soft vote of equals": lambda: VotingClassifier([("a", scaled()), ("b", HGB())], voting="soft"),
            "hard vote": lambda: VotingClassifier(
                [("a", LOGISTIC()), ("b", TREE()), ("c", LinearSVC(random_state=0)), ("d", "drop")], voting="hard"
            ),
            "hard vote with weights": lambda: VotingClassifier(
                [("a", LOGISTIC()), ("b", TREE()), ("c", FOREST())], voting="hard", weights=[1, 3, 1.5]
            ),
        },
        ("words", "three"),
    ),
    "vote of one": (lambda: VotingClassifier([("a", XGBClassifier(**EXTREME))], voting="soft"), "words", "gaps"),
    **each(
        {
            "mean": lambda: VotingRegressor([("a", linear.Ridge()), ("b", RandomForestRegressor(**SMALL))]),
            "weighted mean": lambda: VotingRegressor(
                [("a", linear.Ridge()), ("b", linear.LinearRegression())], weights=[0.3, 0.7]
            ),
        },
        ("number",),
    ),
    **each(
        {
            "stack": lambda: StackingClassifier([("a", scaled()), ("b", FOREST())], cv=2),
            "stack with passthrough": lambda: StackingClassifier(
                [("a", LinearSVC(random_state=0)), ("b", TREE()), ("c", "drop")], final_estimator=FOREST(), passthrough=True, cv=2
            ),
            "stack of labels": lambda: StackingClassifier([("a", LOGISTIC()), ("b", TREE())], stack_method="predict", cv=2),
        },
        ("words", "three"),
    ),
    "stack of numbers": (
        lambda: StackingRegressor(
            [("a", linear.Ridge()), ("b", HistGradientBoostingRegressor(**HISTOGRAM))], cv=2, passthrough=True
        ),
        "number",
        "plain",
    ),
    **each(
        {
            f"one vs rest of {name}": functools.partial(OneVsRestClassifier, inner)
            for name, inner in (
                ("logistic", LOGISTIC()),
                ("forest", FOREST()),
                ("pipelines", scaled()),
                ("SVC", LinearSVC(random_state=0)),
                ("boosting", GradientBoostingClassifier(**SMALL)),
            )
        },
        BOTH,
    ),
    **each(
        {
            f"one vs one of {name}": functools.partial(OneVsOneClassifier, inner)
            for name, inner in (("logistic", LOGISTIC()), ("forest", FOREST()), ("SVC", LinearSVC(random_state=0)))
        },
        BOTH,
    ),
    "threshold": (lambda: FixedThresholdClassifier(LOGISTIC(), threshold=0.3), "two", "plain"),
    "threshold on the first class": (
        lambda: FixedThresholdClassifier(FOREST(), threshold=0.3, pos_label="early"),
        "words",
        "plain",
    ),
    "threshold on scores": (
        lambda: FixedThresholdClassifier(LinearSVC(random_state=0), threshold=0.2, pos_label="early"),
        "words",
        "plain",
    ),
    "tuned threshold": (lambda: TunedThresholdClassifierCV(LOGISTIC(), cv=2, thresholds=10), "two", "plain"),
    "search": (lambda: GridSearchCV(scaled(), {"logisticregression__C": [0.1, 1]}, cv=2), "words", "plain"),
    "search for a tree, calibrated": (
        lambda: CalibratedClassifierCV(GridSearchCV(TREE(), {"max_depth": [2, 3]}, cv=2), cv=2),
        "three",
        "plain",
    ),
    **each(
        {f"target {name}": functools.partial(TransformedTargetRegressor, linear.Ridge(), **how) for name, how in TARGETS.items()},
        ("positive",),
    ),
}
