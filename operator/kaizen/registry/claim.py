"""One cluster owns a prefix: two operators that wrote the same registry would undo each other."""

from kaizen.registry.errors import BucketError, Conflict, Malformed, Missing
from kaizen.registry.store import Bucket

__all__ = ["CLAIM", "ForeignCluster", "claim"]

CLAIM = "cluster.json"
"""The object that says whose prefix this is, relative to the prefix."""


class ForeignCluster(BucketError):
    """The prefix belongs to another cluster."""


def claim(bucket: Bucket, cluster_uid: str) -> None:
    """Make the bucket's prefix this cluster's; does nothing when it is already.

    `cluster_uid` is the uid of the namespace kube-system.  Raises ForeignCluster when another cluster was first, and
    Malformed when the claim cannot be read.
    """
    # Read first: a server that ignored If-None-Match would otherwise overwrite another cluster's claim.
    try:
        owner, _ = bucket.read(CLAIM)
    except Missing:
        try:
            owner = bucket.create(CLAIM, {"clusterUID": cluster_uid})
        except Conflict as conflict:
            owner = conflict.document or {}
    found = owner.get("clusterUID")
    if not isinstance(found, str):
        raise Malformed(f"{_place(bucket)} does not say which cluster it belongs to: delete it if no cluster uses this prefix")
    if found != cluster_uid:
        raise ForeignCluster(
            f"{_place(bucket)} says that another cluster uses it: set another prefix, or delete that file if that cluster is gone"
        )


def _place(bucket: Bucket) -> str:
    return f"{bucket.settings.key(CLAIM)} in bucket {bucket.settings.name}"
