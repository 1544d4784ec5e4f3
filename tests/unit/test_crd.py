"""The generated CRDs: up to date, structural, bounded, and as a user expects them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, Field, create_model

from hack.paths import REPOSITORY
from kaizen.api import crd
from kaizen.api.base import ANY_OBJECT, AS_ATOM, AS_SET, AnyValue, BaseStatus, Model, Quantity, by_key
from kaizen.api.kinds import INFERENCE_SERVICE, KINDS, MODEL_VERSION, TRAINING_JOB, Kind
from kaizen.api.training_job import MUTABLE_FIELDS

Schema = dict[str, Any]

INT_OR_STRING = "x-kubernetes-int-or-string"
ANYTHING = "x-kubernetes-preserve-unknown-fields"
LIST_TYPE = "x-kubernetes-list-type"
RULES = "x-kubernetes-validations"
KNOWN = {
    "type", "format", "description", "default", "enum", "pattern", "required", "properties", "items",
    "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "multipleOf",
    "additionalProperties",
    INT_OR_STRING, ANYTHING, LIST_TYPE, "x-kubernetes-list-map-keys", RULES,
}  # fmt: skip
TYPES = {"object", "array", "string", "integer", "number", "boolean"}


def violations(node: Schema, where: str, *, bounded: bool = True) -> Iterator[str]:
    """What the API server would refuse in a schema, or charge too much for: one sentence each.

    The structural rules are those of "Specifying a structural schema" in the Kubernetes documentation.
    """
    if node.get(INT_OR_STRING):
        if node.get("anyOf") != [{"type": "integer"}, {"type": "string"}] or "maxLength" not in node:
            yield f"{where}: an int-or-string is anyOf integer and string, and bounded"
        unknown = node.keys() - KNOWN - {"anyOf"}
    else:
        unknown = node.keys() - KNOWN
        if node.get("type") not in TYPES and not (ANYTHING in node and "type" not in node):
            yield f"{where}: type {node.get('type')!r}"
    if unknown:
        yield f"{where}: has {', '.join(sorted(unknown))}"
    if bounded:
        yield from _unbounded(node, where)
    if "default" in node:
        yield from _unfit(node["default"], node, f"{where} default")
    if missing := set(node.get("required", ())) - node.get("properties", {}).keys():
        yield f"{where}: requires {sorted(missing)}, which are no properties"
    for rule in node.get(RULES, ()):
        for name in re.findall(r"\b(?:self|oldSelf)\.(\w+)(?!\w*\()", rule["rule"]):
            if name not in node.get("properties", {}):
                yield f"{where}: a rule reads self.{name}, which is no property"
        if not rule["message"].strip() or "\n" in rule["message"]:
            yield f"{where}: a rule has no message of one line"
    for name, child in node.get("properties", {}).items():
        yield from violations(child, f"{where}.{name}")
    if "items" in node:
        yield from violations(node["items"], f"{where}[]")
    if "additionalProperties" in node:
        yield from _map(node, where)


def _map(node: Schema, where: str) -> Iterator[str]:
    values = node["additionalProperties"]
    if not isinstance(values, dict) or "properties" in node:
        yield f"{where}: additionalProperties are the schema of a map's values"
    elif not values.get(INT_OR_STRING) and values.get("type") not in TYPES - {"object", "array"}:
        yield f"{where}: a map of anything but scalars"
    else:
        yield from violations(values, f"{where}.*")


def _unbounded(node: Schema, where: str) -> Iterator[str]:
    kind = node.get("type")
    if kind == "array":
        if "maxItems" not in node or "items" not in node:
            yield f"{where}: an array has items and maxItems"
        yield from _list_type(node, where)
    elif kind == "string" and not node.keys() & {"maxLength", "enum", "format"}:
        yield f"{where}: a string has maxLength, enum or format"
    elif kind == "object" and "additionalProperties" in node:
        if "maxProperties" not in node:
            yield f"{where}: a map has maxProperties"
    elif kind == "object" and not node.get("properties") and not node.get(ANYTHING):
        yield f"{where}: an object without properties would lose all its fields"


def _list_type(node: Schema, where: str) -> Iterator[str]:
    items = node.get("items", {})
    match node.get(LIST_TYPE):
        case "map":
            for key in node["x-kubernetes-list-map-keys"]:
                if key not in items.get("required", ()):
                    yield f"{where}: the list's key {key} is not required"
        case "set":
            if items.get("type") not in ("string", "integer"):
                yield f"{where}: a set has scalar items"
        case None:
            if items.get("type") == "object":
                yield f"{where}: a list of objects has a key, so that server-side apply can merge it"


def _unfit(value: Any, node: Schema, where: str) -> Iterator[str]:
    """Why a default does not fit its own schema."""
    if value is None:
        yield f"{where}: null"
        return
    python = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    kind = node.get("type")
    if kind in python and not isinstance(value, python[kind]):  # type: ignore[arg-type]
        yield f"{where}: {value!r} is no {kind}"
    if "enum" in node and value not in node["enum"]:
        yield f"{where}: {value!r} is not in the enum"
    if isinstance(value, int | float) and not node.get("minimum", value) <= value <= node.get("maximum", value):
        yield f"{where}: {value!r} is out of bounds"
    if isinstance(value, dict) and not node.get(ANYTHING):
        for name in set(node.get("required", ())) - value.keys():
            yield f"{where}: lacks {name}"
        for name, child in value.items():
            if name not in node.get("properties", {}):
                yield f"{where}: {name} is no property"
            else:
                yield from _unfit(child, node["properties"][name], f"{where}.{name}")
    if isinstance(value, list):
        for child in value:
            yield from _unfit(child, node.get("items", {}), f"{where}[]")


def root(kind: Kind) -> Schema:
    """A kind's whole schema, as the API server reads it from the file."""
    document = yaml.safe_load(crd.files()[f"mlops.kaizen.dev_{kind.plural}.yaml"])
    schema: Schema = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


IDS = [kind.name for kind in KINDS]
COPIES = {"for kubectl": REPOSITORY / "crds", "in the chart": REPOSITORY / "charts" / "kaizen" / "files" / "crds"}


@pytest.mark.parametrize("directory", COPIES.values(), ids=COPIES)
def test_generated_files_are_up_to_date(directory: Path) -> None:
    present = {path.name: path.read_text() for path in directory.iterdir()}
    assert present == crd.files(), "run `make generate`"


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_file_fits_where_it_has_to(kind: Kind) -> None:
    text = crd.files()[f"mlops.kaizen.dev_{kind.plural}.yaml"]
    assert len(text.encode()) < crd.LARGEST_BYTES
    assert crd.LARGEST_BYTES <= 64 * 1024


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_schema_is_structural_and_bounded(kind: Kind) -> None:
    schema = root(kind)
    top = schema["properties"]
    assert top["apiVersion"] == top["kind"] == {"type": "string"}
    assert top["metadata"] == {"type": "object"}
    found = [*violations(top["spec"], "spec"), *violations(top["status"], "status")]
    assert found == []
    # The metadata's fields are known to the API server, and to nobody else.
    parts = {name: {"type": "object", ANYTHING: True} for name in ("metadata", "spec")}
    assert list(violations({**schema, "properties": parts}, kind.name)) == []


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_names_and_status(kind: Kind) -> None:
    spec = crd.crd(kind)["spec"]
    assert spec["scope"] == "Namespaced"
    assert spec["names"]["categories"] == ["kaizen"]
    assert spec["names"]["shortNames"] == [kind.short_name]
    (version,) = spec["versions"]
    assert version["subresources"] == {"status": {}}
    status = root(kind)["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    assert status["properties"]["conditions"][LIST_TYPE] == "map"
    assert "status" not in root(kind).get("required", ())


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_columns_read_fields_that_exist(kind: Kind) -> None:
    schema = root(kind)
    for column in crd.crd(kind)["spec"]["versions"][0]["additionalPrinterColumns"]:
        part, *parents, last = re.sub(r"\[.*\]", "", column["jsonPath"]).lstrip(".").split(".")
        if part == "metadata":
            continue
        properties = schema["properties"][part]["properties"]
        for parent in parents:
            properties = (properties[parent].get("items") or properties[parent])["properties"]
        assert last in properties, column


def test_short_names_are_distinct() -> None:
    assert [kind.short_name for kind in KINDS] == ["ktj", "kmv", "kis"]


FROZEN = {"TrainingJob": (TRAINING_JOB, MUTABLE_FIELDS), "ModelVersion": (MODEL_VERSION, ())}


@pytest.mark.parametrize(("kind", "mutable"), FROZEN.values(), ids=FROZEN)
def test_every_field_that_may_not_change_has_its_rule(kind: Kind, mutable: tuple[str, ...]) -> None:
    spec = root(kind)["properties"]["spec"]
    compared = {name for rule in spec[RULES] for name in re.findall(r"has\(oldSelf\.(\w+)\)", rule["rule"])}
    assert compared == spec["properties"].keys() - set(mutable)


def test_template_is_a_training_job_without_the_model() -> None:
    job = root(TRAINING_JOB)["properties"]["spec"]["properties"]
    template = root(INFERENCE_SERVICE)["properties"]["spec"]["properties"]["training"]["properties"]["template"]
    assert template["properties"] == {
        name: undescribed(schema) for name, schema in job.items() if name not in ("model", *MUTABLE_FIELDS)
    }
    of_job = root(TRAINING_JOB)["properties"]["spec"][RULES]
    assert template[RULES] == [rule for rule in of_job if "oldSelf" not in rule["rule"]]
    # Its own says where the others are.
    assert template["description"].startswith("A TrainingJob's spec")


def undescribed(schema: Schema) -> Schema:
    """Without the descriptions, which a template's fields have in a TrainingJob; a property of that name would stay."""
    result = {name: value for name, value in schema.items() if name != "description"}
    for name in ("items", "additionalProperties"):
        if name in result:
            result[name] = undescribed(result[name])
    if "properties" in result:
        result["properties"] = {name: undescribed(child) for name, child in result["properties"].items()}
    return result


BAD_SCHEMAS: dict[str, tuple[Schema, str]] = {
    "reference": ({"type": "object", ANYTHING: True, "$ref": "#/x"}, "has $ref"),
    "union": ({"anyOf": [{"type": "string"}, {"type": "boolean"}]}, "has anyOf"),
    "const": ({"type": "string", "enum": ["a"], "const": "a"}, "has const"),
    "title": ({"type": "boolean", "title": "Suspend"}, "has title"),
    "closed object": ({"type": "object", ANYTHING: True, "additionalProperties": False}, "the schema of a map's values"),
    "map beside fields": (
        {"type": "object", "properties": {"a": {"type": "boolean"}}, "additionalProperties": {"type": "boolean"}},
        "the schema of a map's values",
    ),
    "map of objects": (
        {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "object", ANYTHING: True}},
        "a map of anything but scalars",
    ),
    "map of anything": (
        {"type": "object", "maxProperties": 1, "additionalProperties": {ANYTHING: True}},
        "a map of anything but scalars",
    ),
    "endless map": ({"type": "object", "additionalProperties": {"type": "boolean"}}, "a map has maxProperties"),
    "map of endless strings": (
        {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string"}},
        "x.*: a string has maxLength",
    ),
    "no type": ({"description": "x"}, "type None"),
    "wrong type of anything": ({"type": "any", ANYTHING: True}, "type 'any'"),
    "null": ({"type": "null"}, "type 'null'"),
    "default null": ({"type": "integer", "default": None}, "default: null"),
    "default of another type": ({"type": "integer", "default": "1"}, "'1' is no integer"),
    "default out of bounds": ({"type": "integer", "minimum": 1, "default": 0}, "out of bounds"),
    "default with an unknown field": (
        {"type": "object", "properties": {"a": {"type": "boolean"}}, "default": {"b": True}},
        "b is no property",
    ),
    "endless string": ({"type": "string"}, "has maxLength, enum or format"),
    "endless string in an array": ({"type": "array", "maxItems": 1, "items": {"type": "string"}}, "x[]: a string has"),
    "endless array": ({"type": "array", "items": {"type": "boolean"}}, "has items and maxItems"),
    "objects without a key": (
        {"type": "array", "maxItems": 1, "items": {"type": "object", ANYTHING: True}},
        "a list of objects has a key",
    ),
    "key that may be missing": (
        {
            "type": "array", "maxItems": 1, LIST_TYPE: "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}}},
        },
        "the list's key name is not required",
    ),
    "object of nothing": ({"type": "object"}, "would lose all its fields"),
    "rule on an unknown field": (
        {"type": "object", ANYTHING: True, RULES: [{"rule": "has(self.modle)", "message": "x"}]},
        "a rule reads self.modle",
    ),
    "endless quantity": ({INT_OR_STRING: True, "anyOf": [{"type": "integer"}, {"type": "string"}]}, "and bounded"),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "sentence"), BAD_SCHEMAS.values(), ids=BAD_SCHEMAS)
def test_checker_can_fail(schema: Schema, sentence: str) -> None:
    found = list(violations(schema, "x"))
    assert any(sentence in violation for violation in found), found


class Inner(Model):
    """A   part,
    described over two lines."""

    count: Annotated[int, Field(ge=0, le=9)] = 3
    amount: Quantity | None = None


class Node(Model):
    """A part that holds parts of its own kind."""

    children: Annotated[list["Node"], Field(max_length=2)] = []


class Cat(BaseModel):
    """One of two."""

    kind: Literal["Cat"]


class Dog(BaseModel):
    """The other."""

    kind: Literal["Dog"]


QUANTITY = root(TRAINING_JOB)["properties"]["spec"]["properties"]["pod"]["properties"]["resources"]["properties"]["limits"][
    "additionalProperties"
]


class Entry(Model):
    """An entry of a list."""

    count: Annotated[int, Field(ge=0, le=9)]


ENTRY = {
    "type": "object",
    "description": "An entry of a list.",
    "properties": {"count": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["count"],
}
INNER = {
    "type": "object",
    "description": "A part, described over two lines.",
    "properties": {"count": {"type": "integer", "minimum": 0, "maximum": 9, "default": 3}, "amount": QUANTITY},
}
NAME = Annotated[str, Field(max_length=9)]

TRANSLATED: dict[str, tuple[Any, Any, Schema]] = {
    "optional": (NAME | None, None, {"type": "string", "maxLength": 9}),
    "optional part": (Inner | None, None, INNER),
    "part with its defaults": (Inner, Inner(), {**INNER, "default": {"count": 3}}),
    "list of parts": (
        Annotated[list[Entry], Field(max_length=2, json_schema_extra=by_key("count"))],
        [],
        {
            "type": "array", "maxItems": 2, "items": ENTRY, "default": [],
            LIST_TYPE: "map", "x-kubernetes-list-map-keys": ["count"],
        },
    ),
    "set of texts": (
        Annotated[list[NAME], Field(max_length=2, json_schema_extra=AS_SET)],
        ...,
        {"type": "array", "maxItems": 2, "items": {"type": "string", "maxLength": 9}, LIST_TYPE: "set"},
    ),
    "one literal": (Literal["PSI"], "PSI", {"type": "string", "enum": ["PSI"], "default": "PSI"}),
    "several literals": (Literal["A", "B"], ..., {"type": "string", "enum": ["A", "B"]}),
    "quantity": (Quantity, ..., QUANTITY),
    "free-form object": (
        Annotated[dict[str, Any], Field(json_schema_extra=ANY_OBJECT)],
        {},
        {"type": "object", ANYTHING: True, "default": {}},
    ),
    "map of scalars": (
        Annotated[dict[str, NAME], Field(max_length=2)],
        {},
        {
            "type": "object", "maxProperties": 2, "default": {}, "additionalProperties": {"type": "string", "maxLength": 9},
        },
    ),
    "map of quantities": (
        Annotated[dict[str, Quantity], Field(max_length=2)] | None,
        None,
        {"type": "object", "maxProperties": 2, "additionalProperties": QUANTITY},
    ),
    "values of any type": (
        Annotated[list[AnyValue], Field(max_length=2)],
        ...,
        {"type": "array", "maxItems": 2, "items": {ANYTHING: True}},
    ),
    "list of parts without a key": (
        Annotated[list[Entry], Field(max_length=2, json_schema_extra=AS_ATOM)],
        ...,
        {"type": "array", "maxItems": 2, "items": ENTRY, LIST_TYPE: "atomic"},
    ),
    "false is a default": (bool, False, {"type": "boolean", "default": False}),
}  # fmt: skip

UNSUPPORTED: dict[str, Any] = {
    "union of scalars": int | str,
    "union of parts": Cat | Dog,
    "tagged union": Annotated[Cat | Dog, Field(discriminator="kind")],
    "tuple": tuple[int, str],
    "pydantic's set": set[int],
    "exclusive lower bound": Annotated[int, Field(gt=0)],
    "exclusive upper bound": Annotated[int, Field(lt=9)],
    "fractional bound": Annotated[float, Field(ge=0.5)],
    "anything": Any,
    "nothing": None,
    "literals of two types": Literal["a", 1],
    "list of unions": list[int | str],
    "endless map": dict[str, int],
    "map of anything, without saying so": dict[str, Any],
    "bounded map of anything": Annotated[dict[str, Any], Field(max_length=2)],
    "map of objects": Annotated[dict[str, Entry], Field(max_length=2)],
    "map of lists": Annotated[dict[str, list[int]], Field(max_length=2)],
    "map of unions": Annotated[dict[str, int | str], Field(max_length=2)],
    "part of its own kind": Node,
    "default inside a list entry": Annotated[list[Inner], Field(max_length=2)],
    "word that OpenAPI does not have": Annotated[int, Field(examples=[1])],
}


def field_schema(annotation: Any, default: Any = ...) -> Schema:
    """What a field of a spec becomes."""
    spec = create_model("SampleSpec", __base__=Model, field=(annotation, default))
    kind = Kind("Sample", "samples", "ks", "A sample.", spec, BaseStatus, ())
    schema: Schema = crd.crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    field: Schema = schema["properties"]["spec"]["properties"]["field"]
    return field


@pytest.mark.parametrize(("annotation", "default", "expected"), TRANSLATED.values(), ids=TRANSLATED)
def test_field_is_translated(annotation: Any, default: Any, expected: Schema) -> None:
    assert field_schema(annotation, default) == expected


@pytest.mark.parametrize("annotation", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_a_crd_cannot_express_is_refused(annotation: Any) -> None:
    with pytest.raises(crd.NotStructural, match=r"SampleSpec\.field|Node"):
        field_schema(annotation)
