"""Forty trials of histogram boosting with two workers, against the same forty in a plain Optuna script with two processes.

    PYTHONPATH=operator:. python bench/training/search/tuning.py [--trials 40]

The data are the flights of January to March 2013.  Ours are the processes that two Pods run: index 0 with the study behind the
gRPC proxy and saved after each trial, and a worker.  The plain script shares a SQLite file, gets the same parameters, folds
and pipeline, and judges by scikit-learn.  Both start from the Parquet files.  What is compared is the time from the start to
the end of both processes; the CPU time beside it is less moved by others on the machine.  The target is at most 1.10.
"""

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SPACE = [
    {"parameter": "learning_rate", "type": "Float", "low": 0.01, "high": 0.3, "log": True},
    {"parameter": "max_leaf_nodes", "type": "Integer", "low": 15, "high": 127},
    {"parameter": "min_samples_leaf", "type": "Integer", "low": 5, "high": 100, "log": True},
    {"parameter": "l2_regularization", "type": "Float", "low": 0.0001, "high": 10.0, "log": True},
]
ITERATIONS = 60


class FileStore:
    """In the place of the bucket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def save(self, content: bytes) -> None:
        """Write."""
        self._path.write_bytes(content)

    def load(self) -> bytes | None:
        """Nothing: each run begins anew."""
        return None


def rows_and_choice(directory: Path) -> tuple[Any, Any, Any]:
    """Training rows, how they are cut, and what is tuned."""
    import duckdb

    from kaizen.training.data.prepare import prepare
    from kaizen.training.data.split import split
    from kaizen.training.models.estimators import choose
    from kaizen.training.spec import read_job

    spec = read_job(Path("examples/flights/job-local.yaml"))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE VIEW flights AS SELECT * FROM read_parquet('{directory}/lake/*.parquet')")
        table = connection.sql(spec.data.query or "").to_arrow_table()
    wanted = spec.estimator.model_copy(update={"parameters": {"max_iter": ITERATIONS}})  # type: ignore[union-attr]
    return split(prepare(table, spec), spec.data).train, spec.data, choose(wanted, spec.task)


def ours(directory: Path, index: int, port: int, trials: int) -> None:
    """One of our two processes."""
    from kaizen.api.training_search import Search
    from kaizen.training.search.study_server import Address
    from kaizen.training.search.tuning import tune
    from kaizen.training.search.worker import work

    search = Search.model_validate({"trials": trials, "parallelism": 2, "pruner": "None", "space": SPACE})
    train, data, choice = rows_and_choice(directory)
    address = Address("127.0.0.1", port, "bench")
    if index:
        work(choice, train, data, search, address, index, lambda _: None)
        return
    store = FileStore(directory / "saved.sqlite")
    found = tune(choice, train, data, search, lambda _: None, store, scratch=directory, address=address)
    (directory / "trials.json").write_text(json.dumps([trial.to_json() for trial in found.trials]))


def plain(directory: Path) -> None:
    """One of the plain script's two processes."""
    import optuna
    from sklearn.metrics import log_loss
    from threadpoolctl import threadpool_limits

    from kaizen.training.data.split import folds

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    train, data, choice = rows_and_choice(directory)
    parts = [(train.take(fold.learn), train.take(fold.judge)) for fold in folds(train, data)]

    def objective(trial: optuna.Trial) -> float:
        parameters = {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
            "max_leaf_nodes": trial.suggest_int("max_leaf_nodes", 15, 127),
            "min_samples_leaf": trial.suggest_int("min_samples_leaf", 5, 100, log=True),
            "l2_regularization": trial.suggest_float("l2_regularization", 0.0001, 10.0, log=True),
        }
        total = 0.0
        with threadpool_limits(1):
            for learn, judge in parts:
                pipeline = choice.changed(parameters).pipeline(learn.frame).fit(learn.frame, learn.target)
                total += log_loss(judge.target, pipeline.predict_proba(judge.frame), labels=pipeline.classes_)
        return total / len(parts)

    study = optuna.load_study(study_name="plain", storage=f"sqlite:///{directory}/plain.sqlite")
    while any(trial.state == optuna.trial.TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
        study.optimize(objective, n_trials=1)


def measure(*commands: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of processes that run side by side."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    running = [subprocess.Popen([sys.executable, __file__, *command], env=dict(os.environ)) for command in commands]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit("a process failed")
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(directory: Path, trials: int) -> None:
    """Run both and print the ratio."""
    import optuna

    subprocess.run([sys.executable, "examples/flights/lake.py", "1-3", str(directory / "lake")], check=True, stdout=sys.stderr)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place, count = str(directory), str(trials)
    our = measure(*(["--role", "ours", place, str(index), port, count] for index in (0, 1)))
    done = json.loads((directory / "trials.json").read_text())
    study = optuna.create_study(study_name="plain", storage=f"sqlite:///{directory}/plain.sqlite")
    for trial in done:
        study.enqueue_trial(trial["parameters"])
    their = measure(*(["--role", "plain", place] for _ in range(2)))
    values = [trial.value for trial in study.get_trials()]
    apart = max(abs(trial["value"] - value) for trial, value in zip(done, values, strict=True) if value is not None)
    fits = sum(trial["seconds"] for trial in done)
    print(f"{len(done)} trials, {len({str(trial['parameters']) for trial in done})} of them different, by worker:", end=" ")
    print({worker: sum(trial["worker"] == worker for trial in done) for worker in (0, 1)})
    print(f"values differ from the plain script's by at most {apart:.1e}; {fits:.1f} s inside our trials")
    print(f"ours   {our[0]:6.1f} s wall  {our[1]:6.1f} s CPU")
    print(f"plain  {their[0]:6.1f} s wall  {their[1]:6.1f} s CPU")
    print(f"ratio  {our[0] / their[0]:6.3f} wall    {our[1] / their[1]:6.3f} CPU    (target: at most 1.10)")


def main() -> None:
    """Choose the role."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    match parsed.role:
        case ["ours", directory, index, port, trials]:
            ours(Path(directory), int(index), int(port), int(trials))
        case ["plain", directory]:
            plain(Path(directory))
        case _:
            with tempfile.TemporaryDirectory(prefix="bench-tuning-") as directory:
                compare(Path(directory), parsed.trials)


if __name__ == "__main__":
    main()
