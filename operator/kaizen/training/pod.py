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
from kaizen.training.errors import DO_NOT_RETRY, Failure
from kaizen.training.progress import BucketProgress, LineProgress, Progress

if TYPE_CHECKING:
    from kaizen.registry.store import Bucket
    from kaizen.training.gate import Champion
    from kaizen.training.job import Result

__all__ = ["main"]

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

        def needed(name: str) -> str:
            if not (value := environment.get(name)):
                raise ValueError(f"The environment variable {name} is not set; the TrainingJob's Pod has it.")
            return value

        def document(name: str, text: str) -> Any:
            try:
                return json.loads(text)
            except ValueError as problem:
                raise ValueError(f"The environment variable {name} is not JSON.") from problem

        spec = environment.get("KAIZEN_SPEC") or Path(needed("KAIZEN_SPEC_FILE")).read_text(encoding="utf-8")
        champion = environment.get("KAIZEN_CHAMPION")
        return cls(
            document("KAIZEN_SPEC", spec),
            needed("KAIZEN_NAMESPACE"),
            needed("KAIZEN_JOB_UID"),
            needed("KAIZEN_POD_UID"),
            document("KAIZEN_CHAMPION", champion) if champion else None,
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
    except Failure as failure:
        return _end(environment, progress, failure.step, failure.code, failure.message, failure.exit_code)
    except errors.BucketError as problem:
        code = "BucketRefused" if isinstance(problem, errors.Refused) else "BucketUnreachable"
        return _end(environment, progress, _step(progress), code, str(problem), 1)
    except MemoryError:
        message = "the run needs more memory than the container's limit: raise pod.resources.limits.memory"
        return _end(environment, progress, _step(progress), "OutOfMemory", message, 1)
    except Exception as problem:
        traceback.print_exc()
        # What a Pod is told does not change by itself; anything else may be a passing trouble of the machine.
        code, exit_code = ("InvalidEnvironment", DO_NOT_RETRY) if progress is None else ("InternalError", 1)
        return _end(environment, progress, _step(progress), code, f"{type(problem).__name__}: {problem}", exit_code)


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


def _end(environment: Mapping[str, str], progress: _Both | None, step: str, code: str, message: str, exit_code: int) -> int:
    """Say what went wrong where Kubernetes and the operator look for it."""
    print(f"{step} failed: {code}: {message}", file=sys.stderr, flush=True)
    document = {"step": step, "code": code, "message": message[:LONGEST_MESSAGE]}
    try:
        Path(environment.get("KAIZEN_TERMINATION_LOG") or TERMINATION_LOG).write_text(json.dumps(document), encoding="utf-8")
    except OSError as problem:
        print(f"the termination message could not be written: {problem}", file=sys.stderr, flush=True)
    if progress is not None:
        progress.close()
    return exit_code


def _step(progress: _Both | None) -> str:
    return "Ingest" if progress is None else progress.current


def _put_json(bucket: "Bucket", key: str, body: bytes) -> None:
    bucket.put(key, body, "application/json")


if __name__ == "__main__":
    sys.exit(main())
