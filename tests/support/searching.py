"""A search as its Pods run it, in processes that tests start and kill: `python -m tests.support.searching DIRECTORY INDEX PORT`.

Index 0 keeps the study's file in DIRECTORY/scratch, saves it to DIRECTORY/saved.sqlite, and leaves DIRECTORY/selection.json.
"""

import json
import logging
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from kaizen.api.training_search import Search
from kaizen.training.data.prepare import prepare
from kaizen.training.models.estimators import choose
from kaizen.training.search.tuning import tune
from tests.support import training

TRIALS = 14


class FileStore:
    """One file, replaced whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.saves = 0

    def save(self, content: bytes) -> None:
        """Write it beside and move it there."""
        beside = self._path.with_suffix(".new")
        beside.write_bytes(content)
        beside.replace(self._path)
        self.saves += 1

    def load(self) -> bytes | None:
        """What is there."""
        return self._path.read_bytes() if self._path.exists() else None


def search(**changes: Any) -> Search:
    """Two parameters of histogram boosting."""
    space = [
        {"parameter": "learning_rate", "type": "Float", "low": 0.01, "high": 0.3, "log": True},
        {"parameter": "max_leaf_nodes", "type": "Integer", "low": 4, "high": 31},
    ]
    return Search.model_validate({"trials": TRIALS, "pruner": "None", "space": space, **changes})


def ended(path: Path) -> dict[tuple[int, int], float | None]:
    """The trials that ended and count, with their worker, by number: their value."""
    if not path.exists():
        return {}
    query = """
        SELECT number.value_json, worker.value_json, value.value
        FROM trials
        JOIN trial_user_attributes AS number ON number.trial_id = trials.trial_id AND number.key = 'number'
        JOIN trial_user_attributes AS worker ON worker.trial_id = trials.trial_id AND worker.key = 'worker'
        LEFT JOIN trial_values AS value ON value.trial_id = trials.trial_id
        WHERE trials.state IN ('COMPLETE', 'PRUNED')
    """
    try:
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            return {(int(number), int(worker)): value for number, worker, value in connection.execute(query)}
    except sqlite3.OperationalError:
        return {}


def main(directory: Path, index: int, port: int) -> None:
    """Take part."""
    from kaizen.training.search.study_server import Address
    from kaizen.training.search.worker import work

    logging.basicConfig(level=logging.INFO)
    parameters = {"name": "HistGradientBoostingClassifier", "parameters": {"max_iter": 120}}
    spec = training.spec("x", estimator=parameters)
    rows = prepare(training.table(600), spec)
    assert spec.estimator is not None
    choice = choose(spec.estimator, spec.task)
    address = Address("127.0.0.1", port, "secret")
    wanted = search(parallelism=2)
    if index > 0:
        work(choice, rows, spec.data, wanted, address, index, lambda _: None, patience=60)
        return
    scratch = directory / "scratch"
    scratch.mkdir(exist_ok=True)
    store = FileStore(directory / "saved.sqlite")
    found = tune(choice, rows, spec.data, wanted, lambda _: None, store, scratch=scratch, address=address)
    document = {"trials": [trial.to_json() for trial in found.trials], "parameters": dict(found.choice.parameters)}
    (directory / "selection.json").write_text(json.dumps(document))


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
