"""Compressed bodies: read within bounds, and refused in a sentence."""

import gzip
import zlib
from random import Random
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kaizen.serving.problems import RequestError
from kaizen.serving.transport.encodings import MOST_MEMBERS, accepted, deflated, inflated

MOST = 1000
BOMB = gzip.compress(b"0" * 100_000_000, 9)

REFUSED = {
    # what: (body, coding, status, what the sentence says)
    "a bomb": (BOMB, b"gzip", 413, "the body is compressed and has more than 1000 bytes when it is not; send fewer rows"),
    "a deflated bomb": (zlib.compress(b"0" * 1_000_000), b"deflate", 413, "the body is compressed and has more than 1000 bytes"),
    "one byte too much": (gzip.compress(b"0" * 1001), b"gzip", 413, "more than 1000 bytes"),
    "another coding": (b"x", b"br", 415, 'the body has the Content-Encoding "br"; this server reads gzip, deflate and identity'),
    "two codings": (b"x", b"gzip, gzip", 415, 'the body has the Content-Encoding "gzip, gzip"'),
    "not compressed": (b"{}", b"gzip", 400, "the body is not gzip: Error -3 while decompressing data: incorrect header check"),
    "not deflated": (b"\x07\xff", b"deflate", 400, "the body is not deflate: Error -3"),
    "empty": (b"", b"gzip", 400, "the body is cut off: its gzip data do not end"),
    "cut off": (gzip.compress(b"0" * 500)[:-9], b"gzip", 400, "the body is cut off"),
    "without its checksum": (gzip.compress(b"0" * 500)[:-4], b"gzip", 400, "the body is cut off"),
    "with another checksum": (gzip.compress(b"0" * 500)[:-8] + b"\0" * 8, b"gzip", 400, "incorrect data check"),
    "something behind it": (gzip.compress(b"0") + b"!", b"gzip", 400, "1 bytes follow the body's gzip data; send none"),
    "something behind members": (gzip.compress(b"0") * 3 + b"\0!", b"gzip", 400, "2 bytes follow the body's gzip data"),
    "something behind deflate": (zlib.compress(b"0") * 2, b"deflate", 400, "9 bytes follow the body's deflate data; send none"),
    "a bomb behind another member": (gzip.compress(b"0") + BOMB, b"gzip", 413, "more than 1000 bytes when it is not"),
    "a bomb of many members": (gzip.compress(b"0" * 101) * 10, b"gzip", 413, "more than 1000 bytes when it is not"),
    "one byte too much behind": (gzip.compress(b"0" * MOST) + gzip.compress(b"0"), b"gzip", 413, "more than 1000 bytes"),
    "a second member cut off": (gzip.compress(b"0") + gzip.compress(b"0" * 500)[:-4], b"gzip", 400, "the body is cut off"),
    "the beginning of a second member": (gzip.compress(b"0") + b"\x1f\x8b", b"gzip", 400, "the body is cut off"),
    "a second member that is none": (
        gzip.compress(b"0") + b"\x1f\x8b\x07" + b"\0" * 20,
        b"gzip",
        400,
        "the body is not gzip: Error -3",
    ),
    "endless empty members": (
        gzip.compress(b"") * (MOST_MEMBERS + 1),
        b"gzip",
        400,
        f"the body has more than {MOST_MEMBERS} gzip members; send one",
    ),
}


@pytest.mark.parametrize(("body", "coding", "status", "says"), REFUSED.values(), ids=REFUSED)
def test_refused(body: bytes, coding: bytes, status: int, says: str) -> None:
    with pytest.raises(RequestError) as refused:
        inflated(body, coding, MOST)
    assert refused.value.status == status
    assert says in str(refused.value)


def test_read() -> None:
    bare = zlib.compressobj(wbits=-15)
    assert inflated(gzip.compress(b"0" * MOST), b"gzip", MOST) == b"0" * MOST
    assert inflated(gzip.compress(b"1" * 400) + gzip.compress(b"") + gzip.compress(b"2" * 600), b"gzip", MOST) == (
        b"1" * 400 + b"2" * 600
    )
    assert inflated(gzip.compress(b"0"), b" X-GZIP ", MOST) == b"0"
    assert inflated(zlib.compress(b"0"), b"deflate", MOST) == b"0"
    assert inflated(bare.compress(b"0") + bare.flush(), b"deflate", MOST) == b"0"
    assert inflated(b"0", b"identity", MOST) == b"0"


ASKED = {
    b"gzip": b"gzip",
    b"gzip, deflate, br": b"gzip",
    b"deflate": b"deflate",
    b"DEFLATE;q=0.5, GZIP;q=0": b"deflate",
    b"*": b"gzip",
    b"*;q=0.1, gzip;q=0": b"deflate",
    b"": None,
    b"br, zstd": None,
    b"identity": None,
    b"gzip;q=0, deflate;q=0.0": None,
    b"gzip;q=high": None,
    b";;,,q=": None,
    b"gzip;q=0.5, deflate;q=0.8": b"deflate",
    b"gzip;q=0.5, *": b"deflate",
    b"deflate, gzip": b"gzip",
    b"identity, gzip;q=0.5": None,
    b"identity;q=0.5, gzip;q=0.2, deflate;q=0.3": None,
    b"identity;q=0.5, gzip;q=0.5": b"gzip",
    b"identity;q=0, gzip;q=0.001": b"gzip",
    b"gzip;q=0.001": b"gzip",
    b"*;q=0": None,
    b"gzip;q=nan, deflate;q=inf": None,
}


@pytest.mark.parametrize(("header", "coding"), ASKED.items(), ids=map(repr, ASKED))
def test_asked_for(header: bytes, coding: bytes | None) -> None:
    assert accepted(header) == coding


def test_members_of_any_length_are_read() -> None:
    random = Random(1)
    parts = [random.randbytes(random.choice([0, 1, 5000, 40_000])) for _ in range(60)]
    whole = b"".join(parts)
    assert inflated(b"".join(map(gzip.compress, parts)), b"gzip", len(whole)) == whole
    empty = gzip.compress(b"") * MOST_MEMBERS
    began = process_time()
    assert inflated(empty, b"gzip", MOST) == b""
    assert process_time() - began < 0.5


@settings(max_examples=30)
@given(st.binary(max_size=500), st.sampled_from([b"gzip", b"deflate"]))
def test_what_is_written_is_read(body: bytes, coding: bytes) -> None:
    assert inflated(deflated(body, coding), coding, MOST) == body
