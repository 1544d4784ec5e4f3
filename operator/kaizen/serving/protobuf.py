"""Protocol Buffers messages from tables instead of protoc: message, field number, how often, type and name.

Each package lives in a pool of its own, so that a client's generated copy in the same process does not collide with it.
What a table leaves out of a message is kept as unknown fields.  Imports protobuf.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

__all__ = ["Messages", "describe"]

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}


class Messages:
    """The classes of one package's messages, by name."""

    def __init__(self, package: str, tables: Mapping[str, Mapping[int, str]]) -> None:
        pool = descriptor_pool.DescriptorPool()
        pool.Add(describe(package, tables))
        self._classes = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in tables
        }

    def __getitem__(self, name: str) -> Any:
        return self._classes[name]


def describe(package: str, tables: Mapping[str, Mapping[int, str]]) -> Any:
    """The FileDescriptorProto of some messages; an outer message stands before its inner ones."""
    file = descriptor_pb2.FileDescriptorProto(name=f"kaizen/{package}.proto", package=package, syntax="proto3")
    made: dict[str, Any] = {}
    for name, fields in tables.items():
        outer, _, inner = name.rpartition(".")
        made[name] = message = (made[outer].nested_type if outer else file.message_type).add(name=inner)
        for number, text in fields.items():
            _add(message, f".{package}.", name, number, text)
    return file


def _add(message: Any, package: str, path: str, number: int, text: str) -> None:
    *how, kind, name = text.split()
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if how == ["map"]:
        entry = "".join(part.capitalize() for part in name.split("_")) + "Entry"
        pair = message.nested_type.add(name=entry)
        pair.options.map_entry = True
        _add(pair, package, "", 1, "string key")
        _add(pair, package, "", 2, f"{kind} value")
        field.label, field.type, field.type_name = _Field.LABEL_REPEATED, _Field.TYPE_MESSAGE, f"{package}{path}.{entry}"
        return
    if how == ["repeated"]:
        field.label = _Field.LABEL_REPEATED
    elif how == ["oneof"]:
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, package + kind
