"""Who is answered when: slices, joined requests, refusals among them, and a bounded line."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from kaizen.serving.bodies.answers import Explained, Renderer
from kaizen.serving.bodies.protocol import Parsed, Schema
from kaizen.serving.engine.base import Answer, Attributions, Prepared, Refused, as_columns
from kaizen.serving.engine.frames import describe
from kaizen.serving.engine.sklearn import Fallback
from kaizen.serving.inference import EXPLAINED_AT_ONCE, ROWS_AT_ONCE, WAITING_BYTES, Inference
from kaizen.serving.model import Model
from kaizen.serving.problems import Overloaded
from kaizen.serving.watching.metrics import Metrics
from tests.support.models import COLUMNS, DATATYPES, flights
from tests.support.serving import INPUTS, FakeEngine

POISON = 23
BROKEN = 22


class Engine(FakeEngine):
    """Remembers the rows of each call; refuses one hour and breaks at another."""

    def __init__(self, joins: bool = True) -> None:
        self.joins = joins
        self.calls: list[int] = []
        self.kinds: list[set[type]] = []

    def predict(self, columns: Prepared, rows: int) -> Answer:
        columns = as_columns(columns)
        self.calls.append(rows)
        self.kinds.append(set(map(type, columns[2])))
        if POISON in columns[2]:
            raise Refused("a value is infinite")
        if BROKEN in columns[2]:
            raise ZeroDivisionError
        return super().predict(columns, rows)

    def explain(self, columns: Prepared, rows: int) -> Attributions:
        hours = [float(hour) for hour in as_columns(columns)[2]]
        return Attributions(("hour",), 1, [0.5], hours)


def inference(engine: Any, waiting: int = 10_000, metrics: Metrics | None = None) -> Inference:
    renderer = Renderer("m", 7, engine, "compiled")
    model = Model("m", 7, "sha256:", "compiled", "", engine, Schema(INPUTS), renderer, None, {}, b"")
    return Inference(model, None, metrics or Metrics(), waiting)


def request(*hours: float, explain: bool = False) -> Parsed:
    rows = len(hours)
    columns: dict[str, Any] = {"carrier": ["AA"] * rows, "distance": [None] * rows, "hour": list(hours), "weekend": [True] * rows}
    return Parsed("id", rows, columns, explain=explain)


def labels(hours: list[float]) -> list[str]:
    return ["late" if hour >= 12 else "early" for hour in hours]


async def outcome(answers: Inference, parsed: Parsed) -> Answer | Exception:
    try:
        found = answers.answer(parsed)
        return found if isinstance(found, Answer) else await found
    except Exception as problem:
        return problem


async def together(answers: Inference, requests: list[Parsed]) -> list[Answer | Exception]:
    return await asyncio.gather(*(outcome(answers, parsed) for parsed in requests))


def test_two_thousand_requests_get_their_own_answers_from_few_calls() -> None:
    engine, metrics = Engine(), Metrics()
    hours = [[(7 * number + row) % 22 for row in range(1 + number % 3)] for number in range(2000)]
    found = asyncio.run(together(inference(engine, metrics=metrics), [request(*mine) for mine in hours]))
    for mine, answer in zip(hours, found, strict=True):
        assert isinstance(answer, Answer)
        assert answer.labels == labels([float(hour) for hour in mine])
        assert answer.scores == [score for hour in mine for score in (1 - hour / 24, hour / 24)]
    total = sum(map(len, hours))
    assert engine.calls == [ROWS_AT_ONCE] * (total // ROWS_AT_ONCE) + [total % ROWS_AT_ONCE]
    assert (metrics.succeeded, metrics.rows) == (2000, total)


def test_a_lone_request_waits_for_nobody() -> None:
    engine = Engine()
    assert isinstance(asyncio.run(outcome(inference(engine), request(7))), Answer)
    assert engine.calls == [1]


def test_what_arrives_while_a_call_runs_is_joined_into_the_next() -> None:
    engine = Engine()
    answers = inference(engine)

    async def scene() -> None:
        first = asyncio.ensure_future(outcome(answers, request(1)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        others = [asyncio.ensure_future(outcome(answers, request(hour))) for hour in range(2, 7)]
        await asyncio.gather(first, *others)

    asyncio.run(scene())
    assert engine.calls == [1, 5]


def test_engines_that_do_not_join_answer_few_rows_at_once() -> None:
    engine = Engine(joins=False)
    assert isinstance(inference(engine).answer(request(1, 2)), Answer)
    assert engine.calls == [2]


@pytest.mark.parametrize(("bad", "kind"), [(POISON, Refused), (BROKEN, ZeroDivisionError)])
def test_a_bad_request_among_joined_ones_is_told_apart(bad: int, kind: type[Exception]) -> None:
    engine = Engine()
    hours = [bad if number in (3, 40) else number % 20 for number in range(64)]
    found = asyncio.run(together(inference(engine), [request(hour) for hour in hours]))
    assert [type(answer) is kind for answer in found] == [hour == bad for hour in hours]
    assert [answer.labels[0] for answer in found if isinstance(answer, Answer)] == labels([hour for hour in hours if hour != bad])
    assert len(engine.calls) < 2 * 2 * 7  # two bad ones, by halves


def test_the_row_of_a_refusal_is_that_of_the_request() -> None:
    """Not of the slice in which it was asked for."""

    class Named(Engine):
        def predict(self, columns: Prepared, rows: int) -> Answer:
            hours = as_columns(columns)[2]
            if POISON in hours:
                raise Refused("no answer to row {row}", list(hours).index(POISON))
            return super().predict(columns, rows)

    hours = [POISON if row == ROWS_AT_ONCE + 88 else 1 for row in range(2 * ROWS_AT_ONCE)]
    small, large = asyncio.run(together(inference(Named()), [request(1), request(*hours)]))
    assert isinstance(small, Answer)
    assert str(large) == f"no answer to row {ROWS_AT_ONCE + 88}"


def test_joined_calls_are_not_made_again_to_place_a_refusal() -> None:
    engine = Engine()
    (refused,) = asyncio.run(together(inference(engine), [request(1, POISON)]))
    assert str(refused) == "a value is infinite"
    assert engine.calls == [2]


def test_a_refusal_stays_one_when_the_engine_breaks_in_the_search_for_its_row() -> None:
    class Touchy(Engine):
        def predict(self, columns: Prepared, rows: int) -> Answer:
            if self.calls and self.calls[-1] == rows:
                raise ZeroDivisionError
            return super().predict(columns, rows)

    refused, small = asyncio.run(together(inference(Touchy(joins=False)), [request(1, POISON), request(1, 2, 3)]))
    assert isinstance(refused, Refused)
    assert str(refused) == "a value is infinite"
    assert isinstance(small, Answer)


def sized(size: int, *hours: float) -> Parsed:
    return msgspec.structs.replace(request(*hours), size=size)


def test_large_requests_wait_only_while_there_is_memory_for_them() -> None:
    """Their values take many times what they took as bytes.  One is always taken."""
    answers = inference(Engine())
    large = [sized(WAITING_BYTES // 2, 7), sized(WAITING_BYTES // 2, POISON), sized(1, 7)]
    first = asyncio.run(together(answers, large))
    assert [type(each) for each in first] == [Answer, Refused, Overloaded]
    assert "many rows" in str(first[2])
    second = asyncio.run(together(answers, [sized(2 * WAITING_BYTES, 7), sized(1, 7)]))
    assert [type(each) for each in second] == [Answer, Overloaded]
    assert answers._bytes == 0


def test_whoever_gives_up_waiting_gives_its_memory_back() -> None:
    answers = inference(Engine())

    async def scene() -> None:
        waiting = [asyncio.ensure_future(outcome(answers, sized(WAITING_BYTES // 4, 7))) for _ in range(4)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0.01)

    asyncio.run(scene())
    assert answers._bytes == 0


def test_only_columns_of_the_same_types_are_joined() -> None:
    """Whole numbers among doubles would become doubles, which scikit-learn may answer otherwise."""
    engine = Engine()
    found = asyncio.run(together(inference(engine), [request(hour) for hour in (1, 2.0, 3, 4.0)]))
    assert [answer.labels for answer in found if isinstance(answer, Answer)] == [["early"]] * 4
    assert engine.kinds == [{int}, {float}]


@pytest.mark.parametrize("joins", [True, False])
def test_a_large_request_delays_small_ones_by_no_more_than_a_slice(joins: bool) -> None:
    engine = Engine(joins)
    answers, done = inference(engine), []

    async def tracked(name: str, parsed: Parsed) -> None:
        assert isinstance(await outcome(answers, parsed), Answer)
        done.append((name, len(engine.calls)))

    async def scene() -> None:
        large = asyncio.ensure_future(tracked("large", request(*[3] * 10 * ROWS_AT_ONCE)))
        other = asyncio.ensure_future(tracked("other", request(*[3] * 10 * ROWS_AT_ONCE)))
        await asyncio.sleep(0)
        await asyncio.gather(large, other, tracked("small", request(1)))

    asyncio.run(scene())
    assert done[0][0] == "small"
    assert done[0][1] <= 4
    assert max(engine.calls) == ROWS_AT_ONCE


def test_rows_keep_their_order_over_slices() -> None:
    hours = [number % 22 for number in range(1700)]
    for joins in (True, False):
        (answer,) = asyncio.run(together(inference(Engine(joins)), [request(*hours)]))
        assert isinstance(answer, Answer)
        assert answer.labels == labels([float(hour) for hour in hours])
        assert answer.scores is not None
        assert answer.scores[1::2] == [hour / 24 for hour in hours]


def test_a_full_line_is_refused() -> None:
    answers = inference(Engine(), waiting=3)
    found = asyncio.run(together(answers, [request(hour) for hour in range(5)]))
    assert [type(one) for one in found] == [Answer] * 3 + [Overloaded] * 2
    refused = found[-1]
    assert isinstance(refused, Overloaded)
    assert (refused.status, refused.seconds) == (503, 1)
    assert str(refused) == "3 requests are waiting for an answer already; try again in a second"
    assert answers.waiting == 0


def test_clients_that_are_gone_cost_nothing() -> None:
    engine = Engine()
    answers = inference(engine)

    async def scene() -> None:
        gone = [asyncio.ensure_future(_awaited(answers.answer(request(1)))) for _ in range(5)]
        stays = asyncio.ensure_future(outcome(answers, request(2)))
        for one in gone:
            one.cancel()
        assert isinstance(await stays, Answer)

    asyncio.run(scene())
    assert sum(engine.calls) <= 1 + 5
    assert answers.waiting == 0


async def _awaited(answer: Answer | Awaitable[Answer]) -> Answer:
    return answer if isinstance(answer, Answer) else await answer


@pytest.mark.parametrize("joins", [True, False])
@pytest.mark.parametrize("rows", [1, EXPLAINED_AT_ONCE, 3 * EXPLAINED_AT_ONCE + 1])
def test_explained(joins: bool, rows: int) -> None:
    hours = [number % 22 for number in range(rows)]
    found = asyncio.run(together(inference(Engine(joins)), [request(*hours, explain=True), request(1)]))
    first, second = found
    assert isinstance(first, Explained)
    assert first.attributions == Attributions(("hour",), 1, [0.5], [float(hour) for hour in hours])
    assert not isinstance(second, Explained)


def test_scikit_learn_answers_joined_requests_as_it_answers_each_alone() -> None:
    """Strings with gaps, whole numbers, doubles where whole numbers are due, and values that it refuses."""
    frame = flights(300)
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("c", encoder, ["carrier", "hour"]), ("n", SimpleImputer(), ["distance", "temp"])])
    fitted = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(frame[list(COLUMNS)], frame["late"])
    inputs = [{"name": name, "datatype": DATATYPES[name], "nullable": True} for name in COLUMNS]
    header = {"task": "Classification", "classes": [False, True], "threshold": None, "keys": [], "timestamp": None}
    engine = Fallback({**header, "inputs": inputs, "frame": describe(frame[list(COLUMNS)]), "reason": ""}, Path(), fitted)
    random, requests = np.random.default_rng(7), []
    for number in range(30):
        rows = 1 + number % 3
        data: dict[str, Any] = {
            "carrier": [["AA", "UA", None, "ZZ"][place] for place in random.integers(0, 4, rows)],
            "distance": [[None, 1.5, 300.0][place] for place in random.integers(0, 3, rows)],
            "temp": random.normal(10, 9, rows).tolist(),
            "hour": random.integers(5, 23, rows).tolist(),
        }
        if number % 10 == 0:
            data["hour"] = [float(hour) for hour in data["hour"]]
        if number == 7:
            data["distance"][0] = float("inf")
        requests.append(Parsed("id", rows, data))
    joined = asyncio.run(together(inference(engine), requests))
    alone = [asyncio.run(outcome(inference(engine), parsed)) for parsed in requests]
    assert [number for number, one in enumerate(alone) if isinstance(one, Refused)] == [7]
    for one, other in zip(joined, alone, strict=True):
        assert type(one) is type(other)
        if isinstance(one, Answer) and isinstance(other, Answer):
            assert one.labels == other.labels
            assert one.scores == pytest.approx(other.scores, rel=1e-12)
