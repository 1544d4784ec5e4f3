"""The queue of keys: a model of what it promises is driven beside it through arbitrary histories."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kaizen.control.queue import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, KeyQueue, Queue
from kaizen.core.plan import Key

KEYS = tuple(Key("TrainingJob", "team-a", name) for name in ("a", "b", "c"))
A, B, C = KEYS
SECONDS = st.integers(0, 20).map(float)
Result = TypeVar("Result")


class KeyQueueMachine(RuleBasedStateMachine):
    """Compares KeyQueue with what it should be: a due time per key, and a set of keys that are worked on."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = KeyQueue()
        self.now = 0.0
        self.due: dict[Key, float] = {}
        self.working: dict[Key, float | None] = {}
        self.failures: dict[Key, int] = {}

    @rule(key=st.sampled_from(KEYS), after=SECONDS)
    def add(self, key: Key, after: float) -> None:
        at = self.now + after
        self.queue.add(key, at)
        self._expect(key, at)

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        taken = self.queue.take(self.now)
        ready = sorted((at, key) for key, at in self.due.items() if at <= self.now)
        assert taken == (ready[0][1] if ready else None), "the key that has been due the longest comes first"
        if taken is not None:
            assert taken not in self.working, "two workers on one key"
            del self.due[taken]
            self.working[taken] = None

    @precondition(lambda self: self.working)
    @rule(data=st.data(), again=st.none() | SECONDS)
    def done(self, data: st.DataObject, again: float | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        at = None if again is None else self.now + again
        self.queue.done(key, at)
        self.failures.pop(key, None)
        self._end(key, at)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def failed(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        count = self.failures[key] = self.failures.get(key, 0) + 1
        delay = self.queue.failed(key, self.now)
        assert delay == min(2.0 ** (count - 1), 300.0)
        self._end(key, self.now + delay)

    @invariant()
    def knows_when_to_wake(self) -> None:
        assert self.queue.next_due() == min(self.due.values(), default=None)

    @invariant()
    def counts_what_waits(self) -> None:
        waiting = [at for at in self.due.values() if at <= self.now]
        assert self.queue.waiting(self.now) == (len(waiting), self.now - min(waiting) if waiting else 0.0)

    def teardown(self) -> None:
        """Whatever was added is handed out in the end, each key once."""
        for key in list(self.working):
            self.queue.done(key)
            self._end(key, None)
        taken = []
        while key_or_none := self.queue.take(1e9):
            taken.append(key_or_none)
        assert sorted(taken) == sorted(self.due)

    def _end(self, key: Key, at: float | None) -> None:
        added = self.working.pop(key)
        for moment in (added, at):
            if moment is not None:
                self._expect(key, moment)

    def _expect(self, key: Key, at: float) -> None:
        if key in self.working:
            pending = self.working[key]
            self.working[key] = at if pending is None else min(pending, at)
        else:
            self.due[key] = min(self.due.get(key, at), at)


TestKeyQueue = KeyQueueMachine.TestCase
TestKeyQueue.settings = settings(max_examples=200, stateful_step_count=50)


def test_earliest_of_several_times_wins_also_during_the_work() -> None:
    queue = KeyQueue()
    queue.add(A, 0.0)
    assert queue.take(0.0) == A
    for at in (7.0, 3.0, 5.0):
        queue.add(A, at)
    queue.done(A, 9.0)
    assert queue.next_due() == 3.0


def test_time_that_an_earlier_one_replaced_makes_no_key_due() -> None:
    queue = KeyQueue()
    queue.add(A, 5.0)
    queue.add(A, 3.0)
    assert queue.take(3.0) == A
    queue.done(A, 10.0)
    assert queue.take(5.0) is None
    assert queue.take(10.0) == A


def test_delay_doubles_from_one_second_to_five_minutes_and_starts_anew_after_a_success() -> None:
    queue = KeyQueue()
    delays = []
    for _ in range(12):
        queue.add(A, 0.0)
        assert queue.take(0.0) == A
        delays.append(queue.failed(A, 0.0))
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert (delays[0], delays[-1]) == (FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
    assert queue.take(300.0) == A
    queue.done(A)
    queue.add(A, 300.0)
    assert queue.take(300.0) == A
    assert queue.failed(A, 300.0) == FIRST_DELAY_SECONDS


def test_failing_for_years_overflows_nothing() -> None:
    queue = KeyQueue()
    for _ in range(5000):
        queue.add(A, 0.0)
        assert queue.take(0.0) == A
        assert queue.failed(A, 0.0) <= LONGEST_DELAY_SECONDS


def test_event_need_not_wait_out_the_delay_of_a_failure() -> None:
    queue = KeyQueue()
    queue.add(A, 0.0)
    assert queue.take(0.0) == A
    queue.failed(A, 0.0)
    queue.add(A, 0.5)
    assert queue.take(0.5) == A


def test_ending_work_that_was_not_begun_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        KeyQueue().done(A)


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(asyncio.wait_for(work, 5))


def test_worker_waits_for_a_key() -> None:
    async def story() -> Key:
        queue = Queue()
        waiting = asyncio.ensure_future(queue.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        queue.add(A)
        return await waiting

    assert _run(story()) == A


def test_worker_that_waits_for_a_distant_key_is_woken_by_a_nearer_one() -> None:
    async def story() -> Key:
        queue = Queue()
        queue.add(A, 3600)
        waiting = asyncio.ensure_future(queue.take())
        await asyncio.sleep(0)
        queue.add(B, 0.01)
        return await waiting

    assert _run(story()) == B


def test_every_waiting_worker_gets_a_key_of_its_own() -> None:
    async def story() -> list[Key]:
        queue = Queue()
        workers = [asyncio.ensure_future(queue.take()) for _ in KEYS]
        await asyncio.sleep(0)
        for key in (*KEYS, *KEYS):
            queue.add(key)
        return await asyncio.gather(*workers)

    assert sorted(_run(story())) == sorted(KEYS)


def test_key_added_during_its_work_comes_again_after_it() -> None:
    async def story() -> None:
        queue = Queue()
        queue.add(C)
        assert await queue.take() == C
        queue.add(C)
        other = asyncio.ensure_future(queue.take())
        await asyncio.sleep(0.01)
        assert not other.done(), "two workers on one key"
        queue.done(C)
        assert await other == C

    _run(story())


def test_failure_and_wish_to_come_again_wake_a_waiting_worker() -> None:
    async def story() -> tuple[float, Key]:
        queue = Queue()
        queue.add(A)
        queue.add(B, 0.001)
        assert await queue.take() == A
        assert await queue.take() == B
        waiting = asyncio.ensure_future(queue.take())
        await asyncio.sleep(0)
        delay = queue.failed(A)
        queue.done(B, 0.01)
        return delay, await waiting

    assert _run(story()) == (FIRST_DELAY_SECONDS, B)
