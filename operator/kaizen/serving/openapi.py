"""The OpenAPI 3.1 document of one model's server, made from the model's own columns, outputs and example.  Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from kaizen import __version__
from kaizen.serving.bodies.protocol import ATTRIBUTIONS, LONGEST_ID
from kaizen.serving.bodies.readers import NUMBERS
from kaizen.serving.engine.base import CLASSIFICATION, Input

if TYPE_CHECKING:
    from kaizen.serving.model import Model

__all__ = ["document", "example"]

JsonObject = dict[str, Any]

_SENT = {
    "FP64": ["FP64", "FP32", "FP16", "BF16", *(f"{sign}INT{bits}" for bits in (8, 16, 32, 64) for sign in ("", "U"))],
    "INT64": ["FP64", *(f"{sign}INT{bits}" for bits in (8, 16, 32, 64) for sign in ("", "U"))],
    "BYTES": ["BYTES"],
    "BOOL": ["BOOL"],
}
_KINDS = {"FP64": "number", "INT64": "number", "BYTES": "string", "BOOL": "boolean"}
_SAMPLES: Mapping[str, Any] = {"FP64": 0.5, "INT64": 1, "BYTES": "text", "BOOL": True}
_REFUSALS = {
    "400": "What is wrong with the request, in one sentence.",
    "401": "The server has tokens, and the request brings none of them.",
    "408": "The request did not arrive in time.",
    "413": "The body is too large, or is when it is no longer compressed.",
    "415": "The body has a Content-Encoding that is not read.",
    "417": "The header Expect asks for something else than 100-continue.",
    "431": "The request line and headers are too large.",
    "500": "The server failed; its log says why.",
    "503": "The model is still being loaded, or too much waits: try again after the seconds of Retry-After.",
}
_BODYLESS = ("401", "431", "500", "503")
_SECONDS: JsonObject = {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 1}}
_JSON_BYTES: JsonObject = {
    "description": "How many bytes of the body are JSON; the tensors' bytes follow them.",
    "schema": {"type": "integer", "minimum": 0},
}
_BINARY, _JSON_LENGTH = "application/octet-stream", "Inference-Header-Content-Length"
_OR_NOT: JsonObject = {"type": ["boolean", "null"]}


def document(model: "Model", *, feedback: bool) -> bytes:
    """GET /openapi.json; with `feedback` labels are taken."""
    renderer, name = model.renderer, quote(model.name, safe=":")
    version = "" if model.version is None else str(model.version)
    sample = example(model)
    described = _schemas(model, renderer.outputs)
    paths: JsonObject = {
        "/v2": _get("serverMetadata", "What this server is.", "Server"),
        "/v2/health/live": _get("serverLive", "Whether the process lives.", "Live", free=True),
        "/v2/health/ready": _get("serverReady", "Whether requests should be sent here.", "Ready", free=True, also="Ready"),
        "/v2/models": _get("listModels", "The models here.", "Models"),
        f"/v1/models/{name}": _get("modelReadyV1", "Whether the model answers (v1).", "ModelReady", also="ModelReady"),
        f"/v1/models/{name}:predict": _post(
            "predict",
            "Predictions for instances (v1).",
            "Instances",
            "Predictions",
            _instances(sample),
            headers=_headers(version),
        ),
    }
    bases = {"": f"/v2/models/{name}"} | ({"Version": f"/v2/models/{name}/versions/{version}"} if version else {})
    for which, base in bases.items():
        paths |= {
            base: _get(f"modelMetadata{which}", "The model's inputs and outputs.", "Model"),
            f"{base}/ready": _get(f"modelReady{which}", "Whether the model answers.", "ModelReady", also="ModelReady"),
            f"{base}/infer": _post(
                f"infer{which}",
                "Answers for rows.",
                "InferenceRequest",
                "InferenceResponse",
                sample,
                headers=_headers(version),
                binary=True,
            ),
        }
        if feedback:
            paths[f"{base}/feedback"] = _post(
                f"feedback{which}", "What really happened.", "Labels", "Accepted", _labels(model), status="202"
            )
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": model.name,
                "version": version or "unversioned",
                "description": f"Served by Kaizen {__version__} in the Open Inference Protocol v2; model digest {model.digest}.",
            },
            "servers": [{"url": "."}],
            "security": [{}, {"token": []}],
            "paths": paths,
            "components": {"schemas": described, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        }
    )


def example(model: "Model") -> JsonObject:
    """A request that this model can read; its own example where it brings one."""
    if model.example:
        found: JsonObject = msgspec.json.decode(model.example)
        return found
    return {
        "inputs": [
            {"name": one.name, "shape": [1], "datatype": one.datatype, "data": [_SAMPLES[one.datatype]]}
            for one in model.engine.inputs
        ]
    }


def _schemas(model: "Model", outputs: Sequence[str]) -> JsonObject:
    engine = model.engine
    text: JsonObject = {"type": "string"}
    classes = list(engine.classes) if engine.task == CLASSIFICATION and engine.classes is not None else None
    # A regression's number is null where it is infinite; JSON has no other word.
    prediction: JsonObject = {"enum": classes} if classes is not None else {"type": ["number", "null"]}
    names = [*outputs, ATTRIBUTIONS]
    row: JsonObject = {one.name: _value(one) for one in engine.inputs}
    parameters = {"allow_cast": {"type": "boolean"}, "explain": {"type": "boolean"}, "binary_data_output": {"type": "boolean"}}
    return {
        "Error": _object({"error": text}),
        "Live": _object({"live": {"type": "boolean"}}),
        "Ready": _object({"ready": {"type": "boolean"}, "reason": text}, optional=("reason",)),
        "ModelReady": _object({"name": text, "ready": {"type": "boolean"}}),
        "Models": _object({"models": _list(text)}),
        "Server": _object({"name": text, "version": text, "extensions": _list(text)}),
        "Model": _object(
            {
                "name": text,
                "versions": _list(text),
                "platform": text,
                "inputs": _list(_described()),
                "outputs": _list(_described()),
            },
            optional=("versions",),
        ),
        "InferenceRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": ["string", "null"], "maxLength": LONGEST_ID},
                "parameters": _parameters(parameters),
                "inputs": {"type": "array", "minItems": 1, "items": {"anyOf": _inputs(model)}},
                "outputs": {
                    "type": ["array", "null"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"enum": names}, "parameters": _parameters({"binary_data": _OR_NOT})},
                    },
                },
            },
        },
        "InferenceResponse": _object(
            {
                "model_name": {"const": model.name},
                "model_version": text,
                "id": text,
                "outputs": _list(
                    _object(
                        {
                            "name": {"enum": names},
                            "datatype": {"enum": ["BOOL", "BYTES", "FP64", "INT64"]},
                            "shape": _list({"type": "integer", "minimum": 0}),
                            "parameters": {"type": "object"},
                            "data": _list({"type": ["number", "string", "boolean", "null"]}),
                        },
                        optional=("parameters", "data"),
                    )
                ),
            },
            optional=("model_version",),
        ),
        "Instances": {
            "type": "object",
            "required": ["instances"],
            "properties": {
                "instances": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "anyOf": [
                            {"type": "object", "required": list(row), "properties": row},
                            {"type": "array", "minItems": len(row), "maxItems": len(row), "prefixItems": list(row.values())},
                        ]
                    },
                }
            },
        },
        "Predictions": _object({"predictions": _list(prediction)}),
        "Labels": _object({"labels": {"type": "array", "minItems": 1, "items": _label(model, classes)}}),
        "Accepted": _object({"accepted": {"type": "integer", "minimum": 1}}),
    }


def _inputs(model: "Model") -> list[JsonObject]:
    """One schema for all inputs of a kind, so that a wide model has no long document."""
    groups: dict[tuple[str, bool], list[str]] = {}
    for one in model.engine.inputs:
        groups.setdefault((one.datatype, one.nullable), []).append(one.name)
    found = [
        _input({"enum": names}, _SENT[datatype], _value(Input("", datatype, nullable)))  # type: ignore[arg-type]
        for (datatype, nullable), names in groups.items()
    ]
    if model.schema.ignored:
        found.append(_input({"enum": list(model.schema.ignored)}, None, {}))
    if model.engine.inputs and all(one.datatype in NUMBERS for one in model.engine.inputs):
        width = len(model.engine.inputs)
        shape = {
            "type": "array",
            "prefixItems": [{"type": "integer", "minimum": 1}, {"const": width}],
            "minItems": 2,
            "maxItems": 2,
        }
        table = _input({"type": "string"}, _SENT["FP64"], {"type": ["number", "null"]}) | {
            "description": "All inputs of all rows as one table, in the order of the model's inputs."
        }
        table["properties"]["shape"] = shape
        found.append(table)
    return found


def _input(name: JsonObject, datatypes: list[str] | None, value: JsonObject) -> JsonObject:
    shape = {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer", "minimum": 1}}
    return {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": name,
            "shape": shape,
            "datatype": {"type": "string"} if datatypes is None else {"enum": datatypes},
            "data": {
                "type": "array",
                "minItems": 1,
                "items": {"anyOf": [value, {"type": "array", "minItems": 1, "items": value}]},
            },
            "parameters": _parameters({"allow_cast": {"type": "boolean"}, "binary_data_size": {"type": ["integer", "null"]}}),
        },
    }


def _parameters(known: JsonObject) -> JsonObject:
    """Others are ignored."""
    return {"type": ["object", "null"], "properties": known, "additionalProperties": True}


def _value(one: Input) -> JsonObject:
    kind = _KINDS[one.datatype]
    return {"type": [kind, "null"] if one.nullable else kind}


def _label(model: "Model", classes: list[Any] | None) -> JsonObject:
    scalar = {"type": ["string", "number", "boolean"]}
    kind: JsonObject = {"type": "number"} if classes is None else scalar
    properties: JsonObject = {"id": {"type": ["string", "null"], "minLength": 1}, "label": kind, "time": _time()}
    if model.engine.keys:
        keys: JsonObject = _object(dict.fromkeys(model.engine.keys, scalar))
        properties["keys"] = keys | {"type": ["object", "null"]}
    return {"type": "object", "required": ["label"], "properties": properties, "additionalProperties": False}


def _time() -> JsonObject:
    return {"type": ["string", "null"], "format": "date-time"}


def _described() -> JsonObject:
    return _object(
        {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": _list({"type": "integer"}),
            "parameters": {"type": "object"},
        },
        optional=("parameters",),
    )


def _object(properties: JsonObject, optional: Sequence[str] = ()) -> JsonObject:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def _list(of: JsonObject) -> JsonObject:
    return {"type": "array", "items": of}


def _reference(schema: str) -> JsonObject:
    return {"$ref": f"#/components/schemas/{schema}"}


def _json(schema: str) -> JsonObject:
    return {"application/json": {"schema": _reference(schema)}}


def _headers(version: str) -> JsonObject:
    header = {"required": True, "schema": {"type": "string"}}
    return {"X-Model-Digest": header} | ({"X-Model-Version": header} if version else {})


def _refusals(statuses: Iterable[str]) -> JsonObject:
    found: JsonObject = {}
    for status in statuses:
        found[status] = {"description": _REFUSALS[status], "content": _json("Error")}
        if status == "503":
            found[status]["headers"] = {"Retry-After": {"required": True, **_SECONDS}}
    return found


def _get(operation: str, summary: str, schema: str, *, free: bool = False, also: str = "") -> JsonObject:
    """`also` is the schema of a 503 that says no, and not when to try again."""
    responses: JsonObject = {"200": {"description": "So it is.", "content": _json(schema)}} | _refusals(_BODYLESS)
    if also:
        responses["503"] = {
            "description": "Not now.",
            "content": {"application/json": {"schema": {"anyOf": [_reference(also), _reference("Error")]}}},
            "headers": {"Retry-After": _SECONDS},
        }
    described: JsonObject = {"operationId": operation, "summary": summary, "responses": responses}
    return {"get": described | ({"security": []} if free else {})}


def _post(
    operation: str,
    summary: str,
    request: str,
    response: str,
    sample: JsonObject,
    *,
    status: str = "200",
    headers: JsonObject | None = None,
    binary: bool = False,
) -> JsonObject:
    """With `binary` also in the binary tensor extension, both ways."""
    more: JsonObject = {_BINARY: {"schema": {"type": "string", "contentMediaType": _BINARY}}} if binary else {}
    told = (headers or {}) | ({_JSON_LENGTH: _JSON_BYTES} if binary else {})
    answer = {"description": "The answer.", "headers": told, "content": _json(response) | more}
    content = {"application/json": {"schema": _reference(request), "example": sample}} | more
    described = {
        "operationId": operation,
        "summary": summary,
        "requestBody": {"required": True, "content": content},
        "responses": {status: answer} | _refusals(_REFUSALS),
    }
    parameters = {"parameters": [{"name": _JSON_LENGTH, "in": "header", **_JSON_BYTES}]} if binary else {}
    return {"post": described | parameters}


def _instances(sample: JsonObject) -> JsonObject:
    return {"instances": [{one["name"]: one["data"][0] for one in sample["inputs"]}]}


def _labels(model: "Model") -> JsonObject:
    label = model.engine.classes[0] if model.engine.classes else 1.0
    return {"labels": [{"id": "5f2c9b7a1d04-0-0", "label": label, "time": "2026-11-21T08:30:00Z"}]}
