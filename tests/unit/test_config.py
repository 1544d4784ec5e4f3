"""The operator's settings from its environment."""

import pytest

from kaizen.control.config import Config
from kaizen.core.plan import Settings

LEAST = {"KAIZEN_NAMESPACE": "kaizen-system", "KAIZEN_POD_NAME": "kaizen-operator-0", "KAIZEN_BUCKET_NAME": "kaizen"}
DEFAULTS = Config(
    namespace="kaizen-system",
    pod_name="kaizen-operator-0",
    bucket_name="kaizen",
    bucket_prefix="",
    bucket_endpoint=None,
    bucket_region="us-east-1",
    bucket_secret=None,
    bucket_embedded=False,
    trainer_image="",
    server_image="",
    server_sklearn_image="",
    resync_seconds=300,
    workers=8,
    port=9091,
)
EVERYTHING = {
    **LEAST,
    "KAIZEN_BUCKET_PREFIX": "prod/",
    "KAIZEN_BUCKET_ENDPOINT": "http://kaizen-s3:7070",
    "KAIZEN_BUCKET_REGION": "eu-central-1",
    "KAIZEN_BUCKET_SECRET": "kaizen-s3",
    "KAIZEN_BUCKET_EMBEDDED": "true",
    "KAIZEN_TRAINER_IMAGE": "kaizen/trainer:1",
    "KAIZEN_SERVER_IMAGE": "kaizen/server:1",
    "KAIZEN_SERVER_SKLEARN_IMAGE": "kaizen/server-sklearn:1",
    "KAIZEN_RESYNC_SECONDS": "60",
    "KAIZEN_WORKERS": "1",
    "KAIZEN_PORT": "8000",
}


def test_least() -> None:
    assert Config.from_environment(LEAST) == DEFAULTS


def test_everything() -> None:
    assert Config.from_environment(EVERYTHING) == Config(
        namespace="kaizen-system",
        pod_name="kaizen-operator-0",
        bucket_name="kaizen",
        bucket_prefix="prod/",
        bucket_endpoint="http://kaizen-s3:7070",
        bucket_region="eu-central-1",
        bucket_secret="kaizen-s3",
        bucket_embedded=True,
        trainer_image="kaizen/trainer:1",
        server_image="kaizen/server:1",
        server_sklearn_image="kaizen/server-sklearn:1",
        resync_seconds=60,
        workers=1,
        port=8000,
    )


def test_decisions_know_the_images_and_what_their_pods_need_for_the_bucket() -> None:
    assert Config.from_environment(EVERYTHING).settings() == Settings(
        trainer_image="kaizen/trainer:1",
        server_image="kaizen/server:1",
        server_sklearn_image="kaizen/server-sklearn:1",
        bucket_environment={
            "KAIZEN_BUCKET_NAME": "kaizen",
            "KAIZEN_BUCKET_PREFIX": "prod/",
            "KAIZEN_BUCKET_ENDPOINT": "http://kaizen-s3:7070",
            "KAIZEN_BUCKET_REGION": "eu-central-1",
        },
    )


def test_decisions_know_no_variable_that_is_unset() -> None:
    bucket = {"KAIZEN_BUCKET_NAME": "kaizen", "KAIZEN_BUCKET_REGION": "us-east-1"}
    assert Config.from_environment(LEAST).settings() == Settings(bucket_environment=bucket)


def test_what_a_chart_leaves_empty_is_as_if_unset() -> None:
    assert Config.from_environment({**dict.fromkeys(EVERYTHING, ""), **LEAST}) == DEFAULTS


WRONG = {
    **{f"{name} unset": ({k: v for k, v in LEAST.items() if k != name}, name, "is not set") for name in LEAST},
    **{f"{name} empty": ({**LEAST, name: ""}, name, "is not set") for name in LEAST},
    **{
        f"{name} {text!r}": ({**LEAST, name: text}, name, f"is {text!r}; it must be a whole number of at least 1")
        for name in ("KAIZEN_RESYNC_SECONDS", "KAIZEN_WORKERS", "KAIZEN_PORT")
        for text in ("0", "-1", "1.5", "many", " 8", "²")
    },
}


@pytest.mark.parametrize(("environment", "name", "words"), WRONG.values(), ids=WRONG)
def test_wrong_setting_is_named(environment: dict[str, str], name: str, words: str) -> None:
    with pytest.raises(ValueError, match=name) as problem:
        Config.from_environment(environment)
    assert words in str(problem.value)
