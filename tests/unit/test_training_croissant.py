"""The description of a dataset against the required properties of Croissant 1.1, and what is kept beside it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kaizen.training.access import Access
from kaizen.training.data.croissant import About
from kaizen.training.data.dataset import write_dataset
from kaizen.training.data.ingest import Table, ingest
from kaizen.training.data.statistics import Statistics, summarise
from tests.support import training

REQUIRED = {
    "@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished", "distribution",
}  # fmt: skip
"""Of the specification, Dataset-level Information; conformsTo by its alias in the recommended context."""
ABOUT = About("flight-delay", "s3://kaizen/workloads/flights/datasets/x/croissant.json", "flights", "2026-11-21T10:00:00Z")


def made(path: Path, **data: Any) -> tuple[Table, Path, tuple[str, ...]]:
    spec = training.spec(path, data=data)
    scratch, out = path.parent / "scratch", path.parent / "out"
    scratch.mkdir()
    out.mkdir()
    table = ingest(spec.data, Access(None), scratch)
    return table, out, write_dataset(out, table, summarise(table.rows), spec.data, ABOUT)


def read(out: Path, name: str) -> Any:
    return json.loads((out / name).read_text())


def every(node: Any) -> list[dict[str, Any]]:
    """All objects of a document, the context's left out."""
    if isinstance(node, list):
        return [found for one in node for found in every(one)]
    if not isinstance(node, dict):
        return []
    return [node, *(found for name, one in node.items() if name != "@context" for found in every(one))]


@pytest.mark.parametrize("data", [{}, {"query": "SELECT * FROM rows"}, {"snapshot": "Copy"}, {"snapshot": "None"}])
def test_required_properties(tmp_path: Path, data: dict[str, Any]) -> None:
    path = training.write(training.table(60), tmp_path / "rows.parquet")
    table, out, written = made(path, **data)
    assert sorted(written) == sorted(found.name for found in out.iterdir())
    assert written[-1] == "croissant.json"
    document = read(out, "croissant.json")
    assert set(document) >= REQUIRED
    assert document["@type"] == "sc:Dataset"
    assert document["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert document["@context"]["conformsTo"] == "dct:conformsTo"
    assert document["version"] == f"1.0.0+{table.digest.replace(':', '.')}"
    defined = [one["@id"] for one in every(document) if "@id" in one and len(one) > 1]
    assert len(set(defined)) == len(defined), "ids are unique"
    referred = {one["@id"] for one in every(document) if set(one) == {"@id"}}
    assert referred <= set(defined)
    for file in document["distribution"]:
        assert file["@type"] == "cr:FileObject"
        content = Path(file["contentUrl"]) if file["contentUrl"].startswith("/") else out / file["contentUrl"]
        assert file["sha256"] == hashlib.sha256(content.read_bytes()).hexdigest()
        assert file["contentSize"] == f"{content.stat().st_size} B"
        assert file["encodingFormat"]
    (rows,) = document["recordSet"]
    assert (rows["@type"], rows["key"]) == ("cr:RecordSet", [{"@id": "rows/flight"}])
    assert [field["name"] for field in rows["field"]] == table.rows.column_names
    for field in rows["field"]:
        assert (field["@type"], field["@id"]) == ("cr:Field", f"rows/{field['name']}")
        assert field["source"]["extract"] == {"column": field["name"]}


def test_types_and_roles(tmp_path: Path) -> None:
    _, out, _ = made(training.write(training.table(60), tmp_path / "rows.parquet"), sensitive=["carrier"])
    fields = {field["name"]: field for field in read(out, "croissant.json")["recordSet"][0]["field"]}
    assert {name: field["dataType"] for name, field in fields.items()} == {
        "time": "sc:DateTime",
        "flight": "sc:Integer",
        "distance": "sc:Integer",
        "wind": "sc:Float",
        "carrier": "sc:Text",
        "weekend": "sc:Boolean",
        "late": ["sc:Boolean", "cr:Label"],
        "delay": "sc:Float",
    }
    assert fields["carrier"]["description"] == "sensitive, string"
    assert fields["delay"]["description"] == "not a feature, double"


def test_a_query_is_the_source_of_what_it_computes(tmp_path: Path) -> None:
    query = "SELECT *, wind * 2 AS gusts FROM rows"
    _, out, _ = made(training.write(training.table(60), tmp_path / "rows.parquet"), query=query)
    document = read(out, "croissant.json")
    assert (out / "query.sql").read_text() == query
    assert document["prov:wasGeneratedBy"]["prov:label"] == query
    assert {field["source"]["fileObject"]["@id"] for field in document["recordSet"][0]["field"]} == {"query.sql"}


def test_references(tmp_path: Path) -> None:
    path = training.write(training.table(60), tmp_path / "rows.parquet")
    table, out, _ = made(path, snapshot="References")
    assert read(out, "snapshot.json") == {
        "format": 1,
        "digest": table.digest,
        "query": None,
        "rows": None,
        "sources": [
            {
                "name": "rows",
                "format": "Parquet",
                "files": [
                    {
                        "name": str(path),
                        "size": path.stat().st_size,
                        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                        "etag": None,
                        "version": None,
                    }
                ],
            }
        ],
    }


def test_a_copy_is_read_back(tmp_path: Path) -> None:
    table, out, written = made(training.write(training.table(60), tmp_path / "rows.parquet"), snapshot="Copy", query="FROM rows")
    assert "rows.parquet" in written
    assert pq.read_table(out / "rows.parquet").equals(table.rows)
    assert read(out, "snapshot.json")["rows"]["sha256"] == hashlib.sha256((out / "rows.parquet").read_bytes()).hexdigest()
    assert Statistics.from_json(read(out, "statistics.json")) == summarise(table.rows)


def test_nothing_is_kept_to_go_back_to(tmp_path: Path) -> None:
    _, _, written = made(training.write(training.table(60), tmp_path / "rows.parquet"), snapshot="None")
    assert set(written) == {"croissant.json", "statistics.json", "query.sql"}


def test_the_same_data_give_the_same_files(tmp_path: Path) -> None:
    outs = []
    for name in ("one", "other"):
        path = training.write(training.table(60), tmp_path / name / "rows.parquet")
        _, out, _ = made(path, snapshot="Copy")
        outs.append({file.name: file.read_bytes().replace(str(path).encode(), b"") for file in out.iterdir()})
    assert outs[0] == outs[1]
