"""Requests to columns: Open Inference Protocol v2, whatever carries it, and v1's instances for old clients.  Pure.

Every way to get a request wrong is a RequestError whose sentence names the input and what to send instead; nothing else ever
leaves these functions.  Unknown parameters are ignored, as the protocol wants: what they would have asked for is then
plainly absent from the answer, or was refused for the want of it.
"""

import itertools
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from kaizen.serving.bodies import binary
from kaizen.serving.bodies.quick import Quick
from kaizen.serving.bodies.readers import NUMBERS, Column, Reader, TableReader, Tensor, Values, read_any, rows_of
from kaizen.serving.engine.base import Prepared, as_columns, some_rows
from kaizen.serving.problems import UNREADABLE, Int64, RequestError, shortened, unreadable

__all__ = ["ATTRIBUTIONS", "Column", "Parsed", "Schema", "Tensor"]

ATTRIBUTIONS = "attributions"
"""The output that `explain` adds."""
LONGEST_ID = 256
NAMED = 20
"""So many inputs are named in a sentence."""
MORE_INPUTS = 16
"""Beyond twice as many as there are, up to which a request is looked at to say what is wrong."""


class Parsed(msgspec.Struct, frozen=True):  # made in a fifth of a dataclass's time
    """An inference request that fits the model."""

    id: str
    rows: int
    given: Mapping[str, Values] | Prepared
    """What `columns` are made of: by name, or in the order of `names`."""
    outputs: frozenset[str] | None = None
    """Those asked for; None: all."""
    explain: bool = False
    """Whether to say what each input contributed."""
    binary: frozenset[str] = frozenset()
    """Outputs whose values follow the JSON as bytes."""
    prepared: Prepared | None = None
    """What Engine.columns would make of them, where that is known."""
    names: tuple[str, ...] = ()
    """Of all that is given, where it has none itself."""
    size: int = 0
    """In bytes, as it came; in memory it is several times as much."""

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.names) or len(self.given)

    @property
    def columns(self) -> Mapping[str, Values]:
        """Every column of the model by name: float or int, str, bool; None (in an array: NaN) where missing.

        Behind them what was sent beside the model's columns, as it came, where that is kept (Schema.keep_all).
        """
        return self.part(0, self.rows)

    def part(self, first: int, last: int) -> Mapping[str, Values]:
        """The same of some rows."""
        given = self.given
        if isinstance(given, Mapping):
            return given if last - first == self.rows else {name: values[first:last] for name, values in given.items()}
        return dict(zip(self.names, as_columns(some_rows(given, first, last)), strict=True))


class _TensorParameters(msgspec.Struct):
    allow_cast: bool = False
    binary_data: bool | None = None
    binary_data_size: int | None = None


class _RequestParameters(msgspec.Struct):
    allow_cast: bool = False
    binary_data_output: bool = False
    explain: bool = False


class _Tensor(msgspec.Struct):
    name: str
    shape: list[Int64]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: _TensorParameters | None = None


class _Wanted(msgspec.Struct):
    name: str
    parameters: _TensorParameters | None = None


_Id = Annotated[str, msgspec.Meta(max_length=LONGEST_ID)] | None


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: _RequestParameters | None = None
    outputs: list[_Wanted] | None = None


class _Instances(msgspec.Struct):
    instances: list[dict[str, Any] | list[Any]]


_BESIDE_INPUTS = [("id", _Id, None), ("parameters", _RequestParameters | None, None), ("outputs", list[_Wanted] | None, None)]
_request = msgspec.json.Decoder(_Request)
_instances = msgspec.json.Decoder(_Instances)
_NOTHING: Mapping[str, Any] = {}
_NOT_ASKED = _RequestParameters()


class Schema:
    """What one model takes."""

    def __init__(self, columns: Sequence[Column], ignored: Collection[str] = (), outputs: Collection[str] = ("predict",)) -> None:
        """`ignored` are columns that may be sent and are not used: declared keys and the timestamp."""
        self.columns = tuple(columns)
        self.outputs = tuple(outputs)
        self.ignored = tuple(sorted(set(ignored) - {column.name for column in columns}))
        self._readers = {column.name: Reader(column) for column in columns}
        self._table = TableReader(columns) if columns and all(one.datatype in NUMBERS for one in columns) else None
        self._quick = Quick(columns, self.ignored, _BESIDE_INPUTS)
        self._column_names = tuple(self._readers)
        self._kept: frozenset[str] = frozenset()
        self._prefix = secrets.token_hex(6)
        self._numbers = itertools.count()

    def renew(self) -> None:
        """Make other ids from now on than the process that this one was forked from."""
        self._prefix = secrets.token_hex(6)

    def keep_all(self) -> None:
        """From now on leave `ignored` columns that are sent among those of Parsed."""
        self._kept = frozenset(self.ignored)

    def new_id(self) -> str:
        """An id that no other process makes."""
        return f"{self._prefix}-{next(self._numbers):x}"

    def parse(self, body: bytes, json_bytes: int | None = None) -> Parsed:
        """The body of a v2 inference request; of its bytes so many are JSON, and binary tensors follow (None: all of them).

        Raises RequestError and nothing else.
        """
        if json_bytes is None and (found := self._quick.read(body)) is not None:
            request, rows, given, prepared, names = found
            id = request.id or self.new_id()
            if request.outputs is None and request.parameters is None:
                return Parsed(id, rows, given, prepared=prepared, names=names, size=len(body))
            return Parsed(id, rows, given, *self._asked(request), prepared, names, len(body))
        document, tail = binary.split(body, json_bytes)
        try:
            request = _request.decode(document)
        except UNREADABLE as error:
            raise RequestError(unreadable(error, document)) from None
        self.refuse_many(len(request.inputs))
        tensors = _tensors(request.inputs, tail)
        cast = request.parameters is not None and request.parameters.allow_cast
        id, rows, found_columns = self._accept(tensors, request.id, cast)
        if tail is None:
            self._quick.learn(tensors, rows, self._kept)
        return Parsed(id, rows, found_columns, *self._asked(request), size=len(body))

    def accept(
        self,
        tensors: Sequence[Tensor],
        id: str | None = None,
        parameters: Mapping[str, Any] = _NOTHING,
        wanted: Sequence[str] | None = None,
        size: int = 0,
    ) -> Parsed:
        """A v2 inference request that came otherwise than as JSON.  Raises RequestError.

        An empty id is none, `wanted` are names of outputs, `size` is how many bytes the request had.
        Of the parameters, `allow_cast` and `explain` mean something, also `allow_cast` of a tensor.
        """
        made, rows, columns = self._accept(tensors, id, _flag(parameters, "allow_cast"))
        return Parsed(made, rows, columns, *self._outputs(wanted, _flag(parameters, "explain")), size=size)

    def refuse_many(self, inputs: int) -> None:
        """Raise RequestError for so many inputs that to look at them would keep others waiting."""
        if inputs > MORE_INPUTS + 2 * (len(self.columns) + len(self.ignored)):
            raise RequestError(f"the request has {inputs} inputs; the model takes {len(self.columns)}: {self._names()}")

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
        columns: dict[str, Values] = {
            name: reader.convert([row[name] for row in by_name]) for name, reader in self._readers.items()
        }
        for name in self._kept:
            if any(name in instance for instance in by_name):
                columns[name] = [instance.get(name) for instance in by_name]
        return Parsed(self.new_id(), len(instances), columns, size=len(body))

    def _accept(self, tensors: Sequence[Tensor], id: str | None, cast: bool) -> tuple[str, int, dict[str, Values]]:
        """Id, rows and columns of a request."""
        if not tensors:
            raise RequestError('"inputs" is empty; send one for each column of the model')
        if id is not None and len(id) > LONGEST_ID:
            raise RequestError(f"the request's id has {len(id)} characters; it must not have more than {LONGEST_ID}")
        columns, kept, rows = self._columns(tensors, cast)
        if len(columns) < len(self._readers):
            raise RequestError(self._missing(columns, rows))
        columns |= kept
        return id or self.new_id(), rows, columns

    def _asked(self, request: Any) -> tuple[frozenset[str] | None, bool, frozenset[str]]:
        """Outputs, whether to explain, and outputs as bytes."""
        asked = request.parameters or _NOT_ASKED
        outputs, explain = self._outputs([output.name for output in request.outputs or ()], asked.explain)
        return outputs, explain, self._binary(request.outputs, asked.binary_data_output)

    def _outputs(self, names: Sequence[str] | None, explain: bool) -> tuple[frozenset[str] | None, bool]:
        """Those asked for, None for all, and whether to explain."""
        if not names:
            return None, explain
        for name in names:
            if name not in self.outputs and name != ATTRIBUTIONS:
                raise RequestError(f"there is no output {shortened(name)}; the model has {', '.join(self.outputs)}")
        return frozenset(names), explain or ATTRIBUTIONS in names

    def _columns(self, tensors: Sequence[Tensor], cast: bool) -> tuple[dict[str, Values], dict[str, Values], int]:
        """The model's by name, others that are kept, and the number of rows, which is the same in all."""
        columns: dict[str, Values] = {}
        kept: dict[str, Values] = {}
        seen: set[str] = set()
        table: str | None = None
        rows = 0
        for tensor in tensors:
            if tensor.name in seen:
                raise _twice(tensor.name, table if tensor.name in self._readers else None)
            seen.add(tensor.name)
            reader = self._readers.get(tensor.name)
            if reader is not None:
                values = columns[tensor.name] = reader.read(tensor, cast)
            elif tensor.name in self.ignored:
                values = read_any(tensor)
                if tensor.name in self._kept:
                    kept[tensor.name] = values
            elif self._table is not None and not columns and len(tensor.shape) == 2:
                columns = dict(zip(self._column_names, self._table.read(tensor, cast), strict=True))
                values = columns[self._column_names[0]]
                table = tensor.name
                seen.update(self._column_names)
            else:
                raise self._unknown(tensor, columns, table)
            if not rows:
                rows = len(values)
            elif len(values) != rows:
                first = shortened(tensors[0].name)
                here, there = rows_of(len(values)), rows_of(rows)
                raise RequestError(
                    f"input {shortened(tensor.name)} has {here}, but input {first} has {there}; send as many for each"
                )
        return columns, kept, rows

    def _unknown(self, tensor: Tensor, columns: Iterable[str], table: str | None) -> RequestError:
        """What to say of an input by another name, behind these columns of the model, or a table of all."""
        shape, width, hint = list(tensor.shape), len(self.columns), ""
        if self._table is not None and table is None:
            first = next(iter(columns), None)
            if first is not None and shape[1:] == [width]:
                return _twice(first, tensor.name)
            if first is None and shape == [width]:
                hint = f", or all of them as one table with shape [rows, {width}]"
        return RequestError(f"there is no input {shortened(tensor.name)}; the model takes {self._names()}{hint}")

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
                if name not in self._readers and name not in self.ignored:
                    raise RequestError(f"instance {number} has a column {shortened(name)}; the model takes {self._names()}")
        return instance

    def _binary(self, outputs: Sequence[_Wanted] | None, all_of_them: bool) -> frozenset[str]:
        """Outputs as bytes: those that say so themselves, the others as the request says."""
        named = {one.name: one.parameters.binary_data for one in outputs or () if one.parameters is not None}
        return frozenset(
            name for name in (*self.outputs, ATTRIBUTIONS) if (all_of_them if named.get(name) is None else named[name])
        )

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
        more = len(self.columns) - NAMED
        named = ", ".join(f"{one.name} ({one.datatype})" for one in self.columns[:NAMED])
        return named + (f" and {more} more" if more > 0 else "")


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    found = parameters.get(name, False)
    if not isinstance(found, bool):
        raise RequestError(f'the parameter "{name}" must be true or false')
    return found


def _twice(name: str, table: str | None) -> RequestError:
    """`table` is the input that holds it as well, where it is one."""
    where = "" if table is None else f", by its name and in the table {shortened(table)}"
    return RequestError(f"input {shortened(name)} is there twice{where}; send each input once")


def _tensors(inputs: Sequence[_Tensor], tail: memoryview | None) -> list[Tensor]:
    """With the values that the bytes behind the JSON hold, in the order of the inputs."""
    found: list[Tensor] = []
    place = 0
    for one in inputs:
        parameters = one.parameters
        size = None if parameters is None else parameters.binary_data_size
        cast = {"allow_cast": True} if parameters is not None and parameters.allow_cast else None
        if size is None:
            found.append(Tensor(one.name, one.datatype, one.shape, one.data, cast))
            continue
        if bytes(one.data):
            raise RequestError(f'input {shortened(one.name)} has "data" and "binary_data_size"; send one of them')
        values = binary.taken(one.name, one.datatype, one.shape, size, tail, place)
        place += size
        found.append(Tensor(one.name, one.datatype, one.shape, values, cast))
    if tail is not None and place != len(tail):
        raise RequestError(
            f"{len(tail)} bytes follow the JSON, but the inputs' binary_data_size add up to {place}; send just those"
        )
    return found
