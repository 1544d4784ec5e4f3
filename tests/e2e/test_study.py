"""The study outlives its workers: killed ones cost their running trials, and no trial is counted twice."""

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kaizen.training.data.prepare import prepare
from kaizen.training.errors import Failure
from kaizen.training.models.estimators import choose
from kaizen.training.search import tuning
from kaizen.training.search.study import Ledger, backup, open_storage
from kaizen.training.search.trials import fingerprint, goal
from tests.support import training
from tests.support.searching import TRIALS, FileStore, ended, search
from tests.support.wait import until

ROOT = Path(__file__).parents[2]
Start = Callable[[int], subprocess.Popen[bytes]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    port = free_port()
    begun: list[subprocess.Popen[bytes]] = []

    def one(index: int) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{index}.log").open("ab") as out:
            command = [sys.executable, "-m", "tests.support.searching", str(tmp_path), str(index), str(port)]
            environment = {"PYTHONPATH": ":".join([str(ROOT / "operator"), *sys.path]), "PATH": "/usr/bin:/bin"}
            begun.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out))
        return begun[-1]

    yield one
    for process in begun:
        process.kill()
        process.wait()


def test_killed_workers_cost_their_running_trials_and_nothing_more(tmp_path: Path, start: Start) -> None:
    file, saved = tmp_path / "scratch" / "study.sqlite", tmp_path / "saved.sqlite"

    def logs() -> str:
        return "\n".join(path.read_text()[-3000:] for path in sorted(tmp_path.glob("*.log")))

    def at_least(count: int, of_worker: int | None = None) -> dict[tuple[int, int], float | None]:
        def look() -> dict[tuple[int, int], float | None] | None:
            assert not (tmp_path / "selection.json").exists(), logs()
            found = ended(file)
            of = [worker for _, worker in found if of_worker in (None, worker)]
            return found if len(of) >= count else None

        return until(f"{count} trials of worker {of_worker}", look, 60, logs)

    host, worker = start(0), start(1)
    before = at_least(2, of_worker=1)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker = start(1)
    before |= at_least(len(before) + 1)
    host.send_signal(signal.SIGKILL)
    host.wait()
    host = start(0)  # in the same Pod: its file is still there
    before |= at_least(len(before) + 2)
    host.send_signal(signal.SIGKILL)
    host.wait()
    before = {one: value for one, value in before.items() if one in ended(saved)}
    shutil.rmtree(tmp_path / "scratch")
    host = start(0)  # in another Pod: the file is the saved one
    assert host.wait(60) == 0, logs()
    assert worker.wait(10) == 0, logs()

    trials = json.loads((tmp_path / "selection.json").read_text())["trials"]
    assert [trial["number"] for trial in trials] == list(range(TRIALS))
    after = {(trial["number"], trial["worker"]): trial["value"] for trial in trials}
    assert before.items() <= after.items()
    assert len(before) >= 4
    assert {trial["worker"] for trial in trials} == {0, 1}
    assert len({json.dumps(trial["parameters"]) for trial in trials}) == TRIALS
    assert "index 0 is away" in logs()
    assert "was lost with worker" in logs()


def test_a_backup_holds_what_was_written_and_a_broken_one_is_no_obstacle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FileStore(tmp_path / "saved.sqlite")
    storage = open_storage(tmp_path / "one.sqlite", store)
    study = storage.create_new_study([])
    storage.set_study_user_attr(study, "session", "first")
    store.save(backup(tmp_path / "one.sqlite"))
    restored = open_storage(tmp_path / "two.sqlite", store)
    assert restored.get_study_user_attrs(study)["session"] != "first", "another file is another session"
    assert open_storage(tmp_path / "one.sqlite", store).get_study_user_attrs(study)["session"] == "first"
    store.save(b"SQLite format 3\0 no more")
    assert not open_storage(tmp_path / "three.sqlite", store).get_all_studies()
    assert "the search begins anew" in caplog.text


def test_the_trial_of_a_worker_that_stays_away_is_run_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kaizen.training.search.study_server import Address

    monkeypatch.setattr(tuning, "SILENT_SECONDS", 0.5)
    spec = training.spec("x")
    rows = prepare(training.table(200), spec)
    assert spec.estimator is not None
    choice, wanted = choose(spec.estimator, spec.task), search(trials=3, parallelism=2)
    aim = goal(wanted, spec.task)
    host = Ledger.of_host(
        open_storage(tmp_path / tuning.FILE, FileStore(tmp_path / "none")), aim, fingerprint(choice, rows, wanted)
    )
    host.enqueue(0, {})
    assert Ledger(host.storage, host.study_id, 1).claim(wanted) is not None
    found = tuning.tune(
        choice, rows, spec.data, wanted, lambda _: None, FileStore(tmp_path / "none"),
        scratch=tmp_path, address=Address("127.0.0.1", free_port(), "secret"),
    )  # fmt: skip
    assert [(trial.number, trial.worker, trial.state) for trial in found.trials] == [(n, 0, "Complete") for n in range(3)]


def test_the_door_is_closed_to_other_jobs_and_other_files(tmp_path: Path) -> None:
    from kaizen.training.search.study_server import Address, Proxy, Replaced, Server

    port = free_port()
    storage = open_storage(tmp_path / "study.sqlite", FileStore(tmp_path / "none"))
    server = Server(storage, Address("127.0.0.1", port, "secret"), "this", lambda: None)
    try:
        with pytest.raises(Failure) as refused:
            Proxy(Address("127.0.0.1", port, "guess"), 1, patience=5).get_all_studies()
        assert refused.value.code == "StudyRefused"
        proxy = Proxy(Address("127.0.0.1", port, "secret"), 1, patience=5)
        assert proxy.get_all_studies() == []
        proxy.bind("another")
        with pytest.raises(Replaced):
            proxy.get_all_studies()
        with pytest.raises(Failure) as taken:
            Server(storage, Address("127.0.0.1", port, ""), "", lambda: None)
        assert (taken.value.code, taken.value.retry) == ("PortTaken", True)
    finally:
        server.close()
    with pytest.raises(Failure) as away:
        Proxy(Address("127.0.0.1", port, "secret"), 1, patience=0.5).get_all_studies()
    assert (away.value.code, away.value.retry) == ("StudyUnreachable", True)
