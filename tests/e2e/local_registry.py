"""A registry on the local S3 server with two finished runs, for stories about it.

Import what is needed into a test module: `running_s3`, `shared_session`, `direct_bucket`, `mortal_bucket`, `own_model`.
"""

import boto3
import pytest

from kaizen.registry import layout
from kaizen.registry.embedded import ensure_bucket
from kaizen.registry.store import Bucket
from tests.e2e.local_s3 import OPERATOR, LocalS3
from tests.support.registry import FILES, NAMESPACE, MortalBucket, put_run

BUCKET = "kaizen"
PREFIX = "versions"
RACERS = 10
WHENS = ("before-send", "response-received")
"""The two sides of a request on which a process may die."""
SECOND = layout.attempt(NAMESPACE, "0b7d", "pod-1") + "model/"
"""Another run's model directory, with other content."""


@pytest.fixture(scope="module", name="session")
def shared_session() -> boto3.session.Session:
    """Spares the loading of the API's description."""
    return boto3.session.Session()


@pytest.fixture(scope="module", name="direct")
def direct_bucket(local_s3: LocalS3, session: boto3.session.Session) -> Bucket:
    """The operator's bucket, with two finished runs in it."""
    bucket = Bucket(local_s3.settings(OPERATOR, BUCKET, PREFIX), session=session)
    ensure_bucket(bucket, None)
    put_run(bucket)
    put_run(bucket, SECOND, {**FILES, "engine.json": b'{"format": 2}'})
    return bucket


@pytest.fixture(scope="module", name="mortal")
def mortal_bucket(direct: Bucket, session: boto3.session.Session) -> MortalBucket:
    """The same bucket, used by a process that dies."""
    return MortalBucket(direct.settings, session)


@pytest.fixture(name="model")
def own_model(request: pytest.FixtureRequest) -> str:
    """A model of the test's own."""
    return "".join(character if character.isalnum() else "-" for character in request.node.name)
