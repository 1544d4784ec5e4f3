"""What the workers of a search beside index 0 do: the same rows, the same folds, trials from the study of index 0."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from kaizen.api.training_data import Data
from kaizen.api.training_search import Search
from kaizen.training.data.prepare import Rows
from kaizen.training.errors import Failure
from kaizen.training.models.estimators import Choice
from kaizen.training.search.space import Space, space_of
from kaizen.training.search.study import NAME, Ledger, attempt, progress
from kaizen.training.search.study_server import LEFT, PATIENCE_SECONDS, POLL_SECONDS, Address, Proxy, Replaced
from kaizen.training.search.trials import STEP, Judge, SearchProgress, fingerprint, goal
from kaizen.training.search.tuning import expired

__all__ = ["work"]

log = logging.getLogger(__name__)

ALIVE_SECONDS = 10.0
"""How often index 0 hears of a worker that is busy with a trial."""


def work(
    choice: Choice,
    train: Rows,
    data: Data,
    search: Search,
    address: Address,
    index: int,
    report: Callable[[SearchProgress], None],
    *,
    patience: float = PATIENCE_SECONDS,
) -> int:
    """Run trials until index 0 says that the study is complete; returns how many.

    Args:
        choice: as index 0 has it, like all of the following: what differs is refused.
        train: the training rows.
        data: how the folds are cut.
        search: how many trials of what.
        address: where index 0 serves the study.
        index: of this worker, from 1; another has another.
        report: is told after each trial of this worker.
        patience: seconds to wait for index 0 while it is away.

    Raises:
        Failure: StudyUnreachable when index 0 stays away; DataChanged when it searches over other rows.
    """
    aim = goal(search, choice.task)
    space = space_of(choice, search)
    judge = Judge(train, data, aim, space.most_rows)
    mark = fingerprint(choice, train, search)
    done = 0
    while True:
        proxy = Proxy(address, index, patience)
        try:
            ledger = _connect(proxy, mark, index)
            with _alive(ledger):
                for _ in _trials(ledger, space, judge, search):
                    done += 1
                    report(progress(ledger, aim, space, search.parallelism))
            return done
        except Replaced:
            log.warning("index 0 is back with the study as it was saved last: this worker's running trial is run again")
        finally:
            proxy.close()


def _connect(proxy: Proxy, mark: str, index: int) -> Ledger:
    log.info("worker %d asks index 0 for the study", index)
    try:
        study_id = proxy.get_study_id_from_name(f"{NAME}-{mark[:16]}")
    except KeyError as problem:
        message = f"index 0 searches over other rows or parameters than worker {index}: were the data changed meanwhile?"
        raise Failure(STEP, "DataChanged", message, retry=True) from problem
    ledger = Ledger(proxy, study_id, index)
    proxy.bind(str(ledger.attributes["session"]))
    ledger.give_up(lambda trial: trial.user_attrs.get("worker") == index)
    return ledger


def _trials(ledger: Ledger, space: Space, judge: Judge, search: Search) -> Iterator[None]:
    while not ledger.attributes.get("complete"):
        trial = None if expired(ledger, space) else ledger.claim(search)
        if trial is None:
            threading.Event().wait(POLL_SECONDS)
            continue
        ledger.tell(trial, attempt(trial, space, judge))
        yield
    ledger.set(f"{LEFT}{ledger.worker}", True)


@contextlib.contextmanager
def _alive(ledger: Ledger) -> Iterator[None]:
    """Let index 0 hear of this worker while a fit takes long."""
    stop = threading.Event()

    def beat() -> None:
        # What is wrong with the study, the worker itself finds out by its next call.
        with contextlib.suppress(Exception):
            while not stop.wait(ALIVE_SECONDS):
                _ = ledger.attributes

    thread = threading.Thread(target=beat, name="alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
