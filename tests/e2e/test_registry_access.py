"""What a workload identity may do in the bucket, against the real S3 server.

Needs no cluster, only the versitygw that `make cluster` builds.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from kaizen.registry.embedded import Account, ensure_bucket
from kaizen.registry.policy import as_document, owner_statements, single_tenant_policy, workload_statements
from kaizen.registry.store import Bucket, Refused, Rejected
from tests.e2e.local_s3 import OPERATOR, TEAM_A, TEAM_B, TENANT, LocalS3, running_s3  # noqa: F401 -- the fixture local_s3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedMultipartUploadTypeDef

BUCKET = "shared"
PREFIX = "here"


@pytest.fixture(scope="module")
def owner(local_s3: LocalS3) -> Bucket:
    """The bucket with the policies of two namespaces and of the identity that every namespace shares."""
    bucket = Bucket(local_s3.settings(OPERATOR, BUCKET, PREFIX))
    statements = [
        *owner_statements(BUCKET, OPERATOR.access_key),
        *workload_statements(BUCKET, PREFIX, TEAM_A.access_key, "team"),
        *workload_statements(BUCKET, PREFIX, TEAM_B.access_key, "team-b"),
        *single_tenant_policy(BUCKET, PREFIX, TENANT.access_key),
    ]
    ensure_bucket(bucket, as_document(statements))
    return bucket


def denied(action: Callable[[], object]) -> bool:
    try:
        action()
    except Refused:
        return True
    return False


IDENTITIES = {
    # account: (its namespace, what else it may reach below workloads/ and registry/)
    "one namespace": (TEAM_A, "team", False),
    "a namespace whose name begins like another's": (TEAM_B, "team-b", False),
    "single tenant": (TENANT, "team", True),
}


@pytest.mark.parametrize(("account", "namespace", "everywhere"), IDENTITIES.values(), ids=IDENTITIES)
def test_a_workload_reaches_its_own_part_only(
    local_s3: LocalS3, owner: Bucket, account: Account, namespace: str, everywhere: bool
) -> None:
    other = "team" if namespace == "team-b" else "team-b"
    for name in (namespace, other):
        owner.put(f"registry/{name}/model/index.json", b"{}")
        owner.put(f"workloads/{name}/runs/1/model", b"model")
    owner.put("cluster.json", b"{}")
    bucket = Bucket(local_s3.settings(account, BUCKET, PREFIX))
    mine, registered = f"workloads/{namespace}", f"registry/{namespace}/model/index.json"

    # Read, written, also conditionally and in parts, and listed.
    bucket.put(f"{mine}/runs/2/model", b"model")
    bucket.replace(f"{mine}/run.json", {"now": 2}, bucket.put(f"{mine}/run.json", b"{}"))
    multipart(bucket, f"{mine}/large")
    assert bucket.get(f"{mine}/runs/1/model")[0] == b"model"
    assert bucket.get(registered)[0] == b"{}"
    assert {entry.key for entry in bucket.list(f"{mine}/")} >= {f"{mine}/run.json", f"{mine}/runs/1/model", f"{mine}/large"}
    assert [entry.key for entry in bucket.list(f"registry/{namespace}/")] == [registered]

    # The other namespace, as far as the identity is not shared.
    others: list[Callable[[], object]] = [
        lambda: bucket.get(f"workloads/{other}/runs/1/model"),
        lambda: bucket.put(f"workloads/{other}/runs/1/model", b"model"),
        lambda: bucket.get(f"registry/{other}/model/index.json"),
        lambda: bucket.list(f"workloads/{other}/"),
        lambda: bucket.list(f"registry/{other}/"),
    ]
    assert [denied(action) for action in others] == [not everywhere] * len(others)

    # Never anything else.
    full, secret = bucket.settings.key(f"{mine}/runs/1/model"), f"{BUCKET}/{bucket.settings.key('cluster.json')}"
    never: list[Callable[[], object]] = [
        lambda: bucket.put(registered, b"forged"),
        lambda: bucket.create(f"registry/{namespace}/model/new.json", {}),
        lambda: bucket.get("cluster.json"),
        lambda: bucket.put("cluster.json", b"{}"),
        lambda: bucket.list(""),
        lambda: bucket.list("workloads"),
        lambda: bucket.put(f"{mine}/../../cluster.json", b"{}"),
        lambda: bucket.get(f"{mine}/../../cluster.json"),
        lambda: bucket.call(lambda client: client.copy_object(Bucket=BUCKET, Key=full, CopySource=secret), "copy"),
        lambda: bucket.call(lambda client: client.delete_object(Bucket=BUCKET, Key=full), "delete"),
        lambda: bucket.call(lambda client: client.list_objects_v2(Bucket=BUCKET), "list"),
        lambda: bucket.call(lambda client: client.list_object_versions(Bucket=BUCKET), "list"),
        lambda: bucket.call(lambda client: client.list_multipart_uploads(Bucket=BUCKET), "list"),
        lambda: bucket.call(lambda client: client.put_object_acl(Bucket=BUCKET, Key=full, ACL="public-read"), "acl"),
        lambda: bucket.call(lambda client: client.get_bucket_policy(Bucket=BUCKET), "policy"),
        lambda: bucket.call(lambda client: client.delete_bucket_policy(Bucket=BUCKET), "policy"),
        lambda: bucket.call(lambda client: client.delete_bucket(Bucket=BUCKET), "bucket"),
        lambda: bucket.call(lambda client: client.create_bucket(Bucket="another"), "bucket"),
    ]
    assert [number for number, action in enumerate(never) if not denied(action)] == []
    assert bucket.list(f"{mine}/../../cluster") == bucket.list(f"{mine}/../{other}/") == ()
    batch = bucket.call(lambda client: client.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": full}]}), "delete")
    assert [error["Code"] for error in batch["Errors"]] == ["AccessDenied"]
    assert owner.get(registered)[0] == owner.get("cluster.json")[0] == b"{}"
    assert owner.get(f"{mine}/runs/1/model")[0] == b"model"


def multipart(bucket: Bucket, key: str) -> None:
    """Upload in parts, once to the end and once given up, as boto3 does with large files."""
    full = bucket.settings.key(key)

    def upload(client: "S3Client", complete: bool) -> None:
        number = client.create_multipart_upload(Bucket=BUCKET, Key=full)["UploadId"]
        etag = client.upload_part(Bucket=BUCKET, Key=full, UploadId=number, PartNumber=1, Body=b"part")["ETag"]
        listed = client.list_parts(Bucket=BUCKET, Key=full, UploadId=number)["Parts"]
        assert [part["ETag"] for part in listed] == [etag]
        if complete:
            parts: CompletedMultipartUploadTypeDef = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
            client.complete_multipart_upload(Bucket=BUCKET, Key=full, UploadId=number, MultipartUpload=parts)
        else:
            client.abort_multipart_upload(Bucket=BUCKET, Key=full, UploadId=number)

    bucket.call(lambda client: upload(client, complete=False), key)
    bucket.call(lambda client: upload(client, complete=True), key)


def test_a_policy_for_an_unknown_account_is_rejected(owner: Bucket) -> None:
    unknown = [*owner_statements(BUCKET, OPERATOR.access_key), *single_tenant_policy(BUCKET, "", "nobody")]
    with pytest.raises(Rejected, match="MalformedPolicy: Invalid principal"):
        ensure_bucket(owner, as_document(unknown))


def test_a_workload_cannot_make_the_bucket(local_s3: LocalS3) -> None:
    with pytest.raises(Refused):
        ensure_bucket(Bucket(local_s3.settings(TENANT, "tenants")), None)
