"""A search's trials in an Optuna study: a SQLite file, backed up after each trial that ended, resumed by a retry.

Index 0 puts numbered trials into the study and every worker takes the next that waits, which the storage makes atomic.  So
each number is counted once: a trial that was lost with its worker is marked, and its number is put into the study again.
"""

import logging
import sqlite3
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.samplers import BaseSampler, CmaEsSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from kaizen.api.training_search import Search
from kaizen.training.errors import Failure
from kaizen.training.search.space import Space
from kaizen.training.search.trials import FOLDS, Goal, Judge, SearchProgress, State, Trial

__all__ = ["Ledger", "Outcome", "StudyStore", "attempt", "backup", "open_storage", "progress", "trials_of"]

log = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.WARNING)

NAME = "kaizen"
SEED = 0
UNTAGGED_SECONDS = 60
"""A running trial that nobody has put a name to for so long was lost with whoever took it."""
LOCKED_SECONDS = 60
"""How long a statement waits for another thread's."""

_STATES: Mapping[TrialState, State] = {
    TrialState.COMPLETE: "Complete",
    TrialState.PRUNED: "Pruned",
    TrialState.FAIL: "Failed",
}


class StudyStore(Protocol):
    """Where the study's file is safe from the loss of the Pod."""

    def save(self, content: bytes) -> None:
        """Replace what is there."""

    def load(self) -> bytes | None:
        """The last one saved; None when there is none."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    state: State
    value: float | None
    steps: tuple[float, ...]
    message: str = ""


def open_storage(path: Path, store: StudyStore) -> BaseStorage:
    """The study's file: the one that is there, else the one from the store, else a new one.

    The study has a session, which stays as long as the file: a worker that knew another file's trials must not go on with
    them by their numbers.
    """
    restored = None if path.exists() else store.load()
    if restored is not None:
        _restore(path, restored)
    # The schema is made by Optuna's own version table, which SQLite locks while several threads look.
    database = RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": LOCKED_SECONDS}})
    # What must outlive the machine is in the store: each commit need not wait for this disk.
    event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
    database.engine.dispose()
    storage = get_storage(database)
    if restored is not None:
        for study in storage.get_all_studies():
            storage.set_study_user_attr(study._study_id, "session", uuid.uuid4().hex)
    return storage


def backup(path: Path) -> bytes:
    """The study's file as it is at one moment, whoever writes to it."""
    with closing(sqlite3.connect(path, timeout=LOCKED_SECONDS)) as source, closing(sqlite3.connect(":memory:")) as copy:
        source.backup(copy)
        return copy.serialize()


class Ledger:
    """The numbered trials of one search, as one worker sees them."""

    def __init__(self, storage: BaseStorage, study_id: int, worker: int) -> None:
        self.storage = storage
        self.worker = worker
        self.study_id = study_id

    @staticmethod
    def of_host(storage: BaseStorage, aim: Goal, fingerprint: str) -> "Ledger":
        """The study of index 0, made where there is none; trials over other rows or of another search are left aside."""
        name = f"{NAME}-{fingerprint[:16]}"
        direction = StudyDirection.MAXIMIZE if aim.direction == "Maximize" else StudyDirection.MINIMIZE
        study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
        known = study.user_attrs
        for key, value in (("fingerprint", fingerprint), ("begun", time.time()), ("session", uuid.uuid4().hex)):
            if key not in known:
                study.set_user_attr(key, value)
        return Ledger(storage, study._study_id, 0)

    @property
    def attributes(self) -> dict[str, Any]:
        """Of the study: fingerprint, begun (seconds since 1970), session, complete."""
        return self.storage.get_study_user_attrs(self.study_id)

    def set(self, name: str, value: Any) -> None:
        """Set an attribute of the study."""
        self.storage.set_study_user_attr(self.study_id, name, value)

    def all(self) -> list[FrozenTrial]:
        """All trials but those that were lost."""
        return [trial for trial in self.storage.get_all_trials(self.study_id, deepcopy=False) if not _lost(trial)]

    def enqueue(self, number: int, fixed: Mapping[str, Any]) -> None:
        """Put a trial into the study, to be taken by any worker."""
        study = self._study(RandomSampler(seed=SEED), "None")
        study.enqueue_trial(dict(fixed), user_attrs={"number": number})

    def claim(self, search: Search) -> optuna.Trial | None:
        """Take the next trial that waits."""
        trials = self.storage.get_all_trials(self.study_id, deepcopy=False)
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        study = self._study(_sampler(search, self.worker, len(trials) - len(waiting)), search.pruner)
        for trial in waiting:
            try:
                taken = self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
            except UpdateFinishedTrialError:
                continue
            if taken:
                self.storage.set_trial_user_attr(trial._trial_id, "worker", self.worker)
                return optuna.Trial(study, trial._trial_id)
        return None

    def tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        """Write how a trial ended; one that was given up meanwhile stays so."""
        try:
            trial.set_user_attr("steps", list(outcome.steps))
            if outcome.message:
                trial.set_user_attr("message", outcome.message)
            state = next(state for state, name in _STATES.items() if name == outcome.state)
            value = outcome.value if outcome.state == "Complete" else None
            trial.study.tell(trial, value, state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            log.info("trial %s was given up by index 0 meanwhile", trial.number)

    def give_up(self, lost: Callable[[FrozenTrial], bool]) -> int:
        """Fail the running trials that were lost, so that their numbers are run again; returns how many."""
        count = 0
        for trial in self.storage.get_all_trials(self.study_id, deepcopy=False, states=(TrialState.RUNNING,)):
            if not lost(trial):
                continue
            try:
                self.storage.set_trial_user_attr(trial._trial_id, "lost", True)
                self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            except UpdateFinishedTrialError:
                continue
            log.warning("trial %s was lost with worker %s", trial.user_attrs.get("number"), trial.user_attrs.get("worker", "?"))
            count += 1
        return count

    def _study(self, sampler: BaseSampler, pruner: str) -> optuna.Study:
        name = self.storage.get_study_name_from_id(self.study_id)
        return optuna.Study(name, self.storage, sampler=sampler, pruner=_pruner(pruner))


def attempt(trial: optuna.Trial, space: Space, judge: Judge) -> Outcome:
    """Run a trial: fold by fold, until the pruner has seen enough."""
    values: list[float] = []
    try:
        answered = judge.steps(space.choice(trial))
    except Failure as problem:
        return Outcome("Failed", None, (), problem.message)
    spared = space.spared(int(trial.user_attrs["number"]))
    while True:
        try:
            one = next(answered, None)
        except Exception as problem:
            message = problem.message if isinstance(problem, Failure) else f"{type(problem).__name__}: {problem}"
            return Outcome("Failed", None, tuple(values), message[:1000])
        if one is None:
            return Outcome("Complete", float(np.mean(values)), tuple(values))
        values.append(one.value)
        trial.report(float(np.mean(values)), len(values))
        if len(values) < len(judge.folds) and not spared and trial.should_prune():
            return Outcome("Pruned", float(np.mean(values)), tuple(values))


def trials_of(ledger: Ledger) -> tuple[Trial, ...]:
    """Those that ended, by number."""
    found = []
    for trial in ledger.all():
        if not trial.state.is_finished() or "number" not in trial.user_attrs:
            continue
        steps = tuple(trial.user_attrs.get("steps", ()))
        found.append(
            Trial(
                number=trial.user_attrs["number"],
                state=_STATES[trial.state],
                value=float(np.mean(steps)) if steps and trial.state != TrialState.FAIL else None,
                parameters=dict(trial.params),
                seconds=round(trial.duration.total_seconds(), 3) if trial.duration else 0.0,
                steps=steps,
                worker=trial.user_attrs.get("worker", 0),
                message=trial.user_attrs.get("message", ""),
            )
        )
    return tuple(sorted(found, key=lambda one: one.number))


def best_of(trials: tuple[Trial, ...], aim: Goal) -> Trial | None:
    """The first of the best complete ones."""
    complete = [trial for trial in trials if trial.state == "Complete" and trial.value is not None]
    return min(complete, key=aim.place, default=None)


def progress(ledger: Ledger, aim: Goal, space: Space, parallelism: int) -> SearchProgress:
    """How far it is."""
    trials = trials_of(ledger)
    best = best_of(trials, aim)
    eta: int | None = None
    if trials:
        left = space.total - len(trials)
        seconds = float(np.mean([trial.seconds for trial in trials])) * left / parallelism
        if space.seconds is not None:
            seconds = min(seconds, max(space.seconds - (time.time() - ledger.attributes["begun"]), 0.0))
        eta = round(seconds)
    return SearchProgress(
        finished=len(trials),
        pruned=sum(trial.state == "Pruned" for trial in trials),
        failed=sum(trial.state == "Failed" for trial in trials),
        total=space.total,
        best_value=best.value if best else None,
        best_parameters=best.parameters if best else None,
        eta_seconds=eta,
    )


def untagged(trial: FrozenTrial) -> bool:
    """Whether a running trial was taken by somebody who ended before putting a name to it."""
    begun = trial.datetime_start
    return "worker" not in trial.user_attrs and begun is not None and time.time() - begun.timestamp() > UNTAGGED_SECONDS


def _lost(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and bool(trial.user_attrs.get("lost"))


def _restore(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        with closing(sqlite3.connect(path)) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check").fetchone()
    except sqlite3.DatabaseError as problem:
        verdict = str(problem)
    if verdict != "ok":
        log.warning("the saved study is broken (%s): the search begins anew", verdict)
        path.unlink()


def _sampler(search: Search, worker: int, taken: int) -> BaseSampler:
    """A new sampler for each trial, seeded by the worker and the number of trials so far: a retry goes on as if nothing was."""
    seed = int(np.random.SeedSequence((SEED, worker, taken)).generate_state(1)[0])
    match search.sampler:
        case "TPE":
            return TPESampler(seed=seed, constant_liar=search.parallelism > 1)
        case "CMAES":
            return CmaEsSampler(seed=seed, warn_independent_sampling=False)
        case "QMC":
            # One sequence, of which each trial takes the next point: the seed must be everybody's.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return QMCSampler(seed=SEED, scramble=True, warn_independent_sampling=False)
        case "Random" | "Grid":
            return RandomSampler(seed=seed)


def _pruner(name: str) -> optuna.pruners.BasePruner:
    if name == "Median":
        return optuna.pruners.MedianPruner()
    if name == "Hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=FOLDS, reduction_factor=FOLDS)
    return optuna.pruners.NopPruner()
