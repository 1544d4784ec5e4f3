"""Clients that others wrote, against the server as its own process.  Needs no cluster."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_server_process import ROOT, Server, started
from tests.support.models import MODEL, MadeModel, flights, make_model

ROWS = 40


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeModel:
    return make_model(tmp_path_factory.mktemp("clients") / "model", "boosting")


@pytest.fixture(scope="module")
def server(made: MadeModel) -> Iterator[Server]:
    with started(str(made.directory)) as found:
        yield found


@pytest.fixture(scope="module")
def told(made: MadeModel, server: Server) -> dict[str, Any]:
    """What tritonclient was told, in a process of its own."""
    asked = made.request(complete())
    command = [sys.executable, "-m", "tests.support.triton_http", f"127.0.0.1:{server.port}", MODEL]
    done = subprocess.run(command, input=asked, capture_output=True, cwd=ROOT, env=environment(), timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def complete() -> Any:
    """Rows without missing values: numpy has none for strings, and the client sends NaN as the token that is not JSON."""
    return flights(2 * ROWS).dropna().head(ROWS)


def environment() -> dict[str, str]:
    return {"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}", "PATH": str(Path(sys.executable).parent)}


def test_triton_reads_what_the_server_says_of_itself(told: dict[str, Any]) -> None:
    assert (told["live"], told["ready"], told["model_ready"], told["other_ready"]) == (True, True, True, False)
    assert told["server"]["extensions"] == ["binary_tensor_data"]
    assert [one["datatype"] for one in told["model"]["inputs"]] == ["BYTES", "FP64", "FP64", "INT64"]
    assert told["refusal"].startswith('400: input "carrier" is "FP32"; send BYTES')


WAYS = {
    # way: shapes of the outputs
    "JSON in, binary out": 3,
    "binary in and out": 3,
    "JSON in and out": 3,
    "binary in, JSON out": 3,
    "mixed out": 2,
    "gzip both ways": 3,
    "deflate both ways": 3,
    "with an id": 3,
}


@pytest.mark.parametrize(("way", "outputs"), WAYS.items(), ids=WAYS)
def test_triton_gets_scikit_learns_answers(way: str, outputs: int, told: dict[str, Any], made: MadeModel) -> None:
    labels, scores = made.expected(complete())
    found = told["answers"][way]
    assert found["outputs"]["predict"] == labels
    assert found["outputs"]["predict_proba"] == pytest.approx(scores, rel=1e-9)
    assert len(found["shapes"]) == outputs
    assert (found["shapes"]["predict"], found["shapes"]["predict_proba"]) == ([ROWS], [ROWS, 2])
    if "id" in found["outputs"]:
        assert found["outputs"]["id"] == [f"{found['id']}-{row}" for row in range(ROWS)]
    assert way != "with an id" or found["id"] == "mine"


def test_curl_gets_compressed_answers_and_the_page(server: Server, made: MadeModel, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_bytes(made.request(flights(ROWS)))
    base = f"http://127.0.0.1:{server.port}"

    def curl(*arguments: str) -> str:
        return subprocess.run(["curl", "-sS", *arguments], capture_output=True, check=True, timeout=30, text=True).stdout

    infer = f"{base}/v2/models/{MODEL}/infer"
    plain = json.loads(curl(infer, "-d", f"@{body}"))
    small = json.loads(curl("--compressed", infer, "-d", f"@{body}"))
    assert [output["data"] for output in plain["outputs"][:2]] == [output["data"] for output in small["outputs"][:2]]
    assert "Content-Encoding: gzip" in curl("--compressed", "-o", "/dev/null", "-D", "-", infer, "-d", f"@{body}")
    assert curl("-I", f"{base}/v2").startswith("HTTP/1.1 200")
    assert "Allow: POST, OPTIONS" in curl("-X", "OPTIONS", "-D", "-", infer)
    page = curl("-D", "-", f"{base}/docs")
    assert "script-src 'sha256-" in page
    assert "http" not in page.partition("<!doctype html>")[2].replace(f"{base}", "")
    document = json.loads(curl(f"{base}/openapi.json"))
    sample = document["paths"][f"/v2/models/{MODEL}/infer"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert json.loads(curl(infer, "-d", json.dumps(sample)))["model_name"] == MODEL
