"""Tensors to columns: what a client may send for each column of a model, and the sentence for everything else.  Pure.

No value is guessed: JSON null is a missing value, the bare token NaN is not JSON, NaN among binary doubles is a missing
value (they have no other), and a column trained as double refuses single precision unless the request allows the cast,
because rounded values fall on the other side of a split.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from math import prod
from typing import Annotated, Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from kaizen.serving.problems import UNREADABLE, RequestError, lower, shortened, unreadable

__all__ = ["ACCEPTED", "Column", "Reader", "TableReader", "Tensor", "Values", "read_any", "rows_of"]

Values = list[Any] | NDArray[Any]


class Column(Protocol):
    """One input of a model, as the engine describes it."""

    @property
    def name(self) -> str: ...
    @property
    def datatype(self) -> str:
        """FP64, INT64, BYTES or BOOL."""

    @property
    def nullable(self) -> bool:
        """Whether a value may be missing."""


class Tensor(msgspec.Struct, frozen=True):  # made in a fifth of a dataclass's time
    """One input of a request."""

    name: str
    datatype: str
    """As the protocol names it: BOOL, UINT8 … INT64, FP16, BF16, FP32, FP64, BYTES."""
    shape: Sequence[int]
    values: Values | msgspec.Raw
    """Row by row: JSON as it came, or values of the datatype: an array (of FP32 for BF16), or a list; strings may be bytes."""
    parameters: Mapping[str, Any] | None = None


_INTEGERS: dict[str, Any] = {
    **{f"INT{bits}": Annotated[int, msgspec.Meta(ge=-(2 ** (bits - 1)), le=2 ** (bits - 1) - 1)] for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": Annotated[int, msgspec.Meta(ge=0, le=2 ** min(bits, 63) - 1)] for bits in (8, 16, 32, 64)},
}
ACCEPTED: dict[str, dict[str, Any]] = {
    "FP64": {"FP64": float, **_INTEGERS},
    "INT64": {"FP64": float, **_INTEGERS},
    "BYTES": {"BYTES": str},
    "BOOL": {"BOOL": bool},
}
"""By the column's datatype, what may be sent and how it is read.  Both kinds of numbers for both: pandas turns integers into
doubles as soon as one is missing, and scikit-learn answers the same for 3 and 3.0."""

_PLAIN: dict[str, Any] = {"FP64": float, "INT64": int | float, "BYTES": str, "BOOL": bool}
"""By the column's datatype, what a value without a declared type must be."""

_ROUNDED = frozenset({"FP16", "FP32", "BF16"})
_LARGEST = 2**63
FEW = 3
"""Up to so many rows are handled faster as lists."""
NUMBERS = frozenset({"FP64", "INT64"})


class Reader:
    """Reads the values of one column."""

    def __init__(self, column: Column) -> None:
        if column.datatype not in ACCEPTED:
            raise ValueError(
                f"input {column.name!r} of the model has datatype {column.datatype!r}; known are {', '.join(ACCEPTED)}"
            )
        self.column = column

    def read(self, tensor: Tensor, cast: bool) -> Values:
        """One value a row.  Raises RequestError."""
        kind, shape = self._kind(tensor, cast), tensor.shape
        if len(shape) != 1 and not (len(shape) == 2 and shape[1] == 1):
            raise RequestError(f"input {shortened(tensor.name)} has shape {_shape(shape)}; send [rows] or [rows, 1]")
        if isinstance(tensor.values, msgspec.Raw):
            values: Values = self._decode(kind, tensor, nested=len(shape) == 2)
        else:
            values = self._checked(tensor)
        if len(values) != shape[0] or not len(values):
            raise _wrong_length(tensor, len(values))
        return values

    def convert(self, values: list[Any]) -> list[Any]:
        """Values that were read without a declared type."""
        kind = _optional(_PLAIN[self.column.datatype], self.column.nullable)
        try:
            return list(msgspec.convert(values, list[kind]))  # type: ignore[valid-type]
        except msgspec.ValidationError as error:
            raise _wrong_value(error, self.column, "instance") from None

    def _kind(self, tensor: Tensor, cast: bool) -> Any:
        wanted = self.column.datatype
        kind = _kind(tensor, wanted, cast)
        if kind is None:
            raise RequestError(f"input {shortened(tensor.name)} is {shortened(tensor.datatype)}; send {wanted}")
        return _optional(kind, self.column.nullable)

    def _decode(self, kind: Any, tensor: Tensor, nested: bool) -> list[Any]:
        nested = nested and _is_nested(tensor.values)
        try:
            found = _decoder(list[list[kind]] if nested else list[kind]).decode(tensor.values)  # type: ignore[arg-type]
        except UNREADABLE as error:
            raise _wrong(error, tensor, self.column) from None
        if not nested:
            return found
        for number, row in enumerate(found):
            if len(row) != 1:
                raise RequestError(f"input {shortened(tensor.name)}: row {number} has {len(row)} values; send one a row")
        return [row[0] for row in found]

    def _checked(self, tensor: Tensor) -> Values:
        values = tensor.values
        assert not isinstance(values, msgspec.Raw)
        if self.column.datatype == "BYTES":
            return _texts(tensor.name, values)
        if self.column.datatype == "BOOL":
            return values
        if isinstance(values, list):
            return _few(self.column, values)
        return _numbers(self.column, tensor.name, values)


class TableReader:
    """Reads one tensor of shape [rows, inputs] for a model all of whose inputs are numbers."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)

    def read(self, tensor: Tensor, cast: bool) -> list[Values]:
        """The columns in the model's order.  Raises RequestError."""
        shape, width = tensor.shape, len(self._columns)
        if len(shape) != 2 or shape[1] != width:
            raise RequestError(
                f"input {shortened(tensor.name)} has shape {_shape(shape)}; a table for this model has shape [rows, {width}]"
            )
        kind = _kind(tensor, "FP64", cast)
        if kind is None:
            raise RequestError(f"input {shortened(tensor.name)} is {shortened(tensor.datatype)}; send FP64")
        if isinstance(tensor.values, msgspec.Raw):
            columns: list[Values] = list(self._decode(kind, tensor, shape[0], width))
        else:
            columns = self._split(tensor)
        return columns

    def _split(self, tensor: Tensor) -> list[Values]:
        array = np.asarray(tensor.values)
        if array.size != prod(tensor.shape) or not array.size:
            raise _wrong_length(tensor, array.size)
        _refuse_large(tensor.name, array)
        table = array.reshape(tensor.shape).astype(np.int64 if array.dtype.kind in "iu" else np.float64, copy=False).T
        if table.dtype.kind == "f" and np.isnan(table).any():
            for one, values in zip(self._columns, table, strict=True):
                _refuse_missing(one, values)
        return table.tolist() if len(table[0]) <= FEW else list(np.ascontiguousarray(table))

    def _decode(self, kind: Any, tensor: Tensor, rows: int, width: int) -> list[list[Any]]:
        nested = _is_nested(tensor.values)
        kind = _optional(kind, any(one.nullable for one in self._columns))
        try:
            found = _decoder(list[list[kind]] if nested else list[kind]).decode(tensor.values)  # type: ignore[arg-type]
        except UNREADABLE as error:
            raise self._wrong(error, tensor, nested) from None
        if nested:
            for number, row in enumerate(found):
                if len(row) != width:
                    raise RequestError(f"input {shortened(tensor.name)}: row {number} has {len(row)} values; send {width}")
            found = [value for row in found for value in row]
        if len(found) != rows * width or not found:
            raise _wrong_length(tensor, len(found))
        columns = [found[place::width] for place in range(width)]
        for one, values in zip(self._columns, columns, strict=True):
            if not one.nullable and None in values:
                raise _missing(one, values.index(None), "null")
        return columns

    def _wrong(self, error: Exception, tensor: Tensor, nested: bool) -> RequestError:
        places = [int(place) for place in re.findall(r"\[(\d+)\]", str(error).partition(" - at `$")[2])]
        if not isinstance(error, msgspec.ValidationError) or len(places) != 1 + nested:
            return _wrong(error, tensor, self._columns[0])
        row, place = places if nested else divmod(places[0], len(self._columns))
        problem = lower(str(error).partition(" - at `$")[0])
        column = shortened(self._columns[min(place, len(self._columns) - 1)].name)
        return RequestError(f"input {shortened(tensor.name)}: row {row}, {column}: {problem}; send {tensor.datatype} values")


def read_any(tensor: Tensor) -> Values:
    """Values that are accepted and not used."""
    if not isinstance(tensor.values, msgspec.Raw):
        values: Values = tensor.values
    else:
        try:
            values = _decoder(list[Any]).decode(tensor.values)
        except UNREADABLE as error:
            raise RequestError(f"input {shortened(tensor.name)}: {unreadable(error, bytes(tensor.values))}") from None
    if list(tensor.shape) not in ([len(values)], [len(values), 1]) or not len(values):
        raise _wrong_length(tensor, len(values))
    return values


def rows_of(number: int) -> str:
    """So many rows, in words."""
    return f"{number} row" if number == 1 else f"{number} rows"


def _kind(tensor: Tensor, wanted: str, cast: bool) -> Any:
    """How JSON of the tensor's datatype is read for a column; None: not at all."""
    kind = ACCEPTED[wanted].get(tensor.datatype)
    if kind is not None or tensor.datatype not in _ROUNDED or wanted != "FP64":
        return kind
    if cast or (tensor.parameters is not None and tensor.parameters.get("allow_cast") is True):
        return float
    raise RequestError(
        f"input {shortened(tensor.name)} is {tensor.datatype}, but the model was trained in double precision, and rounded values "
        'can get other answers; send FP64, or accept that with "parameters": {"allow_cast": true}'
    )


def _texts(name: str, values: Values) -> list[str]:
    found = []
    for row, value in enumerate(values):
        if isinstance(value, str):
            found.append(value)
            continue
        try:
            found.append(bytes(value).decode())
        except (UnicodeDecodeError, TypeError, ValueError):
            raise RequestError(f"input {shortened(name)}: row {row} is not UTF-8; send BYTES values in that encoding") from None
    return found


def _numbers(column: Column, name: str, values: NDArray[Any]) -> NDArray[Any]:
    """An array as the engine takes it: doubles, or whole numbers of 64 bits where the column has those."""
    _refuse_large(name, values)
    if values.dtype.kind in "iu" and column.datatype == "INT64":
        return values.astype(np.int64, copy=False)
    found: NDArray[Any] = values.astype(np.float64, copy=False)
    _refuse_missing(column, found)
    return found


def _few(column: Column, values: list[Any]) -> list[Any]:
    """The same of a list of numbers; their range is the engine's to check."""
    if not column.nullable:
        for row, value in enumerate(values):
            if value != value:
                raise _missing(column, row, "NaN")
    return values


def _refuse_large(name: str, values: NDArray[Any]) -> None:
    if values.dtype == np.uint64 and (above := values >= _LARGEST).any():
        row = int(above.argmax())
        raise RequestError(f"input {shortened(name)}: value {row} is outside the range of a 64-bit integer")


def _refuse_missing(column: Column, values: NDArray[Any]) -> None:
    if not column.nullable and (missing := np.isnan(values)).any():
        raise _missing(column, int(missing.argmax()), "NaN")


def _missing(column: Column, row: int, what: str, of: str = "row") -> RequestError:
    return RequestError(
        f"input {shortened(column.name)}: {of} {row} is {what}, but the model takes no missing values there; "
        f"send {column.datatype} values"
    )


def _wrong(error: Exception, tensor: Tensor, column: Column) -> RequestError:
    assert isinstance(tensor.values, msgspec.Raw)
    if not bytes(tensor.values):
        return RequestError(f'input {shortened(tensor.name)} has no data; send its values as JSON in "data"')
    if isinstance(error, msgspec.ValidationError):
        return _wrong_value(error, column, "row", tensor.name)
    return RequestError(f"input {shortened(tensor.name)}: {unreadable(error, bytes(tensor.values))}")


def _wrong_value(error: msgspec.ValidationError, column: Column, what: str, name: str = "") -> RequestError:
    problem, _, place = str(error).partition(" - at `$")
    found = re.match(r"\[(\d+)\]", place)
    if "got `null`" in problem and found:
        return _missing(column, int(found.group(1)), "null", what)
    where = f"{what} {found.group(1)}" if found else "data"
    null = " (null where one is missing)" if column.nullable else ""
    return RequestError(f"input {shortened(name or column.name)}: {where}: {lower(problem)}; send {column.datatype} values{null}")


def _wrong_length(tensor: Tensor, values: int) -> RequestError:
    name, shape = shortened(tensor.name), _shape(tensor.shape)
    if not values:
        return RequestError(f"input {name} has no rows; send at least one")
    hint = f"; send shape [{values}]" if len(tensor.shape) < 2 or tensor.shape[-1] == 1 else ""
    return RequestError(f"input {name} has shape {shape}, but its data hold {values} values{hint}")


def _shape(shape: Sequence[int]) -> str:
    return str(list(shape)) if len(shape) <= 8 else f"of {len(shape)} dimensions"


def _is_nested(data: Any) -> bool:
    return re.match(rb"\s*\[\s*\[", bytes(data)[:64]) is not None


def _optional(kind: Any, nullable: bool) -> Any:
    return kind | None if nullable else kind


@cache
def _decoder(kind: Any) -> "msgspec.json.Decoder[list[Any]]":
    return msgspec.json.Decoder(kind)
