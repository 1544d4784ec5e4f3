"""Captured rows and their labels as a source, read from files as servers write them."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kaizen.api.training_data import Captures, DataSource
from kaizen.registry import layout
from kaizen.registry.store import Bucket
from kaizen.training.access import Access
from kaizen.training.data.ingest import Table, ingest
from kaizen.training.data.prepare import prepare
from kaizen.training.errors import Failure
from tests.support import training

ROWS = [
    {
        "id": f"a-{number}",
        "time": f"2026-01-01T00:00:{number:02d}Z",
        "version": 3,
        "probability": 1.0,
        "inputs": {"carrier": "UA", "distance": number * 10.5, "flight": number},
        "outputs": {"predict": number % 2 == 0, "predict_proba": [0.5, 0.5]},
    }
    for number in range(4)
]


@dataclass(frozen=True)
class Memory(Access):
    """Kaizen's bucket, in memory."""

    bucket: training.MemoryBucket = field(default_factory=training.MemoryBucket)

    def own(self, source: DataSource) -> tuple[Bucket, str]:
        return self.bucket.as_bucket(), "flights"


def lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0)


def read(
    tmp_path: Path,
    captures: Sequence[Mapping[str, Any]],
    labels: Sequence[Mapping[str, Any]] = (),
    share: float = 0.0,
    **data: Any,
) -> Table:
    bucket = training.MemoryBucket()
    half = len(captures) // 2
    for number, part in enumerate((captures[:half], captures[half:])):
        if part:
            bucket.put(f"{layout.captures('flights', 'delays')}2026-01-01/pod-{number}.jsonl.gz", lines(part))
    if labels:
        bucket.put(f"{layout.labels('flights', 'delays')}2026-01-02/pod-0.jsonl.gz", lines(labels))
    source = {"name": "seen", "captures": {"inferenceServiceName": "delays", "labelledShareAtLeast": share}}
    spec = training.spec(
        "x", data={"sources": [source], "target": "label", "timestamp": "prediction_time", "keys": [], "features": {}, **data}
    )
    return ingest(spec.data, Memory(None, bucket=bucket), tmp_path / "scratch")


def test_rows_come_with_their_inputs_answers_and_newest_labels(tmp_path: Path) -> None:
    labels = [
        {"id": "a-0", "label": True, "time": "2026-01-02T00:00:00Z"},
        {"id": "a-0", "label": False, "time": "2026-01-03T00:00:00Z"},
        {"id": "a-2", "label": True},
        {"id": "other", "label": True},
    ]
    table = read(tmp_path, ROWS, labels)
    found = table.rows.to_pylist()
    assert [(row["prediction_id"], row["label"]) for row in found] == [
        ("a-0", False),
        ("a-1", None),
        ("a-2", True),
        ("a-3", None),
    ]
    first = {name: value for name, value in found[0].items() if not name.endswith("time")}
    assert first == {
        "carrier": "UA",
        "distance": 0.0,
        "flight": 0,
        "prediction_id": "a-0",
        "prediction_version": 3,
        "prediction": True,
        "sampling_probability": 1.0,
        "label": False,
    }
    assert table.notes == ("2 of 4 captured rows have no label: those that have may not be like the others (source seen)",)
    assert read(tmp_path / "again", ROWS, labels).digest == table.digest
    assert read(tmp_path / "other", ROWS, labels[1:]).digest != table.digest


def test_only_inputs_are_features(tmp_path: Path) -> None:
    source = {"name": "seen", "captures": {"inferenceServiceName": "delays"}}
    meant = {"target": "label", "timestamp": "prediction_time", "keys": ["flight"], "features": {}, "minimumRows": 10}
    spec = training.spec("x", data={"sources": [source], **meant})
    rows = [{**ROWS[0], "id": f"b-{n}", "inputs": {"carrier": "UA", "distance": n * 1.5, "flight": n}} for n in range(20)]
    table = read(tmp_path, rows, [{"id": f"b-{n}", "label": n % 2 == 0} for n in range(20)])
    assert list(prepare(table.rows, spec).frame.columns) == ["carrier", "distance"]


def test_labels_by_keys(tmp_path: Path) -> None:
    labels = [
        {"keys": {"flight": 1}, "label": 7.5},
        {"keys": {"flight": 3}, "label": 1.0},
        {"keys": {"flight": 3}, "label": 2.0, "time": "2026-01-01T01:00:00Z"},
    ]
    assert [row["label"] for row in read(tmp_path, ROWS, labels).rows.to_pylist()] == [None, 7.5, None, 2.0]


def test_a_row_that_was_written_twice_counts_once(tmp_path: Path) -> None:
    assert read(tmp_path, [*ROWS, ROWS[0]], [{"id": "a-1", "label": 1}]).rows.num_rows == 4


def test_rarely_captured_rows_are_noted(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "probability": 0.1}, *ROWS[1:]]
    notes = read(tmp_path, rows, [{"id": row["id"], "label": 1} for row in ROWS]).notes
    assert notes == (
        "rows were captured with probabilities from 0.1 to 1: thin them by sampling_probability in data.query where that matters"
        " (source seen)",
    )


BROKEN: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], str, str]] = {
    "nothing captured": ([], [], "DataMissing", "InferenceService delays has captured nothing (source seen)"),
    "too few labels": (
        ROWS,
        [{"id": "a-1", "label": 1}],
        "LabelsMissing",
        "of 4 rows that InferenceService delays captured 1 have labels (25.0%), and captures.labelledShareAtLeast of source seen"
        " asks for 50.0%",
    ),
    "a name of ours": (
        [{**ROWS[0], "inputs": {"label": 1}}],
        [],
        "DataUnreadable",
        "the service's input label has the name of a column that captures bring: rename it",
    ),
}


@pytest.mark.parametrize(("rows", "labels", "code", "sentence"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_learned_from(
    tmp_path: Path, rows: list[dict[str, Any]], labels: list[dict[str, Any]], code: str, sentence: str
) -> None:
    with pytest.raises(Failure) as failed:
        read(tmp_path, rows, labels, share=0.5)
    assert failed.value.code == code
    assert sentence in failed.value.message


def test_broken_lines_are_named(tmp_path: Path) -> None:
    bucket = training.MemoryBucket(
        {f"{layout.captures('flights', 'delays')}2026-01-01/pod-0.jsonl.gz": gzip.compress(b"{oops\n")}
    )
    source = DataSource(name="seen", captures=Captures(inference_service_name="delays"))
    spec = training.spec(
        "x", data={"sources": [source.model_dump(by_alias=True, exclude_none=True)], "target": "label", "features": {}}
    )
    with pytest.raises(Failure, match="what InferenceService delays captured cannot be read"):
        ingest(spec.data, Memory(None, bucket=bucket), tmp_path)


def test_a_terminal_has_no_captures(tmp_path: Path) -> None:
    source = DataSource(name="seen", captures=Captures(inference_service_name="delays"))
    spec = training.spec(
        "x", data={"sources": [source.model_dump(by_alias=True, exclude_none=True)], "target": "label", "features": {}}
    )
    with pytest.raises(Failure, match="which a TrainingJob's Pod can read: run it on the cluster") as failed:
        ingest(spec.data, Access.from_environment({}), tmp_path)
    assert failed.value.code == "InvalidSource"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"name": "a"}, "data.sources[] needs exactly one of uri and captures"),
        (
            {"name": "a", "uri": "x", "captures": {"inferenceServiceName": "s"}},
            "data.sources[] needs exactly one of uri and captures",
        ),
        ({"name": "a", "format": "CSV", "captures": {"inferenceServiceName": "s"}}, "captures need neither"),
    ],
)
def test_a_source_is_one_thing(source: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Failure) as failed:
        training.spec("x", data={"sources": [source]})
    assert sentence in failed.value.message
