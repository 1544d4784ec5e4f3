"""Who may do what in the bucket, the accounts of the embedded server, and what settings can be meant: pure parts."""

import fnmatch
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaizen.registry.embedded import Account, users_document
from kaizen.registry.policy import as_document, owner_statements, single_tenant_policy, workload_statements
from kaizen.registry.settings import BucketSettings, checked_prefix


def allowed(statements: Sequence[dict[str, Any]], principal: str, action: str, resource: str, prefix: str | None = None) -> bool:
    """Whether S3 would allow it, by the rules of AWS for the few features that the documents use."""
    return any(
        statement["Effect"] == "Allow"
        and principal in statement["Principal"]["AWS"]
        and like(action, statement["Action"])
        and like(f"arn:aws:s3:::{resource}", statement["Resource"])
        and (
            "Condition" not in statement
            or (prefix is not None and like(prefix, statement["Condition"]["StringLike"]["s3:prefix"]))
        )
        for statement in statements
    )


def like(text: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


OWN = "bucket/here/workloads/team/runs/1/model"
OTHER = "bucket/here/workloads/team-b/runs/1/model"
REGISTERED = "bucket/here/registry/team/model/index.json"
FOREIGN = "bucket/here/registry/team-b/model/index.json"

OBJECTS = {
    # (action, resource): (one namespace's identity, the shared identity)
    ("s3:GetObject", OWN): (True, True),
    ("s3:PutObject", OWN): (True, True),
    ("s3:AbortMultipartUpload", OWN): (True, True),
    ("s3:ListMultipartUploadParts", OWN): (True, True),
    ("s3:DeleteObject", OWN): (False, False),
    ("s3:DeleteObjectVersion", OWN): (False, False),
    ("s3:PutObjectAcl", OWN): (False, False),
    ("s3:GetObject", OTHER): (False, True),
    ("s3:PutObject", OTHER): (False, True),
    ("s3:GetObject", REGISTERED): (True, True),
    ("s3:PutObject", REGISTERED): (False, False),
    ("s3:DeleteObject", REGISTERED): (False, False),
    ("s3:GetObject", FOREIGN): (False, True),
    ("s3:GetObject", "bucket/here/cluster.json"): (False, False),
    ("s3:PutObject", "bucket/here/cluster.json"): (False, False),
    ("s3:GetObject", "bucket/there/workloads/team/x"): (False, False),
    ("s3:GetObject", "bucket/workloads/team/x"): (False, False),
    ("s3:PutBucketPolicy", "bucket"): (False, False),
    ("s3:ListBucketMultipartUploads", "bucket"): (False, False),
}


@pytest.mark.parametrize(("request_", "expected"), OBJECTS.items(), ids=[" ".join(case) for case in OBJECTS])
def test_what_a_workload_may_do(request_: tuple[str, str], expected: tuple[bool, bool]) -> None:
    action, resource = request_
    mine = workload_statements("bucket", "here", "key", "team")
    shared = single_tenant_policy("bucket", "here", "key")
    assert (allowed(mine, "key", action, resource), allowed(shared, "key", action, resource)) == expected
    assert not allowed(mine, "somebody", action, resource)
    assert not allowed(shared, "somebody", action, resource)


LISTINGS = {
    # prefix: (one namespace's identity, the shared identity)
    "here/workloads/team/": (True, True),
    "here/workloads/team/runs/": (True, True),
    "here/registry/team/": (True, True),
    "here/workloads/team": (False, True),
    "here/workloads/team-b/": (False, True),
    "here/registry/team-b/": (False, True),
    "here/": (False, False),
    "workloads/team/": (False, False),
    "": (False, False),
    None: (False, False),
}


@pytest.mark.parametrize(("prefix", "expected"), LISTINGS.items())
def test_what_a_workload_may_list(prefix: str | None, expected: tuple[bool, bool]) -> None:
    mine = workload_statements("bucket", "here", "key", "team")
    shared = single_tenant_policy("bucket", "here", "key")
    found = tuple(allowed(statements, "key", "s3:ListBucket", "bucket", prefix) for statements in (mine, shared))
    assert found == expected


@pytest.mark.parametrize("action", ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"])
def test_the_owner_may_do_everything(action: str) -> None:
    assert allowed(owner_statements("bucket", "operator"), "operator", action, REGISTERED)
    assert allowed(owner_statements("bucket", "operator"), "operator", "s3:PutBucketPolicy", "bucket")
    assert not allowed(owner_statements("bucket", "operator"), "key", action, REGISTERED)


def test_the_document_of_a_namespace() -> None:
    arn = "arn:aws:iam::123456789012:role/kaizen-trainer"
    assert json.loads(as_document(workload_statements("bucket", "/here/", arn, "team"))) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": [arn]},
                "Action": ["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"],
                "Resource": ["arn:aws:s3:::bucket/here/workloads/team/*"],
            },
            {
                "Effect": "Allow",
                "Principal": {"AWS": [arn]},
                "Action": ["s3:GetObject"],
                "Resource": ["arn:aws:s3:::bucket/here/registry/team/*"],
            },
            {
                "Effect": "Allow",
                "Principal": {"AWS": [arn]},
                "Action": ["s3:ListBucket"],
                "Resource": ["arn:aws:s3:::bucket"],
                "Condition": {"StringLike": {"s3:prefix": ["here/workloads/team/*", "here/registry/team/*"]}},
            },
        ],
    }


def test_an_identity_policy_names_no_principal() -> None:
    assert all("Principal" not in statement for statement in workload_statements("bucket", "", None, "team"))


@given(namespace=st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True))
def test_no_namespace_reaches_into_another(namespace: str) -> None:
    statements = workload_statements("bucket", "", "key", namespace)
    for other in (f"{namespace}x", f"{namespace}-", f"x{namespace}"):
        for part in ("workloads", "registry"):
            assert not allowed(statements, "key", "s3:GetObject", f"bucket/{part}/{other}/x")
            assert not allowed(statements, "key", "s3:ListBucket", "bucket", f"{part}/{other}/")


@pytest.mark.parametrize("namespace", ["", "*", "a/b", "..", "a?", "${aws:username}", "A"])
def test_a_namespace_that_means_something_else_is_refused(namespace: str) -> None:
    with pytest.raises(ValueError, match="a namespace must be"):
        workload_statements("bucket", "", "key", namespace)


@pytest.mark.parametrize(("prefix", "expected"), [("", ""), ("/", ""), ("a", "a/"), ("/a/b/", "a/b/")])
def test_prefixes(prefix: str, expected: str) -> None:
    assert checked_prefix(prefix) == expected


@pytest.mark.parametrize("prefix", ["a//b", "a/../b", ".", "a*", "a?b", "${aws:username}"])
def test_a_prefix_that_means_something_else_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="the bucket's prefix must be"):
        checked_prefix(prefix)
    with pytest.raises(ValueError, match="the bucket's prefix must be"):
        BucketSettings(None, "bucket", prefix)


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "endpoint without scheme": ({"endpoint": "s3:7070"}, "must begin with http:// or https://"),
    "no name": ({"name": ""}, "name must not be empty"),
    "half of the credentials": ({"access_key": "key"}, "belong together"),
}


@pytest.mark.parametrize(("fields", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_cannot_be_meant(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BucketSettings(**{"endpoint": None, "name": "bucket", **fields})


def test_secrets_are_not_printed() -> None:
    printed = repr(BucketSettings(None, "bucket", access_key="key", secret_key="hidden", session_token="hidden"))
    assert "hidden" not in printed + repr(Account("key", "hidden"))


def test_the_accounts_of_the_embedded_server() -> None:
    document = users_document((Account("workload", "two"), Account("operator", "one", "userplus")))
    nobody = {"userID": 0, "groupID": 0, "projectID": 0}
    assert json.loads(document) == {
        "accessAccounts": {
            "operator": {"access": "operator", "secret": "one", "role": "userplus", **nobody},
            "workload": {"access": "workload", "secret": "two", "role": "user", **nobody},
        }
    }
    assert document == users_document((Account("operator", "one", "userplus"), Account("workload", "two")))


@pytest.mark.parametrize(
    ("accounts", "message"),
    [
        ((Account("key", "one"), Account("key", "two")), "two accounts"),
        ((Account("", "one"),), "must have"),
        ((Account("key", ""),), "must have"),
    ],
)
def test_accounts_that_cannot_be_meant(accounts: tuple[Account, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        users_document(accounts)
