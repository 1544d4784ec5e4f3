"""What can go wrong with the bucket, all of it a BucketError:

BucketError
  Missing       there is no such object
  NoBucket      there is no such bucket
  Conflict      somebody else's write won
  Malformed     the object is not a JSON document
  Unreachable   no usable answer after bounded retries; a conditional write may still have happened
  Refused       the credentials are wrong, or may not do this
  Rejected      the server understood the request and will not do it
"""

from typing import Any

__all__ = ["BucketError", "Conflict", "Malformed", "Missing", "NoBucket", "Refused", "Rejected", "Unreachable"]


class BucketError(Exception):
    """Something about the bucket; the message is a sentence for a person."""


class Missing(BucketError):
    """There is no such object."""


class NoBucket(BucketError):
    """There is no such bucket."""


class Conflict(BucketError):
    """Somebody else's write won."""

    def __init__(self, message: str, document: dict[str, Any] | None, etag: str) -> None:
        super().__init__(message)
        self.document = document
        """What is there now; None when that is not a JSON document."""
        self.etag = etag
        """Its etag, for a replace that takes it into account."""


class Malformed(BucketError):
    """The object is not a JSON document."""


class Unreachable(BucketError):
    """No usable answer after bounded retries.  A conditional write may still have happened: read before deciding anew."""


class Refused(BucketError):
    """The credentials are wrong, or may not do this.

    On AWS a missing object is refused, not missing, for an identity that may not list the whole bucket.
    """


class Rejected(BucketError):
    """The server understood the request and will not do it; repeating it changes nothing."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code
        """S3's error code."""
