"""The OpenAPI document says what the server does, and the page at /docs shows it without anything from elsewhere."""

import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin

import jsonschema  # type: ignore[import-untyped]
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from kaizen.serving import openapi, page
from kaizen.serving.engine.base import Input
from kaizen.serving.transport.messages import Response
from tests.support.serving import FakeEngine
from tests.unit.test_serving_routes import FEEDBACK, INFER, ask, body, model, routes

V1 = "/v1/models/flight-delay:predict"


class Numbers(FakeEngine):
    """A regression over doubles."""

    inputs = (Input("a", "FP64", False), Input("b", "INT64", True))
    classes = None
    task = "Regression"
    keys = ()


def document(engine: Any = None, feedback: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(openapi.document(model(engine=engine), feedback=feedback))
    return found


def schema(found: dict[str, Any], name: str) -> jsonschema.Draft202012Validator:
    whole = {"$ref": f"#/components/schemas/{name}", "components": found["components"]}
    return jsonschema.Draft202012Validator(whole)


def content(found: dict[str, Any], path: str, method: str, status: int) -> dict[str, Any]:
    described: dict[str, Any] = found["paths"][path][method]["responses"][str(status)]["content"]["application/json"]["schema"]
    return described


@pytest.mark.parametrize("engine", [None, Numbers()])
def test_every_schema_is_one_and_every_reference_leads_somewhere(engine: Any) -> None:
    found = document(engine)
    assert found["openapi"] == "3.1.0"
    for one in found["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(one)
    for reference in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(found)):
        assert reference in found["components"]["schemas"]
    for operations in found["paths"].values():
        for operation in operations.values():
            assert {"500", "503"} <= set(operation["responses"])


def operations(found: dict[str, Any]) -> dict[str, Any]:
    """By `METHOD path`."""
    paths = found["paths"].items()
    return {f"{method} {path}": operation for path, methods in paths for method, operation in methods.items()}


@pytest.mark.parametrize("engine", [None, Numbers()])
def test_it_is_openapi_and_each_operation_has_a_name_of_its_own(engine: Any) -> None:
    found = document(engine)
    OPENAPI_31_VALIDATOR.validate(found)
    names = {place: operation["operationId"] for place, operation in operations(found).items()}
    assert len(set(names.values())) == len(names)
    assert names[f"post {INFER}"] == "infer"
    assert names["post /v2/models/flight-delay/versions/7/infer"] == "inferVersion"
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z0-9]*)*", name) for name in names.values())


def test_the_server_is_where_the_document_is() -> None:
    (server,) = document()["servers"]
    for place in ("http://a/", "http://a/pre/fix/"):
        assert urljoin(f"{place}openapi.json", server["url"]) == place


def test_who_is_told_to_try_again_is_told_when() -> None:
    for place, operation in operations(document()).items():
        header = operation["responses"]["503"]["headers"]["Retry-After"]
        assert header.get("required", False) != place.endswith(("ready", "get /v1/models/flight-delay"))


def test_what_is_missing_is_said_as_the_document_says() -> None:
    found, made = document(), routes()
    made.ready, made.lacks = False, "the directory /tokens has no tokens"
    answer = ask(made, "GET", "/v2/health/ready")
    assert answer.status == 503
    described = content(found, "/v2/health/ready", "get", 503)
    sent = json.loads(answer.body)
    assert sent == {"ready": False, "reason": made.lacks}
    jsonschema.Draft202012Validator({**described, "components": found["components"]}).validate(sent)


def test_tensors_may_be_bytes_both_ways() -> None:
    for place, operation in operations(document()).items():
        binary = "application/octet-stream"
        named = {one["name"] for one in operation.get("parameters", ())}
        if place.endswith("/infer"):
            assert binary in operation["requestBody"]["content"]
            assert binary in operation["responses"]["200"]["content"]
            assert named == {"Inference-Header-Content-Length"} < set(operation["responses"]["200"]["headers"])
        else:
            assert binary not in json.dumps(operation)
            assert not named


@pytest.mark.parametrize("engine", [None, Numbers()])
def test_every_example_fits_its_schema(engine: Any) -> None:
    found = document(engine)
    for path, operations in found["paths"].items():
        for operation in operations.values():
            if "requestBody" in operation:
                described = operation["requestBody"]["content"]["application/json"]
                schema(found, described["schema"]["$ref"].rpartition("/")[2]).validate(described["example"])
                assert path.endswith(("infer", "feedback", "predict"))


ANSWERS: list[tuple[str, str, bytes]] = [
    ("GET", "/v2", b""),
    ("GET", "/v2/health/live", b""),
    ("GET", "/v2/health/ready", b""),
    ("GET", "/v2/models", b""),
    ("GET", "/v2/models/flight-delay", b""),
    ("GET", "/v2/models/flight-delay/versions/7", b""),
    ("GET", "/v2/models/flight-delay/ready", b""),
    ("GET", "/v1/models/flight-delay", b""),
    ("POST", INFER, body(1, 18)),
    ("POST", INFER, b"{}"),
    ("POST", "/v2/models/flight-delay/versions/7/infer", body(1, outputs=[{"name": "predict"}])),
    ("POST", V1, b'{"instances":[["AA",1,18,true]]}'),
    ("POST", V1, b'{"instances":[]}'),
    ("POST", FEEDBACK, b'{"labels":[{"id":"a-0","label":"late"}]}'),
    ("POST", FEEDBACK, b'{"labels":[]}'),
]


@pytest.mark.parametrize(("method", "path", "sent"), ANSWERS, ids=[f"{method} {path}" for method, path, _ in ANSWERS])
def test_answers_are_as_the_document_says(method: str, path: str, sent: bytes) -> None:
    found = document()
    answer = ask(routes(), method, path, sent)
    described = content(found, path, method.lower(), answer.status)
    jsonschema.Draft202012Validator({**described, "components": found["components"]}).validate(json.loads(answer.body))
    headers = found["paths"][path][method.lower()]["responses"][str(answer.status)].get("headers", {})
    assert all(name.encode() in answer.headers for name, header in headers.items() if header.get("required"))


def test_the_document_names_every_path_of_the_model() -> None:
    found, made = document(), routes()
    served = {path.decode() for path in (*made._gets, *made._posts)} - {"/", "/docs", "/openapi.json", "/v1/models"}
    assert set(found["paths"]) == served
    assert json.loads(ask(made, "GET", "/openapi.json").body) == found


def test_only_requests_that_are_read_fit() -> None:
    fits = schema(document(), "InferenceRequest").is_valid
    good = json.loads(body(1, 2))
    assert fits(good)
    for place, changed in ((0, {"name": "x"}), (1, {"datatype": "BYTES"}), (2, {"data": [None, 1]}), (3, {"data": ["a", "b"]})):
        inputs = [{**one, **changed} if number == place else one for number, one in enumerate(good["inputs"])]
        assert not fits({"inputs": inputs})
    assert fits({"inputs": [{**good["inputs"][1], "data": [[None], [1]], "shape": [2, 1]}]})
    numbers = schema(document(Numbers()), "InferenceRequest").is_valid
    assert numbers({"inputs": [{"name": "any", "shape": [2, 2], "datatype": "FP64", "data": [[1, 2], [3, 4]]}]})
    assert not numbers({"inputs": [{"name": "any", "shape": [2, 3], "datatype": "FP64", "data": [1, 2, 3, 4, 5, 6]}]})


def test_a_wide_model_has_no_long_document() -> None:
    class Wide(FakeEngine):
        inputs = tuple(Input(f"column {number}", "FP64", True) for number in range(5000))

    assert len(openapi.document(model(engine=Wide()), feedback=True)) < 1_500_000


def test_without_a_bucket_there_is_no_feedback() -> None:
    assert not any(path.endswith("feedback") for path in document(feedback=False)["paths"])


def test_the_models_own_example_is_shown() -> None:
    sample = body(9)
    found = json.loads(openapi.document(replace(model(), example=sample), feedback=False))
    assert found["paths"][INFER]["post"]["requestBody"]["content"]["application/json"]["example"] == json.loads(sample)


def test_the_page_is_one_file_that_nothing_can_be_put_into() -> None:
    answer: Response = page.response()
    text, headers = answer.body.decode(), answer.headers.decode()
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"innerHTML|eval\(|style=|onclick=|<script src|document\.write", text)
    assert text.count("<script>") == text.count("<style>") == 1
    assert headers.count("'sha256-") == 2
    assert "default-src 'none'" in headers
    assert "unsafe" not in headers
    assert answer.content_type == b"text/html; charset=utf-8"


def test_what_is_copied_can_be_copied_without_a_clipboard() -> None:
    """Browsers have none for pages that came without TLS."""
    text = page.response().body.decode()
    copy = text.partition("async function copy() {")[2].partition("\n}\n")[0]
    tried, caught = copy.split("catch")
    assert "await navigator.clipboard.writeText" in tried
    assert "selectAllChildren" in caught
    assert 'document.execCommand("copy")' in caught


def test_the_page_finds_the_document_from_wherever_it_is() -> None:
    text = page.response().body.decode()
    assert 'json("/openapi.json")' in text
    assert 'at("described").href = base + "/openapi.json"' in text
