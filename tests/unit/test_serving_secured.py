"""A server process whose Secrets come late and change: it starts, says what it lacks, and never answers strangers."""

import http.client
import json
from pathlib import Path
from typing import Any

from tests.support.certificates import client_context, made, mount
from tests.support.models import flights, make_model
from tests.support.server_process import ServerProcess, server_process
from tests.support.wait import until

INFER = "/v2/models/flight-delay/infer"
READY = "/v2/health/ready"
PAGE = {"Origin": "https://a.example"}
CERTIFICATE = made("one")


def ask(server: ServerProcess, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
    """Status, JSON and headers of an answer over TLS."""
    context = client_context(CERTIFICATE["tls.crt"])
    client = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=5)
    try:
        client.request("GET" if body is None else "POST", path, body, {**PAGE, **headers})
        answer = client.getresponse()
        return answer.status, json.loads(answer.read()), dict(answer.getheaders())
    finally:
        client.close()


def reason(server: ServerProcess) -> str | None:
    """Why it is not ready; None when it is, or cannot be asked."""
    try:
        status, found, _ = ask(server, READY)
    except OSError:
        return None
    return str(found["reason"]) if status == 503 else None


def test_secrets_that_come_late_and_change(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", "ridge")
    body = model.request(flights(1))
    tokens, tls = tmp_path / "tokens", tmp_path / "tls"
    options: dict[str, Any] = {"tokens_directory": str(tokens), "tls_directory": str(tls), "cors_origins": ["https://a.example"]}
    with server_process(model.directory, **options) as server:
        until("it says what it lacks", lambda: f"there is no tls.crt and no tls.key in {tls}" in server.log(), 5)
        assert f"the directory {tokens} has no tokens" in server.log()
        assert server.metric("kaizen_server_ready") == 0

        mount(tls, CERTIFICATE)
        says = until("it says what it lacks still", lambda: reason(server), 5)
        assert says == f"the directory {tokens} has no tokens; put one into a file named by its client"
        status, _, headers = ask(server, INFER, body, Authorization="Bearer one")
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")

        mount(tokens, {"shop": b"one\n"})
        until("it is ready", lambda: ask(server, READY)[0] == 200, 5)
        status, found, headers = ask(server, INFER, body, Authorization="Bearer one")
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, "https://a.example")
        assert found["outputs"]
        assert ask(server, INFER, body, Authorization="Bearer two")[0] == 401

        mount(tokens, {"shop": b"two\n"})
        until("the new token is known", lambda: ask(server, INFER, body, Authorization="Bearer two")[0] == 200, 5)
        assert ask(server, INFER, body, Authorization="Bearer one")[0] == 401
        assert server.metric("kaizen_server_tls_reloads_total") == 1
        assert server.metric("kaizen_server_token_reloads_total") == 2
        assert server.metric("kaizen_server_unauthorized_total") >= 3
    assert "broke" not in server.log()
    assert "Traceback" not in server.log()
