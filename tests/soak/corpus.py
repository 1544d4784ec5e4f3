"""Requests of every kind that the server knows, and what random hands make of them.  Pure.

An input is known by its seed and number alone, so that one that fails can be made again.
"""

import copy
import gzip
import json
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.soak import vocabulary

__all__ = ["Input", "Mutator", "Sent", "corpus", "damaged"]

MODEL = "/v2/models/flight-delay"
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|true|false|null|[\[\]{}:,]')


@dataclass(frozen=True)
class Sent:
    """A request before it is bytes."""

    line: bytes
    headers: tuple[bytes, ...] = ()
    body: bytes = b""
    binary: tuple[str, ...] = ()
    """Names of inputs whose values are bytes behind the JSON, the length of which is the last header."""


@dataclass(frozen=True)
class Input:
    """What a client sends, in the pieces in which it arrives."""

    pieces: tuple[bytes, ...]
    answers: int | None
    """How many answers there must be, when the requests are whole; None: not known."""

    @property
    def whole(self) -> bytes:
        """All pieces."""
        return b"".join(self.pieces)


def corpus(
    inputs: Sequence[dict[str, Any]], instances: Sequence[Any], table: Sequence[dict[str, Any]], *headers: bytes
) -> list[Sent]:
    """Good requests: `inputs` and `table` are those of v2 requests, `instances` of a v1 request; `headers` go with each."""

    def post(path: str, document: Any, *more: bytes, tail: bytes = b"") -> Sent:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return Sent(f"POST {path} HTTP/1.1".encode(), (*headers, *more), body + tail)

    def get(path: str, *more: bytes, method: str = "GET") -> Sent:
        return Sent(f"{method} {path} HTTP/1.1".encode(), (*headers, *more))

    one = {"inputs": list(inputs)}
    rows = {"inputs": [{**each, "shape": [7], "data": each["data"] * 7} for each in inputs]}
    many = {"inputs": [{**each, "shape": [600], "data": each["data"] * 600} for each in inputs]}
    explained = {**one, "parameters": {"explain": True}, "outputs": [{"name": "predict"}, {"name": "attributions"}]}
    outputs = {**rows, "id": "a", "outputs": [{"name": "predict", "parameters": {"binary_data": True}}, {"name": "id"}]}
    beside = {
        "inputs": [
            {"name": "flight", "shape": [1, 1], "datatype": "BYTES", "data": ["UA1"]},
            {"name": "time_hour", "shape": [1], "datatype": "BYTES", "data": ["2026-11-21T08:30:00Z"]},
            *inputs,
        ]
    }
    columns = {"inputs": [{**each, "shape": [2, 1], "data": [each["data"]] * 2} for each in inputs]}
    rounded = {
        "parameters": {"allow_cast": True},
        "inputs": [{**each, "datatype": "FP32" if each["datatype"] == "FP64" else each["datatype"]} for each in inputs],
    }
    named = [{**each, "flight": "UA1", "time_hour": None} for each in instances]
    nested = [{**each, "data": _nested(each["data"], each["shape"])} for each in table]
    names = tuple(each["name"] for each in inputs)
    document, tail = _binary(inputs)
    split = b"Inference-Header-Content-Length: %d" % len(document)
    labels = {"labels": [{"id": "a-0", "label": True}, {"id": "a-1", "label": False, "time": "2026-11-21T08:30:00Z"}]}
    keyed = {"labels": [{"keys": {"flight": "UA1"}, "label": True}]}
    asks = [
        *(post(f"{MODEL}/infer", each) for each in (one, one, one, rows, rows, explained, outputs)),
        post(f"{MODEL}/infer", {**one, "id": "é\u2028", "parameters": {"binary_data_output": True}}),
        post(f"{MODEL}/infer", rows, b"Accept-Encoding: gzip, deflate;q=0.5", b"Origin: https://a.example"),
        *(replace(each, binary=names) for each in (post(f"{MODEL}/infer", document, split, tail=tail),) * 3),
        post(f"{MODEL}/versions/7/infer?a=b", one),
        post(f"{MODEL}/infer", {"inputs": list(table)}),
        post(f"{MODEL}/infer", {"inputs": nested}),
        post(f"{MODEL}/infer", {"inputs": list(table), "id": "a", "parameters": {"allow_cast": True}}),
        *(post(f"{MODEL}/infer", each) for each in (beside, beside, columns, rounded)),
        post("/v1/models/flight-delay:predict", {"instances": named}),
        post("/v1/models/flight-delay:predict", {"instances": list(instances)}),
        post("/v1/models/flight-delay:predict", {"instances": [list(each.values()) for each in instances]}),
        post(f"{MODEL}/feedback", labels),
        post(f"{MODEL}/feedback", keyed),
        *(get(path) for path in ("/", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models", MODEL, f"{MODEL}/ready")),
        get("/openapi.json", b"Accept-Encoding: gzip"),
        get("/docs"),
        get(f"{MODEL}%2Finfer?x=%ff", method="HEAD"),
        get(f"{MODEL}/infer", b"Origin: https://a.example", b"Access-Control-Request-Method: POST", method="OPTIONS"),
        get("*", method="OPTIONS"),
    ]
    return [*asks * 3, post(f"{MODEL}/infer", many)]  # the large one costs as much as all others together


def _nested(values: Sequence[Any], shape: Sequence[int]) -> list[Sequence[Any]]:
    """A table row by row."""
    return [values[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])]


def _binary(inputs: Sequence[dict[str, Any]]) -> tuple[bytes, bytes]:
    """The JSON and the bytes of a request with binary tensors."""
    described, tail = [], b""
    for each in inputs:
        values = {"FP64": "d", "INT64": "q"}.get(each["datatype"])
        (value,) = each["data"]
        if values is None:
            text = str(value).encode()
            content = struct.pack("<I", len(text)) + text
        else:
            content = struct.pack("<" + values, value)
        plain = {name: found for name, found in each.items() if name != "data"}
        described.append({**plain, "parameters": {"binary_data_size": len(content)}})
        tail += content
    return json.dumps({"inputs": described}).encode(), tail


_BOMB = gzip.compress(bytes(9 << 20), 9, mtime=0)


class Mutator:
    """Makes inputs of good requests."""

    def __init__(self, good: Sequence[Sent]) -> None:
        self._good = tuple(good)
        self._tokens = {each.body: [found.span() for found in _TOKEN.finditer(each.body)] for each in good if each.body}
        self._documents = {each.body: json.loads(each.body) for each in good if each.body and not each.binary}
        self._heads = {each: b"\r\n".join((each.line, b"Host: a", *each.headers)) for each in good}

    def make(self, seed: int, number: int) -> Input:
        """The input of this number."""
        random = Random((seed << 48) + number)
        parts, expected = [], True
        for _ in range(1 if random.random() < 0.8 else random.randrange(2, 5)):
            data, whole = self._request(random)
            parts.append(data)
            expected = expected and whole
        sent = b"".join(parts)
        if random.random() < 0.08:
            sent, expected = damaged(random, sent), False
        return Input(_pieces(random, sent), len(parts) if expected else None)

    def _request(self, random: Random) -> tuple[bytes, bool]:
        """The bytes of a request, and whether where it ends is beyond doubt."""
        good = random.choice(self._good)
        body, head = good.body, self._heads[good]
        if good.binary and random.random() < 0.8:
            document, tail = _tensors(random, good.binary)
            body, head = document + tail, head[: head.rindex(b" ") + 1] + b"%d" % len(document)
        elif body and random.random() < 0.85:
            body = self._changed(random, body)
        if body and random.random() < 0.08:
            body, coding = _compressed(random, body)
            head += b"\r\nContent-Encoding: " + coding
        clear = random.random() < 0.8
        if not clear:
            head = _other_head(random, head)
        chance = random.random()
        if chance < 0.8:
            return b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body), clear
        if chance < 0.95:
            chunks, clear_chunks = _chunked(random, body)
            return head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, clear and clear_chunks
        length = random.choice((len(body) + 1, max(0, len(body) - 1), 0, 2 * len(body), 1 << 33))
        return b"%b\r\nContent-Length: %d\r\n\r\n%b" % (head, length, body), False

    def _changed(self, random: Random, body: bytes) -> bytes:
        """A body with some tokens replaced, taken away, or doubled, or with damaged bytes."""
        spans = self._tokens[body]
        chance = random.random()
        if chance < 0.1 or not spans:
            return damaged(random, body)
        if chance < 0.15:
            return body[: random.randrange(len(body))]
        if chance < 0.4 and (document := self._documents.get(body)) is not None:
            return _restructured(random, document)
        chosen = sorted((random.choice(spans) for _ in range(random.choice((1, 1, 1, 2, 3)))), reverse=True)
        for first, last in chosen:
            chance = random.random()
            if chance < 0.75:
                body = body[:first] + random.choice(vocabulary.JSON_TOKENS) + body[last:]
            elif chance < 0.85:
                body = body[:first] + body[last:]
            elif chance < 0.95:
                body = body[:first] + random.choice(vocabulary.JSON_TOKENS) + body[first:]
            else:
                other, end = random.choice(spans)
                body = body[:first] + body[min(other, first) : max(end, last)] + body[last:]
        return body


def _restructured(random: Random, document: Any) -> bytes:
    """JSON with parts taken away, doubled, or put elsewhere."""
    document = copy.deepcopy(document)
    for _ in range(random.choice((1, 1, 2, 3))):
        places: list[tuple[Any, Any]] = []
        found = [document]
        while found:
            one = found.pop()
            keys = one.keys() if isinstance(one, dict) else range(min(len(one), 8)) if isinstance(one, list) else ()
            places += [(one, key) for key in keys]
            found += [one[key] for key in keys]
        if not places:
            break
        (where, key), (other, place) = random.choice(places), random.choice(places)
        chance = random.random()
        if chance < 0.35:
            del where[key]
        elif chance < 0.65 and isinstance(where, list):
            where[key:key] = copy.deepcopy(where[key : key + 1]) * random.choice((1, 2, 9))
        elif chance < 0.85:
            where[key] = copy.deepcopy(other[place])
        else:
            where[key] = copy.deepcopy(random.choice(vocabulary.VALUES))
    return json.dumps(document).encode()


def _tensors(random: Random, names: Sequence[str]) -> tuple[bytes, bytes]:
    """The JSON and the bytes of a request whose tensors are of any kind, most of them whole."""
    rows = random.choice((1, 1, 2, 3, 5, 40))
    names = ("table",) if random.random() < 0.2 else names
    described, tail = [], b""
    for name in names:
        kind = random.choice(("FP64", "FP64", vocabulary.KINDS_OF.get(name, "INT64"), random.choice(list(vocabulary.SIZES_OF))))
        shape = random.choice(([rows], [rows], [rows], [rows, 1], [rows, 2], [1, rows], [-rows], [0], [rows, 1 << 40]))
        count = rows * (2 if shape == [rows, 2] else 1)
        if kind == "BYTES":
            texts = [random.choice(vocabulary.TEXTS) for _ in range(count)]
            content = b"".join(struct.pack("<I", random.choice((len(text),) * 20 + (1 << 31, 0))) + text for text in texts)
        else:
            content = b"".join(random.choice(vocabulary.PATTERNS)[: vocabulary.SIZES_OF[kind]] for _ in range(count))
        if random.random() < 0.05:
            content = damaged(random, content)
        size = len(content) + (random.choice((-1, 1, 8, -(1 << 40))) if random.random() < 0.03 else 0)
        parameters = {"binary_data_size": size, "allow_cast": random.random() < 0.8}
        described.append({"name": name, "shape": shape, "datatype": kind, "parameters": parameters})
        tail += content
    return json.dumps({"inputs": described}).encode(), tail


def damaged(random: Random, data: bytes) -> bytes:
    """Some bytes changed, put in, or taken away."""
    for _ in range(random.choice((1, 1, 2, 4))):
        place = random.randrange(len(data) + 1)
        chance = random.random()
        if chance < 0.4:
            data = data[:place] + bytes((random.randrange(256),)) + data[place + 1 :]
        elif chance < 0.6:
            data = data[:place] + random.choice(vocabulary.BYTES) + data[place:]
        elif chance < 0.8:
            data = data[:place] + data[place + random.randrange(1, 9) :]
        elif chance < 0.9:
            data = data[:place] + data[max(0, place - random.randrange(1, 65)) :]
        else:
            data = data[:place]
    return data


def _compressed(random: Random, body: bytes) -> tuple[bytes, bytes]:
    chance = random.random()
    if chance < 0.5:
        found, coding = gzip.compress(body, 1, mtime=0), b"gzip"
    elif chance < 0.75:
        found, coding = zlib.compress(body, 1), b"deflate"
    elif chance < 0.99:
        found, coding = body, random.choice((b"gzip", b"deflate", b"br", b"identity"))
    else:
        found, coding = _BOMB, b"gzip"
    return (damaged(random, found) if random.random() < 0.4 else found), coding


def _other_head(random: Random, head: bytes) -> bytes:
    line, *headers = head.split(b"\r\n")
    chance = random.random()
    if chance < 0.4:
        line = random.choice(vocabulary.LINES)
    elif chance < 0.9:
        for _ in range(random.choice((1, 1, 2, 150))):
            headers.insert(random.randrange(len(headers) + 1), random.choice(vocabulary.HEADERS))
    else:
        headers.pop(random.randrange(len(headers)))
    return b"\r\n".join((line, *headers))


def _chunked(random: Random, body: bytes) -> tuple[bytes, bool]:
    found, place, clear = b"", 0, True
    while place < len(body):
        size = random.randrange(1, len(body) - place + 1)
        told = b"%x" % size
        if random.random() < 0.03:
            told, clear = random.choice(vocabulary.SIZES), False
        found += told + b"\r\n" + body[place : place + size] + b"\r\n"
        place += size
    end = b"0\r\n\r\n"
    if random.random() < 0.1:
        end, clear = random.choice((b"0\r\nX: a\r\n\r\n", b"0\r\n", b"0\r\nX\r\n\r\n", b"0\n\n", b"")), False
    return found + end, clear


def _pieces(random: Random, sent: bytes) -> tuple[bytes, ...]:
    if random.random() < 0.7 or len(sent) < 2:
        return (sent,)
    places = sorted({random.randrange(1, len(sent)) for _ in range(random.choice((1, 1, 2, 5)))})
    return tuple(sent[first:last] for first, last in zip((0, *places), (*places, len(sent)), strict=True))
