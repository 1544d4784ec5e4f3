"""Settings of a Pod and of a terminal, and the sentences for what cannot be meant."""

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from kaizen.serving.cli import _example, add_commands
from kaizen.serving.settings import Capturing, Limits, Settings
from tests.unit.test_serving_routes import model

POD = {
    "KAIZEN_MODEL_URI": "s3://kaizen/pre/registry/flights/flight-delay/versions/7/",
    "KAIZEN_MODEL_DIGEST": "sha256:ab",
    "KAIZEN_MODEL_NAME": "flight-delay",
    "KAIZEN_MODEL_VERSION": "7",
    "KAIZEN_SERVICE": "flight-delay",
    "KAIZEN_NAMESPACE": "flights",
    "KAIZEN_POD_UID": "uid",
    "KAIZEN_BUCKET_NAME": "kaizen",
    "KAIZEN_BUCKET_PREFIX": "pre",
    "KAIZEN_BUCKET_ENDPOINT": "http://s3:7070",
}


def test_a_pod() -> None:
    settings = Settings.from_environment(POD)
    assert (settings.name, settings.version, settings.digest, settings.pod_uid) == ("flight-delay", 7, "sha256:ab", "uid")
    assert (settings.host, settings.port, settings.metrics_port, settings.admin_port) == (None, 8080, 9091, 9090)
    assert (settings.window_seconds, settings.drain_seconds, settings.workload_prefix) == (300, 5.0, "workloads/flights/")
    assert settings.bucket is not None
    assert (settings.bucket.name, settings.bucket.prefix, settings.bucket.endpoint) == ("kaizen", "pre", "http://s3:7070")
    model = settings.model_bucket
    assert model is not None
    assert (model.name, model.endpoint) == ("kaizen", "http://s3:7070")
    assert model.key("manifest.json") == "pre/registry/flights/flight-delay/versions/7/manifest.json"


def test_ports_can_be_left_out_and_times_set() -> None:
    settings = Settings.from_environment(
        POD | {"KAIZEN_METRICS_PORT": "0", "KAIZEN_ADMIN_PORT": "0", "KAIZEN_DRAIN_SECONDS": "0", "KAIZEN_WINDOW_SECONDS": "10"}
    )
    assert (settings.metrics_port, settings.admin_port, settings.drain_seconds, settings.window_seconds) == (None, None, 0.0, 10)


def test_nothing_is_on_that_was_not_asked_for() -> None:
    settings = Settings.from_environment(POD)
    assert (settings.workers, settings.grpc_port, settings.limits) == (1, None, Limits())
    assert (settings.tokens_directory, settings.tls_directory, settings.cors_origins, settings.capture) == (None, None, (), None)


def test_everything_can_be_asked_for() -> None:
    settings = Settings.from_environment(
        POD
        | {
            "KAIZEN_WORKERS": "4",
            "KAIZEN_GRPC_PORT": "8081",
            "KAIZEN_TOKENS_DIRECTORY": "/tokens",
            "KAIZEN_TLS_DIRECTORY": "/tls",
            "KAIZEN_CORS_ORIGINS": "https://a.example, http://localhost:3000",
            "KAIZEN_BODY_BYTES": "1000",
            "KAIZEN_CONNECTIONS": "20",
            "KAIZEN_WAITING": "30",
        }
    )
    assert (settings.workers, settings.grpc_port) == (4, 8081)
    assert (settings.tokens_directory, settings.tls_directory) == (Path("/tokens"), Path("/tls"))
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    limits = settings.limits
    assert (limits.body_bytes, limits.connections, limits.waiting) == (1000, 20, 30)
    assert Settings.from_environment(POD | {"KAIZEN_CORS_ORIGINS": "*"}).cors_origins == ("*",)


def test_rows_to_keep() -> None:
    told = {"KAIZEN_CAPTURE_SHARE": "0.25", "KAIZEN_CAPTURE_EXCLUDE": '["a,b"]', "KAIZEN_CAPTURE_HASH": '["flight", "ü"]'}
    assert Settings.from_environment(POD | told).capture == Capturing(0.25, ("a,b",), ("flight", "ü"))
    assert Settings.from_environment(POD | {"KAIZEN_CAPTURE_SHARE": "1"}).capture == Capturing(1.0)
    assert Settings.from_environment(POD | {"KAIZEN_CAPTURE_SHARE": "0"}).capture == Capturing(0.0)
    assert Settings.from_environment(POD | {"KAIZEN_CAPTURE_SHARE": "", "KAIZEN_CAPTURE_HASH": "x"}).capture is None


REFUSED = {
    "no model": ({"KAIZEN_MODEL_URI": ""}, "There is no model to serve: give a model directory, as in `kaizen serve DIR`"),
    "a version that is none": (
        {"KAIZEN_MODEL_VERSION": "v7"},
        "KAIZEN_MODEL_VERSION is 'v7'; it must be a whole number of at least 1",
    ),
    "version 0": ({"KAIZEN_MODEL_VERSION": "0"}, "KAIZEN_MODEL_VERSION is '0'; it must be a whole number of at least 1"),
    "a digest that is none": ({"KAIZEN_MODEL_DIGEST": "md5:1"}, "KAIZEN_MODEL_DIGEST is 'md5:1'; it must begin with sha256:"),
    "no window": ({"KAIZEN_WINDOW_SECONDS": "0"}, "KAIZEN_WINDOW_SECONDS is '0'"),
    "only a bucket": (
        {"KAIZEN_MODEL_URI": "s3://kaizen"},
        "The model 's3://kaizen' names no prefix in a bucket; write s3://BUCKET/",
    ),
    "no workers": ({"KAIZEN_WORKERS": "0"}, "KAIZEN_WORKERS is '0'; it must be a whole number from 1 to 64"),
    "a port that is none": (
        {"KAIZEN_GRPC_PORT": "70000"},
        "'70000'; it must be a whole number from 0 to 65535",
    ),
    "a port twice": (
        {"KAIZEN_GRPC_PORT": "8080"},
        "The public port and the gRPC port are both 8080; give each its own number.",
    ),
    "an origin with a path": (
        {"KAIZEN_CORS_ORIGINS": "https://a.example,https://b.example/"},
        "KAIZEN_CORS_ORIGINS cannot be used: 'https://b.example/' is no origin; write it as browsers do, like https://example.com",
    ),
    "a share that is none": ({"KAIZEN_CAPTURE_SHARE": "nan"}, "KAIZEN_CAPTURE_SHARE is 'nan'; it must be a number from 0 to 1."),
    "more than all": ({"KAIZEN_CAPTURE_SHARE": "10%"}, "KAIZEN_CAPTURE_SHARE is '10%'; it must be a number from 0 to 1."),
    "columns that are no list": (
        {"KAIZEN_CAPTURE_SHARE": "1", "KAIZEN_CAPTURE_HASH": "flight"},
        "KAIZEN_CAPTURE_HASH is 'flight'; it must be a JSON list of names, like [\"flight\"].",
    ),
    "no connections": ({"KAIZEN_CONNECTIONS": "0"}, "KAIZEN_CONNECTIONS is '0'; it must be a whole number of at least 1"),
    "an endpoint that is none": ({"KAIZEN_BUCKET_ENDPOINT": "s3:7070"}, "the bucket's endpoint must begin with http://"),
}


@pytest.mark.parametrize(("changed", "says"), REFUSED.values(), ids=REFUSED)
def test_refused(changed: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        Settings.from_environment(POD | changed)


def test_a_terminal() -> None:
    settings = Settings.for_terminal("model", {"KAIZEN_BUCKET_NAME": "kaizen"}, host="127.0.0.1", port=8081)
    assert (settings.model, settings.host, settings.port, settings.metrics_port) == ("model", "127.0.0.1", 8081, None)
    assert (settings.bucket, settings.model_bucket, settings.admin_port, settings.drain_seconds) == (None, None, None, 0.0)
    amazon = {"AWS_ENDPOINT_URL": "http://s3", "AWS_REGION": "eu-west-1"}
    remote = Settings.for_terminal("s3://lake/models/a", amazon, host="::", port=1)
    assert remote.model_bucket is not None
    assert (remote.model_bucket.endpoint, remote.model_bucket.region, remote.model_bucket.name) == (
        "http://s3",
        "eu-west-1",
        "lake",
    )


@pytest.mark.parametrize(
    ("host", "address"),
    [("::1", "[::1]:8080"), ("::", "[::]:8080"), ("127.0.0.1", "127.0.0.1:8080"), ("a.local", "a.local:8080")],
)
def test_the_example_asks_an_address_that_a_shell_can_ask(host: str, address: str) -> None:
    settings = Settings.for_terminal("model", {}, host=host, port=8080)
    assert f"curl -s http://{address}/v2/models/flight-delay/infer " in _example(settings, model())


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    add_commands(made.add_subparsers())
    return made


def test_the_command(parser: argparse.ArgumentParser) -> None:
    parsed = parser.parse_args(["serve", "model", "--port", "8081"])
    assert (parsed.model, parsed.host, parsed.port, parsed.metrics_port) == ("model", "127.0.0.1", 8081, None)
    assert (parsed.workers, parsed.grpc_port, parsed.tokens, parsed.tls, parsed.cors_origins) == (1, None, None, None, ())
    assert parser.parse_args(["serve"]).model is None
    more = ["--workers", "2", "--grpc-port", "8082", "--tokens", "t", "--tls", "c", "--cors-origins", "*"]
    parsed = parser.parse_args(["serve", "model", *more])
    assert (parsed.workers, parsed.grpc_port, parsed.tokens, parsed.tls) == (2, 8082, Path("t"), Path("c"))
    assert parsed.cors_origins == ("*",)


WRONG: dict[str, Any] = {
    "--port": ("70000", "a port must be a whole number from 1 to 65535, not '70000'"),
    "--workers": ("two", "workers must be a whole number of at least 1, not 'two'"),
    "--cors-origins": ("example.com", "'example.com' is no origin; write it as browsers do"),
}


@pytest.mark.parametrize("flag", WRONG)
def test_wrong_usage(parser: argparse.ArgumentParser, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    given, says = WRONG[flag]
    with pytest.raises(SystemExit):
        parser.parse_args(["serve", "model", flag, given])
    assert says in capsys.readouterr().err
