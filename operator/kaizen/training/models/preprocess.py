"""From columns to numbers: what each family of estimators needs of each kind of column, as one ColumnTransformer.

All steps are scikit-learn's classes and NumPy's functions, so that whoever has those can load the pipeline.  Nothing here looks
at the target: an encoding by it would have to be fitted fold by fold to be free of leakage.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

from kaizen.training.models.catalogue import Family

__all__ = ["MOST_CATEGORIES", "MOST_CODES", "MOST_WORDS", "Kind", "columns", "features_out", "kind", "model_parameters"]

MOST_CATEGORIES = 100
"""Per column, one-hot encoded; the rarer ones share one column."""
MOST_CODES = 255
"""Categories that histogram boosting takes; the rarer ones share one code."""
MOST_WORDS = 200
"""Per text column: the most frequent words, each a number."""
PROSE_WORDS = 4
"""A column of texts with so many words each, in the mean, is prose if its values are also too many for categories."""
BINS = 10
"""Of a number, where an estimator takes zeros and ones only."""

Kind = Literal["numbers", "booleans", "categories", "dates", "prose"]

DAY = 86_400_000_000
"""Microseconds."""
WEEK_DAYS, YEAR_DAYS = 7.0, 365.2425
NO_DATE = float(np.iinfo(np.int64).min)
"""What NumPy makes of a missing date when it becomes a number."""


def kind(column: "pd.Series[Any]") -> Kind:
    """How a column is treated."""
    if column.dtype == np.bool_:
        return "booleans"
    if column.dtype.kind == "M":
        return "dates"
    if column.dtype != np.object_:
        return "numbers"
    values = column.dropna().unique()
    if len(values) <= min(MOST_CATEGORIES, len(column) // 2):
        return "categories"
    return "prose" if sum(len(str(value).split()) for value in values) >= PROSE_WORDS * len(values) else "categories"


def columns(family: Family, frame: pd.DataFrame) -> ColumnTransformer:
    """The unfitted preprocessing of these columns; numbers, booleans, categories, then each date and each prose column."""
    names = _by_kind(frame)
    steps: list[tuple[str, Any, list[str]]] = [
        ("numbers", _numbers(family), names["numbers"]),
        ("booleans", "passthrough", names["booleans"]),
        ("categories", _categories(family), names["categories"]),
        *((f"date{number}", _dates(family), [name]) for number, name in enumerate(names["dates"], 1)),
        *((f"prose{number}", _prose(family), [name]) for number, name in enumerate(names["prose"], 1)),
    ]
    return ColumnTransformer([step for step in steps if step[2]], sparse_threshold=0.0)


def model_parameters(family: Family, frame: pd.DataFrame) -> dict[str, Any]:
    """What the estimator is told of the numbers it gets: which of them are codes of categories."""
    names = _by_kind(frame)
    before, codes = len(names["numbers"]) + len(names["booleans"]), len(names["categories"])
    if not codes or family not in ("Boosting", "XGBoost"):
        return {}
    if family == "Boosting" and not names["dates"] and not names["prose"]:
        return {"categorical_features": [False] * before + [True] * codes}
    if family == "Boosting":
        return {"categorical_features": list(range(before, before + codes))}
    if names["prose"]:
        return {}  # how many words there will be is not known before the fit: codes count as numbers
    after = len(_PARTS) * len(names["dates"])
    return {"enable_categorical": True, "feature_types": ["q"] * before + ["c"] * codes + ["q"] * after}


def features_out(fitted: ColumnTransformer) -> list[str]:
    """Names of a fitted transformer's outputs, in their order; scikit-learn itself has none for dates."""
    made = [""] * max((part.stop for part in fitted.output_indices_.values()), default=0)
    for name, step, used in fitted.transformers_:
        place = fitted.output_indices_[name]
        width = place.stop - place.start
        if name.startswith("date"):
            parts = list(_PARTS if "shares" in step.named_steps else _WAVES)
            if width > len(parts):
                parts = [parts[0], "missing", *parts[1:]] if "impute" in step.named_steps else [f"part {n}" for n in range(width)]
            own = [f"{used[0]} {part}" for part in parts]
        elif name.startswith("prose"):
            own = [f"{used[0]}: {word}" for word in step[-1].get_feature_names_out()]
        elif isinstance(step, str) or not hasattr(step, "get_feature_names_out"):
            own = [str(one) for one in used][:width]
        else:
            own = [str(one) for one in step.get_feature_names_out(used)]
        made[place] = own
    return made


def _by_kind(frame: pd.DataFrame) -> Mapping[Kind, list[str]]:
    found: dict[Kind, list[str]] = {"numbers": [], "booleans": [], "categories": [], "dates": [], "prose": []}
    for name in frame.columns:
        found[kind(frame[name])].append(str(name))
    return found


def _numbers(family: Family) -> Any:
    """Boosting handles missing numbers itself; the others get the median, and a column that says so where some were missing."""
    imputer = SimpleImputer(strategy="median", add_indicator=True)
    match family:
        case "Boosting" | "LightGBM" | "XGBoost":
            return "passthrough"
        case "Scaled":
            return Pipeline([("impute", imputer), ("scale", StandardScaler())])
        case "Counts":
            return Pipeline([("impute", imputer), ("scale", MinMaxScaler(clip=True))])
        case "Binary":
            return _bins()
        case "Forest":
            return imputer


def _bins(indicated: list[int] | None = None) -> Any:
    """Quantiles, and a column that says so where a value is missing, of all columns or of these."""
    from sklearn.impute import MissingIndicator
    from sklearn.pipeline import FeatureUnion
    from sklearn.preprocessing import KBinsDiscretizer

    quantiles = {"strategy": "quantile", "quantile_method": "averaged_inverted_cdf", "subsample": None}
    bins = Pipeline(
        [("impute", SimpleImputer(strategy="median")), ("bins", KBinsDiscretizer(BINS, encode="onehot-dense", **quantiles))]
    )
    missing: Any = MissingIndicator(error_on_new=False)
    if indicated is not None:
        missing = ColumnTransformer([("missing", missing, indicated)])
    return FeatureUnion([("bins", bins), ("missing", missing)])


def _categories(family: Family) -> Any:
    if family in ("Boosting", "XGBoost"):
        return OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan, max_categories=MOST_CODES
        )
    return OneHotEncoder(handle_unknown="ignore", max_categories=MOST_CATEGORIES, sparse_output=False)


_PARTS = ("days", "time of day", "day of week", "day of year")
_WAVES = ("days", *(f"{part} ({wave})" for wave in ("sine", "cosine") for part in _PARTS[1:]))


def _dates(family: Family) -> Pipeline:
    """Days since 1970 and where the moment is in its day, its week and its year.

    For trees each as a share from 0 to 1 (weeks begin on Thursday, as 1970 did); for the others as sine and cosine, so that
    the end is near to the beginning.
    """
    steps: list[tuple[str, Any]] = [
        ("moments", FunctionTransformer(np.asarray, kw_args={"dtype": "datetime64[us]"})),
        ("numbers", FunctionTransformer(np.asarray, kw_args={"dtype": "float64"})),
        (
            "missing",
            SimpleImputer(missing_values=NO_DATE, strategy="constant", fill_value=np.nan, keep_empty_features=True),
        ),
    ]
    turns = np.array([1.0, 1.0, 1 / WEEK_DAYS, 1 / YEAR_DAYS])
    whole: list[tuple[str, Any, list[int]]] = [("days", "passthrough", [0])]
    if family in ("Scaled", "Counts", "Binary"):
        turns[1:] *= 2 * np.pi
        whole += [("sine", FunctionTransformer(np.sin), [1, 2, 3]), ("cosine", FunctionTransformer(np.cos), [1, 2, 3])]
        steps += [("turns", _times(turns[None, :] / DAY)), ("parts", ColumnTransformer(whole))]
    else:
        whole += [("turns", "passthrough", [1, 2, 3]), ("whole", FunctionTransformer(np.floor), [1, 2, 3])]
        minus = np.zeros((7, 4))
        minus[[0, 1, 2, 3], [0, 1, 2, 3]] = 1.0
        minus[[4, 5, 6], [1, 2, 3]] = -1.0
        steps += [("turns", _times(turns[None, :] / DAY)), ("parts", ColumnTransformer(whole)), ("shares", _times(minus))]
    return Pipeline([*steps, *_finished(family, len(_PARTS) if steps[-1][0] == "shares" else len(_WAVES))])


def _finished(family: Family, width: int) -> list[tuple[str, Any]]:
    """As numbers, but a missing date is said once, not for each of its parts."""
    if family in ("Boosting", "LightGBM", "XGBoost"):
        return []
    if family == "Binary":
        return [("finish", _bins([0]))]
    days, parts = SimpleImputer(strategy="median", add_indicator=True), SimpleImputer(strategy="median")
    filled = ColumnTransformer([("days", days, [0]), ("parts", parts, list(range(1, width)))])
    scalers = {"Scaled": StandardScaler(), "Counts": MinMaxScaler(clip=True)}
    return [("impute", filled), *([("scale", scalers[family])] if family in scalers else [])]


def _times(matrix: npt.NDArray[np.float64]) -> FunctionTransformer:
    return FunctionTransformer(np.dot, kw_args={"b": matrix})


def _prose(family: Family) -> Pipeline:
    """The most frequent words by TF-IDF; where an estimator takes zeros and ones only, whether each occurs."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    options: dict[str, Any] = {"binary": True, "use_idf": False, "norm": None} if family == "Binary" else {"sublinear_tf": True}
    return Pipeline(
        [
            ("missing", SimpleImputer(strategy="constant", fill_value="")),
            ("flat", FunctionTransformer(np.ravel)),
            ("words", TfidfVectorizer(max_features=MOST_WORDS, **options)),
        ]
    )
