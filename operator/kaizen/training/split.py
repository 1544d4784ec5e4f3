"""Which rows judge the model: the newest, or a share that stays the same from run to run."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from kaizen.api.training_data import Data
from kaizen.training.errors import Failure
from kaizen.training.prepare import Rows, iso

__all__ = ["Method", "Parts", "by_hash", "by_time", "draw", "method", "split"]

STEP = "Split"
Method = Literal["Temporal", "Random"]


@dataclass(frozen=True, eq=False)
class Parts:
    """The two parts of the rows."""

    method: Method
    train: Rows
    test: Rows
    draws: npt.NDArray[np.float64] | None
    """Of the test rows, with Random: where their hash falls, from 0 to the test share."""

    def describe(self) -> str:
        """In a few words."""
        since = f" since {iso(int(self.test.times[0]))}" if self.method == "Temporal" and self.test.times is not None else ""
        return f"{len(self.train)} rows to learn from, {len(self.test)} to judge by{since}"


def method(data: Data) -> Method:
    """The method in effect: Temporal if there is a timestamp and nothing else was said."""
    return data.split.method or ("Temporal" if data.timestamp else "Random")


def split(rows: Rows, data: Data) -> Parts:
    """Cut the rows in two.  Raises Failure when a part would be empty."""
    used = method(data)
    draws = None
    if used == "Temporal" and rows.times is not None:
        held_out = by_time(rows.times, data.split.test_share)
        if not held_out.any():
            message = f"all rows have the same {data.timestamp}, so none is newer than the others: use split.method Random"
            raise Failure(STEP, "TimestampConstant", message)
    else:
        draws = draw(rows.identity)
        held_out = by_hash(draws, data.split.test_share)
        if held_out.all() or not held_out.any():
            message = f"{len(rows)} rows cannot be split by {', '.join(data.keys) or 'their values'}: too few differ"
            raise Failure(STEP, "SplitEmpty", message)
        draws = draws[held_out]
    train, test = rows.take(~held_out), rows.take(held_out)
    _check(train, data)
    return Parts(used, train, test, draws)


def by_time(times: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.bool_]:
    """True for the newest rows: those from one moment on, so that rows of one time stay together.

    The moment is the one that brings their share nearest to `share` (the later of two); all False if there is only one time.
    """
    moments, first = np.unique(np.sort(times), return_index=True)
    if len(moments) < 2:
        return np.zeros(len(times), dtype=np.bool_)
    shares = 1 - first[1:] / len(times)
    distance = np.abs(shares - share)
    nearest = len(distance) - 1 - int(np.argmin(distance[::-1]))
    return np.asarray(times >= moments[nearest + 1], dtype=np.bool_)


def draw(identity: pd.DataFrame) -> npt.NDArray[np.float64]:
    """A number from 0 to 1 for each row that depends on its values alone."""
    hashes = pd.util.hash_pandas_object(identity, index=False).to_numpy(dtype=np.uint64)
    # splitmix64's end: hashes of near numbers must not be near.
    with np.errstate(over="ignore"):
        hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((hashes ^ (hashes >> np.uint64(31))).astype(np.float64) / 2.0**64)


def by_hash(draws: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.bool_]:
    """True for a share of the rows: the same ones as long as keys and share stay; a smaller share is a part of a larger one."""
    return np.asarray(draws < share, dtype=np.bool_)


def _check(train: Rows, data: Data) -> None:
    if len(pd.unique(train.target)) < 2:
        message = f"target {data.target} is {train.target[0]} in all {len(train)} rows left to learn from: only later rows differ"
        raise Failure(STEP, "TargetConstant", message)
