"""Which bucket, under which prefix, and as whom."""

from dataclasses import dataclass, field

__all__ = ["BucketSettings", "checked_prefix"]


@dataclass(frozen=True)
class BucketSettings:
    """Which bucket, and as whom.  Raises ValueError when it cannot be meant."""

    endpoint: str | None
    """http:// or https:// address of the server; None for AWS."""
    name: str
    prefix: str = ""
    """Everything is kept under it; slashes at its ends do not matter."""
    region: str = "us-east-1"
    access_key: str | None = None
    """None means the default chain of boto3: environment, workload identity, instance."""
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    secret_name: str = ""
    """Where the credentials came from; only for messages."""

    def __post_init__(self) -> None:
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"the bucket's endpoint must begin with http:// or https://, not be {self.endpoint!r}")
        if not self.name:
            raise ValueError("the bucket's name must not be empty")
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("an access key and a secret key belong together: give both or neither")
        checked_prefix(self.prefix)

    def key(self, key: str) -> str:
        """The full key of one that is relative to the prefix."""
        return f"{checked_prefix(self.prefix)}{key}"

    @property
    def where(self) -> str:
        """The endpoint, in words."""
        return self.endpoint or f"AWS S3 in {self.region}"


def checked_prefix(prefix: str) -> str:
    """The prefix without slashes at its beginning and with one at its end; empty stays empty.

    Raises ValueError for what would mean something else inside a policy (*, ?, $) or a file system (., ..).
    """
    bare = prefix.strip("/")
    if not bare:
        return ""
    if any(part in ("", ".", "..") for part in bare.split("/")) or any(character in bare for character in "*?$"):
        raise ValueError(f"the bucket's prefix must be names separated by single slashes, without * ? $, not {prefix!r}")
    return f"{bare}/"
