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
"""Layouts; another takes the place of the one that was used longest ago."""
ENOUGH = 16
"""So often the general way reads a layout before it is learned, which takes a few milliseconds."""
MOST_SEEN = 64
_NAN = float("nan")

_Layout = tuple[tuple[str, str], ...]
"""Names and datatypes of a request's inputs, in their order; of those beside the model's any datatype: ""."""
_Fields = Sequence[tuple[str, Any, Any]]


class _NotBinary(msgspec.Struct, gc=False):
    """Parameters of an input that need no other way."""

    allow_cast: bool = False
    binary_data: bool | None = None
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
    key: tuple[_Layout, bool] | None
    """The layout, and whether it is for one row, where there is one."""

    def read(self, body: bytes) -> Found | None:
        """What the body says; None, or a ValueError, when it is not such a request."""


class Quick:
    """Decoders for one model."""

    def __init__(self, columns: Sequence[Column], ignored: Collection[str], fields: _Fields) -> None:
        """`ignored` may be among the inputs beside the model's; `fields` are those of a request beside its inputs."""
        self._columns, self._fields = columns, fields
        self._datatypes = {one.name: one.datatype for one in columns}
        self._ways: list[_Way] = []
        """The one that fitted last comes first."""
        self._seen: dict[tuple[_Layout, bool], int] = {}
        """How often the general way has read a layout."""
        own = tuple(self._datatypes.items())
        if own and len(own) <= WIDEST:
            self._ways += [_Row(columns, own, fields, ()), _Rows(columns, own, fields, ())]
        self._own = frozenset(way.key for way in self._ways)
        if columns and all(one.datatype in NUMBERS for one in columns):  # without missing values
            self._ways += [_Table(columns, ignored, fields), _Nested(columns, ignored, fields)]

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
        """The general way has read a request with these inputs: when it often does, the next of the kind is read here.

        `kept` are the inputs beside the model's that are given on.
        """
        if len(inputs) > WIDEST or any(len(one.shape) != 1 for one in inputs):
            return
        layout = tuple([(one.name, one.datatype if one.name in self._datatypes else "") for one in inputs])
        key = (layout, rows == 1)
        if (seen := self._seen.get(key, 0) + 1) == 1 and len(self._seen) >= MOST_SEEN:
            self._seen.clear()
        self._seen[key] = seen
        if seen < ENOUGH or not self._fits(layout) or any(way.key == key for way in self._ways):
            return
        del self._seen[key]
        learned = [way for way in self._ways if way.key is not None and way.key not in self._own]
        if len(learned) >= MOST_LEARNED:
            self._ways.remove(learned[-1])
        self._ways.append((_Row if key[1] else _Rows)(self._columns, layout, self._fields, kept))

    def _fits(self, layout: _Layout) -> bool:
        """Whether each of the model's inputs is there, of a datatype that is taken as it is."""
        sent = dict(layout)
        return all(sent.get(name) in ACCEPTED[datatype] for name, datatype in self._datatypes.items())


class _Columns:
    """Each input by name, in one order."""

    length: int | None = None
    """Rows, where that is fixed."""

    def __init__(self, columns: Sequence[Column], layout: _Layout, fields: _Fields, kept: Collection[str]) -> None:
        self.key: tuple[_Layout, bool] | None = (layout, self.length == 1)
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
        return _tensor(Literal[name], tuple[rows], Literal[datatype] if datatype else str, data)


class _Row(_Columns):
    length = 1

    def read(self, body: bytes) -> Found | None:
        request = self._decoder.decode(body)
        given: Row = tuple([tensor.data[0] for tensor in request.inputs])
        if self._places is not None:
            given = tuple([given[i] for i in self._places])
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

    key: tuple[_Layout, bool] | None = None

    def __init__(self, columns: Sequence[Column], ignored: Collection[str], fields: _Fields, kind: Any = float) -> None:
        self._names = tuple(one.name for one in columns)
        # Of another input a table would be the values.
        self._others = frozenset(ignored) | (frozenset(self._names) if len(self._names) > 1 else frozenset())
        width = self._width = len(columns)
        shape = tuple[int, Annotated[int, msgspec.Meta(ge=width, le=width)]]
        self._decoder = _decoder([_tensor(str, shape, Literal["FP64"], list[kind])], fields)

    def read(self, body: bytes) -> Found | None:
        request = self._decoder.decode(body)
        (table,), width = request.inputs, self._width
        rows, data = table.shape[0], self._values(table.data)
        if not rows or len(data) != rows * width or table.name in self._others:
            return None
        given = tuple(data) if rows == 1 else _matrix(data, rows)
        return Found(request, rows, given, given, self._names)

    def _values(self, data: list[Any]) -> list[float]:
        return data


class _Nested(_Table):
    """Its rows as lists."""

    def __init__(self, columns: Sequence[Column], ignored: Collection[str], fields: _Fields) -> None:
        super().__init__(columns, ignored, fields, list[float])

    def _values(self, data: list[Any]) -> list[float]:
        return list(chain.from_iterable(data)) if set(map(len, data)) == {self._width} else []


def _matrix(data: list[float], rows: int) -> Matrix:
    """Row by row; NumPy itself takes eight times as long for a list."""
    return np.frombuffer(pack(f"{len(data)}d", *data)).reshape(rows, -1)


def _decoder(tensors: list[type[msgspec.Struct]], fields: _Fields) -> "msgspec.json.Decoder[Any]":
    inputs: tuple[str, Any] = ("inputs", tuple[tuple(tensors)])  # type: ignore[misc]
    return msgspec.json.Decoder(msgspec.defstruct("Request", [inputs, *fields]))


def _tensor(name: Any, shape: Any, datatype: Any, data: Any) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("name", name),
        ("shape", shape),
        ("datatype", datatype),
        ("data", data),
        ("parameters", _NotBinary | None, None),
    ]
    return msgspec.defstruct("Input", fields, gc=False)
