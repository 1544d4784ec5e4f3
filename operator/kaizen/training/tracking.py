"""Tells an MLflow server of a run, from a thread of its own: a server that is down, slow or refuses costs the run nothing.

One run for each TrainingJob, found again by a retried Pod by the tag kaizen.job; a child run for each of the best trials.
What was told once is not told again: parameters by name, metrics by name and step, trials by number.  What could not be told
is one warning at the end.
"""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kaizen.api.training_job import MLflow
from kaizen.training.access import Access
from kaizen.training.errors import Failure
from kaizen.training.mlflow_rest import MLflowError, Run, Server, clean

__all__ = ["Subject", "Tracker"]

MOST_POINTS = 10_000
"""That wait to be told; more are dropped."""
MOST_CHILDREN = 200
"""Trials with a run of their own: the best ones; all of them are metrics over time of the run itself."""
AT_ONCE = 1000
"""Points that are sent before the thread looks whether the run is over."""
LONGEST_PAUSE = 30.0
STATES = {"Complete": "FINISHED", "Pruned": "KILLED", "Failed": "FAILED"}

State = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Subject:
    """Whose run it is."""

    namespace: str
    job: str
    """Uid of the TrainingJob."""
    name: str
    """Of the TrainingJob."""
    model: str
    task: str
    run_uri: str = ""

    def tags(self) -> dict[str, str]:
        """What the run is found and filtered by."""
        return {
            "mlflow.source.name": f"{self.namespace}/{self.name}",
            "mlflow.source.type": "JOB",
            "mlflow.user": "kaizen",
            "kaizen.namespace": self.namespace,
            "kaizen.job": self.job,
            "kaizen.model": self.model,
            "kaizen.task": self.task,
            "kaizen.runURI": self.run_uri,
        }


@dataclass
class _Waiting:
    """What is not told yet."""

    parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: list[tuple[str, int, float, int]] = field(default_factory=list)
    trials: list[tuple[Any, str]] = field(default_factory=list)
    dropped: int = 0
    end: bool = True
    """How the run ended."""

    def __str__(self) -> str:
        parts = {
            "parameters": len(self.parameters),
            "tags": len(self.tags),
            "metrics": len(self.points) + self.dropped,
            "trials": len(self.trials),
        }
        counted = [f"{count} {name}" for name, count in parts.items() if count]
        return ", ".join([*counted, *(["how the run ended"] if self.end else [])])


class Tracker:
    """Is told what happens, and returns at once; `close` waits for a few seconds at most.  It raises nothing."""

    def __init__(
        self,
        server: Server | None,
        experiment: str,
        subject: Subject,
        *,
        warn: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
        first_pause_seconds: float = 1.0,
    ) -> None:
        self._server, self._experiment_name, self._subject, self._warn = server, experiment, subject, warn
        self._pause = first_pause_seconds
        self._problem: str | None = None
        self._condition = threading.Condition()
        self._waiting = _Waiting()
        self._changed = True
        self._state: State | None = None
        self._deadline = math.inf
        self._over = False
        self._experiment = ""
        self._run: Run | None = None
        self._steps: Mapping[str, int] = {}
        """What an earlier attempt has told."""
        self._children: dict[str, Run] = {}
        self._seen: set[int] = set()
        """Numbers of trials that wait or are told."""
        self._marks: set[tuple[str, int]] = set()
        """Names and steps of metrics that wait or are told."""
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        if server is not None:
            self._thread.start()

    @classmethod
    def open(cls, settings: MLflow, access: Access, subject: Subject) -> "Tracker":
        """For a spec's tracking.mlflow."""
        try:
            keys = access.secret(settings.secret_name) if settings.secret_name else {}
            return cls(Server(settings.uri, keys), settings.experiment, subject)
        except (Failure, OSError, ValueError) as problem:
            made = cls(None, settings.experiment, subject)
            made._problem = str(problem)
            return made

    def step(self, name: str, message: str = "") -> None:
        """As of Progress: the tag kaizen.step."""
        self.tags({"kaizen.step": name})

    def metric(self, name: str, value: float, dataset: str) -> None:
        """As of Progress: the metric DATASET/NAME."""
        self.points([{"name": f"{dataset}/{name}", "step": 0, "value": value}])

    def parameters(self, parameters: Mapping[str, Any]) -> None:
        """Each is told once; a later value of the same name is not."""
        with self._changing() as waiting:
            for name, value in parameters.items():
                waiting.parameters.setdefault(str(name), str(value))

    def tags(self, tags: Mapping[str, str]) -> None:
        """A later value replaces the earlier one."""
        with self._changing() as waiting:
            waiting.tags.update(tags)

    def points(self, points: Iterable[Mapping[str, Any]]) -> None:
        """Metrics over time, each {name, step, value}; those that are not finite or were told before are left out."""
        now = time.time_ns() // 1_000_000
        with self._changing() as waiting:
            for point in points:
                name, step, value = clean(str(point["name"])), int(point["step"]), float(point["value"])
                if not math.isfinite(value) or (name, step) in self._marks:
                    continue
                if len(waiting.points) >= MOST_POINTS:
                    waiting.dropped += 1
                else:
                    self._marks.add((name, step))
                    waiting.points.append((name, step, value, now))

    def trials(self, trials: Sequence[Any], metric: str, direction: str = "Minimize") -> None:
        """Ended trials of a search (tuning.Trial): their values as metrics over time, and child runs of the best that are new.

        May be told again with more of them; each gets its child run when it is told first, as long as there are not too many.
        """
        new = [trial for trial in trials if trial.number not in self._seen]
        self._seen.update(trial.number for trial in new)
        finished = {trial.number: trial.value for trial in new if trial.state == "Complete" and trial.value is not None}
        self.points({"name": f"search/{metric}", "step": number, "value": value} for number, value in sorted(finished.items()))
        sign = -1.0 if direction == "Maximize" else 1.0
        ranked = sorted(
            new, key=lambda trial: (trial.number not in finished, sign * finished.get(trial.number, 0.0), trial.number)
        )
        left = max(MOST_CHILDREN - (len(self._seen) - len(new)), 0)
        with self._changing() as waiting:
            waiting.trials += [(trial, metric) for trial in sorted(ranked[:left], key=lambda trial: trial.number)]

    def result(self, manifest: Mapping[str, Any], document: Mapping[str, Any], digest: str) -> None:
        """The model that came of it: its manifest, run.json (environment.run_document) and the manifest's digest."""
        estimator = manifest.get("estimator") or {}
        self.parameters({"estimator": estimator.get("name"), **(estimator.get("parameters") or {})})
        self.points(document.get("metricsOverTime", ()))
        self.points({"name": f"{one['dataset']}/{one['name']}", "step": 0, "value": one["value"]} for one in manifest["metrics"])
        figures = ("durationSeconds", "cpuSeconds", "peakMemoryBytes")
        self.points({"name": f"run/{name}", "step": 0, "value": document[name]} for name in figures if name in document)
        made = {name: str(document.get(name) or "") for name in ("dataDigest", "codeDigest", "modelDigest")}
        self.tags({f"kaizen.{name}": value for name, value in {**made, "digest": digest}.items() if value})

    def close(self, state: State, deadline_seconds: float = 10.0) -> None:
        """Say how the run ended; waits until that is told, at most so long."""
        with self._condition:
            self._state = state
            self._deadline = time.monotonic() + deadline_seconds
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(deadline_seconds)
        with self._condition:
            finished, self._over = self._over, True
            waiting = str(self._waiting)
        if not finished:
            where = self._server.uri if self._server else "its address"
            self._warn(f"tracking: {self._problem or f'MLflow at {where} was too slow'}; not told: {waiting}")

    def _changing(self) -> "_Change":
        return _Change(self)

    def _work(self) -> None:
        pause = self._pause
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._changed or self._state or self._over)
                if self._over:
                    return
                self._changed = False
                state = self._state
            try:
                self._tell(state)
                if state and not self._waiting.end and not self._pending():
                    with self._condition:
                        self._over = True
                    return
                pause, self._problem = self._pause, None
            except MLflowError as problem:
                self._problem = str(problem)
                if problem.final:
                    return
                with self._condition:
                    self._changed = True
                    left = self._deadline - time.monotonic()
                    if left <= 0:
                        return
                    # The end wakes it up, and lets it ask a few times more.
                    if self._state is None:
                        self._condition.wait_for(lambda: self._state or self._over, pause)
                    else:
                        self._condition.wait_for(lambda: self._over, min(pause, left, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE)
            except Exception as problem:
                self._problem = f"{type(problem).__name__}: {problem}"
                return

    def _pending(self) -> bool:
        waiting = self._waiting
        return bool(waiting.parameters or waiting.tags or waiting.points or waiting.trials)

    def _tell(self, state: State | None) -> None:
        """What waits: of the run itself, then its end, then its trials; told, it waits no more.  Raises MLflowError."""
        assert self._server is not None
        server, waiting = self._server, self._waiting
        run = self._run or self._begin(server)
        while not self._over:
            with self._condition:
                parameters, tags, points = dict(waiting.parameters), dict(waiting.tags), waiting.points[:AT_ONCE]
            if not (parameters or tags or points):
                break
            new = {name: value for name, value in parameters.items() if clean(name) not in run.parameters}
            server.log(run.id, new, [point for point in points if point[1] > self._steps.get(point[0], -1)], tags)
            run = self._run = replace(run, parameters={**run.parameters, **{clean(name): "" for name in new}})
            with self._condition:
                waiting.tags = {name: value for name, value in waiting.tags.items() if tags.get(name) != value}
                waiting.parameters = {name: value for name, value in waiting.parameters.items() if name not in parameters}
                del waiting.points[: len(points)]
        if state and waiting.end and not self._over:
            server.update(run.id, state, time.time_ns() // 1_000_000)
            waiting.end = False
        while waiting.trials and not self._over and not self._changed:
            self._child(server, run, *waiting.trials[0])
            with self._condition:
                del waiting.trials[0]

    def _begin(self, server: Server) -> Run:
        """The run of this job: that of an earlier attempt, else a new one."""
        self._experiment = self._experiment or server.experiment(self._experiment_name)
        found = server.find(self._experiment, {"kaizen.job": self._subject.job})
        if found:
            run = found[0]
            server.update(run.id, "RUNNING")
            children = server.find(self._experiment, {"mlflow.parentRunId": run.id}, 1000)
            self._children = {child.tags.get("kaizen.trial", ""): child for child in children}
            self._steps = run.steps
        else:
            run = server.create(self._experiment, self._subject.name, self._subject.tags(), time.time_ns() // 1_000_000)
        self._run = run
        return run

    def _child(self, server: Server, run: Run, trial: Any, metric: str) -> None:
        number, now = str(trial.number), time.time_ns() // 1_000_000
        child = self._children.get(number)
        if child is not None and child.status != "RUNNING":
            return
        if child is None:
            # Not kaizen.job: a retried Pod looks for the run by that.
            tags = {"mlflow.parentRunId": run.id, "mlflow.user": "kaizen", "kaizen.trial": number}
            child = server.create(self._experiment, f"trial {number}", tags, now - int(trial.seconds * 1000))
            self._children[number] = child
        points = [(clean(f"fold/{metric}"), step, value, now) for step, value in enumerate(trial.steps) if math.isfinite(value)]
        if trial.value is not None and math.isfinite(trial.value):
            points.append((clean(metric), 0, trial.value, now))
        server.log(child.id, trial.parameters, [*points, ("seconds", 0, trial.seconds, now)])
        server.update(child.id, STATES.get(trial.state, "FAILED"), now)


class _Change:
    """Holds the lock while something new is put down."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def __enter__(self) -> _Waiting:
        self._tracker._condition.acquire()
        return self._tracker._waiting

    def __exit__(self, *_: object) -> None:
        self._tracker._changed = True
        self._tracker._condition.notify_all()
        self._tracker._condition.release()
