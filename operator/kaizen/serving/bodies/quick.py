"""The requests that nearly all clients send, read by one decoder made for the model.  Pure.

One call reads and checks the whole body: every input once and in the model's order, each of its own datatype, or one table
of doubles.  What does not fit exactly is left to the general way, which also knows what to say about it.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from struct import pack
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

from kaizen.serving.bodies.readers import NUMBERS, Column
from kaizen.serving.engine.base import Matrix, Prepared, Row

__all__ = ["Quick"]

WIDEST = 256
"""Inputs; each has a class of its own."""
_NAN = float("nan")
_KINDS: dict[str, Any] = {
    "FP64": float,
    "INT64": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)],
    "BYTES": str,
    "BOOL": bool,
}


class _NotBinary(msgspec.Struct, gc=False):
    """Parameters of an input that need no other way."""

    binary_data_size: None = None


class Found(NamedTuple):
    """What a body says."""

    request: Any
    """With id, parameters and outputs."""
    rows: int
    given: Prepared
    """The model's inputs, with None for a missing value."""
    prepared: Prepared
    """As the engine takes them: NaN for a missing number."""


class Quick:
    """Decoders for one model."""

    def __init__(self, columns: Sequence[Column], fields: Sequence[tuple[str, Any, Any]]) -> None:
        """`fields` are those of a request beside its inputs."""
        self._fields = fields
        self._width = len(columns)
        self._nullable = [i for i, one in enumerate(columns) if one.nullable and one.datatype in (NUMBERS | {"BOOL"})]
        self._names = {one.name for one in columns}
        self._ways: list[Callable[[bytes], Found | None]] = []
        """The one that fitted last comes first."""
        if 0 < self._width <= WIDEST:
            one = Annotated[int, msgspec.Meta(ge=1, le=1)]
            self._row = self._decoder([_named(column, one, 1) for column in columns])
            self._rows = self._decoder([_named(column, int, None) for column in columns])
            self._ways += [self._read_row, self._read_rows]
        if columns and all(one.datatype in NUMBERS for one in columns):  # without missing values
            self._table = self._decoder([_table(self._width, float)])
            self._nested = self._decoder([_table(self._width, list[float])])
            self._ways += [self._read_table, self._read_nested]

    def read(self, body: bytes) -> Found | None:
        """What the body says; None when it is not one of these requests."""
        for place, way in enumerate(self._ways):
            try:
                found = way(body)
            except (ValueError, RecursionError):  # msgspec's are among them
                continue
            if found is not None:
                if place:
                    self._ways.insert(0, self._ways.pop(place))
                return found
        return None

    def _read_row(self, body: bytes) -> Found | None:
        request = self._row.decode(body)
        row: Row = tuple([tensor.data[0] for tensor in request.inputs])
        return Found(request, 1, row, self._prepared_row(row) if None in row else row)

    def _read_rows(self, body: bytes) -> Found | None:
        """More than one: one row has a quicker way."""
        request = self._rows.decode(body)
        columns = [tensor.data for tensor in request.inputs]
        rows = len(columns[0])
        if rows < 2 or any(tensor.shape[0] != rows or len(tensor.data) != rows for tensor in request.inputs):
            return None
        return Found(request, rows, columns, self._prepared(columns))

    def _read_table(self, body: bytes) -> Found | None:
        request = self._table.decode(body)
        (table,), width = request.inputs, self._width
        rows, data = table.shape[0], table.data
        if not rows or len(data) != rows * width or (width > 1 and table.name in self._names):
            return None
        given = tuple(data) if rows == 1 else _matrix(data, rows)
        return Found(request, rows, given, given)

    def _read_nested(self, body: bytes) -> Found | None:
        request = self._nested.decode(body)
        (table,), width = request.inputs, self._width
        rows, data = table.shape[0], table.data
        if not rows or len(data) != rows or (width > 1 and table.name in self._names) or set(map(len, data)) != {width}:
            return None
        given = tuple(data[0]) if rows == 1 else _matrix(list(chain.from_iterable(data)), rows)
        return Found(request, rows, given, given)

    def _prepared_row(self, row: Row) -> Row:
        values = list(row)
        for i in self._nullable:
            if values[i] is None:
                values[i] = _NAN
        return tuple(values)

    def _prepared(self, columns: list[Any]) -> list[Any]:
        prepared = columns
        for i in self._nullable:
            if None in columns[i]:
                if prepared is columns:
                    prepared = columns.copy()
                prepared[i] = [_NAN if value is None else value for value in columns[i]]
        return prepared

    def _decoder(self, tensors: list[type[msgspec.Struct]]) -> "msgspec.json.Decoder[Any]":
        inputs: tuple[str, Any] = ("inputs", tuple[tuple(tensors)])  # type: ignore[misc]
        return msgspec.json.Decoder(msgspec.defstruct("Request", [inputs, *self._fields]))


def _matrix(data: list[float], rows: int) -> Matrix:
    """Row by row; NumPy itself takes eight times as long for a list."""
    return np.frombuffer(pack(f"{len(data)}d", *data)).reshape(rows, -1)


def _named(column: Column, rows: Any, length: int | None) -> type[msgspec.Struct]:
    kind = _KINDS[column.datatype]
    kind = kind | None if column.nullable else kind
    data: Any = list[kind]  # type: ignore[valid-type]
    if length is not None:
        data = Annotated[data, msgspec.Meta(min_length=length, max_length=length)]
    return _tensor(Literal[column.name], tuple[rows], column.datatype, data)


def _table(width: int, kind: Any) -> type[msgspec.Struct]:
    return _tensor(str, tuple[int, Annotated[int, msgspec.Meta(ge=width, le=width)]], "FP64", list[kind])


def _tensor(name: Any, shape: Any, datatype: str, data: Any) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("name", name),
        ("shape", shape),
        ("datatype", Literal[datatype]),
        ("data", data),
        ("parameters", _NotBinary | None, None),
    ]
    return msgspec.defstruct("Input", fields, gc=False)
