"""What a mutated request is made of: tokens of JSON, header lines, request lines and sizes that readers stumble over.  Pure."""

from typing import Any

__all__ = ["BYTES", "HEADERS", "JSON_TOKENS", "KINDS_OF", "LINES", "PATTERNS", "SIZES", "SIZES_OF", "TEXTS", "VALUES"]

JSON_TOKENS = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1e-999", b"-0", b"-0.0", b"01", b"1.", b".5", b"+1", b"1e",
    b"0x1", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"1" * 400, b"-1",
    b"0", b"2147483648", b"4.9e-324", b"1.7976931348623157e308", b"0." + b"1" * 400, b"1e1000000000", b"600", b"100000000000",
    b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b'"\\u0000"', b'"\x00"', b'"\\x"', b'""', b'"\n"',
    b'"' + b"a" * 5000 + b'"', b'"\xf0\x9f\x98\x80"', b'"', b"'a'", b"null", b"true", b"false", b"{}", b"[]", b"[[1]]",
    b"[null]", b"[" * 2000, b"[" * 600 + b"]" * 600, b'{"a":' * 1500, b'{"a":' * 300 + b"1" + b"}" * 300, b"[1,[2,[3]]]",
    b'{"a":1,"a":2}', b"//", b"/* */", b"\xef\xbb\xbf", b"\x00", b"\r\n", b" ", b",", b":", b"[", b"]", b"{", b"}", b",,",
    b"undefined", b"True", b'"id":', b'"id":"a",', b'"inputs":[],', b'"parameters":{},', b'"parameters":null,',
    b'"outputs":[],', b'"outputs":null,', b'"parameters":{"explain":true},', b'"parameters":{"allow_cast":true},',
    b'"parameters":{"binary_data_output":true},', b'"parameters":{"binary_data_size":8},',
    b'"parameters":{"binary_data_size":-1},', b'"parameters":{"binary_data_size":1e99},', b'"outputs":[{"name":"predict"}],',
    b'"outputs":[{"name":"attributions"},{"name":"attributions"}],', b'"shape":[0],',
    b'"outputs":[{"name":"id","parameters":{"binary_data":true}}],', b'"name":"temp",', b'"shape":[-1],', b'"shape":[1,1],',
    b"[1,1]", b"[1,4]", b"[4,1]", b"[-1,-4]", b"[9223372036854775807]", b"[1,1,1,1,1,1,1,1,1,1]", b"[7]", b"[1]", b'"FP64"',
    b'"FP32"', b'"FP16"', b'"BF16"', b'"INT64"', b'"INT8"', b'"UINT64"', b'"BOOL"', b'"BYTES"', b'"STRING"', b'"fp64"',
    b'"carrier"', b'"distance"', b'"temp"', b'"hour"', b'"flight"', b'"time_hour"', b'"predict"', b'"predict_proba"', b'"late"',
    b'"keys":{},', b'"keys":{"flight":1e999},', b'"time":"0001-01-01T00:00:00+23:59",', b'"time":"9999-12-31T23:59:59-23:59",',
    b'"time":"2026-02-30T00:00:00Z",', b'"time":"2026",', b'"label":null,', b'"label":1e400,', b'"label":{},', b'"instances":',
)  # fmt: skip
"""What takes a token's place in JSON."""

BYTES = (
    b"\x00", b"\xff", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"%", b"\x7f", b"\x80", b"0", b"-",
    b"\xff\xff\xff\xff",
)  # fmt: skip
"""What is put between bytes."""

HEADERS = (
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999",
    b"Content-Length:", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding:chunked", b"Expect: 100-continue", b"Expect: 200-ok", b"Connection: close",
    b"Connection: keep-alive, close", b"Connection: upgrade", b"Upgrade: h2c", b"Host: b", b"Host:", b"Host: a/b",
    b"Authorization: Bearer wrong", b"Authorization: Bearer", b"Authorization:", b"Authorization: Basic YTpi",
    b"Authorization: Bearer \xff", b"Authorization: bearer shop-token", b"Authorization: Bearer " + b"a" * 3000,
    b"Content-Encoding: gzip", b"Content-Encoding: deflate", b"Content-Encoding: br", b"Content-Encoding: identity",
    b"Content-Encoding:", b"Content-Encoding: gzip, gzip", b"Content-Encoding: x-gzip", b"Accept-Encoding: gzip;q=nan",
    b"Accept-Encoding: *;q=1", b"Accept-Encoding: gzip", b"Accept-Encoding: gzip;q=1e999, deflate;q=",
    b"Accept-Encoding: " + b"gzip," * 500, b"Inference-Header-Content-Length: 0", b"Inference-Header-Content-Length: 1",
    b"Inference-Header-Content-Length: 99999", b"Inference-Header-Content-Length: -1", b"Inference-Header-Content-Length: 1e3",
    b"Inference-Header-Content-Length: " + b"9" * 30, b"Origin: null", b"Origin: https://a.example",
    b"Access-Control-Request-Method: POST", b"Access-Control-Request-Headers: a, b", b"Content-Type: text/plain", b"X: a\tb",
    b"X:", b": x", b"X Y: z", b" folded", b"\tfolded", b"X\x00: a", b"X: \x00", b"X: \xe9", b"X: a\nY: b", b"X: a\rY: b",
    b"X-Long: " + b"a" * 20000, b"X: " + b"a" * 2000, b"no colon", b"Trailer: X", b"TE: trailers", b"Content-Length : 5",
    b"content-length: 5, 5", b"\xff: a",
)  # fmt: skip
"""Header lines, most of them wrong."""

LINES = (
    b"GET / HTTP/1.0", b"GET / HTTP/1.1", b"HEAD /v2 HTTP/1.1", b"GET /v2 HTTP/1.1", b"POST / HTTP/1.1", b"PRI * HTTP/2.0",
    b"GET /", b"BREW / HTTP/1.1", b"CONNECT a:1 HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET http://a/v2 HTTP/1.1",
    b"GET http://a@b/ HTTP/1.1", b"POST /v2/models/flight-delay/infer HTTP/1.0",
    b"POST /v2/models/%66light-delay/infer HTTP/1.1", b"GET //v2//models HTTP/1.1", b"POST /v2/models/other/infer HTTP/1.1",
    b"POST /v2/models/flight-delay/versions/8/infer HTTP/1.1", b"GET /%ff%fe HTTP/1.1",
    b"GET /v2/models/flight-delay/versions/ HTTP/1.1", b"GET /../../etc/passwd HTTP/1.1", b"GET /%2e%2e/%00 HTTP/1.1",
    b"GET /? HTTP/1.1", b"GET /" + b"a" * 9000 + b" HTTP/1.1", b"GET /" + b"%41" * 2000 + b" HTTP/1.1",
    b"GET /v2?" + b"a=b&" * 500 + b" HTTP/1.1", b"GET  / HTTP/1.1", b"POST /v1/models/flight-delay%3Apredict HTTP/1.1",
    b"POST /v1/models/flight-delay HTTP/1.1", b"GET /v1/models/%F0%9F%98%80 HTTP/1.1",
    b"DELETE /v2/models/flight-delay HTTP/1.1", b"get / http/1.1", b"GET / HTTP/1.1 ", b"\x16\x03\x01\x02\x00",
    b"\r\n\r\nGET / HTTP/1.1",
)  # fmt: skip
"""Request lines, most of them wrong."""

SIZES = (
    b"0", b"-1", b"ffffffff", b"100000000", b"0x1", b"5;a=b", b"05", b" 5", b"5 ", b"", b"g", b"5;" + b"x" * 300, b"5\n",
    b"0;x",
)  # fmt: skip
"""Sizes of chunks, most of them wrong."""

VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    7,
    1.5,
    1e308,
    2**63,
    -(2**64),
    "",
    "a",
    "carrier",
    [],
    {},
    [1],
    [[1]],
    [None],
)
"""What takes a value's place in JSON."""

KINDS_OF = {"carrier": "BYTES", "distance": "FP64", "temp": "FP64", "hour": "INT64"}
"""The right datatypes of inputs."""

SIZES_OF = {
    **dict.fromkeys(("BOOL", "INT8", "UINT8"), 1),
    **dict.fromkeys(("INT16", "UINT16", "FP16", "BF16"), 2),
    **dict.fromkeys(("INT32", "UINT32", "FP32"), 4),
    **dict.fromkeys(("INT64", "UINT64", "FP64", "STRING"), 8),
    "BYTES": 0,
}
"""Bytes of one value."""

TEXTS = (b"AA", b"B6", b"", b"ZZ", b"\xff\xfe", b"a" * 300, "é".encode(), b"\x00", b"\xed\xa0\x80")
"""Of binary strings."""

PATTERNS = (
    bytes(8), b"\x01" + bytes(7), b"\xff" * 8, bytes(7) + b"\x80", bytes(6) + b"\xf0\x7f", bytes(6) + b"\xf8\x7f",
    b"\x01\x00\x00\x00\x00\x00\xf0\x7f", bytes(6) + b"\xf0\xff", b"\xff" * 7 + b"\x7f", bytes(6) + b"\x28\x40", b"\x00\x7c" * 4,
    b"\x00\x00\xc0\x7f" * 2, b"\x00\x00\x80\x3f" * 2, b"\x0c" + bytes(7),
)  # fmt: skip
"""Numbers as bytes: zeros, infinities, several kinds of NaN, the largest and smallest."""
