"""The bucket as a small vocabulary: read, write, list, and two writes that only one writer can win.

A conditional write carries a unique writer id in its body.  Whatever hides its outcome (an answer lost on the way, 5xx, or
the 412 that a repeated request gets for its own success) is settled by reading the object back: our own id means success.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import botocore.exceptions
from botocore.config import Config
from botocore.parsers import ResponseParserError

from kaizen.registry.errors import (
    BucketError,
    Conflict,
    Malformed,
    Missing,
    NoBucket,
    Refused,
    Rejected,
    Unreachable,
)
from kaizen.registry.settings import BucketSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CopySourceTypeDef, ListObjectsV2RequestPaginateTypeDef

__all__ = [
    "Bucket",
    "BucketError",
    "BucketSettings",
    "Conflict",
    "Entry",
    "Malformed",
    "Missing",
    "NoBucket",
    "Refused",
    "Rejected",
    "Unreachable",
]

T = TypeVar("T")

Document = Mapping[str, Any]
"""A JSON object."""

WRITER = "writer"
"""The field of a conditionally written document that says whose write it is."""

PAUSES_SECONDS = (0.1, 0.4, 1.6)
"""Between the attempts of a read or a conditional write: one attempt more than pauses."""

PART_BYTES = 1 << 20
"""What is read at once of an object whose digest is taken."""

_CREDENTIALS = frozenset({"AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"})
_TRANSIENT = frozenset({"IncompleteBody", "RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests"})
_NO_CREDENTIALS = (
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.NoCredentialsError,
    botocore.exceptions.PartialCredentialsError,
)
_NO_ANSWER = (
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.IncompleteReadError,
    ResponseParserError,
)
_FAILURES = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, ResponseParserError)


@dataclass(frozen=True)
class Entry:
    """One object in a listing."""

    key: str
    """Relative to the prefix of the settings."""
    size: int
    """Bytes."""
    etag: str
    modified: datetime


class Bucket:
    """One bucket under one prefix; every key is relative to that prefix.  Safe to share between threads.

    Every method raises Unreachable, Refused, NoBucket and Rejected besides what it names itself.
    """

    def __init__(
        self,
        settings: BucketSettings,
        *,
        connect_timeout_seconds: float = 3.0,
        read_timeout_seconds: float = 10.0,
        pauses_seconds: tuple[float, ...] = PAUSES_SECONDS,
        sleep: Callable[[float], None] = time.sleep,  # noqa: TID251 -- callers run in threads; tests pass their own
        session: boto3.session.Session | None = None,
    ) -> None:
        """`session` spares the loading of the API's description; one thread at a time may make a Bucket from the same one."""
        self.settings = settings
        self._timeouts = (connect_timeout_seconds, read_timeout_seconds)
        self._pauses = pauses_seconds
        self._sleep = sleep
        session = session or boto3.session.Session()
        self._client = self._connect(session, attempts=3)
        self._once = self._connect(session, attempts=1)
        """For conditional writes, where a hidden retry would see 412 for its own success, and for what is retried here."""

    def disconnect(self) -> None:
        """End the kept connections, as before a fork; the next request makes new ones."""
        self._client.close()
        self._once.close()

    def get(self, key: str) -> tuple[bytes, str]:
        """The content of an object and its etag.  Raises Missing."""
        return self._whole(lambda: self._get(key))

    def digest(self, key: str) -> tuple[str, int]:
        """The sha256 of an object's content in hexadecimal, and its size in bytes; never more than a part in memory.

        Raises Missing.
        """

        def streamed(client: "S3Client") -> tuple[str, int]:
            answer = client.get_object(Bucket=self.settings.name, Key=self.settings.key(key))
            content, size = hashlib.sha256(), 0
            for part in answer["Body"].iter_chunks(PART_BYTES):
                content.update(part)
                size += len(part)
            return content.hexdigest(), size

        return self._whole(lambda: self._call(streamed, self._once, key))

    def copy(self, source: str, target: str, etag: str) -> None:
        """Copy an object inside the server, whatever is at the target; `etag` is what the source must still have.

        Raises Missing when there is no source and Conflict when it has changed.  AWS copies up to 5 GB so.
        """
        name, origin = self.settings.name, self.settings.key(source)

        def copied(client: "S3Client") -> object:
            where: CopySourceTypeDef = {"Bucket": name, "Key": origin}
            return client.copy_object(Bucket=name, Key=self.settings.key(target), CopySource=where, CopySourceIfMatch=etag)

        try:
            self.call(copied, source)
        except Rejected as error:
            if error.code != "PreconditionFailed":
                raise
            raise Conflict(f"{self._name(source)} has changed", None, "") from error

    def read(self, key: str) -> tuple[dict[str, Any], str]:
        """The JSON document of an object and its etag.  Raises Missing and Malformed."""
        body, etag = self.get(key)
        document = _document(body)
        if document is None:
            raise Malformed(f"{self._name(key)} is not a JSON document: restore it, or delete it if nothing needs it")
        return document, etag

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> str:
        """Write an object whatever is there; returns its etag."""
        full = self.settings.key(key)
        answer = self.call(
            lambda client: client.put_object(Bucket=self.settings.name, Key=full, Body=body, ContentType=content_type), key
        )
        return answer["ETag"]

    def delete(self, key: str) -> None:
        """Delete an object; that there is none any more is no mistake."""
        self.call(lambda client: client.delete_object(Bucket=self.settings.name, Key=self.settings.key(key)), key)

    def list(self, prefix: str, after: str = "", most: int | None = None) -> tuple[Entry, ...]:
        """Every object whose key begins with `prefix` and comes after `after`, in the order of their keys.

        With `most` only the first so many.
        """

        def pages(client: "S3Client") -> tuple[Entry, ...]:
            request: ListObjectsV2RequestPaginateTypeDef = {"Bucket": self.settings.name, "Prefix": self.settings.key(prefix)}
            if after:
                request["StartAfter"] = self.settings.key(after)
            if most is not None:
                request["PaginationConfig"] = {"MaxItems": most, "PageSize": most}
            found = client.get_paginator("list_objects_v2").paginate(**request)
            skip = len(self.settings.key(""))
            return tuple(
                Entry(item["Key"][skip:], item["Size"], item["ETag"], item["LastModified"])
                for page in found
                for item in page.get("Contents", ())
            )

        return self.call(pages, prefix)

    def create(self, key: str, document: Document) -> dict[str, Any]:
        """Write a JSON document where there is none; returns it as it is now stored, with its writer id.

        Raises Conflict when there is one.
        """
        return self._write_once(key, document, None)

    def replace(self, key: str, document: Document, etag: str) -> dict[str, Any]:
        """Write a JSON document over the one with this etag; returns it as it is now stored, with its writer id.

        Raises Conflict when another one is there, Missing when none is.
        """
        return self._write_once(key, document, etag)

    def call(self, action: Callable[["S3Client"], T], what: str) -> T:
        """The answer to a request; `what` names the object in messages.  For the modules of this package."""
        return self._call(action, self._client, what)

    def _call(self, action: Callable[["S3Client"], T], client: "S3Client", what: str) -> T:
        try:
            return action(client)
        except _FAILURES as error:
            raise self._explain(error, what) from error

    def _whole(self, action: Callable[[], T]) -> T:
        # Not left to the client's own retries: those end before the body is read, and a body may break off.
        for pause in self._pauses:
            try:
                return action()
            except Unreachable:
                self._sleep(pause)
        return action()

    def _get(self, key: str) -> tuple[bytes, str]:
        def whole(client: "S3Client") -> tuple[bytes, str]:
            answer = client.get_object(Bucket=self.settings.name, Key=self.settings.key(key))
            return answer["Body"].read(), answer["ETag"]

        return self._call(whole, self._once, key)

    def _write_once(self, key: str, document: Document, etag: str | None) -> dict[str, Any]:
        writer = uuid.uuid4().hex
        stored = {**document, WRITER: writer}
        body = json.dumps(stored, sort_keys=True, allow_nan=False).encode()
        # Every attempt sends the same bytes under the same condition, so at most one takes effect, also when an
        # earlier one arrives late.
        unsettled = ""
        for pause in (*self._pauses, None):
            try:
                self._put_if(key, body, etag)
                return stored
            except _Unsettled as error:
                unsettled = str(error)
            try:
                content, now = self._get(key)
            except Missing:
                if etag is not None:
                    raise
            except Unreachable:
                pass
            else:
                found = _document(content)
                if found is not None and found.get(WRITER) == writer:
                    return found
                if now != etag:
                    raise Conflict(f"{self._name(key)} was written by somebody else", found, now)
            if pause is not None:
                self._sleep(pause)
        raise self._unreachable(unsettled)

    def _put_if(self, key: str, body: bytes, etag: str | None) -> None:
        name, full, kind = self.settings.name, self.settings.key(key), "application/json"
        try:
            if etag is None:
                self._once.put_object(Bucket=name, Key=full, Body=body, ContentType=kind, IfNoneMatch="*")
            else:
                self._once.put_object(Bucket=name, Key=full, Body=body, ContentType=kind, IfMatch=etag)
        except _FAILURES as error:
            explained = self._explain(error, key)
            if isinstance(explained, Unreachable) or _precondition_failed(error):
                raise _Unsettled(_reason(error)) from error
            raise explained from error

    def _connect(self, session: boto3.session.Session, attempts: int) -> "S3Client":
        connect, read = self._timeouts
        settings = self.settings
        return session.client(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=settings.region,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            aws_session_token=settings.session_token,
            config=Config(
                connect_timeout=connect,
                read_timeout=read,
                retries={"mode": "standard", "total_max_attempts": attempts},
                max_pool_connections=32,
                # Checksums in trailers are unknown to many servers that are not AWS; the signature covers the payload.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path" if settings.endpoint else "auto", "payload_signing_enabled": True},
            ),
        )

    def _name(self, key: str) -> str:
        return f"{self.settings.key(key)} in bucket {self.settings.name}"

    def _unreachable(self, reason: str) -> Unreachable:
        return Unreachable(f"bucket {self.settings.name} at {self.settings.where} cannot be reached: {reason}")

    def _explain(self, error: Exception, what: str) -> BucketError:
        name, where = self.settings.name, self.settings.where
        if isinstance(error, _NO_CREDENTIALS):
            return Refused(f"there are no credentials for bucket {name} at {where}: looked in {self._credentials()}")
        if isinstance(error, _NO_ANSWER):
            return self._unreachable(_reason(error))
        if not isinstance(error, botocore.exceptions.ClientError):
            return Rejected(f"bucket {name} at {where} cannot be used: {error}", type(error).__name__)
        status, code = _status(error)
        if code in _CREDENTIALS or status in (401, 403):
            return Refused(f"{where} refused bucket {name} to the credentials of {self._credentials()}: {_reason(error)}")
        if code in _TRANSIENT or status in (408, 429) or (status >= 500 and status != 501):
            return self._unreachable(_reason(error))
        if code == "NoSuchBucket":
            return NoBucket(f"there is no bucket {name} at {where}")
        if status == 404:
            return Missing(f"there is no {self._name(what)}")
        message = error.response.get("Error", {}).get("Message", "")
        return Rejected(f"{where} rejected a request for {self._name(what)}: {_reason(error)}: {message}", code)

    def _credentials(self) -> str:
        if self.settings.secret_name:
            return f"Secret {self.settings.secret_name}"
        return "the default AWS chain" if self.settings.access_key is None else f"access key {self.settings.access_key}"


class _Unsettled(Exception):
    """The outcome of a conditional write has to be read back."""


def _status(error: botocore.exceptions.ClientError) -> tuple[int, str]:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status, error.response.get("Error", {}).get("Code", "")


def _precondition_failed(error: Exception) -> bool:
    if not isinstance(error, botocore.exceptions.ClientError):
        return False
    status, code = _status(error)
    # versitygw keeps objects as files: a key below another object's key is a 409 that no retry mends.
    return status in (409, 412) and code != "ObjectParentIsFile"


def _reason(error: Exception) -> str:
    """Why, in words without addresses, keys or times: the same failure reads the same each time."""
    match error:
        case botocore.exceptions.ClientError():
            status, code = _status(error)
            return f"it answered {status}" if code in ("", str(status)) else f"it answered {status} {code}"
        case botocore.exceptions.ConnectTimeoutError() | botocore.exceptions.ReadTimeoutError():
            return "it did not answer in time"
        case botocore.exceptions.SSLError():
            return "its TLS certificate was not accepted"
        case botocore.exceptions.EndpointConnectionError():
            return "the connection was not accepted"
        case botocore.exceptions.HTTPClientError() | botocore.exceptions.IncompleteReadError():
            return "the connection broke"
        case _:
            return "its answer is not that of an S3 server"


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
