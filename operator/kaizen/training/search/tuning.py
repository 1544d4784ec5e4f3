"""A search for the best parameters: many trials, judged on the inner folds of the training rows.

Index 0 runs `tune`, the others `worker.work`; with parallelism 1 there are no others and no network.  With parallelism 1 the
same data, search and code give the same selection, interrupted or not; with more, which trial learns of which before it is
drawn is a matter of time, so nothing is promised.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState

from kaizen.api.training_data import Data
from kaizen.api.training_search import Search
from kaizen.training.data.prepare import Rows
from kaizen.training.errors import Failure
from kaizen.training.models.estimators import Choice
from kaizen.training.search.auto import AutoChoice, conclude
from kaizen.training.search.space import Space, space_of
from kaizen.training.search.study import (
    Ledger,
    StudyStore,
    attempt,
    backup,
    best_of,
    open_storage,
    progress,
    trials_of,
    untagged,
)
from kaizen.training.search.trials import STEP, Goal, Judge, SearchProgress, Trial, fingerprint, goal

if TYPE_CHECKING:
    from kaizen.training.search.study_server import Address, Server

__all__ = ["SearchProgress", "Selection", "StudyStore", "Trial", "tune"]

log = logging.getLogger(__name__)

FILE = "study.sqlite"
IDLE_SECONDS = 0.2
GOODBYE_SECONDS = 3.0
SILENT_SECONDS = 60.0
"""A worker that was not heard of for so long is gone, and its running trial lost."""


@dataclass(frozen=True)
class Selection:
    """What a search found."""

    choice: Choice
    trials: tuple[Trial, ...]
    metric: str
    direction: str
    best: Trial | None
    message: str


def tune(
    choice: Choice,
    train: Rows,
    data: Data,
    search: Search,
    report: Callable[[SearchProgress], None],
    store: StudyStore,
    *,
    scratch: Path | None = None,
    address: "Address | None" = None,
) -> Selection:
    """Run the search to its end, or go on with it after a restart.

    Args:
        choice: what is tuned; its other parameters stay.
        train: the training rows; the folds are cut from them.
        data: how the folds are cut.
        search: how many trials of what.
        report: is told after each trial; from several threads, one at a time.
        store: is given the study's file after each trial that ended.
        scratch: a directory for the study's file; a temporary one when omitted.
        address: where to serve the study to the other workers; without one all trials run here.

    Raises:
        Failure: InvalidSearch before the first trial; SearchFailed when no trial was completed.
    """
    aim = goal(search, choice.task)
    space = space_of(choice, search)
    with TemporaryDirectory(prefix="kaizen-study-") as temporary:
        place = (scratch or Path(temporary)) / FILE
        storage = open_storage(place, store)
        ledger = Ledger.of_host(storage, aim, fingerprint(choice, train, search))
        host = _Host(ledger, space, search, aim, report, place, store)
        judge = Judge(train, data, aim, space.most_rows)
        try:
            host.serve(address)
            host.run(judge)
        finally:
            host.close()
        trials = trials_of(ledger)
        begun = float(ledger.attributes["begun"])
    selection = _select(choice, space, trials, aim, host.total)
    if isinstance(choice, AutoChoice):
        return conclude(selection, choice, train, data, aim, search, begun)
    return selection


class _Host:
    """Index 0: fills the study, takes part, and notices what became of the others."""

    def __init__(
        self,
        ledger: Ledger,
        space: Space,
        search: Search,
        aim: Goal,
        report: Callable[[SearchProgress], None],
        path: Path,
        store: StudyStore,
    ) -> None:
        self.total = space.total
        self._ledger = ledger
        self._space = space
        self._search = search
        self._aim = aim
        self._report = report
        self._path = path
        self._store = store
        self._lock = threading.Lock()
        self._ended = -1
        self._saved = -1
        self._server: Server | None = None
        self._window = 4 * search.parallelism + 4

    def serve(self, address: "Address | None") -> None:
        """Give up what this index left behind, and open the door to the others."""
        alone = address is None
        self._ledger.give_up(lambda trial: alone or trial.user_attrs.get("worker", 0) == 0)
        self.changed()
        if address is not None:
            from kaizen.training.search.study_server import Server

            session = str(self._ledger.attributes["session"])
            self._server = Server(self._ledger.storage, address, session, self.changed)
            log.info("the study is served at %s", address)

    def run(self, judge: Judge) -> None:
        """Until all trials have ended, or time is up and those that run have ended."""
        while True:
            trial = None if expired(self._ledger, self._space) else self._ledger.claim(self._search)
            if trial is not None:
                self.changed()
                self._ledger.tell(trial, attempt(trial, self._space, judge))
                self.changed()
                continue
            self._ledger.give_up(self._gone)
            self.changed()
            if not self._left():
                break
            threading.Event().wait(IDLE_SECONDS)
        self._ledger.set("complete", True)

    def changed(self) -> None:
        """After a trial was taken or ended: put the next into the study, save it, and tell."""
        with self._lock:
            trials = self._ledger.all()
            ended = sum(trial.state.is_finished() for trial in trials)
            self._fill(trials)
            if ended > 0 and ended != self._saved:
                try:
                    self._store.save(backup(self._path))
                    self._saved = ended
                except Exception as problem:
                    log.warning("the study could not be saved and will be after the next trial: %s", problem)
            if ended != self._ended:
                self._ended = ended
                self._report(progress(self._ledger, self._aim, self._space, self._search.parallelism))

    def close(self) -> None:
        """Let the others learn that the study is complete."""
        if self._server is None:
            return
        deadline = time.monotonic() + GOODBYE_SECONDS
        while self._server.present and time.monotonic() < deadline:
            threading.Event().wait(IDLE_SECONDS)
        self._server.close()

    def _fill(self, trials: list[FrozenTrial]) -> None:
        there = {trial.user_attrs.get("number") for trial in trials}
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        missing = (number for number in range(self.total) if number not in there)
        for number in missing:
            if waiting >= self._window:
                return
            self._ledger.enqueue(number, self._space.fixed(number))
            waiting += 1

    def _left(self) -> bool:
        """Whether there is anything to wait for."""
        states = [trial.state for trial in self._ledger.all()]
        running = TrialState.RUNNING in states
        return running or (TrialState.WAITING in states and not expired(self._ledger, self._space))

    def _gone(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get("worker")
        if worker is None or self._server is None:
            return untagged(trial)
        return worker != 0 and self._server.silent_seconds(int(worker)) > SILENT_SECONDS


def expired(ledger: Ledger, space: Space) -> bool:
    """Whether no trial may begin any more.  Its time began with the first attempt's, so that a retry does not start it anew."""
    return space.seconds is not None and time.time() - float(ledger.attributes["begun"]) >= space.seconds


def _select(choice: Choice, space: Space, trials: tuple[Trial, ...], aim: Goal, total: int) -> Selection:
    best = best_of(trials, aim)
    if best is None:
        failed = [trial for trial in trials if trial.state == "Failed"]
        if failed and len(failed) == len(trials):
            message = f"all {len(trials)} trials failed; the first, with {failed[0].parameters}: {failed[0].message}"
        else:
            message = f"none of {len(trials)} trials was completed in time: raise search.timeoutSeconds"
        raise Failure(STEP, "SearchFailed", message)
    counts = {state: sum(trial.state == state for trial in trials) for state in ("Complete", "Pruned", "Failed")}
    ended = ", ".join(f"{count} {state.lower()}" for state, count in counts.items() if count)
    early = "" if len(trials) == total else f" of {total} before the time was up"
    message = f"best of {len(trials)} trials{early} ({ended}): trial {best.number} with {aim.metric} {best.value:.6g}"
    return Selection(space.made(best.parameters), trials, aim.metric, aim.direction, best, message)
