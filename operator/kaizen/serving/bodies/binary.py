"""The binary tensor extension: values as bytes behind the JSON of a request or an answer.  Pure.

Numbers are little-endian, row by row; BOOL is a byte of 0 or 1; a string has its length before it, in four bytes.
"""

from collections.abc import Sequence
from math import prod
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaizen.serving.problems import RequestError, shortened

__all__ = ["DATATYPES", "decoded", "encoded", "split", "strings", "taken"]

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("u1"),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    "BF16": np.dtype("<u2"),
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
"""How the bytes of numbers are read; BF16 is the upper half of an FP32."""
FEW = 3
"""Up to so many values are read faster as a list."""
_FEW = {
    (datatype, count): Struct(f"<{count}{letter}").unpack
    for datatype, letter in zip(("BOOL", "INT32", "UINT32", "INT64", "UINT64", "FP32", "FP64"), "?iIqQfd", strict=True)
    for count in range(1, FEW + 1)
}
_length = Struct("<I")


def split(body: bytes, json_bytes: int | None) -> tuple[bytes, memoryview | None]:
    """The JSON of a body, and the bytes behind it; None when the request does not use this extension."""
    if json_bytes is None:
        return body, None
    if json_bytes > len(body):
        raise RequestError(f"the body has {len(body)} bytes, but Inference-Header-Content-Length says {json_bytes} of JSON alone")
    return body[:json_bytes], memoryview(body)[json_bytes:]


def taken(
    name: str, datatype: str, shape: Sequence[int], size: int, tail: memoryview | None, place: int
) -> list[Any] | NDArray[Any]:
    """The values of one input, `size` bytes from `place` on."""
    if tail is None:
        raise RequestError(
            f"input {shortened(name)} has binary_data_size, but the header Inference-Header-Content-Length, "
            "which says how long the JSON is, is missing"
        )
    if size < 0 or place + size > len(tail):
        raise RequestError(
            f"input {shortened(name)} has a binary_data_size of {size}, but {len(tail) - place} bytes are left of the body"
        )
    return decoded(name, datatype, shape, tail[place : place + size])


def decoded(name: str, datatype: str, shape: Sequence[int], data: memoryview | bytes) -> list[Any] | NDArray[Any]:
    """The values of one input.  Raises RequestError when the bytes are not of that datatype and shape."""
    if len(shape) > 2:  # before anything is done with numbers of a stranger
        raise RequestError(f"input {shortened(name)} has a shape of {len(shape)} dimensions; send [rows] or [rows, 1]")
    wanted = prod(shape) if all(size >= 0 for size in shape) else -1
    if datatype == "BYTES":
        texts = strings(name, data)
        if len(texts) != wanted:
            raise RequestError(f"input {shortened(name)} has shape {list(shape)}, but its data hold {len(texts)} strings")
        return texts
    kind = DATATYPES.get(datatype)
    if kind is None:
        raise RequestError(f"input {shortened(name)} is {shortened(datatype)}; known are {', '.join(DATATYPES)} and BYTES")
    if len(data) != wanted * kind.itemsize:
        raise RequestError(
            f"input {shortened(name)} has {len(data)} bytes; {datatype} with shape {list(shape)} "
            f"takes {max(0, wanted) * kind.itemsize}"
        )
    if (few := _FEW.get((datatype, wanted))) is not None and (datatype != "BOOL" or max(data) < 2):
        return list(few(data))
    array = np.frombuffer(data, dtype=kind)
    if datatype == "BOOL":
        if (array > 1).any():
            raise RequestError(f"input {shortened(name)} has a byte that is neither 0 nor 1; BOOL takes no other")
        array = array.view(np.bool_)
    elif datatype == "BF16":
        array = (array.astype("<u4") << 16).view("<f4")
    return array


def strings(name: str, data: memoryview | bytes) -> list[bytes]:
    """Strings, each behind its length."""
    found: list[bytes] = []
    place, end = 0, len(data)
    while place < end:
        if place + 4 > end:
            raise RequestError(f"input {shortened(name)}: {end - place} bytes are left where a length of 4 is due")
        (size,) = _length.unpack_from(data, place)
        place += 4
        if place + size > end:
            raise RequestError(
                f"input {shortened(name)}: string {len(found)} says it has {size} bytes, but {end - place} are left"
            )
        found.append(bytes(data[place : place + size]))
        place += size
    return found


def encoded(datatype: str, values: Sequence[Any]) -> bytes:
    """The bytes of an output."""
    if datatype == "BYTES":
        texts = [str(value).encode() for value in values]
        return b"".join([part for text in texts for part in (_length.pack(len(text)), text)])
    return np.array(values, dtype=DATATYPES[datatype]).tobytes()
