"""Who may do what in the bucket, as S3 policy documents.  Pure.

The same documents hold on AWS, MinIO, Ceph and the embedded server; only the principal is written differently:

- the embedded server (versitygw): the account's access key id;
- AWS and Ceph, as bucket policy: the ARN of the role or user, `arn:aws:iam::123456789012:role/kaizen-trainer`;
- as identity policy attached to the role itself (AWS, MinIO): None, and the statements name no principal.  A bucket policy
  on AWS is limited to 20 KB, about 25 namespaces; identity policies are not shared between namespaces.

Workload identities may abort their own unfinished multipart uploads, which removes parts but never an object.
"""

import json
from collections.abc import Iterable
from typing import Any

from kaizen.registry.settings import checked_prefix

__all__ = ["as_document", "owner_statements", "single_tenant_policy", "workload_statements"]

Statement = dict[str, Any]

_READ = ("s3:GetObject",)
_WRITE = ("s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject")


def workload_statements(bucket: str, prefix: str, principal: str | None, namespace: str) -> list[Statement]:
    """What the Pods of one namespace may do: read and write workloads/<namespace>/, read registry/<namespace>/, list both.

    Raises ValueError for a prefix or namespace that would mean something else inside a policy.
    """
    if not namespace or not set(namespace) <= set("abcdefghijklmnopqrstuvwxyz0123456789-"):
        raise ValueError(f"a namespace must be lower-case letters, digits and dashes, not {namespace!r}")
    return _statements(bucket, prefix, principal, f"{namespace}/*")


def single_tenant_policy(bucket: str, prefix: str, principal: str | None) -> list[Statement]:
    """What the one identity shared by every namespace may do: read and write workloads/, read registry/, list both.

    Raises ValueError for a prefix that would mean something else inside a policy.
    """
    return _statements(bucket, prefix, principal, "*")


def owner_statements(bucket: str, principal: str) -> list[Statement]:
    """Everything, for the operator's own identity.

    On versitygw a bucket with a policy is closed to whom the policy does not name, its owner included: without these
    statements the operator locks itself out for good.
    """
    return [_allow(principal, ("s3:*",), (_arn(bucket), _arn(f"{bucket}/*")))]


def as_document(statements: Iterable[Statement]) -> str:
    """The policy document of these statements, as JSON; the same statements give the same text."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, sort_keys=True)


def _statements(bucket: str, prefix: str, principal: str | None, below: str) -> list[Statement]:
    workloads = f"{checked_prefix(prefix)}workloads/{below}"
    registry = f"{checked_prefix(prefix)}registry/{below}"
    listing = _allow(principal, ("s3:ListBucket",), (_arn(bucket),))
    # The pattern ends in "/*", never in the bare name: a listing of "team" would show "team-b" as well.
    listing["Condition"] = {"StringLike": {"s3:prefix": [workloads, registry]}}
    return [
        _allow(principal, _WRITE, (_arn(f"{bucket}/{workloads}"),)),
        _allow(principal, _READ, (_arn(f"{bucket}/{registry}"),)),
        listing,
    ]


def _allow(principal: str | None, actions: tuple[str, ...], resources: tuple[str, ...]) -> Statement:
    who = {} if principal is None else {"Principal": {"AWS": [principal]}}
    return {"Effect": "Allow", **who, "Action": list(actions), "Resource": list(resources)}


def _arn(resource: str) -> str:
    return f"arn:aws:s3:::{resource}"
