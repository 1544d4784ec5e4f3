"""A tiny table with every kind of column that a model may see, gaps in them, and a class or a number to predict."""

from typing import Any

import numpy as np
import pandas as pd

from kaizen.training.data.prepare import Rows

WORDS = ("red", "blue", "quick", "lazy", "fox", "dog", "tree", "lamp")


def rows(number: int = 160, task: str = "Classification", *, seed: int = 0, classes: int = 2) -> Rows:
    """In the order of their times; classes are texts."""
    random = np.random.default_rng(seed)
    normal = random.normal(size=number)
    category = random.choice(["a", "b", "c"], number).astype(object)
    prose = [" ".join(random.choice(WORDS, 5)) for _ in range(number)]
    hours = pd.to_timedelta(random.integers(0, 400 * 24, number), unit="h")
    date = pd.Series(pd.Timestamp("2024-01-01") + hours).astype("datetime64[us]")
    score = normal + (category == "a") + 0.5 * np.array(["red" in one for one in prose]) + random.normal(0, 0.3, number)
    target: Any = np.exp(score / 3)
    if task == "Classification":
        target = np.array(["no", "yes", "yes, very"], dtype=object)[np.digitize(score, [0.6, 1.4][: classes - 1])]
    normal[::9], category[::11], date[::13] = np.nan, np.nan, pd.NaT
    frame = pd.DataFrame(
        {
            "normal": normal,
            "whole": random.integers(0, 9, number),
            "flag": random.random(number) < 0.5,
            "category": pd.Series(category, dtype=object),
            "date": date,
            "prose": pd.Series(prose, dtype=object),
        }
    )
    kinds: Any = {name: "Categorical" if column.dtype == object else "Numeric" for name, column in frame.items()}
    times = np.arange(number, dtype=np.int64)
    return Rows(frame=frame, kinds=kinds, target=target, times=times, identity=frame, sensitive=frame[[]])
