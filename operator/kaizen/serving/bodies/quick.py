"""The requests that nearly all clients send, read by decoders made for the model.  Pure.

One call reads and checks the whole body: each input once, of one datatype and in one order, or one table of doubles.  What
does not fit exactly is left to the general way, which also knows what to say about it.  The order is the model's, or one that
a client has used before: most send always the same columns in the same order, with keys and a timestamp among them.
"""

from collections.abc import Collection, Sequence
from itertools import chain
from struct import pack
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import msgspec
import numpy as np

from kaizen.serving.bodies.readers import ACCEPTED, NUMBERS, Column, Tensor
from kaizen.serving.engine.base import Matrix, Prepared, Row

__all__ = ["Quick"]

WIDEST = 256
"""Inputs; each has a class of its own."""
MOST_LEARNED = 4
"""Layouts for the life of a process: to learn one takes some milliseconds."""
MOST_SEEN = 64
_NAN = float("nan")

_Layout = tuple[tuple[str, str], ...]
"""Names and datatypes of a request's inputs, in their order."""


class _NotBinary(msgspec.Struct, gc=False):
    """Parameters of an input that need no other way."""

    binary_data_size: None = None


class Found(NamedTuple):
    """What a body says."""

    request: Any
    """With id, parameters and outputs."""
    rows: int
    given: Prepared
    """The model's inputs, with None for a missing value, and others that are kept."""
    prepared: Prepared
    """The model's inputs as the engine takes them: NaN for a missing number."""
    names: tuple[str, ...]
    """Of what is given."""


class _Way(Protocol):
    def read(self, body: bytes) -> Found | None:
        """What the body says; None, or a ValueError, when it is not such a request."""


class Quick:
    """Decoders for one model."""

    def __init__(self, columns: Sequence[Column], fields: Sequence[tuple[str, Any, Any]]) -> None:
        """`fields` are those of a request beside its inputs."""
        self._columns, self._fields = columns, fields
        self._ways: list[_Way] = []
        """The one that fitted last comes first."""
        self._known: set[tuple[_Layout, bool]] = set()
        """Layouts, each for one row or for several."""
        self._seen: set[tuple[_Layout, bool]] = set()
        self._left = MOST_LEARNED
        own: _Layout = tuple((one.name, one.datatype) for one in columns)
        if own and len(own) <= WIDEST:
            self._add(own, True, ())
            self._add(own, False, ())
        if columns and all(one.datatype in NUMBERS for one in columns):  # without missing values
            self._ways += [_Table(columns, fields), _Nested(columns, fields)]

    def read(self, body: bytes) -> Found | None:
        """What the body says; None when it is not one of these requests."""
        for place, way in enumerate(self._ways):
            try:
                found = way.read(body)
            except (ValueError, RecursionError):  # msgspec's are among them
                continue
            if found is not None:
                if place:
                    self._ways.insert(0, self._ways.pop(place))
                return found
        return None

    def learn(self, inputs: Sequence[Tensor], rows: int, kept: Collection[str]) -> None:
        """The general way has read a request with these inputs: when it does so again, the next of the kind is read here.

        `kept` are the inputs beside the model's that are given on.
        """
        if not self._left or any(len(one.shape) != 1 for one in inputs):
            return
        layout = tuple([(one.name, one.datatype) for one in inputs])
        key = (layout, rows == 1)
        if key not in self._seen:
            if len(self._seen) >= MOST_SEEN:
                self._seen.clear()
            self._seen.add(key)
        elif key not in self._known and len(layout) <= WIDEST and self._fits(layout):
            self._left -= 1
            self._add(*key, kept)

    def _fits(self, layout: _Layout) -> bool:
        """Whether each of the model's inputs is there, of a datatype that is taken as it is."""
        sent = dict(layout)
        return all(sent.get(one.name) in ACCEPTED[one.datatype] for one in self._columns)

    def _add(self, layout: _Layout, single: bool, kept: Collection[str]) -> None:
        made = _Row if single else _Rows
        self._ways.append(made(self._columns, layout, self._fields, kept))
        self._known.add((layout, single))


class _Columns:
    """Each input by name, in one order."""

    length: int | None = None
    """Rows, where that is fixed."""

    def __init__(
        self, columns: Sequence[Column], layout: _Layout, fields: Sequence[tuple[str, Any, Any]], kept: Collection[str]
    ) -> None:
        by_name = {one.name: one for one in columns}
        self._decoder = _decoder([self._tensor(by_name.get(name), name, datatype) for name, datatype in layout], fields)
        self._nullable = [i for i, one in enumerate(columns) if one.nullable and one.datatype in (NUMBERS | {"BOOL"})]
        self._width = len(columns)
        sent = [name for name, _ in layout]
        self._names = (*by_name, *(name for name in sent if name in kept))
        places = [sent.index(name) for name in self._names]
        self._places = None if places == list(range(len(sent))) else places
        """Where what is given is among what is sent."""

    def _tensor(self, column: Column | None, name: str, datatype: str) -> type[msgspec.Struct]:
        length = self.length
        kind: Any = Any if column is None else ACCEPTED[column.datatype][datatype]
        if column is not None and column.nullable:
            kind = kind | None
        data: Any = list[kind]
        rows: Any = int
        if length is not None:
            data = Annotated[data, msgspec.Meta(min_length=length, max_length=length)]
            rows = Annotated[int, msgspec.Meta(ge=length, le=length)]
        return _tensor(Literal[name], tuple[rows], datatype, data)


class _Row(_Columns):
    length = 1

    def read(self, body: bytes) -> Found | None:
        request = self._decoder.decode(body)
        row: Row = tuple([tensor.data[0] for tensor in request.inputs])
        if self._places is None:
            return Found(request, 1, row, self._prepared(row) if None in row else row, self._names)
        given: Row = tuple([row[i] for i in self._places])
        row = given[: self._width]
        return Found(request, 1, given, self._prepared(row) if None in row else row, self._names)

    def _prepared(self, row: Row) -> Row:
        values = list(row)
        for i in self._nullable:
            if values[i] is None:
                values[i] = _NAN
        return tuple(values)


class _Rows(_Columns):
    """More than one: one row has a quicker way."""

    def read(self, body: bytes) -> Found | None:
        request = self._decoder.decode(body)
        columns = [tensor.data for tensor in request.inputs]
        rows = len(columns[0])
        if rows < 2 or any(tensor.shape[0] != rows or len(tensor.data) != rows for tensor in request.inputs):
            return None
        if self._places is not None:
            columns = [columns[i] for i in self._places]
        return Found(request, rows, columns, self._prepared(columns[: self._width]), self._names)

    def _prepared(self, columns: list[Any]) -> list[Any]:
        for i in self._nullable:
            if None in columns[i]:
                columns[i] = [_NAN if value is None else value for value in columns[i]]
        return columns


class _Table:
    """One tensor of shape [rows, inputs], its values row by row."""

    def __init__(self, columns: Sequence[Column], fields: Sequence[tuple[str, Any, Any]], kind: Any = float) -> None:
        self._names = tuple(one.name for one in columns)
        width = self._width = len(columns)
        shape = tuple[int, Annotated[int, msgspec.Meta(ge=width, le=width)]]
        self._decoder = _decoder([_tensor(str, shape, "FP64", list[kind])], fields)

    def read(self, body: bytes) -> Found | None:
        request = self._decoder.decode(body)
        (table,), width = request.inputs, self._width
        rows, data = table.shape[0], self._values(table.data)
        if not rows or len(data) != rows * width or (width > 1 and table.name in self._names):
            return None
        given = tuple(data) if rows == 1 else _matrix(data, rows)
        return Found(request, rows, given, given, self._names)

    def _values(self, data: list[Any]) -> list[float]:
        return data


class _Nested(_Table):
    """Its rows as lists."""

    def __init__(self, columns: Sequence[Column], fields: Sequence[tuple[str, Any, Any]]) -> None:
        super().__init__(columns, fields, list[float])

    def _values(self, data: list[Any]) -> list[float]:
        return list(chain.from_iterable(data)) if set(map(len, data)) == {self._width} else []


def _matrix(data: list[float], rows: int) -> Matrix:
    """Row by row; NumPy itself takes eight times as long for a list."""
    return np.frombuffer(pack(f"{len(data)}d", *data)).reshape(rows, -1)


def _decoder(tensors: list[type[msgspec.Struct]], fields: Sequence[tuple[str, Any, Any]]) -> "msgspec.json.Decoder[Any]":
    inputs: tuple[str, Any] = ("inputs", tuple[tuple(tensors)])  # type: ignore[misc]
    return msgspec.json.Decoder(msgspec.defstruct("Request", [inputs, *fields]))


def _tensor(name: Any, shape: Any, datatype: str, data: Any) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("name", name),
        ("shape", shape),
        ("datatype", Literal[datatype]),
        ("data", data),
        ("parameters", _NotBinary | None, None),
    ]
    return msgspec.defstruct("Input", fields, gc=False)
