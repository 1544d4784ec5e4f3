"""Tensors that do not come as JSON: bytes behind it, and what gRPC hands over."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaizen.serving.bodies.binary import DATATYPES, decoded, encoded, strings
from kaizen.serving.bodies.protocol import Parsed, Schema, Tensor
from kaizen.serving.engine.base import Input, prepare
from kaizen.serving.problems import RequestError
from tests.support.serving import INPUTS, FakeEngine

SCHEMA = Schema(INPUTS, ("flight",), ("predict", "predict_proba", "id"))
NUMBER_INPUTS = (Input("a", "FP64", False), Input("b", "INT64", False), Input("c", "FP64", True))
NUMBERS = Schema(NUMBER_INPUTS)
NAN = float("nan")


def good() -> dict[str, Tensor]:
    return {
        "carrier": Tensor("carrier", "BYTES", [2], [b"AA", "é"]),
        "distance": Tensor("distance", "FP64", [2, 1], np.array([1.5, NAN])),
        "hour": Tensor("hour", "INT16", [2], np.array([7, 8], dtype=np.int16)),
        "weekend": Tensor("weekend", "BOOL", [2], np.array([True, False])),
    }


def accept(*changed: Tensor, drop: str = "", **more: Any) -> Parsed:
    tensors = good() | {tensor.name: tensor for tensor in changed}
    return SCHEMA.accept([tensor for name, tensor in tensors.items() if name != drop], **more)


def test_tensors_become_columns_that_the_engine_takes() -> None:
    parsed = accept(id="a", parameters={"explain": True, "priority": 3}, wanted=["predict"])
    assert (parsed.id, parsed.rows, parsed.outputs, parsed.explain) == ("a", 2, frozenset({"predict"}), True)
    assert parsed.columns["carrier"] == ["AA", "é"]
    assert parsed.columns["hour"].dtype == np.int64  # type: ignore[union-attr]
    prepared = FakeEngine().columns(parsed.columns)
    assert [list(map(str, column)) for column in prepared] == [["AA", "é"], ["1.5", "nan"], ["7", "8"], ["True", "False"]]
    assert accept().id != accept(id="").id


ACCEPTED = {
    "doubles for integers": (Tensor("hour", "FP64", [2], np.array([7.0, 8.0])), [7.0, 8.0]),
    "unsigned": (Tensor("hour", "UINT64", [2], np.array([7, 2**63 - 1], dtype=np.uint64)), [7, 2**63 - 1]),
    "a list": (Tensor("hour", "INT64", [2], [7, 8]), [7, 8]),
    "single precision, accepted": (
        Tensor("distance", "FP32", [2], np.array([0.5, NAN], dtype=np.float32), {"allow_cast": True}),
        [0.5, NAN],
    ),
    "half precision, accepted": (
        Tensor("distance", "FP16", [2], np.array([0.5, 1], dtype=np.float16), {"allow_cast": True}),
        [0.5, 1.0],
    ),
}


@pytest.mark.parametrize(("tensor", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(tensor: Tensor, expected: list[Any]) -> None:
    assert list(map(str, np.asarray(accept(tensor).columns[tensor.name]).tolist())) == list(map(str, expected))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another datatype": ({"with": Tensor("carrier", "FP64", [2], np.ones(2))}, 'input "carrier" is "FP64"; send BYTES'),
    "single precision": ({"with": Tensor("distance", "FP32", [2], np.ones(2))}, 'input "distance" is FP32, but the model was'),
    "NaN where the model takes none": (
        {"with": Tensor("hour", "FP64", [2], np.array([1, NAN]))},
        'input "hour": row 1 is NaN, but the model takes no missing values there; send INT64 values',
    ),
    "not UTF-8": (
        {"with": Tensor("carrier", "BYTES", [2], [b"AA", b"\xff"])},
        'input "carrier": row 1 is not UTF-8; send BYTES values in that encoding',
    ),
    "too large": (
        {"with": Tensor("hour", "UINT64", [2], np.array([1, 2**63], dtype=np.uint64))},
        'input "hour": value 1 is outside the range of a 64-bit integer',
    ),
    "another shape": (
        {"with": Tensor("hour", "INT64", [3], np.array([1, 2]))},
        'input "hour" has shape [3], but its data hold 2 values; send shape [2]',
    ),
    "no rows": ({"with": Tensor("carrier", "BYTES", [0], [])}, 'input "carrier" has no rows; send at least one'),
    "a missing input": ({"drop": "hour"}, 'input "hour" is missing; send it as INT64 with shape [2]'),
    "an unknown output": ({"wanted": ["x"]}, 'there is no output "x"; the model has predict, predict_proba, id'),
    "a parameter of another type": ({"parameters": {"explain": "true"}}, 'the parameter "explain" must be true or false'),
    "an endless id": ({"id": "x" * 257}, "the request's id has 257 characters"),
    "a key with other rows": ({"with": Tensor("flight", "INT64", [1], np.ones(1))}, 'input "flight" has 1 row, but input'),
}


@pytest.mark.parametrize(("changed", "says"), REFUSED.values(), ids=REFUSED)
def test_refused(changed: dict[str, Any], says: str) -> None:
    more = {name: value for name, value in changed.items() if name != "with"}
    with pytest.raises(RequestError) as refused:
        accept(*([changed["with"]] if "with" in changed else ()), **more)
    assert says in str(refused.value)


def test_no_tensors() -> None:
    with pytest.raises(RequestError, match='"inputs" is empty'):
        SCHEMA.accept([])


def test_a_table() -> None:
    array = np.array([[1, 2, NAN], [4, 5, 6]])
    parsed = NUMBERS.accept([Tensor("x", "FP64", [2, 3], array.ravel())])
    prepared = prepare(NUMBER_INPUTS, parsed.columns)
    assert np.array_equal(np.column_stack(prepared), array, equal_nan=True)
    with pytest.raises(RequestError, match='input "b": row 1 is NaN'):
        NUMBERS.accept([Tensor("x", "FP64", [2, 3], np.array([1, 2, 3, 4, NAN, 6]))])
    with pytest.raises(RequestError, match="but its data hold 5 values"):
        NUMBERS.accept([Tensor("x", "FP64", [2, 3], np.ones(5))])


def test_a_table_has_no_column_beside_it() -> None:
    """Nobody could know which of the two was meant."""
    table, column = Tensor("x", "FP64", [2, 3], np.ones(6)), Tensor("b", "FP64", [2], np.ones(2))
    says = 'input "b" is there twice, by its name and in the table "x"; send each input once'
    for tensors in ([table, column], [column, table]):
        with pytest.raises(RequestError) as refused:
            NUMBERS.accept(tensors)
        assert (refused.value.status, str(refused.value)) == (400, says)


# Bytes behind the JSON


def binary(*inputs: tuple[str, str, bytes], rows: int = 2, more: bytes = b"", size: int = 0) -> tuple[bytes, int]:
    """A body with these inputs as bytes, and how long its JSON is."""
    described = [
        {"name": name, "shape": [rows], "datatype": datatype, "parameters": {"binary_data_size": len(data) + size}}
        for name, datatype, data in inputs
    ]
    head = json.dumps({"inputs": described}).encode()
    return head + b"".join(data for _, _, data in inputs) + more, len(head)


A = ("a", "FP64", struct.pack("<2d", 1.5, -2.5))
B = ("b", "INT32", struct.pack("<2i", 7, -8))
C = ("c", "FP64", struct.pack("<2d", NAN, 0.0))


def test_bytes_become_columns() -> None:
    body, length = binary(A, B, C)
    columns = NUMBERS.parse(body, length).columns
    assert [list(map(str, columns[name])) for name in "abc"] == [["1.5", "-2.5"], ["7", "-8"], ["nan", "0.0"]]


def test_a_table_of_bytes() -> None:
    head = json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "parameters": {"binary_data_size": 24}}]}
    ).encode()
    columns = NUMBERS.parse(head + struct.pack("<3d", 1, 2, 3), len(head)).columns
    assert [float(columns[name][0]) for name in "abc"] == [1.0, 2.0, 3.0]


def test_a_table_of_bytes_has_no_column_beside_it() -> None:
    inputs = [
        {"name": name, "shape": shape, "datatype": "FP64", "parameters": {"binary_data_size": size}}
        for name, shape, size in (("x", [1, 3], 24), ("b", [1], 8))
    ]
    for described in (inputs, inputs[::-1]):
        head = json.dumps({"inputs": described}).encode()
        with pytest.raises(RequestError, match='input "b" is there twice, by its name and in the table "x"; send each input'):
            NUMBERS.parse(head + struct.pack("<4d", 1, 2, 3, 4), len(head))


WRONG: dict[str, tuple[tuple[bytes, int], str]] = {
    "too few bytes": (binary(A, B, ("c", "FP64", C[2][:-1])), 'input "c" has 15 bytes; FP64 with shape [2] takes 16'),
    "too many bytes": (binary(A, ("b", "INT32", B[2] * 2), C), 'input "b" has 16 bytes; INT32 with shape [2] takes 8'),
    "bytes behind it": (
        binary(A, B, C, more=b"!"),
        "41 bytes follow the JSON, but the inputs' binary_data_size add up to 40; send just those",
    ),
    "more than there are": (binary(C, B, A, size=1), 'input "c" has 17 bytes; FP64 with shape [2] takes 16'),
    "beyond the body": (binary(A, size=1), 'input "a" has a binary_data_size of 17, but 16 bytes are left of the body'),
    "another datatype": (binary(("a", "FP8", b"")), 'input "a" is "FP8"; known are BOOL, UINT8'),
    "JSON beyond the body": (
        (b"{}", 3),
        "the body has 2 bytes, but Inference-Header-Content-Length says 3 of JSON alone",
    ),
    "JSON cut off": ((binary(A)[0], 10), "the body is not JSON: input data was truncated"),
    "a shape of a thousand digits": (
        (lambda body: (body[0].replace(b"[2]", b"[9" + b"9" * 999 + b"]"), body[1] + 999))(binary(A)),
        "the request does not fit at inputs[0].shape[0]: expected `int` <= 9223372036854775807",
    ),
    "endless dimensions": (
        (lambda body: (body[0].replace(b"[2]", b"[" + b"4611686018427387904," * 9999 + b"2]"), body[1] + 20 * 9999))(binary(A)),
        'input "a" has a shape of 10000 dimensions; send [rows] or [rows, 1]',
    ),
    "many inputs": (binary(*([A] * 100)), "the request has 100 inputs; the model takes 3: a (FP64), b (INT64), c (FP64)"),
    "a shape below zero": (
        (lambda body: (body[0].replace(b"[2]", b"[-]").replace(b"[-]", b"[-2]"), body[1] + 1))(binary(A)),
        'input "a" has 16 bytes; FP64 with shape [-2] takes 0',
    ),
}


@pytest.mark.parametrize(("given", "says"), WRONG.values(), ids=WRONG)
def test_wrong_bytes(given: tuple[bytes, int], says: str) -> None:
    with pytest.raises(RequestError) as refused:
        NUMBERS.parse(*given)
    assert says in str(refused.value)


WRONG_TEXTS = {
    "no length": (b"\x01\0", "2 bytes are left where a length of 4 is due"),
    "cut off": (b"\x01\0\0\0a\x05\0\0\0abc", "string 1 says it has 5 bytes, but 3 are left"),
    "endless": (b"\xff\xff\xff\xffabc", "string 0 says it has 4294967295 bytes, but 3 are left"),
}


@pytest.mark.parametrize(("data", "says"), WRONG_TEXTS.values(), ids=WRONG_TEXTS)
def test_wrong_strings(data: bytes, says: str) -> None:
    with pytest.raises(RequestError) as refused:
        strings("x", data)
    assert says in str(refused.value)


def test_wrong_booleans_and_numbers_of_strings() -> None:
    with pytest.raises(RequestError, match='input "x" has a byte that is neither 0 nor 1'):
        decoded("x", "BOOL", [2], b"\x01\x02")
    with pytest.raises(RequestError, match=r'input "x" has shape \[3\], but its data hold 1 strings'):
        decoded("x", "BYTES", [3], b"\x01\0\0\0a")


def test_bfloat_is_the_upper_half_of_a_float() -> None:
    assert list(decoded("x", "BF16", [2], struct.pack("<2H", 0x3FC0, 0xC020))) == [1.5, -2.5]


@settings(max_examples=50)
@given(
    st.lists(st.text(), max_size=6), st.sampled_from(["FP64", "INT64", "INT8", "BOOL"]), st.lists(st.integers(0, 1), max_size=9)
)
def test_what_is_written_is_read(texts: list[str], datatype: str, numbers: list[int]) -> None:
    assert [text.decode() for text in strings("x", encoded("BYTES", texts))] == texts
    assert list(decoded("x", datatype, [len(numbers)], encoded(datatype, numbers))) == numbers


@settings(max_examples=50)
@given(st.sampled_from([*DATATYPES, "BYTES", "x"]), st.lists(st.integers(-2, 3), max_size=3), st.binary(max_size=32))
def test_any_bytes_are_read_or_refused(datatype: str, shape: list[int], data: bytes) -> None:
    try:
        values = decoded("x", datatype, shape, data)
    except RequestError:
        return
    try:
        SCHEMA.accept([Tensor("distance", datatype, shape, values)])
    except RequestError:
        return
    pytest.fail("inputs were missing")


@settings(max_examples=50)
@given(st.binary(max_size=60), st.integers(0, 300), st.integers(-3, 40))
def test_any_body_is_read_or_refused(tail: bytes, length: int, size: int) -> None:
    described = {"name": "a", "shape": [2], "datatype": "FP64", "parameters": {"binary_data_size": size}}
    with pytest.raises(RequestError):
        NUMBERS.parse(json.dumps({"inputs": [described]}).encode() + tail, length)
