"""The training Pod's main process: one attempt at a TrainingJob.

It writes below runs/<Job's uid>/<Pod's uid>/ only, and at the end run.json, which names the attempt that won; the operator
takes it from there.  Whatever goes wrong is told in the termination message; exit code 10 says that no retry can mend it.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen.registry import errors, files, layout
from kaizen.training.access import Access, bucket_from_environment
from kaizen.training.attempt import Attempt
from kaizen.training.environment import Meter, describe, run_document, trial_points
from kaizen.training.errors import Failure
from kaizen.training.known import already_trained
from kaizen.training.progress import STEPS, BucketProgress, LineProgress, Progress

if TYPE_CHECKING:
    from kaizen.api.training_job import TrainingJobSpec
    from kaizen.registry.store import Bucket
    from kaizen.training.estimators import Choice
    from kaizen.training.gates import Champion
    from kaizen.training.job import Prepared, Result
    from kaizen.training.study_server import Address
    from kaizen.training.tracking import Tracker
    from kaizen.training.trials import SearchProgress
    from kaizen.training.tuning import Selection

__all__ = ["end", "explain", "main", "say"]

TERMINATION_LOG = Path("/dev/termination-log")
LONGEST_MESSAGE = 2000
"""Kubernetes keeps 4096 bytes of a termination message; a JSON escape may take six."""
UPLOADS = 8


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Run the attempt; returns the exit code."""
    told: _Told | None = None
    try:
        meter = Meter()
        attempt = Attempt.from_environment(environment)
        bucket = bucket_from_environment(environment)
        lines = LineProgress(sys.stdout)
        if _is_done(bucket, attempt):
            lines.step("Done", "an earlier attempt has finished this run")
            return 0
        if attempt.index and attempt.trained is not None:
            lines.step("Done", "the Pod of rank 0 judges the model")
            return 0
        prefix = layout.attempt(attempt.namespace, attempt.job, attempt.pod)
        told = _Told(lines)
        told.step("Ingest", "starting")
        if attempt.index:
            return _work(attempt, environment, told)
        told.add(BucketProgress(lambda body: _put_json(bucket, f"{prefix}progress.json", body), begun=_begun(attempt)))
        _run(_Here(attempt, bucket, environment, prefix, meter, told))
        told.close("Done")
        return 0
    except Exception as problem:
        exit_code = end(environment, explain(problem, told.current if told else "Ingest", begun=told is not None))
        if told is not None:
            told.close()
        return exit_code


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


class _Told:
    """Tells the log, and whoever is added, and knows the step."""

    def __init__(self, lines: LineProgress) -> None:
        self._all: list[Progress] = [lines]
        self._bucket: BucketProgress | None = None
        self.current = "Ingest"

    def add(self, bucket: BucketProgress) -> None:
        self._bucket = bucket
        self._all.append(bucket)

    def step(self, name: str, message: str = "") -> None:
        self.current = name if name in STEPS else self.current
        for one in self._all:
            one.step(name, message)

    def metric(self, name: str, value: float, dataset: str) -> None:
        for one in self._all:
            one.metric(name, value, dataset)

    def data(self, summary: Mapping[str, Any]) -> None:
        for one in self._all:
            one.data(summary)

    def search(self, progress: "SearchProgress") -> None:
        for one in self._all:
            one.search(progress)

    def close(self, step: str | None = None) -> None:
        if self._bucket is not None:
            self._bucket.close(step)


@dataclass(frozen=True)
class _Here:
    """Everything that an attempt has at hand."""

    attempt: Attempt
    bucket: "Bucket"
    environment: Mapping[str, str]
    prefix: str
    meter: Meter
    told: _Told


def _run(here: _Here) -> None:
    """From the data to run.json.  Raises Failure, BucketError."""
    # Imported late: the first progress is written before scikit-learn is loaded.
    from kaizen.training.job import AlreadyTrained, Surroundings, chosen, prepare_run, run
    from kaizen.training.spec import read_spec
    from kaizen.training.trained import as_pipeline, read_model

    attempt, scratch = here.attempt, Path(tempfile.mkdtemp(prefix="kaizen-run-"))
    spec, access = read_spec(attempt.spec), Access.from_environment(here.environment)
    table = None
    if attempt.prepared is not None:
        from kaizen.training.container import load_table

        table = load_table(attempt.prepared)[0]
    champion, anchors = _champions(here, scratch)
    around = Surroundings(
        access,
        here.told,
        champion,
        anchors,
        lambda choice, prepared: _searched(here, spec, choice, prepared, scratch),
        lambda data, code: already_trained(here.environment, data, code),
        attempt.facts(),
    )
    tracker = _tracker(here, spec, access)
    try:
        model = choice = None
        if attempt.trained is None:
            choice = chosen(spec, access, scratch)
        prepared = prepare_run(spec, around, scratch, table)
        if attempt.trained is not None:
            here.told.step("Train", "reading the container's model")
            model = as_pipeline(read_model(attempt.trained), prepared.parts.train, spec.task)
        result = run(spec, around, scratch / "model", prepared, model, choice)
    except AlreadyTrained as same:
        _conclude(here, {"alreadyTrained": dict(same.version)})
        here.told.step("Done", str(same))
        if tracker is not None:
            tracker.close("FINISHED")
        return
    except BaseException:
        if tracker is not None:
            tracker.close("FAILED")
        raise
    here.told.step("Package", "writing to the bucket")
    document = _document(here, result)
    digest = _upload(here, result)
    _conclude(
        here,
        {**document, "model": f"{here.prefix}model/", "digest": digest, "gatesPassed": result.gates_passed},
    )
    if tracker is not None:
        if result.selection is not None:
            tracker.trials(result.selection.trials, result.selection.metric, result.selection.direction)
        tracker.result(result.manifest, document, digest)
        tracker.close("FINISHED")
    here.told.step("Done", f"{here.prefix}model/ {digest}")


def _begun(attempt: Attempt) -> str | None:
    """When the data step of a container's run began; None elsewhere."""
    if attempt.prepared is None:
        return None
    from kaizen.training.container import load_table

    return load_table(attempt.prepared)[1]


def _work(attempt: Attempt, environment: Mapping[str, str], told: _Told) -> int:
    """A further Pod of a search: trials, until index 0 says that there are no more."""
    from kaizen.training.job import Surroundings, chosen, prepare_run
    from kaizen.training.spec import read_spec
    from kaizen.training.worker import work

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
    from kaizen.training.auto import SEARCH
    from kaizen.training.tuning import tune

    search = spec.search or SEARCH
    address = None if here.attempt.study is None else _address(here.attempt)
    store = _Study(here.bucket, f"{layout.run(here.attempt.namespace, here.attempt.job)}study.sqlite")
    return tune(
        choice, prepared.parts.train, spec.data, search, here.told.search, store, scratch=scratch, address=address
    )  # fmt: skip


def _address(attempt: Attempt) -> "Address":
    from kaizen.training.study_server import Address

    assert attempt.study is not None
    return Address(*attempt.study, token=attempt.job)


@dataclass(frozen=True)
class _Study:
    """The study's file in the bucket, where the next attempt finds it."""

    bucket: "Bucket"
    key: str

    def save(self, content: bytes) -> None:
        self.bucket.put(self.key, content)

    def load(self) -> bytes | None:
        try:
            return self.bucket.get(self.key)[0]
        except errors.Missing:
            return None


def _tracker(here: _Here, spec: "TrainingJobSpec", access: Access) -> "Tracker | None":
    if spec.tracking is None:
        return None
    from kaizen.training.tracking import Subject, Tracker

    attempt = here.attempt
    name = str(attempt.lineage.get("trainingJob") or attempt.job)
    uri = f"s3://{here.bucket.settings.name}/{here.bucket.settings.key(here.prefix)}"
    subject = Subject(attempt.namespace, attempt.job, name, spec.model, spec.task, uri)
    return Tracker.open(spec.tracking.mlflow, access, subject)


def _champions(here: _Here, scratch: Path) -> "tuple[Champion | None, list[Champion]]":
    """What serves and what served, their files verified; an old one whose files are broken is left out.  Raises Failure."""
    attempt, gated = here.attempt, any(gate.get("againstProduction") is not None for gate in here.attempt.spec.get("gates", ()))
    champion = None if attempt.champion is None else _champion(here, attempt.champion, scratch)
    anchors = []
    for one in attempt.anchors if gated else ():
        try:
            anchors.append(_champion(here, one, scratch))
        except Failure as problem:
            print(f"{problem.message}: it is left out", file=sys.stderr, flush=True)
    return champion, anchors


def _champion(here: _Here, one: Mapping[str, Any], scratch: Path) -> "Champion":
    """A version's files, verified.  Raises Failure."""
    from kaizen.training.gates import Champion
    from kaizen.training.package import verify

    number, digest = int(one["version"]), str(one["digest"])
    directory = scratch / f"version-{number}"
    prefix = layout.version(here.attempt.namespace, str(here.attempt.spec["model"]), number)
    try:
        for entry in here.bucket.list(prefix):
            path = directory / entry.key.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            files.download(here.bucket, entry.key, path)
        verify(directory, digest)
        return Champion.open(directory, f"version {number}", digest)
    except (ValueError, OSError) as problem:
        raise Failure(
            "Gates", "ChampionUnusable", f"version {number} in the bucket cannot be compared with: {problem}"
        ) from problem


def _is_done(bucket: "Bucket", attempt: Attempt) -> bool:
    try:
        bucket.read(layout.run_outcome(attempt.namespace, attempt.job))
    except errors.Missing:
        return False
    return True


def _document(here: _Here, result: "Result") -> dict[str, Any]:
    """What run.json says of how it was made."""
    selection = result.selection
    points = [] if selection is None else trial_points(selection.trials, selection.metric)
    if here.attempt.metrics is not None:
        from kaizen.training.trained import read_metrics

        points += [point.to_json() for point in read_metrics(here.attempt.metrics).points]
    described = describe(here.environment)
    return run_document(result.manifest, here.meter.read(), described, str(result.manifest["codeDigest"]), points)


def _upload(here: _Here, result: "Result") -> str:
    """Datasets and the model directory into the bucket, its manifest last; returns the manifest's digest."""
    bucket, prefix = here.bucket, here.prefix
    metrics = "".join(json.dumps(metric) + "\n" for metric in result.manifest["metrics"])
    bucket.put(f"{prefix}metrics.jsonl", metrics.encode(), "application/jsonl")
    _upload_dataset(here, result)
    paths = [file["path"] for file in result.manifest["files"]]
    with ThreadPoolExecutor(UPLOADS) as threads:
        list(threads.map(lambda path: files.upload(bucket, result.directory / path, f"{prefix}model/{path}"), paths))
    body = (result.directory / layout.MANIFEST).read_bytes()
    _put_json(bucket, f"{prefix}model/{layout.MANIFEST}", body)
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _upload_dataset(here: _Here, result: "Result") -> None:
    """What is kept of the data, once for the same data; croissant.json last."""
    from kaizen.training.croissant import About
    from kaizen.training.dataset import write_dataset

    spec, prepared = here.attempt.spec, result.prepared
    prefix = layout.dataset(here.attempt.namespace, prepared.table.digest)
    directory = result.directory.parent / "dataset"
    directory.mkdir(exist_ok=True)
    data = result.spec.data
    uri = f"s3://{here.bucket.settings.name}/{here.bucket.settings.key(prefix)}"
    about = About(f"{spec['model']}-data", uri, here.attempt.namespace, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    for name in write_dataset(directory, prepared.table, prepared.statistics, data, about):
        files.upload(here.bucket, directory / name, f"{prefix}{name}")


def _conclude(here: _Here, found: Mapping[str, Any]) -> None:
    """Name this attempt as the one that counts, unless another one was first."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    outcome = {**found, "format": 1, "pod": here.attempt.pod, "completionTime": now}
    try:
        here.bucket.create(layout.run_outcome(here.attempt.namespace, here.attempt.job), outcome)
    except errors.Conflict:
        print("another attempt was first", flush=True)


def _put_json(bucket: "Bucket", key: str, body: bytes) -> None:
    bucket.put(key, body, "application/json")


if __name__ == "__main__":
    sys.exit(main())
