"""Request bodies: what is accepted becomes exactly these columns, what is not gets a sentence that names the input."""

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaizen.serving.bodies import quick
from kaizen.serving.bodies.answers import Renderer, datatype_of, monitored
from kaizen.serving.bodies.protocol import Schema
from kaizen.serving.bodies.quick import ENOUGH, MOST_LEARNED
from kaizen.serving.engine.base import Answer, Input, as_columns, prepare
from kaizen.serving.problems import RequestError
from tests.support.serving import INPUTS, FakeEngine

SCHEMA = Schema(INPUTS, ("flight", "time"), ("predict", "predict_proba", "id"))
GOOD: dict[str, tuple[str, list[Any]]] = {
    "carrier": ("BYTES", ["AA", None]),
    "distance": ("FP64", [100.5, None]),
    "hour": ("INT64", [7, 8]),
    "weekend": ("BOOL", [True, False]),
}


def tensor(name: str, datatype: str, data: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data, **more}


def body(*changed: dict[str, Any], drop: str = "", **more: Any) -> bytes:
    """The good request with some inputs changed or added, one dropped, and other fields beside them."""
    inputs = {name: tensor(name, datatype, data) for name, (datatype, data) in GOOD.items() if name != drop}
    inputs |= {one["name"]: one for one in changed}
    return json.dumps({"inputs": list(inputs.values()), **more}).encode()


def test_columns_are_what_was_sent() -> None:
    parsed = SCHEMA.parse(body(id="a"))
    assert (parsed.id, parsed.rows, parsed.outputs) == ("a", 2, None)
    assert parsed.columns == {name: data for name, (_, data) in GOOD.items()}


ACCEPTED = {
    "shape [rows, 1], nested": (tensor("hour", "INT64", [[7], [8]]) | {"shape": [2, 1]}, "hour", [7, 8]),
    "shape [rows, 1], flat": (tensor("hour", "INT64", [7, 8]) | {"shape": [2, 1]}, "hour", [7, 8]),
    "whole numbers for doubles": (tensor("distance", "INT64", [7, None]), "distance", [7, None]),
    "unsigned for doubles": (tensor("distance", "UINT8", [7, 255]), "distance", [7, 255]),
    "doubles for integers, as pandas makes them": (tensor("hour", "FP64", [7.0, 8]), "hour", [7.0, 8.0]),
    "single precision, accepted": (tensor("distance", "FP32", [0.5, 1], parameters={"allow_cast": True}), "distance", [0.5, 1.0]),
    "the largest and the smallest double": (tensor("distance", "FP64", [1.7976931348623157e308, 5e-324]), "distance", None),
    "unknown parameters": (tensor("hour", "INT64", [7, 8], parameters={"content_type": "np"}), "hour", [7, 8]),
    "a declared key, unused": (tensor("flight", "INT32", [1, 2]), "hour", [7, 8]),
    "any string": (tensor("carrier", "BYTES", ["", "é\u0000😀"]), "carrier", ["", "é\u0000😀"]),
}


@pytest.mark.parametrize(("changed", "name", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(changed: dict[str, Any], name: str, expected: list[Any] | None) -> None:
    columns = SCHEMA.parse(body(changed)).columns
    assert columns[name] == (changed["data"] if expected is None else expected)
    assert set(columns) == set(GOOD)


def test_the_whole_request_can_allow_the_cast() -> None:
    assert SCHEMA.parse(body(tensor("distance", "FP32", [1, 2]), parameters={"allow_cast": True})).columns["distance"] == [
        1.0,
        2.0,
    ]


def test_outputs_can_be_chosen() -> None:
    assert SCHEMA.parse(body(outputs=[{"name": "predict"}])).outputs == frozenset({"predict"})


def test_ids_are_made_and_differ() -> None:
    first, second = SCHEMA.parse(body()).id, SCHEMA.parse(body()).id
    assert first != second
    assert Schema(INPUTS).new_id().rpartition("-")[0] != first.rpartition("-")[0]


@pytest.mark.parametrize("general", [False, True])
def test_an_empty_id_is_none(general: bool) -> None:
    """Or the rows of all who send it would have the same ids."""
    schema = Schema(INPUTS)
    if general:
        schema._quick._ways.clear()
    first, second = (schema.parse(body(id="")) for _ in range(2))
    assert [first.prepared is None, second.prepared is None] == [general, general]
    assert len({"", first.id, second.id}) == 3
    renderer = Renderer("flight-delay", 7, FakeEngine(), "compiled")
    answer = json.loads(renderer.infer(first, Answer(["late", "early"], None, 0)))
    assert answer["id"] == first.id
    assert answer["outputs"][-1]["data"] == [f"{first.id}-0", f"{first.id}-1"]


BARE = body().replace(b"100.5", b"NaN")

REFUSED: dict[str, tuple[bytes, str]] = {
    # what: (body, what the sentence says)
    "empty body": (b"", "the body is empty; send a JSON object"),
    "blank body": (b" \n", "the body is empty; send a JSON object"),
    "not JSON": (b"hello", "the body is not JSON: invalid character (byte 0)"),
    "cut off": (body()[:-9], "the body is not JSON: input data was truncated"),
    "something behind it": (body() + b"x", "the body is not JSON: trailing characters"),
    "byte order mark": (b"\xef\xbb\xbf" + body(), "the body is not JSON"),
    "single quotes": (body().replace(b'"', b"'"), "the body is not JSON"),
    "a list": (b"[]", "the request does not fit: expected `object`, got `array`"),
    "no inputs": (b"{}", "the request does not fit: object missing required field `inputs`"),
    "empty inputs": (b'{"inputs":[]}', '"inputs" is empty; send one for each column of the model'),
    "an input without a name": (
        b'{"inputs":[{}]}',
        "the request does not fit at inputs[0]: object missing required field `name`",
    ),
    "a name that is a number": (
        b'{"inputs":[{"name":1}]}',
        "the request does not fit at inputs[0].name: expected `str`, got `int`",
    ),
    "bare NaN": (BARE, 'input "distance": row 0: the token NaN is not JSON; send null for a missing value'),
    "bare -Infinity": (
        body().replace(b"100.5", b"-Infinity"),
        'input "distance": row 0: the token -Infinity is not JSON; send null for a missing value',
    ),
    "bare NaN in a large body": (BARE + b" " * (1 << 20), "the token NaN is not JSON; send null for a missing value"),
    "beyond a double": (body().replace(b"100.5", b"1e999"), 'input "distance": row 0: number out of range; send FP64 values'),
    "beyond an integer": (body(tensor("hour", "INT64", [7, 2**63])), 'input "hour": row 1: expected `int` <= '),
    "beyond the declared integer": (body(tensor("hour", "INT8", [7, 128])), 'input "hour": row 1: expected `int` <= 127'),
    "thousands of digits": (body().replace(b"100.5", b"1" * 5000), 'input "distance": row 0: number out of range'),
    "nested too deeply": (
        b'{"inputs":[{"name":"hour","shape":[1],"datatype":"INT64","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
        "the JSON is nested too deeply",
    ),
    "nested unused data": (
        body().replace(b'{"inputs": [', b'{"inputs": [{"name":"flight","shape":[1],"datatype":"X","data":' + b"[" * 99_999),
        "nested too deeply",
    ),
    "not UTF-8": (body().replace(b'"AA"', b'"\xff"'), 'input "carrier": the JSON has a string that is not UTF-8'),
    "half a surrogate pair": (body().replace(b'"AA"', b'"\\ud800"'), "the body is not JSON: unexpected end of hex escape (byte"),
    "an unknown input": (
        body(tensor("distnce", "FP64", [1, 2])),
        'there is no input "distnce"; the model takes carrier (BYTES), distance (FP64), hour (INT64), weekend (BOOL)',
    ),
    "a very long unknown input": (body(tensor("x" * 5000, "FP64", [1, 2])), f'there is no input "{"x" * 60}…"; the model'),
    "a missing input": (
        body(drop="distance"),
        'input "distance" is missing; send it as FP64 with shape [2], null where one is missing',
    ),
    "a missing input without missing values": (body(drop="hour"), 'input "hour" is missing; send it as INT64 with shape [2]'),
    "an input twice": (
        body().replace(b'"weekend"', b'"hour"').replace(b"BOOL", b"INT64"),
        'input "hour" is there twice; send each input once',
    ),
    "single precision": (
        body(tensor("distance", "FP32", [1, 2])),
        'input "distance" is FP32, but the model was trained in double precision, and rounded values can get other answers; '
        'send FP64, or accept that with "parameters": {"allow_cast": true}',
    ),
    "half precision": (body(tensor("distance", "FP16", [1, 2])), 'input "distance" is FP16, but the model was trained in double'),
    "a string for a number": (
        body(tensor("distance", "FP64", ["1", 2])),
        'input "distance": row 0: expected `float | null`, got `str`; send FP64 values (null where one is missing)',
    ),
    "a boolean for a number": (
        body(tensor("distance", "FP64", [1, True])),
        'input "distance": row 1: expected `float | null`, got',
    ),
    "a number for a boolean": (
        body(tensor("weekend", "BOOL", [1, 0])),
        'input "weekend": row 0: expected `bool`, got `int`; send',
    ),
    "a fraction for an integer": (body(tensor("hour", "INT64", [7, 7.5])), 'input "hour": row 1: expected `int`, got `float`'),
    "another datatype": (body(tensor("carrier", "FP64", [1, 2])), 'input "carrier" is "FP64"; send BYTES'),
    "an unknown datatype": (body(tensor("hour", "int", [1, 2])), 'input "hour" is "int"; send INT64'),
    "null where the model takes none": (
        body(tensor("hour", "INT64", [7, None])),
        'input "hour": row 1 is null, but the model takes no missing values there; send INT64 values',
    ),
    "data that are no list": (
        body(tensor("hour", "INT64", [7, 8]) | {"data": 7}),
        'input "hour": data: expected `array`, got `int`',
    ),
    "no data": (
        body().replace(b', "data": [7, 8]', b""),
        'input "hour" has no data; send its values as JSON in "data"',
    ),
    "data twice": (
        body(tensor("hour", "INT64", [7, 8], parameters={"binary_data_size": 16})),
        'input "hour" has "data" and "binary_data_size"; send one of them',
    ),
    "binary data without the header": (
        body({"name": "hour", "datatype": "INT64", "shape": [2], "parameters": {"binary_data_size": 16}}),
        'input "hour" has binary_data_size, but the header Inference-Header-Content-Length, which says how long the JSON is, is',
    ),
    "a parameter of another type": (
        body(parameters={"explain": "yes"}),
        "the request does not fit at parameters.explain: expected `bool`, got `str`",
    ),
    "a table for a model with strings": (
        json.dumps({"inputs": [tensor("x", "FP64", [1.0] * 4) | {"shape": [1, 4]}]}).encode(),
        'there is no input "x"; the model takes carrier (BYTES), distance',
    ),
    "more than 64 bits": (
        body(tensor("hour", "UINT64", [7, 2**63])),
        'input "hour": row 1: expected `int` <= 9223372036854775807; send INT64',
    ),
    "another shape than data": (
        body(tensor("hour", "INT64", [7, 8]) | {"shape": [3]}),
        'input "hour" has shape [3], but its data hold 2 values; send shape [2]',
    ),
    "two columns in one": (
        body(tensor("hour", "INT64", [7, 8]) | {"shape": [1, 2]}),
        'input "hour" has shape [1, 2]; send [rows]',
    ),
    "no shape": (body(tensor("hour", "INT64", [7, 8]) | {"shape": []}), 'input "hour" has shape []; send [rows] or [rows, 1]'),
    "no shape of a key": (
        body(tensor("flight", "INT64", [7, 8]) | {"shape": []}),
        'input "flight" has shape [], but its data hold 2 values; send shape [2]',
    ),
    "a negative shape": (body(tensor("hour", "INT64", [7, 8]) | {"shape": [-1]}), 'input "hour" has shape [-1], but its data'),
    "many dimensions": (
        body(tensor("hour", "INT64", [7]) | {"shape": [1] * 999}),
        'input "hour" has shape of 999 dimensions; send',
    ),
    "nested data in a flat shape": (
        body(tensor("hour", "INT64", [[7], [8]])),
        'input "hour": row 0: expected `int`, got `array`',
    ),
    "two values in a row": (
        body(tensor("hour", "INT64", [[7, 1], [8, 1]]) | {"shape": [2, 1]}),
        'input "hour": row 0 has 2 values; send one a row',
    ),
    "no rows": (body(tensor("carrier", "BYTES", [])), 'input "carrier" has no rows; send at least one'),
    "another number of rows": (
        body(tensor("hour", "INT64", [7])),
        'input "hour" has 1 row, but input "carrier" has 2 rows; send as many for each',
    ),
    "another number of rows of a key": (
        body(tensor("flight", "INT64", [1])),
        'input "flight" has 1 row, but input "carrier" has',
    ),
    "an unknown output": (
        body(outputs=[{"name": "probability"}]),
        'there is no output "probability"; the model has predict, predict_proba, id',
    ),
    "an id that is a number": (body(id=7), "the request does not fit at id: expected `str | null`, got `int`"),
    "an endless id": (body(id="x" * 257), "the request's id has 257 characters; it must not have more than 256"),
}


@pytest.mark.parametrize(("given", "says"), REFUSED.values(), ids=REFUSED)
def test_refused(given: bytes, says: str) -> None:
    with pytest.raises(RequestError) as refused:
        SCHEMA.parse(given)
    assert refused.value.status == 400
    assert says in str(refused.value)
    assert len(str(refused.value)) < 400


NUMBERS = Schema((Input("a", "FP64", False), Input("b", "INT64", False), Input("c", "FP64", True)))


def table(data: Any, rows: int = 2, datatype: str = "FP64", name: str = "x", width: int = 3, **more: Any) -> bytes:
    return json.dumps({"inputs": [{"name": name, "shape": [rows, width], "datatype": datatype, "data": data}], **more}).encode()


def both(*names: str) -> bytes:
    """A request of one row with these inputs, of which x is the table."""
    shapes = {name: ([1, 3], [1.0, 2.0, 3.0]) if name == "x" else ([1], [4.0]) for name in names}
    inputs = [{"name": name, "shape": shapes[name][0], "datatype": "FP64", "data": shapes[name][1]} for name in names]
    return json.dumps({"inputs": inputs}).encode()


TABLES = {
    "flat": table([1, 2, 3, 4.5, 5, 6]),
    "nested": table([[1, 2, 3], [4.5, 5, 6]]),
    "with parameters": table([1, 2, 3, 4.5, 5, 6], parameters={"content_type": "np"}),
    "nested, with outputs": table([[1, 2, 3], [4.5, 5, 6]], outputs=[{"name": "predict"}]),
    "single precision": table([1, 2, 3, 4.5, 5, 6], datatype="FP32", parameters={"allow_cast": True}),
    "by name": json.dumps(
        {"inputs": [tensor(name, "FP64", data) for name, data in (("a", [1, 4.5]), ("b", [2, 5]), ("c", [3, 6]))]}
    ).encode(),
}


@pytest.mark.parametrize("given", TABLES.values(), ids=TABLES)
def test_one_table_for_all_numbers(given: bytes) -> None:
    parsed = NUMBERS.parse(given)
    assert parsed.rows == 2
    assert parsed.columns == {"a": [1.0, 4.5], "b": [2.0, 5.0], "c": [3.0, 6.0]}


def test_a_table_may_have_missing_values_and_whole_numbers() -> None:
    assert NUMBERS.parse(table([1, 2, None], rows=1)).columns == {"a": [1.0], "b": [2.0], "c": [None]}
    assert NUMBERS.parse(table([[1, 2, 3]], rows=1, datatype="INT32")).columns == {"a": [1], "b": [2], "c": [3]}


REFUSED_TABLES: dict[str, tuple[bytes, str]] = {
    "too narrow": (table([1, 2], rows=1, width=2), 'input "x" has shape [1, 2]; a table for this model has shape [rows, 3]'),
    "too few values": (table([1, 2]), 'input "x" has shape [2, 3], but its data hold 2 values'),
    "too few rows": (table([[1, 2, 3]]), 'input "x" has shape [2, 3], but its data hold 3 values'),
    "no rows": (table([], rows=0), 'input "x" has no rows; send at least one'),
    "a short row": (table([[1, 2, 3], [4, 5]]), 'input "x": row 1 has 2 values; send 3'),
    "a string": (
        table([1, 2, 3, 4, "5", 6]),
        'input "x": row 1, "b": expected `float | null`, got `str`; send FP64 values',
    ),
    "a nested string": (
        table([[1, 2, 3], [4, 5, "6"]]),
        'input "x": row 1, "c": expected `float | null`, got `str`; send FP64 values',
    ),
    "missing where the model takes none": (
        table([[1, 2, 3], [4, None, 6]]),
        'input "b": row 1 is null, but the model takes no missing values there; send INT64 values',
    ),
    "single precision": (table([1, 2, 3, 4, 5, 6], datatype="FP32"), 'input "x" is FP32, but the model was trained in double'),
    "strings": (table(["1"] * 6, datatype="BYTES"), 'input "x" is "BYTES"; send FP64'),
    "two tables": (
        json.dumps({"inputs": [tensor(name, "FP64", [1.0] * 3) | {"shape": [1, 3]} for name in "xy"]}).encode(),
        'there is no input "y"; the model takes a (FP64), b (INT64), c (FP64)',
    ),
    "a column behind its table": (
        both("x", "b"),
        'input "b" is there twice, by its name and in the table "x"; send each input once',
    ),
    "a column before its table": (
        both("b", "x"),
        'input "b" is there twice, by its name and in the table "x"; send each input once',
    ),
    "all columns behind their table": (both("x", "a", "b", "c"), 'input "a" is there twice, by its name and in the table "x"'),
    "all columns before their table": (both("a", "b", "c", "x"), 'input "a" is there twice, by its name and in the table "x"'),
    "a column twice before its table": (both("b", "b", "x"), 'input "b" is there twice; send each input once'),
    "a table twice": (both("x", "x"), 'input "x" is there twice; send each input once'),
    "a column and a narrow table": (
        json.dumps({"inputs": [tensor("a", "FP64", [1.0]), tensor("x", "FP64", [1.0, 2.0]) | {"shape": [1, 2]}]}).encode(),
        'there is no input "x"; the model takes a (FP64), b (INT64), c (FP64)',
    ),
    "one row without the rows' dimension": (
        json.dumps({"inputs": [tensor("x", "FP64", [1.0, 2.0, 3.0])]}).encode(),
        'there is no input "x"; the model takes a (FP64), b (INT64), c (FP64), or all of them as one table with shape [rows, 3]',
    ),
    "the name of an input": (table([1, 2, 3], rows=1, name="a"), 'input "a" has shape [1, 3]; send [rows] or [rows, 1]'),
    "no numbers": (table(7), 'input "x": data: expected `array`, got `int`'),
}


@pytest.mark.parametrize(("given", "says"), REFUSED_TABLES.values(), ids=REFUSED_TABLES)
def test_refused_tables(given: bytes, says: str) -> None:
    with pytest.raises(RequestError) as refused:
        NUMBERS.parse(given)
    assert says in str(refused.value)


def inputs_of(schema: Schema) -> list[Input]:
    return [one for one in schema.columns if isinstance(one, Input)]


def slowly(schema: Schema, given: bytes) -> Any:
    """Columns as the general way reads them and the engine prepares them, or the sentence."""
    general = Schema(schema.columns, schema.ignored, schema.outputs)
    general._kept = schema._kept
    general._quick._ways.clear()
    try:
        parsed = general.parse(given)
    except RequestError as problem:
        return str(problem)
    prepared = prepare(inputs_of(schema), parsed.columns)
    return parsed.rows, repr(sorted(parsed.columns.items())), repr(prepared), parsed.outputs, parsed.explain, parsed.binary


def quickly(schema: Schema, given: bytes) -> Any:
    try:
        parsed = schema.parse(given)
    except RequestError as problem:
        return str(problem)
    prepared = prepare(inputs_of(schema), parsed.columns) if parsed.prepared is None else as_columns(parsed.prepared)
    return parsed.rows, repr(sorted(parsed.columns.items())), repr(prepared), parsed.outputs, parsed.explain, parsed.binary


ASKED = {
    "an output": body(outputs=[{"name": "predict"}]),
    "no outputs": body(outputs=[]),
    "null for all that may be": body(outputs=None, parameters=None, id=None),
    "an explanation": body(parameters={"explain": True}, outputs=[{"name": "id"}]),
    "attributions": body(outputs=[{"name": "attributions"}]),
    "all as bytes": body(parameters={"binary_data_output": True, "x": 1}),
    "some as bytes": body(outputs=[{"name": "predict", "parameters": {"binary_data": True}}, {"name": "id"}]),
    "all but one as bytes": body(
        outputs=[{"name": "predict", "parameters": {"binary_data": False}}, {"name": "id"}],
        parameters={"binary_data_output": True},
    ),
    "unknown fields": body(tensor("hour", "INT64", [7, 8], x=1), x=[1]),
    "parameters of inputs": body(tensor("hour", "INT64", [7, 8], parameters={"binary_data_size": None, "allow_cast": True})),
}


def test_what_is_asked_for() -> None:
    asked = {name: SCHEMA.parse(given) for name, given in ASKED.items()}
    assert {name for name, parsed in asked.items() if parsed.explain} == {"an explanation", "attributions"}
    assert {name: parsed.binary for name, parsed in asked.items() if parsed.binary} == {
        "all as bytes": {"predict", "predict_proba", "id", "attributions"},
        "some as bytes": {"predict"},
        "all but one as bytes": {"predict_proba", "id", "attributions"},
    }
    assert all(parsed.prepared is not None for parsed in asked.values())


BOTH_WAYS = [
    *((SCHEMA, given) for given in ASKED.values()),
    *((SCHEMA, body(changed)) for changed, _, _ in ACCEPTED.values()),
    *((SCHEMA, given) for given, _ in REFUSED.values()),
    *((NUMBERS, given) for given in TABLES.values()),
    *((NUMBERS, given) for given, _ in REFUSED_TABLES.values()),
]


@pytest.mark.parametrize(("schema", "given"), BOTH_WAYS, ids=[*ASKED, *ACCEPTED, *REFUSED, *TABLES, *REFUSED_TABLES])
def test_the_quick_way_reads_what_the_general_one_reads(schema: Schema, given: bytes) -> None:
    assert quickly(schema, given) == slowly(schema, given)


def test_one_row_stays_a_row_and_many_numbers_a_matrix() -> None:
    alone = json.dumps({"inputs": [tensor(name, datatype, data[:1]) for name, (datatype, data) in GOOD.items()]}).encode()
    schema = Schema(INPUTS)
    for _ in range(2):  # also after requests of many rows
        assert schema.parse(alone).prepared == ("AA", 100.5, 7, True)
        assert schema.parse(alone).columns == {"carrier": ["AA"], "distance": [100.5], "hour": [7], "weekend": [True]}
        assert isinstance(schema.parse(body()).prepared, list)
    missing = schema.parse(alone.replace(b"100.5", b"null"))
    assert repr(missing.prepared) == "('AA', nan, 7, True)"
    assert missing.columns["distance"] == [None]
    for data in ([1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]):
        parsed = NUMBERS.parse(table(data))
        assert isinstance(parsed.prepared, np.ndarray)
        assert parsed.prepared.tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
        assert parsed.part(1, 2) == {"a": [4.0], "b": [5.0], "c": [6.0]}
        assert NUMBERS.parse(table(data[: len(data) // 2], rows=1)).prepared == (1.0, 2.0, 3.0)


ROW = {"carrier": "AA", "distance": 1.5, "hour": 7, "weekend": True}


def instances(*rows: Any) -> bytes:
    return json.dumps({"instances": rows}).encode()


def test_instances_are_objects_or_lists() -> None:
    parsed = SCHEMA.parse_instances(instances(ROW | {"flight": 3}, [None, 2, 8.0, False]))
    assert parsed.rows == 2
    assert parsed.columns == {"carrier": ["AA", None], "distance": [1.5, 2], "hour": [7, 8.0], "weekend": [True, False]}


REFUSED_INSTANCES: dict[str, tuple[bytes, str]] = {
    "none": (instances(), '"instances" is empty; send at least one, as an object by column or a list in the order of the inputs'),
    "a number": (instances(3), "the request does not fit at instances[0]"),
    "no instances": (b"{}", "object missing required field `instances`"),
    "a missing column": (instances({"carrier": "AA"}), 'instance 0 has no "distance"; send null if its value is missing'),
    "an unknown column": (instances(ROW | {"x": 1}), 'instance 0 has a column "x"; the model takes carrier (BYTES), distance'),
    "a short list": (instances(ROW, [1]), "instance 1 has 1 values; send 4, in this order: carrier (BYTES), distance (FP64)"),
    "another type": (
        instances(ROW, ROW | {"hour": "7"}),
        'input "hour": instance 1: expected `int | float`, got `str`; send INT64',
    ),
    "null where the model takes none": (
        instances(ROW | {"hour": None}),
        'input "hour": instance 0 is null, but the model takes no',
    ),
    "bare NaN": (instances(ROW).replace(b"1.5", b"NaN"), "the token NaN is not JSON; send null for a missing value"),
    "nested too deeply": (b'{"instances":' + b"[" * 100_000, "the JSON is nested too deeply"),
}


@pytest.mark.parametrize(("given", "says"), REFUSED_INSTANCES.values(), ids=REFUSED_INSTANCES)
def test_refused_instances(given: bytes, says: str) -> None:
    with pytest.raises(RequestError) as refused:
        SCHEMA.parse_instances(given)
    assert says in str(refused.value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
inputs = st.fixed_dictionaries(
    {
        "name": st.sampled_from([*GOOD, "flight", "x"]) | anything,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | anything,
        "datatype": st.sampled_from(["FP64", "FP32", "INT64", "INT8", "BYTES", "BOOL"]) | anything,
        "data": st.lists(anything, max_size=3) | anything,
    }
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(inputs, max_size=5) | anything}, optional={"id": anything, "outputs": anything}
)


@settings(max_examples=40)
@given(st.lists(inputs, min_size=1, max_size=4))
def test_both_ways_read_the_same(given: list[Any]) -> None:
    sent = json.dumps({"inputs": given}).encode()
    assert quickly(SCHEMA, sent) == slowly(SCHEMA, sent)
    assert quickly(NUMBERS, sent) == slowly(NUMBERS, sent)


NUMERIC = ["FP64", "INT64", "INT8", "UINT64"]
SENT_AS = {
    "carrier": ["BYTES"],
    "distance": NUMERIC,
    "hour": NUMERIC,
    "weekend": ["BOOL"],
    "flight": ["BYTES", "X"],
    "time": ["INT64"],
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "FP64": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3),
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "INT8": st.integers(-128, 127),
    "UINT64": st.integers(0, 2**63 - 1),
    "BYTES": st.text(max_size=3),
    "BOOL": st.booleans(),
    "X": anything,
}


@st.composite
def alike(draw: st.DrawFn) -> list[bytes]:
    """Requests with the same inputs in the same order, of which some are wrong, or have another number of rows."""
    names = draw(st.permutations([*GOOD, *draw(st.sets(st.sampled_from(["flight", "time"])))]))
    sent_as = {name: draw(st.sampled_from(SENT_AS[name])) for name in names}
    rows = draw(st.integers(1, 3))

    def one(spoiled: bool) -> bytes:
        values = {name: VALUES[sent_as[name]] | st.none() | (anything if spoiled else st.nothing()) for name in names}
        data = {name: draw(st.lists(values[name], min_size=rows - spoiled, max_size=rows + spoiled)) for name in names}
        return json.dumps({"inputs": [tensor(name, sent_as[name], data[name]) for name in names]}).encode()

    return [one(spoiled) for spoiled in draw(st.lists(st.booleans(), min_size=1, max_size=5))]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came twice is learned."""
    monkeypatch.setattr(quick, "ENOUGH", 2)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(alike(), st.booleans())
def test_what_was_learned_is_read_as_the_general_way_reads_it(soon: None, sent: list[bytes], all_kept: bool) -> None:
    schema = Schema(INPUTS, SCHEMA.ignored, SCHEMA.outputs)
    if all_kept:
        schema.keep_all()
    for request in (*sent, *sent, *sent):
        assert quickly(schema, request) == slowly(schema, request)


def reordered(*names: str, rows: int = 2, **datatypes: str) -> bytes:
    """The good request's first rows with its inputs in this order, and keys among them."""
    data = GOOD | {"flight": ("BYTES", ["AA1", "AA2"]), "time": ("BYTES", ["2013-07-01", "2013-07-02"])}
    sent = [tensor(name, datatypes.get(name, data[name][0]), data[name][1][:rows]) for name in names]
    return json.dumps({"inputs": sent}).encode()


OTHERS = {
    "another order": reordered("weekend", "hour", "carrier", "distance"),
    "keys among them": reordered("flight", "carrier", "time", "distance", "hour", "weekend"),
    "a key behind": reordered(*GOOD, "flight"),
    "a key behind one row": reordered(*GOOD, "flight", rows=1),
    "a key before one row": reordered("flight", *GOOD, rows=1),
    "hours as doubles": reordered(*GOOD, hour="FP64"),
}


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("sent", OTHERS.values(), ids=OTHERS)
def test_a_kind_of_request_that_came_often_is_read_quickly(sent: bytes, kept: bool) -> None:
    schema = Schema(INPUTS, SCHEMA.ignored, SCHEMA.outputs)
    if kept:
        schema.keep_all()
    *general, last = [schema.parse(sent) for _ in range(ENOUGH + 1)]
    assert [one.prepared for one in general] == [None] * ENOUGH
    assert last.prepared is not None
    assert len(as_columns(last.prepared)) == len(INPUTS), "the engine gets the model's inputs alone"
    assert dict(last.columns) == dict(general[0].columns)
    assert last.width == general[0].width


def test_only_so_many_kinds_are_learned_and_the_last_are_kept() -> None:
    """Each takes memory and a moment."""
    schema = Schema(INPUTS, SCHEMA.ignored, SCHEMA.outputs)
    before = len(schema._quick._ways)
    for names in itertools.permutations(GOOD):
        prepared = [schema.parse(reordered(*names)).prepared for _ in range(ENOUGH + 1)]
        assert prepared[-1] is not None
    assert len(schema._quick._ways) == before + MOST_LEARNED


def test_the_models_own_order_is_never_forgotten() -> None:
    schema = Schema(INPUTS, SCHEMA.ignored, SCHEMA.outputs)
    for names in itertools.permutations(GOOD):
        for _ in range(ENOUGH):
            schema.parse(reordered(*names))
    assert schema.parse(reordered(*GOOD)).prepared is not None
    assert schema.parse(reordered(*GOOD, rows=1)).prepared is not None


def test_what_strangers_send_is_not_kept() -> None:
    """Of an input beside the model's the datatype may be anything."""
    schema = Schema(INPUTS, SCHEMA.ignored, SCHEMA.outputs)
    for number in range(100):
        schema.parse(reordered(*GOOD, "flight", flight="X" * 1000 + str(number)))
    assert len(repr(schema._quick._seen)) < 1000


def test_a_request_that_is_read_the_general_way_for_its_values_teaches_nothing() -> None:
    """It is their shape that is special."""
    inputs = [tensor(name, "FP64" if name == "hour" else kind, data) | {"shape": [2, 1]} for name, (kind, data) in GOOD.items()]
    sent = json.dumps({"inputs": inputs}).encode()
    schema = Schema(INPUTS)
    before = len(schema._quick._ways)
    assert [schema.parse(sent).prepared for _ in range(2 * ENOUGH)] == [None] * 2 * ENOUGH
    assert len(schema._quick._ways) == before


def test_a_table_is_not_named_as_a_key() -> None:
    """That input would be the key."""
    schema = Schema(NUMBERS.columns, ("flight",))
    with pytest.raises(RequestError):
        schema.parse(table([1.0, 2.0, 3.0], rows=1, name="flight"))


@pytest.mark.parametrize("names", [list(GOOD), list(GOOD)[::-1]])
def test_parameters_of_inputs_are_checked_in_any_order(names: list[str]) -> None:
    sent = json.loads(reordered(*names))
    sent["inputs"][0]["parameters"] = {"allow_cast": "yes"}
    with pytest.raises(RequestError, match="allow_cast"):
        Schema(INPUTS).parse(json.dumps(sent).encode())


def only_its_own_error(given: bytes) -> None:
    """Parsing ends with columns that the engine takes, or with the protocol's own error."""
    for parse in (SCHEMA.parse, SCHEMA.parse_instances):
        try:
            parsed = parse(given)
        except RequestError:
            continue
        FakeEngine().columns(parsed.columns)


@given(st.binary(max_size=200))
def test_bytes_never_raise_anything_else(given: bytes) -> None:
    only_its_own_error(given)


@given(requests | st.fixed_dictionaries({"instances": st.lists(anything, max_size=3)}) | anything)
def test_json_never_raises_anything_else(given: Any) -> None:
    only_its_own_error(json.dumps(given).encode())


@given(st.integers(0, len(body())), st.binary(max_size=3), st.integers(0, 3))
def test_a_mutated_request_never_raises_anything_else(place: int, inserted: bytes, dropped: int) -> None:
    good = body()
    mutated = good[:place] + inserted + good[place + dropped :]
    only_its_own_error(mutated)
    assert quickly(SCHEMA, mutated) == slowly(SCHEMA, mutated)


@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_doubles_arrive_bit_for_bit(values: list[float | None]) -> None:
    schema = Schema(INPUTS[1:2])
    sent = json.dumps({"inputs": [tensor("distance", "FP64", values)]}).encode()
    assert repr(schema.parse(sent).columns["distance"]) == repr(values)


def test_answers_have_the_shapes_of_the_protocol() -> None:
    renderer = Renderer("flight-delay", 7, FakeEngine(), "compiled")
    answer = Answer(["late", "early"], [0.25, 0.75, 1.0, 0.0], 2)
    assert json.loads(renderer.infer(SCHEMA.parse(body(id="a")), answer)) == {
        "model_name": "flight-delay",
        "model_version": "7",
        "id": "a",
        "outputs": [
            {"name": "predict", "datatype": "BYTES", "shape": [2], "data": ["late", "early"]},
            {
                "name": "predict_proba",
                "datatype": "FP64",
                "shape": [2, 2],
                "data": [0.25, 0.75, 1.0, 0.0],
                "parameters": {"classes": '["early","late"]'},
            },
            {"name": "id", "datatype": "BYTES", "shape": [2], "data": ["a-0", "a-1"]},
        ],
    }
    chosen = json.loads(renderer.infer(SCHEMA.parse(body(outputs=[{"name": "predict"}])), answer))
    assert [output["name"] for output in chosen["outputs"]] == ["predict"]
    assert json.loads(renderer.predictions(answer)) == {"predictions": ["late", "early"]}
    unversioned = json.loads(Renderer("m", None, FakeEngine(), "compiled").infer(SCHEMA.parse(body()), answer))
    assert "model_version" not in unversioned


def test_one_number_a_row_is_watched() -> None:
    assert monitored(Answer([1.5, 2.5], None, 0)) == [1.5, 2.5]
    assert monitored(Answer(["a", "b"], [0.25, 0.75, 1.0, 0.0], 2)) == [0.75, 0.0]
    assert monitored(Answer(["a", "b"], [0.2, 0.3, 0.5, 0.9, 0.1, 0.0], 3)) == [0.5, 0.9]


def test_datatypes_of_labels() -> None:
    assert [datatype_of(labels) for labels in (("a", "b"), (False, True), (1, 2), (1.0, 2.0), (1, 2.5))] == [
        "BYTES",
        "BOOL",
        "INT64",
        "FP64",
        "FP64",
    ]
