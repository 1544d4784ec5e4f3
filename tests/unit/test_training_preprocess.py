"""What becomes of each kind of column, checked on values worked out by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from kaizen.training.models import preprocess
from kaizen.training.models.catalogue import Family
from tests.support import mixed

PROSE = [
    f"the {colour} {animal} of number {number} sleeps"
    for number in range(60)
    for colour in ("red", "blue")
    for animal in ("fox",)
]


def texts(values: list[Any]) -> "pd.Series[Any]":
    return pd.Series(values, dtype=object)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pd.Series([1, 2]), "numbers"),
        (pd.Series([1.5, np.nan]), "numbers"),
        (pd.Series([True, False]), "booleans"),
        (pd.Series(["2024-01-01", None]).astype("datetime64[us]"), "dates"),
        (texts(["a", np.nan] * 5), "categories"),
        (texts([np.nan] * 5), "categories"),
        (texts(["one of very few answers", "the other of very few answers"] * 10), "categories"),
        (texts([f"id-{number}" for number in range(500)]), "categories"),
        (texts([f"New York {number}" for number in range(500)]), "categories"),
        (texts(PROSE), "prose"),
        (texts([*PROSE, np.nan]), "prose"),
    ],
)
def test_the_kind_of_a_column(column: "pd.Series[Any]", kind: str) -> None:
    assert preprocess.kind(column) == kind


def _dates(family: Family, *moments: str | None, unit: str = "us") -> Any:
    frame = pd.DataFrame({"when": pd.Series(list(moments)).astype(f"datetime64[{unit}]")})
    columns = preprocess.columns(family, frame)
    return columns.fit_transform(frame), preprocess.features_out(columns)


@pytest.mark.parametrize("unit", ["us", "ns", "s"])
def test_a_date_is_its_day_and_its_place_in_day_week_and_year(unit: str) -> None:
    found, names = _dates("Boosting", "1970-01-08T12:00:00", "1969-12-31T18:00:00", None, unit=unit)
    assert names == ["when days", "when time of day", "when day of week", "when day of year"]
    assert found[0] == pytest.approx([7.5, 0.5, 0.5 / 7, 7.5 / 365.2425], abs=1e-9)
    assert found[1] == pytest.approx([-0.25, 0.75, 1 - 0.25 / 7, 1 - 0.25 / 365.2425], abs=1e-9)
    assert np.isnan(found[2]).all()


def test_for_linear_models_the_end_of_a_day_is_near_its_beginning() -> None:
    hours = [f"2024-03-05T{hour:02}:30:00" for hour in range(24)]
    found, names = _dates("Scaled", "2024-03-01T23:59:00", "2024-03-02T00:01:00", "2024-03-01T12:00:00", *hours)
    assert names == preprocess_names("when")
    day = found[:, [names.index("when time of day (sine)"), names.index("when time of day (cosine)")]]
    near, far = np.linalg.norm(day[0] - day[1]), np.linalg.norm(day[0] - day[2])
    assert near < 0.02 < 2.0 < far


def preprocess_names(column: str) -> list[str]:
    waves = [f"{column} {part} ({wave})" for wave in ("sine", "cosine") for part in ("time of day", "day of week", "day of year")]
    return [f"{column} days", *waves]


@pytest.mark.parametrize("family", ["Scaled", "Counts", "Forest"])
def test_a_missing_date_is_said_once(family: Family) -> None:
    found, names = _dates(family, "2024-03-01", None, "2024-06-01")
    assert [name for name in names if "missing" in name] == ["when missing"]
    missing = found[:, names.index("when missing")]
    assert missing[1] > missing[0] == missing[2]
    assert np.isfinite(found).all()


def test_a_date_missing_everywhere_and_one_that_appears_later() -> None:
    frame = pd.DataFrame({"number": [1.0, 2.0], "when": pd.Series([pd.NaT, pd.NaT]).astype("datetime64[us]")})
    new = frame.assign(when=pd.Series(["2024-01-01", None]).astype("datetime64[us]"))
    for family in ("Boosting", "XGBoost"):
        assert preprocess.columns(family, frame).fit(frame).transform(new).shape == (2, 5)


def test_rare_categories_share_one_column() -> None:
    values = [f"city{number % 100}" for number in range(1000)] + [f"city{number}" for number in range(100, 150)] + ["city0"]
    frame = pd.DataFrame({"city": texts(values)})
    columns = preprocess.columns("Scaled", frame).fit(frame)
    assert len(preprocess.features_out(columns)) == preprocess.MOST_CATEGORIES
    new = pd.DataFrame({"city": texts(["city0", "city149", "never seen", np.nan])})
    found = columns.transform(new)
    assert found.sum(axis=1).tolist() == [1.0, 1.0, 0.0, 0.0]
    names = preprocess.features_out(columns)
    assert [names[column] for column in found[:2].argmax(axis=1)] == ["city_city0", "city_infrequent_sklearn"]


def test_categories_that_boosting_takes_as_codes() -> None:
    frame = mixed.rows().frame
    without = frame.drop(columns=["date", "prose"])
    assert preprocess.model_parameters("Boosting", without) == {"categorical_features": [False, False, False, True]}
    assert preprocess.model_parameters("Boosting", frame) == {"categorical_features": [3]}
    told = preprocess.model_parameters("XGBoost", frame.drop(columns="prose"))
    assert told == {"enable_categorical": True, "feature_types": ["q"] * 3 + ["c"] + ["q"] * 4}
    assert preprocess.model_parameters("LightGBM", frame) == {}


def test_the_words_of_prose() -> None:
    frame = pd.DataFrame({"text": texts([*PROSE, np.nan])})
    columns = preprocess.columns("Forest", frame)
    found = columns.fit_transform(frame)
    names = preprocess.features_out(columns)
    assert {"text: red", "text: blue", "text: fox", "text: sleeps"} <= set(names)
    red = found[:, names.index("text: red")]
    assert [(value > 0) for value in red[:2]] == [True, False]
    assert not found[-1].any()


FAMILIES: tuple[Family, ...] = ("Scaled", "Counts", "Binary", "Forest", "Boosting", "LightGBM", "XGBoost")


@pytest.mark.filterwarnings("ignore:Bins whose width are too small")
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gets_what_it_can_take(family: Family) -> None:
    table = mixed.rows()
    columns = preprocess.columns(family, table.frame)
    found = columns.fit_transform(table.frame)
    new = columns.transform(mixed.rows(50, seed=3).frame)
    assert found.dtype == np.float64
    assert found.shape[1] == new.shape[1] == len(set(preprocess.features_out(columns)))
    if family in ("Scaled", "Counts", "Binary", "Forest"):
        assert np.isfinite(new).all()
    if family == "Counts":
        assert new.min() >= 0
    if family == "Binary":
        assert set(np.unique(new)) <= {0.0, 1.0}
