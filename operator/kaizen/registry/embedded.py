"""What the embedded S3 server (versitygw) needs: its accounts as a file, and a bucket with a policy.  Level-based.

The server reads its accounts from `users.json` in `--iam-dir` and never writes there while no account is changed through its
admin API, so the file can be a Secret mounted read-only.  It must exist before the server starts.  A new account works at
once; a changed or removed one after `--iam-cache-ttl` (120 s unless told).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from kaizen.registry.errors import Missing, NoBucket, Rejected
from kaizen.registry.store import Bucket

__all__ = ["Account", "ensure_bucket", "users_document"]


@dataclass(frozen=True)
class Account:
    """An account of the embedded server."""

    access_key: str
    secret_key: str = field(repr=False)
    role: Literal["user", "userplus"] = "user"
    """userplus may create buckets, which it then owns; user may do what bucket policies allow."""


def users_document(accounts: Iterable[Account]) -> str:
    """The content of users.json; the same accounts give the same text.

    Raises ValueError when two accounts have the same access key, or a key is empty.
    """
    users: dict[str, Any] = {}
    for account in accounts:
        if not account.access_key or not account.secret_key:
            raise ValueError("an account of the embedded S3 server must have an access key and a secret key")
        if account.access_key in users:
            raise ValueError(f"two accounts of the embedded S3 server have the access key {account.access_key}")
        users[account.access_key] = {
            "access": account.access_key,
            "secret": account.secret_key,
            "role": account.role,
            "userID": 0,
            "groupID": 0,
            "projectID": 0,
        }
    return json.dumps({"accessAccounts": users}, sort_keys=True)


def ensure_bucket(bucket: Bucket, policy: str | None) -> None:
    """Create the bucket when there is none, and put the policy when another one is there; None leaves the policy alone.

    The bucket's credentials become its owner.  Raises ValueError for a policy that would lock them out, Rejected when
    the bucket's name is taken or the policy names an account that the server does not know, Refused when the bucket is
    somebody else's.
    """
    name, access_key = bucket.settings.name, bucket.settings.access_key
    wanted = None if policy is None else json.loads(policy)
    if wanted is not None and access_key is not None and not _keeps(wanted, access_key):
        raise ValueError(f"this policy would lock out the owner {access_key} of bucket {name}: add owner_statements to it")
    try:
        # Not HeadBucket, whose answers have no body: a wrong secret and a foreign bucket would look the same.
        found = json.loads(bucket.call(lambda client: client.get_bucket_policy(Bucket=name), "policy")["Policy"])
    except Missing:
        found = None
    except NoBucket:
        _create(bucket)
        found = None
    if policy is not None and found != wanted:
        bucket.call(lambda client: client.put_bucket_policy(Bucket=name, Policy=policy), "policy")


def _create(bucket: Bucket) -> None:
    try:
        bucket.call(lambda client: client.create_bucket(Bucket=bucket.settings.name), "bucket")
    except Rejected as error:
        if error.code != "BucketAlreadyOwnedByYou":
            raise


def _keeps(policy: dict[str, Any], access_key: str) -> bool:
    return any(
        statement.get("Effect") == "Allow"
        and "s3:*" in statement.get("Action", ())
        and access_key in statement.get("Principal", {}).get("AWS", ())
        for statement in policy.get("Statement", ())
    )
