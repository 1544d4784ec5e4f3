"""Checkpoints of a user's own code: what of them outlives a Pod, and when."""

import json
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from kaizen.registry import layout
from kaizen.training import checkpoints
from kaizen.training.checkpoints import BucketStore, Mirror
from tests.support import training


class DirectoryStore:
    """A directory in the bucket's place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.down = False

    def names(self, rank: int) -> tuple[str, ...]:
        path = self.root / f"{rank}.json"
        return tuple(json.loads(path.read_text())) if path.exists() else ()

    def publish(self, rank: int, names: Sequence[str]) -> None:
        (self.root / f"{rank}.json").write_text(json.dumps(list(names)))

    def load(self, rank: int, name: str, path: Path) -> None:
        shutil.copyfile(self.root / str(rank) / name, path)

    def save(self, rank: int, name: str, path: Path) -> None:
        if self.down:
            raise OSError("the bucket is away")
        (self.root / str(rank) / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, self.root / str(rank) / name)

    def remove(self, rank: int, name: str) -> None:
        (self.root / str(rank) / name).write_bytes(b"")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    (tmp_path / "store").mkdir()
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def restored(store: DirectoryStore, tmp_path: Path, rank: int = 0) -> dict[str, str]:
    place = tmp_path / f"restored-{rank}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    Mirror(place, store, rank).restore()
    return {path.relative_to(place).as_posix(): path.read_text() for path in sorted(place.rglob("*")) if path.is_file()}


def test_checkpoint_is_saved_when_it_rests_and_restored_in_the_next_pod(
    store: DirectoryStore, directory: Path, tmp_path: Path
) -> None:
    mirror = Mirror(directory, store)
    (directory / "epoch").mkdir()
    (directory / "epoch" / "1.pt").write_text("one")
    assert not mirror.look()
    assert restored(store, tmp_path) == {}
    assert mirror.look()
    assert restored(store, tmp_path) == {"epoch/1.pt": "one"}
    (directory / "epoch" / "1.pt").write_text("other")
    assert not mirror.look()
    assert restored(store, tmp_path) == {"epoch/1.pt": "one"}
    assert mirror.look()
    assert restored(store, tmp_path) == {"epoch/1.pt": "other"}


def test_checkpoint_that_was_deleted_stays_deleted(store: DirectoryStore, directory: Path, tmp_path: Path) -> None:
    mirror = Mirror(directory, store)
    for number in range(3):
        (directory / f"{number}.pt").write_text(str(number))
        mirror.look()
    assert mirror.look()
    (directory / "0.pt").unlink()
    assert mirror.look()
    assert restored(store, tmp_path) == {"1.pt": "1", "2.pt": "2"}
    assert (store.root / "0" / "0.pt").read_bytes() == b""


def test_rank_finds_the_first_ranks_checkpoints_and_its_own_over_them(
    store: DirectoryStore, directory: Path, tmp_path: Path
) -> None:
    for rank, names in ((0, ("model.pt", "shard.pt")), (2, ("shard.pt",))):
        place = directory / str(rank)
        place.mkdir()
        for name in names:
            (place / name).write_text(f"{rank}")
        mirror = Mirror(place, store, rank)
        mirror.look()
        assert mirror.look()
    assert restored(store, tmp_path, 1) == {"model.pt": "0", "shard.pt": "0"}
    assert restored(store, tmp_path, 2) == {"model.pt": "0", "shard.pt": "2"}


def test_restored_files_may_be_changed_by_anybody_and_are_not_saved_again(
    store: DirectoryStore, directory: Path, tmp_path: Path
) -> None:
    (store.root / "0" / "deep").mkdir(parents=True)
    (store.root / "0" / "deep" / "1.pt").write_text("one")
    store.publish(0, ["deep/1.pt", "../outside", "/etc/passwd"])
    mirror = Mirror(directory, store)
    assert mirror.restore() == 1
    assert oct((directory / "deep" / "1.pt").stat().st_mode)[-3:] == "666"
    assert oct((directory / "deep").stat().st_mode)[-3:] == "777"
    store.down = True
    assert mirror.look()
    assert not (tmp_path / "outside").exists()


def test_container_that_is_started_again_overwrites_nothing(store: DirectoryStore, directory: Path, tmp_path: Path) -> None:
    mirror = Mirror(directory, store)
    (directory / "1.pt").write_text("old")
    mirror.look()
    assert mirror.look()
    (directory / "1.pt").write_text("newer")
    again = Mirror(directory, store)
    again.restore()
    assert (directory / "1.pt").read_text() == "newer"
    again.look()
    assert again.look()
    assert restored(store, tmp_path) == {"1.pt": "newer"}


def test_last_checkpoint_is_saved_after_the_end_was_told(store: DirectoryStore, directory: Path, tmp_path: Path) -> None:
    stopped, pauses = threading.Event(), list[float]()
    stopped.set()
    store.down = True

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            (directory / "last.pt").write_text("last")
        store.down = len(pauses) < 3

    (directory / "first.pt").write_text("first")
    checkpoints.run(Mirror(directory, store), stopped, wait)
    assert restored(store, tmp_path) == {"first.pt": "first", "last.pt": "last"}
    assert len(pauses) < checkpoints.LAST_LOOKS


def test_index_of_the_bucket_says_what_counts() -> None:
    memory = training.MemoryBucket()
    kept = BucketStore(memory.as_bucket(), "team-a", "u")
    assert kept.names(3) == ()
    kept.publish(3, ["a/b.pt"])
    kept.remove(3, "c.pt")
    assert kept.names(3) == ("a/b.pt",)
    prefix = layout.run("team-a", "u")
    assert sorted(memory.objects) == [f"{prefix}checkpoints/3.json", f"{prefix}checkpoints/3/c.pt"]
    memory.objects[f"{prefix}checkpoints/3.json"] = b'{"files": 7}'
    assert kept.names(3) == ()


def test_sidecar_that_cannot_begin_says_why(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert checkpoints.main({"KAIZEN_TERMINATION_LOG": str(log)}, threading.Event()) == 10
    assert json.loads(log.read_text())["code"] == "InvalidEnvironment"
