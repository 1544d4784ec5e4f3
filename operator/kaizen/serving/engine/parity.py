"""Is the compiled engine exact?  scikit-learn is asked the same rows, real and hostile, and every answer compared.

Compiling and checking happen in a child process: native code that crashes there means "not covered", nothing more.  The child
is a fresh interpreter, because a forked one inherits OpenMP in whatever state the training left it.
"""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kaizen.serving.engine.base import Engine, Input, Refused, Value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Built", "Child", "Parity", "build", "check", "compare"]

MOST_ROWS = 10_000
"""Real rows compared; of more, as many spread evenly."""
TIMEOUT_SECONDS = 600.0

Row = tuple[Any, list[float]] | None
"""Label and probabilities (or the number); None when the row is refused."""


@dataclass(frozen=True)
class Parity:
    """What comparing found."""

    ok: bool
    rows: int
    worst: float
    """The largest difference among probabilities (numbers: relative)."""
    message: str
    """One sentence."""


@dataclass(frozen=True)
class Built:
    """What the directory now holds."""

    kind: str
    """compiled | sklearn"""
    reason: str
    """Why scikit-learn has to answer; empty when compiled."""
    digest: str
    """modelDigest; empty when scikit-learn answers."""
    parity: Parity | None


class Child:
    """A fresh interpreter that compiles and checks.  Made early, it imports scikit-learn while the caller does other work."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "kaizen.serving.engine.parity"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def ask(self, request: dict[str, Any], timeout_seconds: float = TIMEOUT_SECONDS) -> dict[str, Any]:
        """The child's answer to its only request; {"crash": sentence} when it died or did not end in time."""
        try:
            # Our own object to our own child: nothing from outside is ever unpickled.
            output, errors = self._process.communicate(pickle.dumps(request), timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            self.close()
            return {"crash": f"compiling and checking did not end within {timeout_seconds:g} s"}
        if self._process.returncode != 0:
            said = errors.decode(errors="replace").strip().splitlines()
            because = f": {said[-1][:300]}" if said else ""
            return {"crash": f"compiling and checking crashed with status {self._process.returncode}{because}"}
        answer: dict[str, Any] = json.loads(output)
        return answer


def build(
    pipeline: Any,
    frame: "pd.DataFrame",
    directory: Path,
    *,
    threshold: float | None = None,
    keys: Sequence[str] = (),
    timestamp: str | None = None,
    child: Child | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Built:
    """Compile a fitted pipeline into `directory` and check it on the held-out rows of `frame` and hostile ones.

    What is not covered or not exact gets an engine.json that has scikit-learn answer, and says why.  Raises ValueError when a
    column has no form in a request at all.
    """
    from kaizen.serving.engine.compile import save_fallback

    options = {"threshold": threshold, "keys": tuple(keys), "timestamp": timestamp}
    request = {"do": "build", "pipeline": pipeline, "frame": frame, "directory": str(directory), "options": options}
    with child or Child() as worker:
        answer = worker.ask(request, timeout_seconds)
    parity = Parity(**answer["parity"]) if answer.get("parity") else None
    if parity is not None and parity.ok:
        return Built("compiled", "", answer["digest"], parity)
    reason = answer.get("crash") or answer.get("reason") or (parity.message if parity else "")
    save_fallback(pipeline, frame, directory, reason, threshold=threshold, keys=keys, timestamp=timestamp)
    return Built("sklearn", reason, "", parity)


def check(pipeline: Any, directory: Path, frame: "pd.DataFrame", *, timeout_seconds: float = TIMEOUT_SECONDS) -> Parity:
    """Compare the compiled engine in `directory` with its pipeline on the rows of `frame` and on hostile ones."""
    with Child() as worker:
        request = {"do": "check", "pipeline": pipeline, "frame": frame, "directory": str(directory)}
        answer = worker.ask(request, timeout_seconds)
    if "crash" in answer:
        return Parity(False, 0, 0.0, answer["crash"])
    return Parity(**answer["parity"])


def compare(pipeline: Any, directory: Path, frame: "pd.DataFrame") -> Parity:
    """What `check` does, in this process."""
    from kaizen.serving.engine import frames, runtime
    from kaizen.serving.engine.base import ENGINE_FILE
    from kaizen.serving.engine.hostile import hostile, thresholds
    from kaizen.serving.engine.sklearn import Fallback

    document = json.loads((directory / ENGINE_FILE).read_bytes())
    engine = runtime.load(directory)
    inputs = [{**one, "nullable": True} for one in document["inputs"]]  # the reference decides for itself
    described = frames.describe(frame[[one.name for one in engine.inputs]])
    reference = Fallback({**document, "inputs": inputs, "frame": described}, directory, pipeline)

    rows = hostile(engine.inputs, frame, thresholds(pipeline, frame))
    together, singly = _real(engine.inputs, frame) + rows.plain, rows.risky
    expected = _alike(reference, together) + [_ask(reference, [row])[0] for row in singly]
    by_columns = _several(engine, together) + [_many(engine, row) for row in singly]
    one_by_one = [_ask(engine, [row])[0] for row in together + singly]
    worst, tolerance = 0.0, document["tolerance"]
    for way, answers in (("in a batch", by_columns), ("alone", one_by_one)):
        for row, wanted, got in zip(together + singly, expected, answers, strict=True):
            difference = _difference(wanted, got, engine.classes is not None)
            if not difference <= tolerance:
                shown = ", ".join(f"{one.name}={value!r:.40}" for one, value in zip(engine.inputs, row, strict=True))
                message = f"not exact: asked {way} for {shown}, scikit-learn says {_said(wanted)}, the engine {_said(got)}"
                return Parity(False, len(expected), difference, message[:1000])
            worst = max(worst, difference)
    return Parity(True, len(expected), worst, f"{len(expected)} rows equal; largest difference {worst:.1e}")


def _real(inputs: Sequence[Input], frame: "pd.DataFrame") -> list[list[Value]]:
    from kaizen.serving.engine import frames

    chosen = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, MOST_ROWS).astype(int))]
    columns = [frames.cells(chosen[one.name]) for one in inputs]
    return [list(row) for row in zip(*columns, strict=True)]


def _alike(engine: Engine, rows: list[list[Value]]) -> list[Row]:
    """Answers to rows, those together that have whole numbers in the same columns: scikit-learn takes a column for what all
    of its values are, and a gap or a fraction elsewhere would round what is beyond 2**53."""
    whole = [i for i, one in enumerate(engine.inputs) if one.datatype == "INT64"]
    groups: dict[tuple[bool, ...], list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(tuple(type(row[i]) is int for i in whole), []).append(place)
    found: list[Row] = [None] * len(rows)
    for places in groups.values():
        for place, answer in zip(places, _several(engine, [rows[i] for i in places]), strict=True):
            found[place] = answer
    return found


def _several(engine: Engine, rows: list[list[Value]]) -> list[Row]:
    """Answers to rows asked together; where one of them is refused, to halves, down to it."""
    answers = _ask(engine, rows)
    if answers[0] is not None or len(rows) == 1:
        return answers
    middle = len(rows) // 2
    return _several(engine, rows[:middle]) + _several(engine, rows[middle:])


def _many(engine: Engine, row: list[Value]) -> Row:
    """The answer to a row in a request that is answered by columns."""
    return _ask(engine, [row] * 8)[0]


def _ask(engine: Engine, rows: list[list[Value]]) -> list[Row]:
    data = {one.name: list(column) for one, column in zip(engine.inputs, zip(*rows, strict=True), strict=True)}
    try:
        answer = engine.predict(engine.columns(data), len(rows))
    except Refused:
        return [None] * len(rows)
    if answer.scores is None:
        return [(None, [float(label)]) if engine.classes is None else (label, []) for label in answer.labels]
    width = answer.classes
    return [(label, answer.scores[i * width : (i + 1) * width]) for i, label in enumerate(answer.labels)]


def _difference(wanted: Row, got: Row, classifies: bool) -> float:
    """The largest difference; infinite where one refuses, a label differs or only one is finite."""
    if wanted is None or got is None:
        return 0.0 if wanted is got else float("inf")
    if wanted[0] != got[0]:
        return float("inf")
    largest = 0.0
    for one, other in zip(wanted[1], got[1], strict=True):
        if one == other or (one != one and other != other):
            continue
        difference = abs(one - other) / (1.0 if classifies else max(1.0, abs(one)))
        largest = max(largest, difference if difference == difference else float("inf"))
    return largest


def _said(row: Row) -> str:
    if row is None:
        return "nothing (refused)"
    return ("" if row[0] is None else f"{row[0]!r} with ") + ", ".join(f"{score!r}" for score in row[1][:6])


def _serve(request: dict[str, Any]) -> dict[str, Any]:
    """The child's work."""
    from kaizen.serving.engine.compile import NotCovered, compile_pipeline, save

    directory = Path(request["directory"])
    answer: dict[str, Any] = {}
    if request["do"] == "build":
        compiled = compile_pipeline(request["pipeline"], request["frame"], **request["options"])
        if isinstance(compiled, NotCovered):
            return {"reason": compiled.reason}
        save(compiled, directory)
        answer["digest"] = compiled.digest
    answer["parity"] = asdict(compare(request["pipeline"], directory, request["frame"]))
    return answer


def _main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints must not end up in the answer
    import kaizen.serving.engine.compile  # noqa: F401 - early: while the caller is still busy

    answers.write(json.dumps(_serve(pickle.loads(sys.stdin.buffer.read()))))
    answers.close()


if __name__ == "__main__":
    _main()
