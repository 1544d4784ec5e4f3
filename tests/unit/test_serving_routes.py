"""Which path answers what, before there is a model, with one, and while the process ends."""

import asyncio
import gzip
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from kaizen.serving.bodies.answers import Renderer
from kaizen.serving.bodies.protocol import Schema
from kaizen.serving.engine.base import Answer, Attributions, Prepared, Refused, as_columns
from kaizen.serving.inference import Inference
from kaizen.serving.model import Model
from kaizen.serving.routes import AdminRoutes, MetricsRoutes, PublicRoutes
from kaizen.serving.transport.messages import Request, Response
from kaizen.serving.watching.feedback import Feedback
from kaizen.serving.watching.metrics import Metrics
from kaizen.serving.watching.observation import Observer
from tests.support.serving import INPUTS, FakeEngine

DIGEST = "sha256:" + "ab" * 32
INFER = "/v2/models/flight-delay/infer"


class Watcher(Observer):
    """Remembers what it is offered."""

    def __init__(self) -> None:
        self.offered: list[tuple[list[Any], int]] = []

    def offer(self, columns: Any, predictions: Any, rows: int) -> None:
        self.offered.append((predictions, rows))


def model(version: int | None = 7, engine: Any = None) -> Model:
    engine = engine or FakeEngine()
    renderer = Renderer("flight-delay", version, engine, "compiled")
    schema = Schema(INPUTS, ("flight",), renderer.outputs)
    return Model("flight-delay", version, DIGEST, "compiled", "", engine, schema, renderer, None, {}, b"")


def routes(version: int | None = 7, engine: Any = None, watcher: Watcher | None = None) -> PublicRoutes:
    metrics, served = Metrics(), model(version, engine)
    made = PublicRoutes(metrics)
    made.serve(served, Inference(served, watcher, metrics), Feedback(served.engine.classes, served.engine.keys))
    made.ready = True
    return made


def body(*hours: int, **more: Any) -> bytes:
    data = {"carrier": ["AA"] * len(hours), "distance": [None] * len(hours), "hour": list(hours), "weekend": [True] * len(hours)}
    inputs = [{"name": one.name, "shape": [len(hours)], "datatype": one.datatype, "data": data[one.name]} for one in INPUTS]
    return json.dumps({"inputs": inputs, **more}).encode()


def ask(routes: PublicRoutes, method: str, target: str, sent: bytes = b"", **headers: str) -> Response:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}

    async def answered() -> Response:
        answer = routes(Request(method.encode(), target.encode(), named, sent))
        return answer if isinstance(answer, Response) else await answer

    return asyncio.run(answered())


GETS = {
    "/": {"name": "kaizen"},
    "/v2": {"name": "kaizen", "extensions": ["binary_tensor_data"]},
    "/v2/models": {"models": ["flight-delay"]},
    "/v1/models": {"models": ["flight-delay"]},
    "/v2/health/live": {"live": True},
    "/v2/health/ready": {"ready": True},
    "/v2/models/flight-delay": {"name": "flight-delay", "versions": ["7"], "platform": "kaizen-compiled"},
    "/v2/models/flight-delay/versions/7": {"name": "flight-delay", "versions": ["7"]},
    "/v2/models/flight-delay/ready": {"name": "flight-delay", "ready": True},
    "/v2/models/flight-delay/versions/7/ready": {"name": "flight-delay", "ready": True},
    "/v2/models/flight%2Ddelay?x=y": {"name": "flight-delay"},
    "/v1/models/flight-delay": {"name": "flight-delay", "ready": True},
}


@pytest.mark.parametrize(("target", "expected"), GETS.items(), ids=GETS)
def test_gets(target: str, expected: dict[str, Any]) -> None:
    answer = ask(routes(), "GET", target)
    assert answer.status == 200
    assert expected.items() <= json.loads(answer.body).items()


def test_metadata_name_inputs_and_outputs() -> None:
    found = json.loads(ask(routes(), "GET", "/v2/models/flight-delay").body)
    assert found["inputs"][0] == {"name": "carrier", "datatype": "BYTES", "shape": [-1], "parameters": {"nullable": True}}
    assert [output["name"] for output in found["outputs"]] == ["predict", "predict_proba", "id"]


@pytest.mark.parametrize("target", [INFER, "/v2/models/flight-delay/versions/7/infer", INFER + "?x=y"])
def test_infer(target: str) -> None:
    answer = ask(routes(), "POST", target, body(6, 18))
    found = json.loads(answer.body)
    assert answer.status == 200
    assert answer.headers == f"X-Model-Version: 7\r\nX-Model-Digest: {DIGEST}\r\n".encode()
    assert found["model_version"] == "7"
    assert [output["data"] for output in found["outputs"][:2]] == [["early", "late"], [0.75, 0.25, 0.25, 0.75]]


def test_a_model_without_a_version_has_none_anywhere() -> None:
    answer = ask(routes(version=None), "POST", INFER, body(6))
    assert answer.headers == f"X-Model-Digest: {DIGEST}\r\n".encode()
    assert "model_version" not in json.loads(answer.body)
    assert "versions" not in json.loads(ask(routes(version=None), "GET", "/v2/models/flight-delay").body)


def test_v1() -> None:
    answer = ask(routes(), "POST", "/v1/models/flight-delay:predict", b'{"instances":[["AA",1,18,true]]}')
    assert (answer.status, json.loads(answer.body)) == (200, {"predictions": ["late"]})


OPTIONS = {
    "/v2": "GET, HEAD, OPTIONS",
    "/docs": "GET, HEAD, OPTIONS",
    "/v2/health/live": "GET, HEAD, OPTIONS",
    INFER: "POST, OPTIONS",
    "/v1/models/flight-delay:predict": "POST, OPTIONS",
    "*": "GET, HEAD, POST, OPTIONS",
}


@pytest.mark.parametrize(("target", "allowed"), OPTIONS.items(), ids=OPTIONS)
def test_options_and_head(target: str, allowed: str) -> None:
    answer = ask(routes(), "OPTIONS", target)
    assert (answer.status, answer.body, answer.headers) == (200, b"", f"Allow: {allowed}\r\n".encode())
    if "HEAD" in allowed and target != "*":
        assert ask(routes(), "HEAD", target).status == 200


def test_answers_are_compressed_for_those_who_ask_and_when_it_pays() -> None:
    many, few = body(*range(20)), body(1)
    for coding in ("gzip", "deflate"):
        answer = ask(routes(), "POST", INFER, many, accept_encoding=f"br, {coding};q=0.5")
        assert f"Content-Encoding: {coding}\r\nVary: Accept-Encoding\r\n".encode() in answer.headers
        plain = zlib.decompress(answer.body, 31 if coding == "gzip" else 15)
        assert len(answer.body) < len(plain)
        assert json.loads(plain)["outputs"][0]["shape"] == [20]
        assert b"Content-Encoding" not in ask(routes(), "POST", INFER, few, accept_encoding=coding).headers
    for refused in ("", "identity", "gzip;q=0", "*;q=0", "gzip;q=x"):
        assert b"Content-Encoding" not in ask(routes(), "POST", INFER, many, accept_encoding=refused).headers
    assert b"Content-Encoding: gzip" in ask(routes(), "GET", "/openapi.json", accept_encoding="gzip").headers
    large = ask(routes(), "POST", INFER, body(*[1] * 20_000), accept_encoding="gzip")
    assert json.loads(gzip.decompress(large.body))["outputs"][0]["shape"] == [20_000]


def test_compressed_requests() -> None:
    bare = zlib.compressobj(wbits=-15)
    sent = {"gzip": gzip.compress(body(6)), "deflate": zlib.compress(body(6)), "Deflate": bare.compress(body(6)) + bare.flush()}
    for coding, compressed in sent.items():
        assert ask(routes(), "POST", INFER, compressed, content_encoding=coding).status == 200
    assert ask(routes(), "POST", FEEDBACK, gzip.compress(LABEL), content_encoding="gzip").status == 202


FEEDBACK = "/v2/models/flight-delay/feedback"
LABEL = b'{"labels":[{"id":"a-0","label":"late"},{"keys":{"flight":7},"label":"early"}]}'


def test_feedback() -> None:
    made = routes()
    answer = ask(made, "POST", FEEDBACK, LABEL)
    assert (answer.status, answer.body) == (202, b'{"accepted":2}')
    refused = ask(made, "POST", FEEDBACK, b'{"labels":[]}')
    assert (refused.status, made._metrics.failed) == (400, 0)
    served = model()
    full = PublicRoutes(Metrics())
    full.serve(served, Inference(served, None, Metrics()), Feedback(("early", "late"), ("flight",), buffered_bytes=200))
    assert ask(full, "POST", FEEDBACK, LABEL).status == 202
    answer = ask(full, "POST", FEEDBACK, LABEL)
    assert (answer.status, b"Retry-After: 60\r\n" in answer.headers) == (503, True)
    nowhere = PublicRoutes(Metrics())
    nowhere.serve(served, Inference(served, None, Metrics()))
    answer = ask(nowhere, "POST", FEEDBACK, LABEL)
    assert (answer.status, json.loads(answer.body)) == (501, {"error": "this server has no bucket, so it cannot keep labels"})


def binary_body(**parameters: Any) -> tuple[bytes, str]:
    hours, carriers = struct.pack("<2q", 6, 18), b"\x02\0\0\0AA\x02\0\0\0UA"
    inputs = [
        {"name": "carrier", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(carriers)}},
        {"name": "distance", "shape": [2], "datatype": "FP64", "data": [None, 1.5]},
        {"name": "hour", "shape": [2], "datatype": "INT64", "parameters": {"binary_data_size": len(hours)}},
        {"name": "weekend", "shape": [2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}},
    ]
    head = json.dumps({"inputs": inputs, "id": "é", **parameters}).encode()
    return head + carriers + hours + b"\x00\x01", str(len(head))


def test_binary_tensors_in_and_out() -> None:
    sent, length = binary_body(parameters={"binary_data_output": True})
    answer = ask(routes(), "POST", INFER, sent, inference_header_content_length=length)
    assert (answer.status, answer.content_type) == (200, b"application/octet-stream")
    size = int(answer.headers.partition(b"Inference-Header-Content-Length: ")[2].partition(b"\r\n")[0])
    found = json.loads(answer.body[:size])
    predict, probabilities, ids = found["outputs"]
    assert found["id"] == "é"
    assert not any("data" in output for output in found["outputs"])
    assert [output["parameters"]["binary_data_size"] for output in found["outputs"]] == [17, 32, 16]
    assert probabilities["parameters"]["classes"] == '["early","late"]'
    tail = answer.body[size:]
    assert tail[:17] == b"\x05\0\0\0early\x04\0\0\0late"
    assert struct.unpack("<4d", tail[17:49]) == (0.75, 0.25, 0.25, 0.75)
    assert tail[49:] == "\x04\0\0\0é-0\x04\0\0\0é-1".encode()
    assert (predict["shape"], ids["shape"]) == ([2], [2])


def test_some_outputs_as_bytes() -> None:
    wanted = [{"name": "predict"}, {"name": "predict_proba", "parameters": {"binary_data": True}}]
    answer = ask(routes(), "POST", INFER, body(6, 18, outputs=wanted))
    size = int(answer.headers.partition(b"Inference-Header-Content-Length: ")[2].partition(b"\r\n")[0])
    predict, probabilities = json.loads(answer.body[:size])["outputs"]
    assert predict["data"] == ["early", "late"]
    assert probabilities["parameters"]["binary_data_size"] == len(answer.body) - size == 32
    unwanted = [{"name": "predict", "parameters": {"binary_data": False}}]
    answer = ask(routes(), "POST", INFER, body(6, outputs=unwanted, parameters={"binary_data_output": True}))
    assert json.loads(answer.body)["outputs"][0]["data"] == ["early"]


class Explaining(FakeEngine):
    """Says that everything is the hour's doing."""

    def explain(self, columns: Prepared, rows: int) -> Attributions:
        return Attributions(("hour",), 1, [0.5], [float(hour) for hour in as_columns(columns)[2]])


class ExplainingClasses(FakeEngine):
    """The same, of three classes."""

    def explain(self, columns: Prepared, rows: int) -> Attributions:
        return Attributions(("hour", "distance"), 3, [0.5, 0.25, 0.25], [1.0] * 6 * rows)


def test_explanations() -> None:
    explained = {"parameters": {"explain": True}, "outputs": [{"name": "predict"}]}
    found = json.loads(ask(routes(engine=Explaining()), "POST", INFER, body(6, 18, **explained)).body)
    assert [output["name"] for output in found["outputs"]] == ["predict", "attributions"]
    assert found["outputs"][1] == {
        "name": "attributions",
        "datatype": "FP64",
        "shape": [2, 1],
        "data": [6.0, 18.0],
        "parameters": {"base_values": "[0.5]", "inputs": '["hour"]', "unit": "score"},
    }
    by_name = {"outputs": [{"name": "attributions"}]}
    found = json.loads(ask(routes(engine=ExplainingClasses()), "POST", INFER, body(6, 18, **by_name)).body)
    assert [(output["name"], output["shape"]) for output in found["outputs"]] == [("attributions", [2, 3, 2])]
    refused = ask(routes(), "POST", INFER, body(6, parameters={"explain": True}))
    assert (refused.status, json.loads(refused.body)) == (400, {"error": "no explanations"})
    assert len(json.loads(ask(routes(engine=Explaining()), "POST", INFER, body(6)).body)["outputs"]) == 3


@pytest.mark.parametrize("rows", [1, 512, 513, 1500])
def test_many_rows_are_answered_in_slices_as_at_once(rows: int) -> None:
    watcher = Watcher()
    hours = [row % 24 for row in range(rows)]
    answer = ask(routes(watcher=watcher), "POST", INFER, body(*hours))
    labels, scores, ids = (output["data"] for output in json.loads(answer.body)["outputs"])
    assert labels == ["late" if hour >= 12 else "early" for hour in hours]
    assert scores[1::2] == [hour / 24 for hour in hours]
    assert ids[-1].endswith(f"-{rows - 1}")
    assert watcher.offered == [([hour / 24 for hour in hours], rows)]


REFUSED = {
    # what: (method, target, status, what the sentence says)
    "another model": ("POST", "/v2/models/x/infer", 404, 'there is no model "x" here; this server has "flight-delay"'),
    "another model of v1": ("POST", "/v1/models/x:predict", 404, 'there is no model "x" here; this server has "flight-delay"'),
    "another version": (
        "POST",
        "/v2/models/flight-delay/versions/8/infer",
        404,
        'there is no version "8" of this model here; this server has version 7',
    ),
    "another path": (
        "GET",
        "/v3",
        404,
        'there is nothing at "/v3"; try GET /v2/models/flight-delay or POST /v2/models/flight-delay/infer',
    ),
    "a path that is not one": ("GET", "/%ff%00\\x", 404, "there is nothing at"),
    "OPTIONS of nothing": ("OPTIONS", "/v3", 404, "there is nothing at"),
    "GET for POST": ("GET", INFER, 405, "GET does not fit this path; send POST"),
    "POST for GET": ("POST", "/v2/health/ready", 405, "POST does not fit this path; send GET, HEAD"),
    "DELETE": ("DELETE", "/v2", 405, "DELETE does not fit this path; send GET, HEAD"),
}


@pytest.mark.parametrize(("method", "target", "status", "says"), REFUSED.values(), ids=REFUSED)
def test_refused(method: str, target: str, status: int, says: str) -> None:
    answer = ask(routes(), method, target)
    assert answer.status == status
    assert says in json.loads(answer.body)["error"]
    assert (b"Allow: " in answer.headers) == (status == 405)


def test_bad_requests_are_counted_and_named() -> None:
    made = routes()
    metrics: Metrics = made._metrics
    answer = ask(made, "POST", INFER, b"{}")
    assert (answer.status, metrics.failed, metrics.succeeded) == (400, 1, 0)
    assert json.loads(answer.body) == {"error": "the request does not fit: object missing required field `inputs`"}
    assert ask(made, "POST", INFER, body(6), content_encoding="br").status == 415
    assert ask(made, "POST", INFER, body(6), inference_header_content_length="10").status == 400
    assert ask(made, "POST", INFER, body(6), content_encoding="identity").status == 200
    assert (metrics.failed, metrics.succeeded, metrics.rows) == (3, 1, 1)


class Refusing(FakeEngine):
    """Refuses a value that scikit-learn would refuse as well."""

    def predict(self, columns: Prepared, rows: int) -> Answer:
        if 23 in as_columns(columns)[2]:
            raise Refused("a value is infinite")
        return super().predict(columns, rows)


@pytest.mark.parametrize("rows", [1, 1000])
def test_what_the_engine_refuses_is_a_400(rows: int) -> None:
    watcher = Watcher()
    answer = ask(routes(engine=Refusing(), watcher=watcher), "POST", INFER, body(*[1] * (rows - 1), 23))
    assert (answer.status, json.loads(answer.body)) == (400, {"error": f"row {rows - 1}: a value is infinite"})
    assert not watcher.offered


def test_before_there_is_a_model() -> None:
    made = PublicRoutes(Metrics())
    assert ask(made, "GET", "/v2/health/live").status == 200
    assert ask(made, "GET", "/v2/health/ready").status == 503
    answer = ask(made, "POST", INFER, body(6))
    assert (answer.status, answer.headers) == (503, b"Retry-After: 1\r\n")
    assert json.loads(answer.body) == {"error": "the model is still being loaded; try again in a second"}


def test_while_the_process_ends_requests_are_answered_and_readiness_says_no() -> None:
    made = routes()
    made.ready = False
    assert ask(made, "GET", "/v2/health/ready").status == 503
    ready = ask(made, "GET", "/v2/models/flight-delay/ready")
    assert (ready.status, json.loads(ready.body)) == (503, {"name": "flight-delay", "ready": False})
    assert ask(made, "POST", INFER, body(6)).status == 200


def test_metrics() -> None:
    metrics = Metrics(model='flight"delay', version="7", digest=DIGEST, engine="compiled", ready=True)
    metrics.predicted(3, 0.0002)
    metrics.predicted(1, 99.0)
    metrics.answered(200)
    port = MetricsRoutes(metrics.text)
    text = port(Request(b"GET", b"/metrics", {})).body.decode()
    for line in (
        'model_infer_request_success_total{model="flight\\"delay",version="7"} 2',
        'request_predict_seconds_bucket{model_name="flight\\"delay",model_version="7",le="0.0001"} 0',
        'request_predict_seconds_bucket{model_name="flight\\"delay",model_version="7",le="0.00025"} 1',
        'request_predict_seconds_bucket{model_name="flight\\"delay",model_version="7",le="+Inf"} 2',
        'request_predict_seconds_count{model_name="flight\\"delay",model_version="7"} 2',
        'rest_server_requests_total{status_code="200"} 1',
        "kaizen_server_ready 1",
    ):
        assert f"\n{line}\n" in text
    assert port(Request(b"GET", b"/metrics?format=text", {})).content_type == port(Request(b"GET", b"/metrics", {})).content_type
    assert port(Request(b"GET", b"/healthz", {})).status == port(Request(b"GET", b"/healthz?verbose", {})).status == 200
    assert port(Request(b"POST", b"/metrics", {})).status == 404


def test_the_admin_port_wants_its_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    port = AdminRoutes(lambda: {"written": []}, token)

    def status(given: bytes | None, target: bytes = b"/observations") -> int:
        headers = {} if given is None else {b"authorization": given}
        return port(Request(b"GET", target, headers)).status

    assert [status(given) for given in (None, b"", b"Bearer", b"Bearer x", b"secret", b"Bearer secret")] == [401] * 5 + [200]
    assert status(b"Bearer secret", b"/observations?since=1") == 200
    assert status(b"Bearer secret", b"/other") == 404
    for given, refused in ((b"Bearer x", True), (b"Bearer secret", False)):
        assert bool(port.refusal(Request(b"POST", b"/observations", {b"authorization": given}))) == refused  # before its body
    token.write_text("renewed")
    assert [status(b"Bearer secret"), status(b"Bearer renewed")] == [401, 200]
    token.write_text("")
    assert status(b"Bearer ") == 401
    token.unlink()
    assert status(b"Bearer renewed") == 401
    assert AdminRoutes(dict, None)(Request(b"GET", b"/observations", {})).status == 200
