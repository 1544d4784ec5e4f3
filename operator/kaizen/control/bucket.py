"""The registry's bucket, kept usable: embedded users, bucket and policy made, ownership claimed, failures named.

Level-based: each round looks at everything again and mends what differs, so a round may be cut off anywhere.
"""

import asyncio
import base64
import logging
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kaizen import metrics
from kaizen.cluster.client import ApiError, Client, Conflict, NotFound
from kaizen.control.config import Config
from kaizen.core.plan import Bucket as BucketState
from kaizen.registry import claim, embedded, errors, policy
from kaizen.registry.settings import BucketSettings
from kaizen.registry.store import Bucket

FIRST_RETRY_SECONDS = 1.0
CHECK_SECONDS = 30.0
OPERATOR_ACCOUNT = "kaizen-operator"
WORKLOAD_ACCOUNT = "kaizen-workloads"
_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class BucketKeeper:
    """Checks the bucket again and again, and says when its state has changed."""

    def __init__(self, config: Config, client: Client, on_change: Callable[[], None]) -> None:
        self._config = config
        self._client = client
        self._on_change = on_change
        self._state = BucketState(False, "BucketNotChecked", "The bucket has not been checked yet.")
        self._bucket: Bucket | None = None
        self._uid = ""
        self._workload_keys: Mapping[str, str] = {}
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="s3")
        self.checked = asyncio.Event()
        """Set once the first check has ended, well or not."""

    def state(self) -> BucketState:
        """The bucket's state as of the last check."""
        return self._state

    def bucket(self) -> Bucket:
        """The bucket as of the last check; raises Unreachable before there was one."""
        if self._bucket is None:
            raise errors.Unreachable("the bucket has not been checked yet")
        return self._bucket

    def workload_keys(self) -> Mapping[str, str]:
        """The credentials that every namespace's Pods share; empty where each namespace has its own."""
        return self._workload_keys

    async def keep(self) -> None:
        """Check until cancelled: every half minute while all is well, with growing delay up to that otherwise."""
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                state = await self._check()
            except Exception:
                _log.exception("the check of the bucket failed")
                state = BucketState(False, "InternalError", "Kaizen failed on the bucket; the operator's log has the details.")
            if state != self._state:
                log = _log.info if state.usable else _log.warning
                log("%s: %s", state.reason, state.message or f"the bucket {self._config.bucket_name} can be used")
                self._state = state
                self._on_change()
            metrics.BUCKET_USABLE.set(state.usable)
            self.checked.set()
            await asyncio.sleep(CHECK_SECONDS if state.usable else delay)
            delay = FIRST_RETRY_SECONDS if state.usable else min(2 * delay, CHECK_SECONDS)

    async def _check(self) -> BucketState:
        try:
            await self._make_usable()
        except claim.ForeignCluster as problem:
            return unusable("BucketBelongsToAnotherCluster", problem)
        except errors.Refused as problem:
            return unusable("BucketRefused", problem)
        except errors.NoBucket as problem:
            return unusable("BucketMissing", problem)
        except errors.BucketError as problem:
            return unusable("BucketUnreachable", problem)
        except ApiError as problem:
            if self.checked.is_set() and (problem.status in (0, 429) or problem.status >= 500):
                return self._state  # It is the API server that has trouble, and the bucket may be as it was.
            return unusable("BucketSecretUnreadable", problem)
        except ValueError as problem:
            return unusable("BucketMisconfigured", problem)
        return BucketState(True)

    async def _make_usable(self) -> None:
        settings = await self._settings()
        cluster_uid = await self._cluster_uid()
        if self._bucket is None or self._bucket.settings != settings:
            self._bucket = await self.in_thread(lambda: Bucket(settings))
        bucket = self._bucket
        if self._config.bucket_embedded:
            document = _embedded_policy(settings)
            await self.in_thread(lambda: embedded.ensure_bucket(bucket, document))
        await self.in_thread(lambda: claim.claim(bucket, cluster_uid))

    async def _cluster_uid(self) -> str:
        """The cluster's identity: the uid of kube-system, which never changes."""
        if not self._uid:
            namespace = await self._client.get("Namespace", None, "kube-system")
            self._uid = str(namespace["metadata"]["uid"])
        return self._uid

    async def _settings(self) -> BucketSettings:
        config = self._config
        keys: Mapping[str, str] = {}
        if config.bucket_secret:
            keys = await self._embedded_secret() if config.bucket_embedded else await self._secret()
        if config.bucket_embedded:
            self._workload_keys = {
                "AWS_ACCESS_KEY_ID": keys["WORKLOAD_ACCESS_KEY_ID"],
                "AWS_SECRET_ACCESS_KEY": keys["WORKLOAD_SECRET_ACCESS_KEY"],
            }
        return BucketSettings(
            endpoint=config.bucket_endpoint,
            name=config.bucket_name,
            prefix=config.bucket_prefix,
            region=config.bucket_region,
            access_key=keys.get("AWS_ACCESS_KEY_ID"),
            secret_key=keys.get("AWS_SECRET_ACCESS_KEY"),
            session_token=keys.get("AWS_SESSION_TOKEN"),
            secret_name=config.bucket_secret or "",
        )

    async def _secret(self) -> Mapping[str, str]:
        """The credentials as the platform team gave them; raises ApiError or MissingKey."""
        name = self._config.bucket_secret or ""
        try:
            secret = await self._client.get("Secret", self._config.namespace, name)
        except NotFound as problem:
            what = f"the Secret {name} does not exist in namespace {self._config.namespace}"
            raise ApiError(404, "NotFound", f"{what}: create it with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.") from problem
        keys = {key: base64.b64decode(value).decode().strip() for key, value in secret.get("data", {}).items()}
        for needed in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            if not keys.get(needed):
                raise MissingKey(f"the Secret {name} in namespace {self._config.namespace} has no {needed}: add it.")
        return keys

    async def _embedded_secret(self) -> Mapping[str, str]:
        """The embedded server's credentials, made up when there are none yet: the server waits for this Secret."""
        try:
            return await self._secret()
        except ApiError as problem:
            if problem.status != 404:
                raise
        try:
            await self._client.create(
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": self._config.bucket_secret, "namespace": self._config.namespace},
                    "stringData": _new_credentials(),
                }
            )
        except Conflict:
            _log.info("another process made the embedded server's credentials")
        return await self._secret()

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def unusable(reason: str, problem: Exception) -> BucketState:
    """The state of a bucket that failed so."""
    return BucketState(False, reason, sentence(problem))


def sentence(problem: Exception) -> str:
    """What went wrong, as a condition's message."""
    return f"{str(problem).rstrip('.')}."


class MissingKey(ValueError):
    """A Secret lacks a key."""


def _embedded_policy(settings: BucketSettings) -> str:
    return policy.as_document(
        policy.owner_statements(settings.name, OPERATOR_ACCOUNT)
        + policy.single_tenant_policy(settings.name, settings.prefix, WORKLOAD_ACCOUNT)
    )


def _new_credentials() -> dict[str, str]:
    operator, workload = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    accounts = (
        embedded.Account(OPERATOR_ACCOUNT, operator, "userplus"),
        embedded.Account(WORKLOAD_ACCOUNT, workload),
    )
    return {
        "AWS_ACCESS_KEY_ID": OPERATOR_ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": operator,
        "WORKLOAD_ACCESS_KEY_ID": WORKLOAD_ACCOUNT,
        "WORKLOAD_SECRET_ACCESS_KEY": workload,
        "ROOT_ACCESS_KEY_ID": "kaizen-root",
        "ROOT_SECRET_ACCESS_KEY": secrets.token_urlsafe(32),
        "users.json": embedded.users_document(accounts),
    }
