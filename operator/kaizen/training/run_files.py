"""What a training Pod reads and writes in the bucket: its run's directory, the data set's, and versions to compare with."""

import hashlib
import json
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kaizen.core.times import timestamp
from kaizen.registry import errors, files, layout
from kaizen.training.attempt import Attempt
from kaizen.training.errors import Failure

if TYPE_CHECKING:
    from kaizen.registry.store import Bucket
    from kaizen.training.job import Result
    from kaizen.training.judge.gates import Champion

__all__ = ["RunFiles"]

UPLOADS = 8


class RunFiles:
    """The bucket as one attempt sees it."""

    def __init__(self, bucket: "Bucket", attempt: Attempt) -> None:
        self._bucket, self._attempt = bucket, attempt
        self._prefix = layout.attempt(attempt.namespace, attempt.job, attempt.pod)
        self._outcome = layout.run_outcome(attempt.namespace, attempt.job)
        self.model = f"{self._prefix}model/"
        """Where the model directory is put."""
        self.study = _Study(bucket, f"{layout.run(attempt.namespace, attempt.job)}study.sqlite")
        """Where a search is continued from."""

    @property
    def uri(self) -> str:
        """Of everything that the attempt leaves."""
        return f"s3://{self._bucket.settings.name}/{self._bucket.settings.key(self._prefix)}"

    def is_done(self) -> bool:
        """Whether an earlier attempt has finished the run.  Raises BucketError."""
        try:
            self._bucket.read(self._outcome)
        except errors.Missing:
            return False
        return True

    def progress(self, body: bytes) -> None:
        """Replace progress.json.  Raises BucketError."""
        self._put_json(f"{self._prefix}progress.json", body)

    def champions(self, scratch: Path) -> "tuple[Champion | None, list[Champion]]":
        """What serves, and what served where a gate asks for it; of those one whose files are broken is left out.

        Raises Failure, BucketError.
        """
        attempt = self._attempt
        compares = any(gate.get("againstProduction") is not None for gate in attempt.spec.get("gates", ()))
        champion = None if attempt.champion is None else self._champion(attempt.champion, scratch)
        anchors = []
        for one in attempt.anchors if compares else ():
            try:
                anchors.append(self._champion(one, scratch))
            except Failure as problem:
                print(f"{problem.message}: it is left out", file=sys.stderr, flush=True)
        return champion, anchors

    def upload(self, result: "Result") -> str:
        """The data's description, then the model directory, its manifest last; returns the manifest's digest.

        Raises Failure, BucketError.
        """
        bucket = self._bucket
        metrics = "".join(json.dumps(metric) + "\n" for metric in result.manifest["metrics"])
        bucket.put(f"{self._prefix}metrics.jsonl", metrics.encode(), "application/jsonl")
        self._upload_dataset(result)
        paths = [file["path"] for file in result.manifest["files"]]
        with ThreadPoolExecutor(UPLOADS) as threads:
            list(threads.map(lambda path: files.upload(bucket, result.directory / path, f"{self.model}{path}"), paths))
        body = (result.directory / layout.MANIFEST).read_bytes()
        self._put_json(f"{self.model}{layout.MANIFEST}", body)
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    def conclude(self, found: Mapping[str, Any]) -> None:
        """Name this attempt as the one that counts, unless another one was first.  Raises BucketError."""
        outcome = {**found, "format": 1, "pod": self._attempt.pod, "completionTime": timestamp(datetime.now(UTC))}
        try:
            self._bucket.create(self._outcome, outcome)
        except errors.Conflict:
            print("another attempt was first", flush=True)

    def _champion(self, one: Mapping[str, Any], scratch: Path) -> "Champion":
        """A version's files, verified.  Raises Failure."""
        from kaizen.training.judge.gates import Champion
        from kaizen.training.package import verify

        number, digest = int(one["version"]), str(one["digest"])
        directory = scratch / f"version-{number}"
        prefix = layout.version(self._attempt.namespace, str(self._attempt.spec["model"]), number)
        try:
            for entry in self._bucket.list(prefix):
                path = directory / entry.key.removeprefix(prefix)
                path.parent.mkdir(parents=True, exist_ok=True)
                files.download(self._bucket, entry.key, path)
            verify(directory, digest)
            return Champion.open(directory, f"version {number}", digest)
        except (ValueError, OSError) as problem:
            message = f"version {number} in the bucket cannot be compared with: {problem}"
            raise Failure("Gates", "ChampionUnusable", message) from problem

    def _upload_dataset(self, result: "Result") -> None:
        """What is kept of the data; croissant.json last."""
        from kaizen.training.data.croissant import About
        from kaizen.training.data.dataset import write_dataset

        prepared, data = result.prepared, result.spec.data
        prefix = layout.dataset(self._attempt.namespace, prepared.table.digest)
        uri = f"s3://{self._bucket.settings.name}/{self._bucket.settings.key(prefix)}"
        about = About(f"{result.spec.model}-data", uri, self._attempt.namespace, timestamp(datetime.now(UTC)))
        directory = result.directory.parent / "dataset"
        directory.mkdir(exist_ok=True)
        for name in write_dataset(directory, prepared.table, prepared.statistics, data, about):
            files.upload(self._bucket, directory / name, f"{prefix}{name}")

    def _put_json(self, key: str, body: bytes) -> None:
        self._bucket.put(key, body, "application/json")


class _Study:
    """A search's file, where the next attempt finds it."""

    def __init__(self, bucket: "Bucket", key: str) -> None:
        self._bucket, self._key = bucket, key

    def save(self, content: bytes) -> None:
        self._bucket.put(self._key, content)

    def load(self) -> bytes | None:
        try:
            return self._bucket.get(self._key)[0]
        except errors.Missing:
            return None
