"""The description of a dataset in Croissant 1.1, the JSON-LD vocabulary of MLCommons for data that models learn from.

Built on schema.org; every required property of the specification is there, and mlcroissant, the reference implementation, accepts
it.  Rows that a query computes and nobody copied have the query itself, a file of its own, as their source.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from kaizen.api.training_data import Data
from kaizen.training.data.formats import Format
from kaizen.training.data.ingest import Table
from kaizen.training.data.sources import SourceFile
from kaizen.training.data.statistics import ColumnType, type_of

__all__ = ["CONFORMS_TO", "QUERY_FILE", "ROWS", "About", "describe", "query_text"]

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
ROWS = "rows"
"""The name of the record set."""
QUERY_FILE = "query.sql"
ENCODINGS: dict[Format, str] = {
    "Parquet": "application/x-parquet",
    "CSV": "text/csv",
    "JSONLines": "application/jsonlines",
}
TYPES: dict[ColumnType, str] = {
    "Integer": "sc:Integer",
    "Float": "sc:Float",
    "Boolean": "sc:Boolean",
    "Text": "sc:Text",
    "Time": "sc:DateTime",
    "Nothing": "sc:Text",
    "Other": "sc:Text",
}
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    **{
        term: f"cr:{term}"
        for term in (
            "annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract", "field",
            "fileProperty", "fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
            "parentField", "path", "recordSet", "references", "regex", "readLines", "sdVersion",
            "separator", "source", "subField", "transform", "unArchive", "value",
        )
    },
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}  # fmt: skip


@dataclass(frozen=True)
class About:
    """What only the caller knows of a dataset."""

    name: str
    """E.g. the model's."""
    url: str
    """Where this description is kept."""
    creator: str
    """Who made it: the namespace."""
    published: str
    """When, in ISO 8601."""
    license: str = "https://spdx.org/licenses/NOASSERTION.html"
    """Nobody has said any."""


def query_text(data: Data) -> str:
    """What selects the rows from the sources."""
    return data.query or f"SELECT * FROM {data.sources[0].name}"


def describe(table: Table, data: Data, about: About, copy: SourceFile | None = None) -> dict[str, Any]:
    """The JSON-LD document of the rows that `table` holds; `copy` is the file they were copied to, if they were."""
    files = [_file(file, files.format) for files in table.sources for file in files.files]
    single = table.files[0].name if len(table.files) == 1 and not data.query else None
    origin = copy.name if copy else single or QUERY_FILE
    own = [_file(copy, "Parquet")] if copy else [] if single else [_query(data)]
    rows = (
        f"{table.rows.num_rows} rows of {table.rows.num_columns} columns, as "
        f"{'a query selects them from' if data.query else 'they are in'} {len(files)} file{'s' if len(files) > 1 else ''}"
    )
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": about.name,
        "description": f"What a model was trained and judged on: {rows}.",
        "conformsTo": CONFORMS_TO,
        "license": about.license,
        "url": about.url,
        "creator": {"@type": "sc:Organization", "name": about.creator},
        "datePublished": about.published,
        # By the content: another digest is another dataset, never the next edition of this one.
        "version": f"1.0.0+{table.digest.replace(':', '.')}",
        "isLiveDataset": False,
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": query_text(data),
            "prov:used": [{"@id": file["@id"]} for file in files],
        },
        "distribution": [*files, *own],
        "recordSet": [_record_set(table.rows.schema, data, origin)],
    }


def _file(file: SourceFile, format_: Format) -> dict[str, Any]:
    encoding = ENCODINGS[format_]
    return {
        "@type": "cr:FileObject",
        "@id": file.name,
        "name": PurePosixPath(file.name).name,
        "contentUrl": file.name,
        "contentSize": f"{file.size} B",
        "encodingFormat": ["application/gzip", encoding] if file.name.lower().endswith(".gz") else encoding,
        "sha256": file.sha256,
        **({"version": version} if (version := file.version or file.etag) else {}),
    }


def _query(data: Data) -> dict[str, Any]:
    text = query_text(data).encode()
    return {
        "@type": "cr:FileObject",
        "@id": QUERY_FILE,
        "name": QUERY_FILE,
        "description": "DuckDB SQL over the sources, whose result is the rows.",
        "contentUrl": QUERY_FILE,
        "contentSize": f"{len(text)} B",
        "encodingFormat": "application/sql",
        "sha256": hashlib.sha256(text).hexdigest(),
    }


def _record_set(schema: pa.Schema, data: Data, origin: str) -> dict[str, Any]:
    key = [{"@id": f"{ROWS}/{name}"} for name in data.keys]
    return {
        "@type": "cr:RecordSet",
        "@id": ROWS,
        "name": ROWS,
        "description": f"One row each; {data.target} is what a model predicts.",
        **({"key": key} if key else {}),
        "field": [_field(field, data, origin) for field in schema],
    }


def _field(field: pa.Field, data: Data, origin: str) -> dict[str, Any]:
    roles: dict[str, Sequence[str | None]] = {
        "target": [data.target],
        "timestamp": [data.timestamp],
        "key": data.keys,
        "group": data.split.groups,
        "sensitive": data.sensitive,
        "not a feature": data.features.exclude,
    }
    role = next((role for role, names in roles.items() if field.name in names), "feature")
    kind = TYPES[type_of(field.type)]
    return {
        "@type": "cr:Field",
        "@id": f"{ROWS}/{field.name}",
        "name": field.name,
        "description": f"{role}, {field.type}",
        "dataType": [kind, "cr:Label"] if role == "target" else kind,
        "source": {"fileObject": {"@id": origin}, "extract": {"column": field.name}},
    }
