"""Request bodies to columns: Open Inference Protocol v2 (REST), and v1's instances for old clients.  Pure.

Every way to get a body wrong is a RequestError whose sentence names the input and what to send instead; nothing else ever
leaves these functions.  Data are decoded as the type that the request itself declares and that the model's column takes,
so no value is guessed: JSON null is a missing value, the bare token NaN is not JSON, and a column trained as double refuses
single precision unless the request allows the cast, because rounded values fall on the other side of a split.
"""

import itertools
import re
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Protocol

import msgspec

from kaizen.serving.problems import UNREADABLE, RequestError, lower, shortened, unreadable

__all__ = ["Column", "Parsed", "Schema"]


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


@dataclass(frozen=True, slots=True)
class Parsed:
    """An inference request that fits the model."""

    id: str
    rows: int
    columns: dict[str, list[Any]]
    """Every column of the model by name: float or int, str, bool; None where missing."""
    outputs: frozenset[str] | None = None
    """Those asked for; None: all."""


class _TensorParameters(msgspec.Struct):
    allow_cast: bool = False
    binary_data: bool = False
    binary_data_size: int | None = None


class _RequestParameters(msgspec.Struct):
    allow_cast: bool = False
    binary_data_output: bool = False
    explain: bool = False


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: _TensorParameters | None = None


class _Wanted(msgspec.Struct):
    name: str
    parameters: _TensorParameters | None = None


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: _RequestParameters | None = None
    outputs: list[_Wanted] | None = None


class _Instances(msgspec.Struct):
    instances: list[dict[str, Any] | list[Any]]


_request = msgspec.json.Decoder(_Request)
_instances = msgspec.json.Decoder(_Instances)

_INTEGERS: dict[str, Any] = {
    **{f"INT{bits}": Annotated[int, msgspec.Meta(ge=-(2 ** (bits - 1)), le=2 ** (bits - 1) - 1)] for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": Annotated[int, msgspec.Meta(ge=0, le=2**bits - 1)] for bits in (8, 16, 32)},
}
_ACCEPTED: dict[str, dict[str, Any]] = {
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
_LONGEST_ID = 256


class Schema:
    """What one model takes."""

    def __init__(self, columns: Sequence[Column], ignored: Collection[str] = (), outputs: Collection[str] = ("predict",)) -> None:
        """`ignored` are columns that may be sent and are not used: declared keys and the timestamp."""
        self.columns = tuple(columns)
        self.outputs = tuple(outputs)
        self._readers = {column.name: _Reader(column) for column in columns}
        self._ignored = frozenset(ignored) - frozenset(self._readers)
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count()

    def new_id(self) -> str:
        """An id that no other process makes."""
        return f"{self._prefix}-{next(self._numbers):x}"

    def parse(self, body: bytes) -> Parsed:
        """The body of a v2 inference request.  Raises RequestError and nothing else."""
        try:
            request = _request.decode(body)
        except UNREADABLE as error:
            raise RequestError(unreadable(error, body)) from None
        _refuse_unoffered(request)
        if request.id is not None and len(request.id) > _LONGEST_ID:
            raise RequestError(f"the request's id has {len(request.id)} characters; it must not have more than {_LONGEST_ID}")
        cast = request.parameters is not None and request.parameters.allow_cast
        columns: dict[str, list[Any]] = {}
        seen: set[str] = set()
        rows = 0
        for tensor in request.inputs:
            reader = self._readers.get(tensor.name)
            if tensor.name in seen:
                raise RequestError(f"input {shortened(tensor.name)} is there twice; send each input once")
            seen.add(tensor.name)
            if reader is not None:
                values = columns[tensor.name] = reader.read(tensor, cast)
            elif tensor.name in self._ignored:
                values = _read_any(tensor)
            else:
                raise RequestError(f"there is no input {shortened(tensor.name)}; the model takes {self._names()}")
            if not rows:
                rows = len(values)
            elif len(values) != rows:
                first = shortened(request.inputs[0].name)
                here, there = _rows(len(values)), _rows(rows)
                raise RequestError(
                    f"input {shortened(tensor.name)} has {here}, but input {first} has {there}; send as many for each"
                )
        if len(columns) < len(self._readers):
            raise RequestError(self._missing(columns, rows))
        return Parsed(request.id if request.id is not None else self.new_id(), rows, columns, self._wanted(request.outputs))

    def parse_instances(self, body: bytes) -> Parsed:
        """The body of a v1 request: instances as objects by column, or as lists in the order of the model's inputs."""
        try:
            instances = _instances.decode(body).instances
        except UNREADABLE as error:
            raise RequestError(unreadable(error, body)) from None
        if not instances:
            raise RequestError(
                '"instances" is empty; send at least one, as an object by column or a list in the order of the inputs'
            )
        by_name = [self._by_name(number, instance) for number, instance in enumerate(instances)]
        columns = {name: reader.convert([row[name] for row in by_name]) for name, reader in self._readers.items()}
        return Parsed(self.new_id(), len(instances), columns)

    def _by_name(self, number: int, instance: dict[str, Any] | list[Any]) -> dict[str, Any]:
        if isinstance(instance, list):
            if len(instance) != len(self._readers):
                raise RequestError(
                    f"instance {number} has {len(instance)} values; send {len(self._readers)}, in this order: {self._names()}"
                )
            return dict(zip(self._readers, instance, strict=True))
        for name in self._readers:
            if name not in instance:
                raise RequestError(f"instance {number} has no {shortened(name)}; send null if its value is missing")
        if len(instance) > len(self._readers):
            for name in instance:
                if name not in self._readers and name not in self._ignored:
                    raise RequestError(f"instance {number} has a column {shortened(name)}; the model takes {self._names()}")
        return instance

    def _wanted(self, outputs: list[_Wanted] | None) -> frozenset[str] | None:
        if not outputs:
            return None
        for output in outputs:
            if output.name not in self.outputs:
                raise RequestError(f"there is no output {shortened(output.name)}; the model has {', '.join(self.outputs)}")
        return frozenset(output.name for output in outputs)

    def _missing(self, columns: Iterable[str], rows: int) -> str:
        there = set(columns)
        first = next(reader for name, reader in self._readers.items() if name not in there)
        more = len(self._readers) - len(there) - 1
        null = ", null where one is missing" if first.column.nullable else ""
        return (
            f"input {shortened(first.column.name)} is missing{f', and {more} more' if more else ''}; "
            f"send it as {first.column.datatype} with shape [{rows or 1}]{null}"
        )

    def _names(self) -> str:
        return ", ".join(f"{name} ({reader.column.datatype})" for name, reader in self._readers.items())


class _Reader:
    """Reads the values of one column."""

    def __init__(self, column: Column) -> None:
        if column.datatype not in _ACCEPTED:
            raise ValueError(
                f"input {column.name!r} of the model has datatype {column.datatype!r}; known are {', '.join(_ACCEPTED)}"
            )
        self.column = column
        accepted = {sent: _optional(kind, column.nullable) for sent, kind in _ACCEPTED[column.datatype].items()}
        self._flat = {sent: _decoder(list[kind]) for sent, kind in accepted.items()}  # type: ignore[valid-type]

    def read(self, tensor: _Tensor, cast: bool) -> list[Any]:
        shape = tensor.shape
        decoder = self._flat.get(tensor.datatype) or self._cast(tensor, cast)
        if len(shape) == 1:
            values = self._decode(decoder, tensor)
        elif len(shape) == 2 and shape[1] == 1:
            values = self._nested(decoder, tensor)
        else:
            raise RequestError(f"input {shortened(tensor.name)} has shape {_shape(shape)}; send [rows] or [rows, 1]")
        if len(values) != shape[0] or not values:
            raise _wrong_length(tensor, len(values))
        return values

    def convert(self, values: list[Any]) -> list[Any]:
        """Values that were read without a declared type."""
        kind = _optional(_PLAIN[self.column.datatype], self.column.nullable)
        try:
            return list(msgspec.convert(values, list[kind]))  # type: ignore[valid-type]
        except msgspec.ValidationError as error:
            raise self._wrong_value(error, "instance") from None

    def _cast(self, tensor: _Tensor, cast: bool) -> "msgspec.json.Decoder[list[Any]]":
        name, wanted = shortened(tensor.name), self.column.datatype
        if tensor.datatype in _ROUNDED and wanted == "FP64":
            if cast or (tensor.parameters is not None and tensor.parameters.allow_cast):
                return self._flat["FP64"]
            raise RequestError(
                f"input {name} is {tensor.datatype}, but the model was trained in double precision, and rounded values can get "
                'other answers; send FP64, or accept that with "parameters": {"allow_cast": true}'
            )
        raise RequestError(f"input {name} is {shortened(tensor.datatype)}; send {wanted}")

    def _decode(self, decoder: "msgspec.json.Decoder[list[Any]]", tensor: _Tensor) -> list[Any]:
        try:
            return decoder.decode(tensor.data)
        except UNREADABLE as error:
            raise self._wrong(error, tensor) from None

    def _nested(self, flat: "msgspec.json.Decoder[list[Any]]", tensor: _Tensor) -> list[Any]:
        """Shape [rows, 1], whose data may be nested or flat."""
        if not re.match(rb"\s*\[\s*\[", bytes(tensor.data)[:64]):
            return self._decode(flat, tensor)
        pairs = self._decode(_decoder(list[flat.type]), tensor)  # type: ignore[name-defined]
        for number, pair in enumerate(pairs):
            if len(pair) != 1:
                raise RequestError(f"input {shortened(tensor.name)}: row {number} has {len(pair)} values; send one a row")
        return [pair[0] for pair in pairs]

    def _wrong(self, error: Exception, tensor: _Tensor) -> RequestError:
        if not bytes(tensor.data):
            return RequestError(f'input {shortened(tensor.name)} has no data; send its values as JSON in "data"')
        if isinstance(error, msgspec.ValidationError):
            return self._wrong_value(error, "row")
        return RequestError(f"input {shortened(tensor.name)}: {unreadable(error, bytes(tensor.data))}")

    def _wrong_value(self, error: msgspec.ValidationError, what: str) -> RequestError:
        name, datatype = shortened(self.column.name), self.column.datatype
        problem, _, place = str(error).partition(" - at `$")
        where = f"{what} {found.group(1)}" if (found := re.match(r"\[(\d+)\]", place)) else "data"
        if "got `null`" in problem and found:
            return RequestError(
                f"input {name}: {where} is null, but the model takes no missing values there; send {datatype} values"
            )
        null = " (null where one is missing)" if self.column.nullable else ""
        return RequestError(f"input {name}: {where}: {lower(problem)}; send {datatype} values{null}")


def _optional(kind: Any, nullable: bool) -> Any:
    return kind | None if nullable else kind


@cache
def _decoder(kind: Any) -> "msgspec.json.Decoder[list[Any]]":
    return msgspec.json.Decoder(kind)


def _read_any(tensor: _Tensor) -> list[Any]:
    """Values that are accepted and not used."""
    try:
        values = _decoder(list[Any]).decode(tensor.data)
    except UNREADABLE as error:
        raise RequestError(f"input {shortened(tensor.name)}: {unreadable(error, bytes(tensor.data))}") from None
    if tensor.shape not in ([len(values)], [len(values), 1]) or not values:
        raise _wrong_length(tensor, len(values))
    return values


def _wrong_length(tensor: _Tensor, values: int) -> RequestError:
    name, shape = shortened(tensor.name), _shape(tensor.shape)
    if not values:
        return RequestError(f"input {name} has no rows; send at least one")
    return RequestError(f"input {name} has shape {shape}, but its data hold {values} values; send shape [{values}]")


def _refuse_unoffered(request: _Request) -> None:
    """What would silently have no effect."""
    if not request.inputs:
        raise RequestError('"inputs" is empty; send one for each column of the model')
    tensors: Iterable[_Tensor | _Wanted] = (*request.inputs, *(request.outputs or ()))
    binary = any(
        one.parameters and (one.parameters.binary_data or one.parameters.binary_data_size is not None) for one in tensors
    )
    if binary or (request.parameters is not None and request.parameters.binary_data_output):
        raise RequestError("this server has no binary tensors; send and ask for JSON data")
    if request.parameters is not None and request.parameters.explain:
        raise RequestError('this server has no explanations; leave "explain" out')


def _shape(shape: Sequence[int]) -> str:
    return str(list(shape)) if len(shape) <= 8 else f"of {len(shape)} dimensions"


def _rows(number: int) -> str:
    return f"{number} row" if number == 1 else f"{number} rows"
