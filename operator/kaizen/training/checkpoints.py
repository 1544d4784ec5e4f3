"""The sidecar of a user's own code: what the code saves to its checkpoint directory outlives the Pod.

Restores what an earlier attempt left, says so by a file that the Pod's startup probe looks for, and mirrors the directory to
the bucket from then on, deletions too.  A file is taken when it has not changed between two looks, so a checkpoint should be
written under another name and renamed.  A rank finds the checkpoints of rank 0, and its own over them.

A workload may delete nothing in the bucket, so an index says which files count, and what is gone is emptied.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from kaizen.registry import files, layout
from kaizen.registry.errors import BucketError, Missing
from kaizen.registry.store import Bucket
from kaizen.training.access import bucket_from_environment
from kaizen.training.pod import end, explain

__all__ = ["BucketStore", "Mirror", "Store", "main"]

STEP = "Train"
LOOK_SECONDS = 2.0
LAST_LOOK_SECONDS = 0.5
LAST_LOOKS = 10
"""After the code was told to stop it may still write."""
PARTIAL = ".kaizen-partial"
FILE_MODE, DIRECTORY_MODE = 0o666, 0o777
"""The user's image may run as anybody."""

Stamp = tuple[int, int]
"""Size and time of change, by which a file is known to be as it was."""


class Store(Protocol):
    """Where checkpoints are safe, by rank and by path below the directory."""

    def names(self, rank: int) -> tuple[str, ...]:
        """What counts of a rank."""

    def publish(self, rank: int, names: Sequence[str]) -> None:
        """Say what counts from now on."""

    def load(self, rank: int, name: str, path: Path) -> None:
        """Write it to a file."""

    def save(self, rank: int, name: str, path: Path) -> None:
        """Replace it by a file's content."""

    def remove(self, rank: int, name: str) -> None:
        """Give its room back; it counts no more."""


class BucketStore:
    """Below the run's directory, so that its next attempt finds them."""

    def __init__(self, bucket: Bucket, namespace: str, job: str) -> None:
        self._bucket = bucket
        self._prefix = f"{layout.run(namespace, job)}checkpoints/"

    def names(self, rank: int) -> tuple[str, ...]:
        """See Store."""
        try:
            document, _ = self._bucket.read(f"{self._prefix}{rank}.json")
        except Missing:
            return ()
        names = document.get("files")
        return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()

    def publish(self, rank: int, names: Sequence[str]) -> None:
        """See Store."""
        body = json.dumps({"format": 1, "files": list(names)}).encode()
        self._bucket.put(f"{self._prefix}{rank}.json", body, "application/json")

    def load(self, rank: int, name: str, path: Path) -> None:
        """See Store."""
        files.download(self._bucket, f"{self._prefix}{rank}/{name}", path)

    def save(self, rank: int, name: str, path: Path) -> None:
        """See Store."""
        files.upload(self._bucket, path, f"{self._prefix}{rank}/{name}")

    def remove(self, rank: int, name: str) -> None:
        """See Store."""
        self._bucket.put(f"{self._prefix}{rank}/{name}", b"")


class Mirror:
    """A checkpoint directory and what is safe of it."""

    def __init__(self, directory: Path, store: Store, rank: int = 0) -> None:
        self._directory = directory
        self._store = store
        self._rank = rank
        self._safe: dict[str, Stamp] = {}
        self._counts: set[str] = set()
        """What the store says that counts."""
        self._seen: dict[str, Stamp] = {}

    def restore(self) -> int:
        """Bring back what an earlier attempt saved; returns how many files.  Raises BucketError and OSError."""
        wanted = {name: rank for rank in sorted({0, self._rank}) for name in self._store.names(rank) if _safe_name(name)}
        for name, rank in wanted.items():
            path = self._directory / name
            if path.exists():
                continue  # This container was started again: the code is at work.
            for parent in reversed(path.relative_to(self._directory).parents[:-1]):
                (self._directory / parent).mkdir(exist_ok=True)
                (self._directory / parent).chmod(DIRECTORY_MODE)
            partial = path.with_name(f"{path.name}{PARTIAL}")
            self._store.load(rank, name, partial)
            partial.chmod(FILE_MODE)
            partial.rename(path)
            if rank == self._rank:
                self._safe[name] = _stamp(path)
        self._counts = {name for name, rank in wanted.items() if rank == self._rank}
        return len(wanted)

    def look(self) -> bool:
        """Save what is new since the last look but one, and forget what is gone; True when nothing is left to save.

        Raises BucketError; the next look goes on.
        """
        present = self._present()
        for name, stamp in present.items():
            if self._safe.get(name) == stamp or self._seen.get(name) != stamp:
                continue
            try:
                self._store.save(self._rank, name, self._directory / name)
                # It may have been written to meanwhile: then it is not safe, and its stamp is another.
                if _stamp(self._directory / name) == stamp:
                    self._safe[name] = stamp
            except FileNotFoundError:
                continue
        self._seen = present
        self._safe = {name: stamp for name, stamp in self._safe.items() if name in present}
        counts = {name for name in present if name in self._safe or name in self._counts}
        if gone := self._counts ^ counts:
            self._store.publish(self._rank, sorted(counts))
            gone -= counts
            self._counts = counts
            for name in gone:
                self._store.remove(self._rank, name)
        return self._safe == present

    def _present(self) -> dict[str, Stamp]:
        found = dict[str, Stamp]()
        for path in sorted(self._directory.rglob("*")):
            try:
                if path.is_file() and not path.is_symlink() and not path.name.endswith(PARTIAL):
                    found[path.relative_to(self._directory).as_posix()] = _stamp(path)
            except FileNotFoundError:
                continue
        return found


def main(environment: Mapping[str, str] = os.environ, stop: threading.Event | None = None) -> int:
    """Restore, say so, and mirror until SIGTERM; returns the exit code."""
    stopped = stop or threading.Event()
    if stop is None:
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    begun = False
    try:
        bucket = bucket_from_environment(environment)
        store = BucketStore(bucket, environment["KAIZEN_NAMESPACE"], environment["KAIZEN_JOB_UID"])
        mirror = Mirror(Path(environment["KAIZEN_CHECKPOINT_DIR"]), store, int(environment.get("KAIZEN_RANK") or 0))
        begun = True
        restored = mirror.restore()
        print(f"{restored} files of an earlier attempt are restored", flush=True)
        Path(environment["KAIZEN_RESTORED_FILE"]).touch()
    except Exception as problem:
        return end(environment, explain(problem, STEP, begun=begun))
    run(mirror, stopped)
    return 0


def run(mirror: Mirror, stopped: threading.Event, wait: Callable[[float], object] | None = None) -> None:
    """Look until stopped, and then until everything is safe or the code can be assumed to be gone."""
    while not stopped.wait(LOOK_SECONDS):
        _look(mirror)
    pause = wait or threading.Event().wait
    for _ in range(LAST_LOOKS):
        if _look(mirror):
            break
        pause(LAST_LOOK_SECONDS)


def _look(mirror: Mirror) -> bool:
    try:
        return mirror.look()
    except (BucketError, OSError) as problem:
        print(f"checkpoints are not saved yet: {problem}", file=sys.stderr, flush=True)
        return False


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _safe_name(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and not name.endswith("/")


if __name__ == "__main__":
    sys.exit(main())
