"""Estimators that stand alone, with rows to fit them to: the cases of tests that compare the engine with the libraries."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn import linear_model as linear
from sklearn import naive_bayes as bayes
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier, XGBRFRegressor

WIDTH = 4
ROWS = 160
WILD = (float("nan"), float("inf"), float("-inf"), 1e300, -3.5e38)
MILD = (
    0.0,
    -0.0,
    5e-324,
    1e-45,
    0.15,
    float(np.float32(1e-35)),
    -float(np.float32(1e-35)),
    16777217.0,
    -(2.0**63),
    1e30,
    0.1 + 2**-56,
)
SMALL: dict[str, Any] = {"n_estimators": 7, "random_state": 0}
HISTOGRAM: dict[str, Any] = {"max_iter": 8, "max_leaf_nodes": 6, "early_stopping": False, "random_state": 0}
LIGHT: dict[str, Any] = {"n_estimators": 7, "min_child_samples": 3, "verbose": -1, "n_jobs": 1, "random_state": 0}
EXTREME: dict[str, Any] = {"n_estimators": 7, "max_depth": 3, "n_jobs": 1, "random_state": 0}


def numbers(kind: str) -> np.ndarray[Any, Any]:
    """Multiples of a tenth, where sums of tenths fall on thresholds; with gaps, or whole and small, or 0 and 1."""
    chance = np.random.default_rng(0)
    whole = chance.integers(-9, 10, (ROWS, WIDTH))
    match kind:
        case "gaps":
            made = whole / 10.0
            made[chance.random(made.shape) < 0.1] = np.nan
            return made
        case "counts":
            return np.abs(whole).astype(np.float64) % 4
        case "flags":
            return (whole > 0).astype(np.float64)
    return whole / 10.0


def target(kind: str, table: np.ndarray[Any, Any]) -> Any:
    known = np.nan_to_num(table)
    strength = known[:, 0] * 3 + known[:, 1] * known[:, 2] - known[:, 3] + np.random.default_rng(1).normal(size=len(table)) / 2
    match kind:
        case "two":
            return strength > np.median(strength)
        case "words":
            return np.where(strength > np.quantile(strength, 0.4), "late", "early").astype(object)
        case "three":
            return np.digitize(strength, np.quantile(strength, [0.3, 0.6])).astype(np.int64)
        case "positive":
            return np.exp(strength / 3)
        case "share":
            return 1 / (1 + np.exp(-strength))
    return strength * 1e3


Case = tuple[Callable[[], Any], str, str]
"""What makes the estimator, its target, its table."""


def each(makers: dict[str, Callable[[], Any]], targets: tuple[str, ...], table: str = "plain") -> dict[str, Case]:
    return {f"{name}, {kind}": (maker, kind, table) for name, maker in makers.items() for kind in targets}


BOTH = ("two", "three")
LOGISTIC = functools.partial(linear.LogisticRegression, max_iter=50)
TREE = functools.partial(DecisionTreeClassifier, max_depth=3, random_state=0)
FOREST = functools.partial(RandomForestClassifier, **SMALL)
HGB = functools.partial(HistGradientBoostingClassifier, **HISTOGRAM)


def scaled() -> Any:
    return make_pipeline(StandardScaler(), LOGISTIC())


SINGLE: dict[str, Case] = {
    **each(
        {
            "logistic": LOGISTIC,
            "logistic CV": lambda: linear.LogisticRegressionCV(
                cv=2, max_iter=50, Cs=2, use_legacy_attributes=False, l1_ratios=(0,)
            ),
        },
        ("words", "three"),
    ),
    **each(
        {
            "ridge classifier": linear.RidgeClassifier,
            "ridge classifier CV": linear.RidgeClassifierCV,
            "perceptron": linear.Perceptron,
            "linear SVC": lambda: LinearSVC(random_state=0),
        },
        BOTH,
    ),
    **each(
        {
            f"SGD {loss}": functools.partial(linear.SGDClassifier, loss=loss, random_state=0)
            for loss in ("hinge", "log_loss", "modified_huber", "squared_hinge")
        },
        BOTH,
    ),
    **each({"LDA": LinearDiscriminantAnalysis, "QDA": lambda: QuadraticDiscriminantAnalysis(reg_param=0.1)}, BOTH),
    **each(
        {
            "linear": linear.LinearRegression,
            "ridge": linear.Ridge,
            "ridge CV": linear.RidgeCV,
            "lasso": linear.Lasso,
            "elastic net": linear.ElasticNet,
            "huber": lambda: linear.HuberRegressor(max_iter=1000),
            "bayesian ridge": linear.BayesianRidge,
            "ARD": linear.ARDRegression,
            "lars": linear.Lars,
            "theil sen": lambda: linear.TheilSenRegressor(random_state=0, max_subpopulation=50),
            "SGD": linear.SGDRegressor,
            "linear SVR": lambda: LinearSVR(random_state=0),
            "quantile": lambda: linear.QuantileRegressor(alpha=0.1),
            "matching pursuit": linear.OrthogonalMatchingPursuit,
            "ransac": lambda: linear.RANSACRegressor(random_state=0),
            "partial least squares": PLSRegression,
        },
        ("number",),
    ),
    **each(
        {
            "poisson": linear.PoissonRegressor,
            "gamma": linear.GammaRegressor,
            "tweedie": lambda: linear.TweedieRegressor(power=1.5),
            "normal": linear.TweedieRegressor,
        },
        ("positive",),
    ),
    **each(
        {
            "gaussian": bayes.GaussianNB,
            "bernoulli": bayes.BernoulliNB,
            "centroid": NearestCentroid,
            "centroid with priors": lambda: NearestCentroid(priors="empirical"),
            "manhattan": lambda: NearestCentroid(metric="manhattan"),
        },
        ("words", "three"),
    ),
    **each({"bernoulli raw": lambda: bayes.BernoulliNB(binarize=None)}, BOTH, "flags"),
    **each(
        {"multinomial": bayes.MultinomialNB, "complement": bayes.ComplementNB, "categorical": bayes.CategoricalNB}, BOTH, "counts"
    ),
    **each(
        {
            f"perceptrons {one}": functools.partial(MLPClassifier, (5, 3), activation=one, max_iter=20, random_state=0)
            for one in ("relu", "tanh", "logistic")
        },
        BOTH,
    ),
    **each({"perceptrons": lambda: MLPRegressor(hidden_layer_sizes=(60, 50), max_iter=5, random_state=0)}, ("number",)),
    **each(
        {"perceptrons, poisson": lambda: MLPRegressor(loss="poisson", hidden_layer_sizes=(5,), max_iter=20, random_state=0)},
        ("positive",),
    ),
    **each({f"dummy {one}": functools.partial(DummyClassifier, strategy=one) for one in ("prior", "most_frequent")}, BOTH),
    **each({"dummy": DummyRegressor}, ("number",)),
    **each(
        {
            "tree": TREE,
            "extra tree": lambda: ExtraTreeClassifier(random_state=0),
            "forest": FOREST,
            "extra trees": lambda: ExtraTreesClassifier(**SMALL),
            "bagged trees": lambda: BaggingClassifier(TREE(), **SMALL),
        },
        BOTH,
        "gaps",
    ),
    **each(
        {
            "tree": lambda: DecisionTreeRegressor(random_state=0),
            "extra tree": lambda: ExtraTreeRegressor(random_state=0),
            "forest": lambda: RandomForestRegressor(**SMALL),
            "extra trees": lambda: ExtraTreesRegressor(**SMALL),
            "bagged trees": lambda: BaggingRegressor(max_features=0.5, **SMALL),
        },
        ("number",),
        "gaps",
    ),
    "monotonic forest": (lambda: RandomForestClassifier(monotonic_cst=[1, 0, 0, 0], **SMALL), "two", "plain"),
    **each(
        {
            "gradient boosting": lambda: GradientBoostingClassifier(**SMALL),
            "gradient boosting from zero": lambda: GradientBoostingClassifier(init="zero", **SMALL),
        },
        BOTH,
    ),
    "gradient boosting, exponential": (lambda: GradientBoostingClassifier(loss="exponential", **SMALL), "two", "plain"),
    "gradient boosting that stopped": (
        lambda: GradientBoostingClassifier(n_estimators=60, n_iter_no_change=2, random_state=0),
        "three",
        "plain",
    ),
    **each(
        {
            f"gradient boosting {loss}": functools.partial(GradientBoostingRegressor, loss=loss, **SMALL)
            for loss in ("squared_error", "absolute_error", "huber", "quantile")
        },
        ("number",),
    ),
    **each({"histogram boosting": HGB}, BOTH, "gaps"),
    **each(
        {
            f"histogram boosting {loss}": functools.partial(HistGradientBoostingRegressor, loss=loss, **HISTOGRAM)
            for loss in ("squared_error", "absolute_error", "gamma", "poisson")
        },
        ("positive",),
        "gaps",
    ),
    "histogram boosting quantile": (
        lambda: HistGradientBoostingRegressor(loss="quantile", quantile=0.3, **HISTOGRAM),
        "number",
        "gaps",
    ),
    "histogram boosting, categories": (lambda: HGB(categorical_features=[0, 2]), "three", "counts"),
    **each(
        {"LightGBM": lambda: LGBMClassifier(**LIGHT), "LightGBM dart": lambda: LGBMClassifier(boosting_type="dart", **LIGHT)},
        BOTH,
        "gaps",
    ),
    "LightGBM one against all": (lambda: LGBMClassifier(objective="multiclassova", **LIGHT), "three", "gaps"),
    **each(
        {
            f"LightGBM {one}": functools.partial(LGBMRegressor, objective=one, **LIGHT)
            for one in ("regression", "l1", "huber", "fair", "quantile", "mape", "poisson", "gamma", "tweedie")
        },
        ("positive",),
        "gaps",
    ),
    "LightGBM cross entropy": (lambda: LGBMRegressor(objective="cross_entropy", **LIGHT), "share", "gaps"),
    **each(
        {
            "XGBoost": lambda: XGBClassifier(**EXTREME),
            "XGBoost forest": lambda: XGBRFClassifier(**EXTREME),
            "XGBoost base score": lambda: XGBClassifier(base_score=0.3, **EXTREME),
        },
        BOTH,
        "gaps",
    ),
    **each({"XGBoost, zero is missing": lambda: XGBClassifier(missing=0.0, **EXTREME)}, BOTH),
    "XGBoost that stopped": (
        lambda: XGBClassifier(**{**EXTREME, "n_estimators": 40, "early_stopping_rounds": 2}),
        "three",
        "gaps",
    ),
    **each(
        {
            f"XGBoost {one}": functools.partial(XGBRegressor, objective=one, **EXTREME)
            for one in (
                "reg:squarederror",
                "reg:absoluteerror",
                "reg:pseudohubererror",
                "reg:squaredlogerror",
                "count:poisson",
                "reg:gamma",
                "reg:tweedie",
            )
        },
        ("positive",),
        "gaps",
    ),
    "XGBoost quantile": (lambda: XGBRegressor(objective="reg:quantileerror", quantile_alpha=0.4, **EXTREME), "number", "gaps"),
    "XGBoost shares": (lambda: XGBRegressor(objective="reg:logistic", **EXTREME), "share", "gaps"),
    "XGBoost forest of numbers": (lambda: XGBRFRegressor(**EXTREME), "number", "gaps"),
    **each(
        {"AdaBoost": lambda: AdaBoostClassifier(TREE(), **SMALL), "AdaBoost of stumps": lambda: AdaBoostClassifier(**SMALL)},
        ("words", "three"),
    ),
    "AdaBoost of numbers": (lambda: AdaBoostRegressor(**SMALL), "number", "plain"),
}
