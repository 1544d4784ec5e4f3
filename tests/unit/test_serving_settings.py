"""Settings of a Pod and of a terminal, and the sentences for what cannot be meant."""

import argparse
import re

import pytest

from kaizen.serving.cli import add_commands
from kaizen.serving.settings import Settings

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
    assert (settings.window_seconds, settings.drain_seconds, settings.windows_prefix) == (300, 5.0, "workloads/flights/")
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
    "an endpoint that is none": ({"KAIZEN_BUCKET_ENDPOINT": "s3:7070"}, "the bucket's endpoint must begin with http://"),
}


@pytest.mark.parametrize(("changed", "says"), REFUSED.values(), ids=REFUSED)
def test_refused(changed: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        Settings.from_environment(POD | changed)


def test_a_terminal() -> None:
    settings = Settings.for_terminal("model", "127.0.0.1", 8081, None, {"KAIZEN_BUCKET_NAME": "kaizen"})
    assert (settings.model, settings.host, settings.port, settings.metrics_port) == ("model", "127.0.0.1", 8081, None)
    assert (settings.bucket, settings.model_bucket, settings.admin_port, settings.drain_seconds) == (None, None, None, 0.0)
    remote = Settings.for_terminal("s3://lake/models/a", "::", 1, 2, {"AWS_ENDPOINT_URL": "http://s3", "AWS_REGION": "eu-west-1"})
    assert remote.model_bucket is not None
    assert (remote.model_bucket.endpoint, remote.model_bucket.region, remote.model_bucket.name) == (
        "http://s3",
        "eu-west-1",
        "lake",
    )


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    parsed = parser.parse_args(["serve", "model", "--port", "8081"])
    assert (parsed.model, parsed.host, parsed.port, parsed.metrics_port) == ("model", "127.0.0.1", 8081, None)
    assert parser.parse_args(["serve"]).model is None
    with pytest.raises(SystemExit):
        parser.parse_args(["serve", "model", "--port", "70000"])
    assert "a port must be a whole number from 1 to 65535, not '70000'" in capsys.readouterr().err
