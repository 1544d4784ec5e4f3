"""Manifests: what a run may say about its files, and what it may not."""

import hashlib
import json
from typing import Any

import pytest

from kaizen.registry.manifest import File, parse, sha256

DIGEST = "0" * 64
GOOD = {"path": "engine.json", "size": 0, "sha256": DIGEST}


def written(*files: Any, **more: Any) -> bytes:
    return json.dumps({"format": 1, "files": list(files), **more}).encode()


def test_a_manifest_names_its_files_and_its_own_digest() -> None:
    body = written(GOOD, {**GOOD, "path": "trees/0 ä.bin", "size": 7}, task="Classification")
    manifest = parse(body)
    assert manifest.files == (File("engine.json", 0, DIGEST), File("trees/0 ä.bin", 7, DIGEST))
    assert manifest.digest == sha256(body) == f"sha256:{hashlib.sha256(body).hexdigest()}"
    assert manifest.document["task"] == "Classification"


WRONG = {
    "not JSON": (b"{", "is not JSON"),
    "not UTF-8": (b"\xff\xfe\xfa", "is not JSON"),
    "a list": (b"[]", "is not of format 1"),
    "a later format": (written(GOOD, format=2), "is not of format 1"),
    "no files": (written(), "names no files"),
    "files are not a list": (b'{"format": 1, "files": {}}', "names no files"),
    "too many": (written(*({**GOOD, "path": str(number)} for number in range(1001))), "names 1001 files: 1000 are the most"),
    "not a file": (written("engine.json"), "something else than a file"),
    "twice": (written(GOOD, GOOD), "names a file twice"),
    "below a file": (written({**GOOD, "path": "a/b/c"}, {**GOOD, "path": "a"}), "below another file: 'a/b/c'"),
    "no size": (written({**GOOD, "size": None}), "no size in bytes for 'engine.json'"),
    "a negative size": (written({**GOOD, "size": -1}), "no size in bytes"),
    "a size that is no number": (written({**GOOD, "size": True}), "no size in bytes"),
    "no digest": (written({"path": "a", "size": 1}), "no sha256 in hexadecimal for 'a'"),
    "a digest with its name": (written({**GOOD, "sha256": f"sha256:{DIGEST}"}), "no sha256 in hexadecimal"),
}


@pytest.mark.parametrize(("body", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(body)


PATHS = [
    "",
    ".",
    "..",
    "../a",
    "a/../b",
    "/a",
    "a/",
    "a//b",
    "./a",
    "a\\b",
    "a\0",
    "a\n",
    "a" * 513,
    "manifest.json",
    "model.sig",
    7,
    None,
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_the_directory(path: Any) -> None:
    with pytest.raises(ValueError, match="names a file that a model directory cannot have"):
        parse(written({**GOOD, "path": path}))
