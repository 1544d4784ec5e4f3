"""The training Pod's main process: one attempt at a TrainingJob.

It writes below runs/<Job's uid>/<Pod's uid>/ only, and at the end run.json, which names the attempt that won; the operator
takes it from there.  Whatever goes wrong is told in the termination message; exit code 10 says that no retry can mend it.
Told to end, it ends at once: all that a retry goes on from is in the bucket by then.
"""

import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen.registry import errors
from kaizen.training.access import Access, bucket_from_environment
from kaizen.training.attempt import Attempt
from kaizen.training.environment import Meter, describe, run_document, trial_points
from kaizen.training.errors import Failure
from kaizen.training.known import already_trained
from kaizen.training.progress import BucketProgress, LineProgress, Told
from kaizen.training.run_files import RunFiles

if TYPE_CHECKING:
    from kaizen.api.training_job import TrainingJobSpec
    from kaizen.training.job import Prepared, Result, Surroundings
    from kaizen.training.models.estimators import Choice
    from kaizen.training.search.study_server import Address
    from kaizen.training.search.tuning import Selection
    from kaizen.training.tracking import Tracker

__all__ = ["end", "end_when_told", "explain", "main", "say"]

TERMINATION_LOG = Path("/dev/termination-log")
LONGEST_MESSAGE = 2000
"""Kubernetes keeps 4096 bytes of a termination message; a JSON escape may take six."""


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Run the attempt; returns the exit code."""
    told: Told | None = None
    attempt: Attempt | None = None
    try:
        meter = Meter()
        attempt = Attempt.from_environment(environment)
        bucket = bucket_from_environment(environment)
        lines = LineProgress(sys.stdout)
        run_files = RunFiles(bucket, attempt)
        if run_files.is_done():
            lines.step("Done", "an earlier attempt has finished this run")
            return 0
        if attempt.index and attempt.trained is not None:
            lines.step("Done", "the Pod of rank 0 judges the model")
            return 0
        told = Told(lines)
        told.step("Ingest", "starting")
        if attempt.index:
            return _work(attempt, environment, told)
        told.add(BucketProgress(run_files.progress, begun=_begun(attempt)))
        _run(_Here(attempt, run_files, environment, meter, told))
        told.close("Done")
        return 0
    except Exception as problem:
        exit_code = end(environment, explain(problem, told.current if told else "Ingest", begun=told is not None))
        if told is not None:
            told.close()
        # A worker's end does not end the search: index 0 says what is wrong for good.
        return 1 if attempt is not None and attempt.index else exit_code


def explain(problem: Exception, step: str, *, begun: bool) -> Failure:
    """Whatever ended the process, as what a person reads; `begun` says that the environment was understood."""
    match problem:
        case Failure():
            return problem
        case errors.BucketError():
            code = "BucketRefused" if isinstance(problem, errors.Refused) else "BucketUnreachable"
            return Failure(step, code, str(problem), retry=True)
        case MemoryError():
            message = "the run needs more memory than the container's limit: raise pod.resources.limits.memory"
            return Failure(step, "OutOfMemory", message, retry=True)
    traceback.print_exception(problem)
    # What a Pod is told does not change by itself; anything else may be a passing trouble of the machine.
    return Failure(step, "InternalError" if begun else "InvalidEnvironment", f"{type(problem).__name__}: {problem}", retry=begun)


def end(environment: Mapping[str, str], failure: Failure) -> int:
    """Say what went wrong where Kubernetes and the operator look for it; returns the exit code."""
    print(f"{failure.step} failed: {failure.code}: {failure.message}", file=sys.stderr, flush=True)
    document = {"step": failure.step, "code": failure.code, "message": failure.message[:LONGEST_MESSAGE]}
    try:
        say(environment, document)
    except OSError as problem:
        print(f"the termination message could not be written: {problem}", file=sys.stderr, flush=True)
    return failure.exit_code


def say(environment: Mapping[str, str], document: Mapping[str, Any]) -> None:
    """Leave a termination message; raises OSError."""
    Path(environment.get("KAIZEN_TERMINATION_LOG") or TERMINATION_LOG).write_text(json.dumps(document), encoding="utf-8")


def end_when_told() -> None:
    """End at once by SIGTERM, which a container's first process would ignore until it is killed for that."""

    def ended(number: int, _: object) -> None:
        print("the Pod was told to end", file=sys.stderr, flush=True)
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, ended)


@dataclass(frozen=True)
class _Here:
    """Everything that an attempt has at hand."""

    attempt: Attempt
    files: RunFiles
    environment: Mapping[str, str]
    meter: Meter
    told: Told


def _run(here: _Here) -> None:
    """From the data to run.json.  Raises Failure, BucketError."""
    # Imported late: the first progress is written before scikit-learn is loaded.
    from kaizen.training.job import AlreadyTrained, Surroundings
    from kaizen.training.spec import read_spec

    attempt, scratch = here.attempt, Path(tempfile.mkdtemp(prefix="kaizen-run-"))
    spec, access = read_spec(attempt.spec), Access.from_environment(here.environment)
    champion, anchors = here.files.champions(scratch)
    around = Surroundings(
        access,
        here.told,
        champion,
        anchors,
        search=lambda choice, prepared: _searched(here, spec, choice, prepared, scratch),
        known=lambda data, code: already_trained(here.environment, data, code),
        facts=attempt.facts(),
    )
    tracker = _tracker(here, spec, access)
    try:
        made = _trained(here, spec, around, scratch)
    except AlreadyTrained as same:
        here.files.conclude({"alreadyTrained": dict(same.version)})
        here.told.step("Done", str(same))
    except BaseException:
        if tracker is not None:
            tracker.close("FAILED")
        raise
    else:
        if tracker is not None:
            if (selection := made.result.selection) is not None:
                tracker.trials(selection.trials, selection.metric, selection.direction)
            tracker.points(made.points)
            tracker.result(made.result.manifest, made.run, made.digest)
        here.told.step("Done", f"{here.files.model} {made.digest}")
    if tracker is not None:
        tracker.close("FINISHED")


@dataclass(frozen=True)
class _Trained:
    """What a tracking server is told in the end."""

    result: "Result"
    points: list[dict[str, Any]]
    run: Mapping[str, Any]
    digest: str


def _trained(here: _Here, spec: "TrainingJobSpec", around: "Surroundings", scratch: Path) -> _Trained:
    """Everything up to run.json.  Raises Failure, BucketError, AlreadyTrained."""
    from kaizen.training.job import chosen, prepare_run, run
    from kaizen.training.trained import as_pipeline, read_metrics, read_model

    attempt = here.attempt
    table = model = choice = None
    if attempt.prepared is not None:
        from kaizen.training.container import load_table

        table = load_table(attempt.prepared)
    if attempt.trained is None:
        choice = chosen(spec, around.access, scratch)
    prepared = prepare_run(spec, around, scratch, table)
    if attempt.trained is not None:
        here.told.step("Train", "reading the container's model")
        model = as_pipeline(read_model(attempt.trained), prepared.parts.train, spec.task)
    result = run(spec, around, scratch / "model", prepared, model, choice)
    selection = result.selection
    points = [] if selection is None else trial_points(selection.trials, selection.metric)
    if attempt.metrics is not None:
        points += [point.to_json() for point in read_metrics(attempt.metrics).points]
    code = str(result.manifest["codeDigest"])
    document = run_document(result.manifest, here.meter.read(), describe(here.environment), code, points)
    here.told.step("Package", "writing to the bucket")
    digest = here.files.upload(result)
    here.files.conclude({**document, "model": here.files.model, "digest": digest, "gatesPassed": result.gates_passed})
    return _Trained(result, points, document, digest)


def _begun(attempt: Attempt) -> str | None:
    """When the data step of a container's run began; None elsewhere."""
    if attempt.prepared is None:
        return None
    from kaizen.training.container import table_begun

    return table_begun(attempt.prepared)


def _work(attempt: Attempt, environment: Mapping[str, str], told: Told) -> int:
    """A further Pod of a search: trials, until index 0 says that there are no more."""
    from kaizen.training.job import Surroundings, chosen, prepare_run
    from kaizen.training.search.worker import work
    from kaizen.training.spec import read_spec

    scratch = Path(tempfile.mkdtemp(prefix="kaizen-run-"))
    spec, access = read_spec(attempt.spec), Access.from_environment(environment)
    assert spec.search is not None
    choice = chosen(spec, access, scratch)
    prepared = prepare_run(spec, Surroundings(access, told), scratch)
    told.step("Tuning", "waiting for index 0")
    work(choice, prepared.parts.train, spec.data, spec.search, _address(attempt), attempt.index, told.search)
    told.step("Done", "the search has ended")
    return 0


def _searched(here: _Here, spec: "TrainingJobSpec", choice: "Choice", prepared: "Prepared", scratch: Path) -> "Selection":
    from kaizen.training.search.auto import SEARCH
    from kaizen.training.search.tuning import tune

    search = spec.search or SEARCH
    address = None if here.attempt.study is None else _address(here.attempt)
    train, told, study = prepared.parts.train, here.told.search, here.files.study
    return tune(choice, train, spec.data, search, told, study, scratch=scratch, address=address)


def _address(attempt: Attempt) -> "Address":
    from kaizen.training.search.study_server import Address

    assert attempt.study is not None
    return Address(*attempt.study, token=attempt.job)


def _tracker(here: _Here, spec: "TrainingJobSpec", access: Access) -> "Tracker | None":
    if spec.tracking is None:
        return None
    from kaizen.training.tracking import Subject, Tracker

    attempt = here.attempt
    name = str(attempt.lineage.get("trainingJob") or attempt.job)
    subject = Subject(attempt.namespace, attempt.job, name, spec.model, spec.task, here.files.uri)
    return Tracker.open(spec.tracking.mlflow, access, subject)


if __name__ == "__main__":
    end_when_told()
    sys.exit(main())
