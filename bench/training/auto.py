"""Estimator Auto against histogram boosting with its defaults, on the test part of five datasets.

    PYTHONPATH=operator:. python bench/training/search/auto.py [--seconds 60] [--trials 40]

Four are bundled with scikit-learn, split by hash; the flights of January to March 2013 are split by time.  Both are fitted on
the same training rows and judged once on the same test rows, by the objective that Auto searched by (less is better).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from sklearn import datasets

from kaizen.api.training_job import Estimator
from kaizen.api.training_search import Search
from kaizen.training.data.prepare import prepare
from kaizen.training.data.split import Parts, split
from kaizen.training.judge.evaluate import score
from kaizen.training.models.estimators import Choice, choose
from kaizen.training.models.fit import fit, freeze, outputs
from kaizen.training.search.auto import AutoChoice
from kaizen.training.search.tuning import tune
from kaizen.training.spec import read_job, read_spec

BUNDLED = {
    "breast_cancer": ("Classification", datasets.load_breast_cancer),
    "wine": ("Classification", datasets.load_wine),
    "digits": ("Classification", datasets.load_digits),
    "diabetes": ("Regression", datasets.load_diabetes),
}


class Nowhere:
    """A store that keeps nothing."""

    def save(self, content: bytes) -> None:
        """Nothing."""

    def load(self) -> bytes | None:
        """Nothing."""
        return None


def parts(directory: Path) -> Iterator[tuple[str, Any, Parts]]:
    """Name, spec and the two parts of each dataset."""
    for name, (task, load) in BUNDLED.items():
        frame = load(as_frame=True).frame
        table = pa.Table.from_pandas(frame, preserve_index=False)
        data = {"sources": [{"name": "rows", "uri": name}], "target": "target", "minimumRows": 50}
        spec = read_spec({"model": "bench", "task": task, "data": data, "estimator": {"name": "Ridge"}}, local=True)
        yield name, spec, split(prepare(table, spec), spec.data)
    subprocess.run([sys.executable, "examples/flights/lake.py", "1-3", str(directory)], check=True, stdout=sys.stderr)
    spec = read_job(Path("examples/flights/job-local.yaml"))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE VIEW flights AS SELECT * FROM read_parquet('{directory}/*.parquet')")
        table = connection.sql(spec.data.query or "").to_arrow_table()
    yield "flights", spec, split(prepare(table, spec), spec.data)


def judged(choice: Choice, spec: Any, two: Parts, metric: str) -> float:
    """The metric on the test part."""
    fitted = fit(choice, two.train, freeze(choice, two.train, spec.data))
    classes = fitted.pipeline.classes_.tolist() if spec.task == "Classification" else None
    return float(score(metric, outputs(fitted.pipeline, two.test.frame), two.test.target, classes))


def main() -> None:
    """A line per dataset."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--only", default="")
    parsed = parser.parse_args()
    print(
        f"{'dataset':14} {'rows':>6}  {'metric':8} {'defaults':>9} {'Auto':>9} {'better by':>9}  {'seconds':>7}  what Auto chose"
    )
    with tempfile.TemporaryDirectory(prefix="bench-auto-") as directory:
        for name, spec, two in parts(Path(directory)):
            if parsed.only and name not in parsed.only.split(","):
                continue
            search = Search(trials=parsed.trials, timeout_seconds=parsed.seconds)
            suffix = "Classifier" if spec.task == "Classification" else "Regressor"
            default = choose(Estimator(name=f"HistGradientBoosting{suffix}"), spec.task)
            begun = time.monotonic()
            found = tune(AutoChoice(spec.task), two.train, spec.data, search, lambda _: None, Nowhere())
            seconds = time.monotonic() - begun
            one, other = (judged(choice, spec, two, found.metric) for choice in (default, found.choice))
            rows = len(two.train) + len(two.test)
            gain = f"{100 * (one - other) / one:+8.1f} %"
            print(f"{name:14} {rows:6d}  {found.metric:8} {one:9.4f} {other:9.4f} {gain}  {seconds:7.1f}", end="  ")
            print(f"{found.choice.name}; {found.message}", flush=True)


if __name__ == "__main__":
    main()
