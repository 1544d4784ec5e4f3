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

from kaizen.registry import errors, layout
from kaizen.training.access import Access, bucket_from_environment
from kaizen.training.errors import Failure
from kaizen.training.progress import BucketProgress, LineProgress, Progress

if TYPE_CHECKING:
    from kaizen.registry.store import Bucket
    from kaizen.training.gate import Champion
    from kaizen.training.job import Result

__all__ = ["end", "explain", "main", "say", "spec_from_environment"]

TERMINATION_LOG = Path("/dev/termination-log")
LONGEST_MESSAGE = 2000
"""Kubernetes keeps 4096 bytes of a termination message; a JSON escape may take six."""
UPLOADS = 8


@dataclass(frozen=True)
class Attempt:
    """What the operator's Job tells its Pod."""

    spec: Mapping[str, Any]
    namespace: str
    job: str
    """Its uid."""
    pod: str
    """Its uid."""
    champion: Mapping[str, Any] | None
    """{version, digest} of what serves."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Attempt":
        """Read KAIZEN_… variables; raises ValueError naming the first that is missing or broken."""
        return cls(
            spec_from_environment(environment),
            _needed(environment, "KAIZEN_NAMESPACE"),
            _needed(environment, "KAIZEN_JOB_UID"),
            _needed(environment, "KAIZEN_POD_UID"),
            _json("KAIZEN_CHAMPION", champion) if (champion := environment.get("KAIZEN_CHAMPION")) else None,
        )


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Run the attempt; returns the exit code."""
    progress: _Both | None = None
    try:
        attempt = Attempt.from_environment(environment)
        bucket = bucket_from_environment(environment)
        prefix = layout.attempt(attempt.namespace, attempt.job, attempt.pod)
        lines = LineProgress(sys.stdout)
        if _is_done(bucket, attempt):
            lines.step("Done", "an earlier attempt has finished this run")
            return 0
        progress = _Both(lines, BucketProgress(lambda body: _put_json(bucket, f"{prefix}progress.json", body)))
        result = _train(attempt, bucket, Access.from_environment(environment), progress)
        progress.upload()
        digest = _upload(bucket, prefix, result)
        _conclude(bucket, attempt, prefix, result, digest)
        progress.close("Done")
        lines.step("Done", f"{prefix}model/ {digest}")
        return 0
    except Exception as problem:
        exit_code = end(environment, explain(problem, progress.current if progress else "Ingest", begun=progress is not None))
        if progress is not None:
            progress.close()
        return exit_code


def spec_from_environment(environment: Mapping[str, str]) -> Mapping[str, Any]:
    """The spec that the Pod was told; raises ValueError naming the variable that is missing or broken."""
    text = environment.get("KAIZEN_SPEC") or Path(_needed(environment, "KAIZEN_SPEC_FILE")).read_text(encoding="utf-8")
    spec: Mapping[str, Any] = _json("KAIZEN_SPEC", text)
    return spec


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


class _Both:
    """Tells the log and the bucket, and knows the step."""

    def __init__(self, lines: LineProgress, bucket: BucketProgress) -> None:
        self._all: tuple[Progress, ...] = (lines, bucket)
        self._bucket = bucket
        self.current = "Ingest"

    def step(self, name: str, message: str = "") -> None:
        self.current = name
        for one in self._all:
            one.step(name, message)

    def metric(self, name: str, value: float, dataset: str) -> None:
        for one in self._all:
            one.metric(name, value, dataset)

    def upload(self) -> None:
        """The model is being written to the bucket."""
        self.step("Package", "writing to the bucket")

    def close(self, step: str | None = None) -> None:
        self._bucket.close(step)


def _train(attempt: Attempt, bucket: "Bucket", access: Access, progress: Progress) -> "Result":
    progress.step("Ingest", "starting")
    # Imported late: the first progress is written before scikit-learn is loaded.
    from kaizen.training.job import run
    from kaizen.training.spec import read_spec

    directory = Path(tempfile.mkdtemp(prefix="kaizen-run-"))
    champion = _champion(attempt, bucket, directory / "champion")
    return run(read_spec(attempt.spec), access, directory / "model", progress, champion)


def _champion(attempt: Attempt, bucket: "Bucket", directory: Path) -> "Champion | None":
    """The serving version's files, verified.  Raises Failure."""
    if attempt.champion is None:
        return None
    from kaizen.training.gate import Champion
    from kaizen.training.package import verify

    number, digest = int(attempt.champion["version"]), str(attempt.champion["digest"])
    prefix = layout.version(attempt.namespace, str(attempt.spec["model"]), number)
    try:
        for entry in bucket.list(prefix):
            path = directory / entry.key.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bucket.get(entry.key)[0])
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


def _upload(bucket: "Bucket", prefix: str, result: "Result") -> str:
    """The model directory into the bucket, its manifest last; returns the manifest's digest."""
    metrics = "".join(json.dumps(metric) + "\n" for metric in result.manifest["metrics"])
    bucket.put(f"{prefix}metrics.jsonl", metrics.encode(), "application/jsonl")
    paths = [file["path"] for file in result.manifest["files"]]
    with ThreadPoolExecutor(UPLOADS) as threads:
        list(threads.map(lambda path: bucket.put(f"{prefix}model/{path}", (result.directory / path).read_bytes()), paths))
    body = (result.directory / layout.MANIFEST).read_bytes()
    _put_json(bucket, f"{prefix}model/{layout.MANIFEST}", body)
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _conclude(bucket: "Bucket", attempt: Attempt, prefix: str, result: "Result", digest: str) -> None:
    """Name this attempt as the one that counts, unless another one was first."""
    outcome = {
        "format": 1,
        "pod": attempt.pod,
        "model": f"{prefix}model/",
        "digest": digest,
        "gatesPassed": result.gates_passed,
        "completionTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    try:
        bucket.create(layout.run_outcome(attempt.namespace, attempt.job), outcome)
    except errors.Conflict:
        print("another attempt was first", flush=True)


def _needed(environment: Mapping[str, str], name: str) -> str:
    if not (value := environment.get(name)):
        raise ValueError(f"The environment variable {name} is not set; the TrainingJob's Pod has it.")
    return value


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as problem:
        raise ValueError(f"The environment variable {name} is not JSON.") from problem


def _put_json(bucket: "Bucket", key: str, body: bytes) -> None:
    bucket.put(key, body, "application/json")


if __name__ == "__main__":
    sys.exit(main())
