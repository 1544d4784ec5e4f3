"""The benchmark's arithmetic: what loaders print, ratios, verdicts."""

import pytest

from bench.serving import results
from bench.serving.cases import CASES, Case
from bench.serving.load import Load, parse, percentile
from bench.serving.results import FULL, PLAIN, Footprint, Results, figures, ratio, table

CASE = Case("lr", 1, 8, 25, full=True)
OUTPUT = """\
Running 2s test @ http://127.0.0.1:1/infer
  1 threads and 8 connections
Requests/sec:  20000.00

{"requests":40000,"microseconds":2000000,"failed":3,"p50":130,"p99":1250,"worst":4000}
"""


def load(rate: float, p99_ms: float = 1.0, failed: int = 0) -> Load:
    return Load(rate, 0.1, p99_ms, 2.0, failed, 20.0)


def made(**rates: list[float]) -> Results:
    """Rounds by server; underscores are blanks and commas."""
    names = {"plain": PLAIN, "full": FULL, "mlserver": "MLServer", "kserve": "KServe"}
    loads = {(CASE, names[name]): [load(rate) for rate in found] for name, found in rates.items()}
    return Results(loads, {(CASE, PLAIN): [load(10.0, 2.5)]}, {("lr", PLAIN): [Footprint(0.5, 40.0, 95.0)]}, {})


def test_what_wrk_says() -> None:
    assert parse(OUTPUT) == Load(20_000.0, 0.13, 1.25, 4.0, 3)


def test_no_result_is_an_error() -> None:
    with pytest.raises(ValueError, match="no result: unable to connect"):
        parse("unable to connect")


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0)])
def test_percentile_is_a_value_that_was_seen(share: float, expected: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], share) == expected


def test_a_ratio_is_taken_within_rounds() -> None:
    # The machine was slow in the second round, for both.
    assert ratio([load(100), load(10), load(110)], [load(10), load(1), load(10)]) == 10.0


def test_every_floor_is_judged() -> None:
    found = {one.text: one.ok for one in figures(made(plain=[100, 90], full=[80, 80], mlserver=[4, 4], kserve=[2, 2]))}
    assert found == {
        "lr-1-c8 × MLServer": False,
        "lr-1-c8 × KServe": True,
        "lr-1-c8 all on / plain": False,
        "lr-1-c8 Kaizen p99 ms at half rate": False,
        "lr Kaizen ready s": True,
        "lr Kaizen PSS MiB": False,
    }


def test_the_table_marks_what_is_missed_and_what_failed() -> None:
    found = made(plain=[100], mlserver=[4], kserve=[2])
    text = table(Results({**found.loads, (CASE, "KServe"): [load(2, failed=7)]}, found.paced, found.footprints, {}))
    assert "| lr-1-c8 | Kaizen | 100 ±0% | 0.10/1.0 | 20 | 25.0 (1) | 50.0 (1) | 25 | ✓ |" in text
    assert "**7 failed**" in text
    assert "| lr | Kaizen | 0.50 | 40 | 95 | ✗ |" in text


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert results.PEERS == ("MLServer", "KServe")
