"""Linear models, naive Bayes, discriminants, centroids, perceptrons, constants: by class name."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kaizen.serving.engine.estimators.common import Document, Estimator, Files, leaf, one_target, stored
from kaizen.serving.engine.models.neural import ACTIVATIONS
from kaizen.serving.engine.transformers import Flow, Uncovered
from kaizen.serving.engine.transforms.scaling import Scale

__all__ = ["LINEAR"]


def _linear(link: str, coefficients: Any, intercept: Any, files: Files) -> Document:
    if not isinstance(coefficients, np.ndarray):
        raise Uncovered("sparse coefficients are not compiled")
    matrix = np.atleast_2d(coefficients)
    added = np.broadcast_to(np.asarray(intercept, dtype=np.float64).ravel(), len(matrix))
    return {"name": "Linear", "link": link, "coefficients": stored(matrix, files), "intercept": added.tolist()}


def _classifier(binary: str, several: str) -> Estimator:
    def compiled(estimator: Any, flow: Flow, files: Files) -> Document:
        if np.ndim(estimator.classes_) != 1 or np.atleast_2d(estimator.coef_).shape[0] not in (1, len(estimator.classes_)):
            raise Uncovered(f"{type(estimator).__name__} of several targets is not compiled")
        link = binary if len(estimator.classes_) <= 2 else several
        return _linear(link, estimator.coef_, estimator.intercept_, files)

    return compiled


_scores = _classifier("Binary", "Largest")
_probabilities = _classifier("Logistic", "Softmax")
_sgd = {"log_loss": _classifier("Logistic", "OneVsRest"), "modified_huber": _classifier("ModifiedHuber", "ModifiedHuber")}


def _stochastic(estimator: Any, flow: Flow, files: Files) -> Document:
    return _sgd.get(estimator.loss, _scores)(estimator, flow, files)


def _regressor(estimator: Any, flow: Flow, files: Files) -> Document:
    if not isinstance(estimator.coef_, np.ndarray) or np.atleast_2d(estimator.coef_).shape[0] != 1:
        raise Uncovered(f"{type(estimator).__name__} of several targets, or with sparse coefficients, is not compiled")
    return _linear("Identity", estimator.coef_, estimator.intercept_, files)


def _generalised(estimator: Any, flow: Flow, files: Files) -> Document:
    link = type(estimator._get_loss().link).__name__
    if link not in ("LogLink", "IdentityLink"):
        raise Uncovered(f"{type(estimator).__name__} with the link {link!r} is not compiled")
    return _linear("Exponential" if link == "LogLink" else "Identity", estimator.coef_, estimator.intercept_, files)


def _partial_least_squares(estimator: Any, flow: Flow, files: Files) -> Document:
    scaled = Scale(estimator._x_mean.tolist(), [1.0] * len(estimator._x_mean))
    return {"name": "Steps", "steps": [scaled.document()], "model": _regressor(estimator, flow, files)}


def _gaussian(estimator: Any, flow: Flow, files: Files) -> Document:
    return {
        "name": "Gaussian",
        "means": stored(estimator.theta_, files),
        "variances": stored(estimator.var_, files),
        "priors": stored(estimator.class_prior_, files),
    }


def _bernoulli(estimator: Any, flow: Flow, files: Files) -> Document:
    absent = np.log(1 - np.exp(estimator.feature_log_prob_))
    return {
        "name": "Bernoulli",
        "threshold": None if estimator.binarize is None else float(estimator.binarize),
        "coefficients": stored(estimator.feature_log_prob_ - absent, files),
        "intercept": stored(estimator.class_log_prior_ + absent.sum(axis=1), files),
    }


def _multinomial(estimator: Any, flow: Flow, files: Files) -> Document:
    return _linear("Likelihood", estimator.feature_log_prob_, estimator.class_log_prior_, files)


def _complement(estimator: Any, flow: Flow, files: Files) -> Document:
    return _linear("Likelihood", estimator.feature_log_prob_, 0.0, files)


def _categorical(estimator: Any, flow: Flow, files: Files) -> Document:
    tables = [stored(table, files) for table in estimator.feature_log_prob_]
    return {"name": "Categories", "tables": tables, "priors": stored(estimator.class_log_prior_, files)}


def _quadratic(estimator: Any, flow: Flow, files: Files) -> Document:
    if not hasattr(estimator, "rotations_"):
        raise Uncovered("QuadraticDiscriminantAnalysis without rotations is not compiled")
    pairs = list(zip(estimator.rotations_, estimator.scalings_, strict=True))
    return {
        "name": "Quadratic",
        "means": stored(estimator.means_, files),
        "rotations": [stored(rotation * scaling ** (-0.5), files) for rotation, scaling in pairs],
        "offsets": [float(np.sum(np.log(scaling))) for _, scaling in pairs],
        "priors": stored(estimator.priors_, files),
    }


def _centroids(estimator: Any, flow: Flow, files: Files) -> Document:
    if estimator.metric not in ("euclidean", "manhattan") or flow.sparse:
        raise Uncovered(f"NearestCentroid with the metric {estimator.metric!r}, or over a sparse matrix, is not compiled")
    return {
        "name": "Centroids",
        "centroids": stored(estimator.centroids_, files),
        "deviation": stored(np.asarray(estimator.within_class_std_dev_).ravel(), files),
        "priors": stored(estimator.class_prior_, files),
        "metric": estimator.metric,
        "uniform": bool(np.isclose(estimator.class_prior_, 1 / len(estimator.classes_)).all()),
    }


_OUTPUTS = {"exp": "Exponential", "identity": "Identity", "logistic": "Logistic", "softmax": "Softmax"}


def _perceptrons(estimator: Any, flow: Flow, files: Files) -> Document:
    several = hasattr(estimator, "classes_") and getattr(estimator._label_binarizer, "y_type_", "").startswith("multilabel")
    if (
        estimator.out_activation_ not in _OUTPUTS
        or several
        or (estimator.n_outputs_ != 1 and estimator.out_activation_ != "softmax")
    ):
        raise Uncovered(
            f"{type(estimator).__name__} with {estimator.out_activation_} answers, or several targets, is not compiled"
        )
    if estimator.activation not in ACTIVATIONS:
        raise Uncovered(f"{type(estimator).__name__} with the activation {estimator.activation!r} is not compiled")
    return {
        "name": "Perceptrons",
        "link": _OUTPUTS[estimator.out_activation_],
        "activation": estimator.activation,
        "weights": [stored(one, files) for one in estimator.coefs_],
        "intercepts": [stored(one, files) for one in estimator.intercepts_],
    }


def _constant_class(estimator: Any, flow: Flow, files: Files) -> Document:
    one_target(estimator)
    if estimator._strategy not in ("prior", "most_frequent", "constant"):
        raise Uncovered(f"DummyClassifier answers by chance with the strategy {estimator._strategy!r}")
    row = np.zeros((1, 1))
    index = int(np.flatnonzero(estimator.classes_ == estimator.predict(row)[0])[0])
    return {"name": "Constant", "index": index, "scores": estimator.predict_proba(row)[0].tolist()}


def _constant_number(estimator: Any, flow: Flow, files: Files) -> Document:
    one_target(estimator)
    return {"name": "Constant", "index": 0, "scores": np.asarray(estimator.constant_, dtype=np.float64).ravel().tolist()}


_SCORES = ("LinearSVC", "PassiveAggressiveClassifier", "Perceptron", "RidgeClassifier", "RidgeClassifierCV")
_REGRESSORS = (
    "ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "HuberRegressor", "Lars", "LarsCV", "Lasso", "LassoCV",
    "LassoLars", "LassoLarsCV", "LassoLarsIC", "LinearRegression", "LinearSVR", "OrthogonalMatchingPursuit",
    "OrthogonalMatchingPursuitCV", "PassiveAggressiveRegressor", "QuantileRegressor", "Ridge", "RidgeCV", "SGDRegressor",
    "TheilSenRegressor",
)  # fmt: skip

LINEAR: Mapping[str, Estimator] = {
    **dict.fromkeys(_SCORES, leaf(_scores)),
    **dict.fromkeys(_REGRESSORS, leaf(_regressor)),
    **dict.fromkeys(("GammaRegressor", "PoissonRegressor", "TweedieRegressor"), leaf(_generalised)),
    **dict.fromkeys(("LinearDiscriminantAnalysis", "LogisticRegression", "LogisticRegressionCV"), leaf(_probabilities)),
    **dict.fromkeys(("MLPClassifier", "MLPRegressor"), leaf(_perceptrons)),
    "BernoulliNB": leaf(_bernoulli),
    "CategoricalNB": leaf(_categorical),
    "ComplementNB": leaf(_complement),
    "DummyClassifier": _constant_class,
    "DummyRegressor": _constant_number,
    "GaussianNB": leaf(_gaussian),
    "MultinomialNB": leaf(_multinomial),
    "NearestCentroid": leaf(_centroids),
    "PLSRegression": leaf(_partial_least_squares),
    "QuadraticDiscriminantAnalysis": leaf(_quadratic),
    "SGDClassifier": leaf(_stochastic),
}
