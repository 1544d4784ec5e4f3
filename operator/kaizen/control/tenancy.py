"""What a namespace needs before Kaizen's Pods can run in it, made once and left to the platform team afterwards.

ServiceAccounts are where a workload identity is attached.  The Secret exists only where one identity is shared by every
namespace (the embedded server's); elsewhere the platform team gives each namespace its own.
"""

from collections.abc import Mapping

from kaizen.cluster.client import Client, Conflict
from kaizen.core import jobs, serving
from kaizen.core.objects import MANAGED_BY
from kaizen.core.plan import Object
from kaizen.core.pods import CREDENTIALS_SECRET


async def ensure_tenant(client: Client, namespace: str, shared: Mapping[str, str]) -> None:
    """Make the ServiceAccounts and, with shared credentials, the Secret; existing ones are left as they are.

    Asked before each Job and Deployment is made and never remembered: a namespace may have been deleted and made anew under
    its name.
    """
    for name in (jobs.SERVICE_ACCOUNT, serving.SERVICE_ACCOUNT):
        await _create(client, _object("ServiceAccount", namespace, name, {"automountServiceAccountToken": False}))
    if shared:
        await _create(client, _object("Secret", namespace, CREDENTIALS_SECRET, {"stringData": dict(shared)}))


async def _create(client: Client, body: Object) -> None:
    try:
        await client.create(body)
    except Conflict:
        return


def _object(kind: str, namespace: str, name: str, fields: Mapping[str, object]) -> Object:
    metadata = {"name": name, "namespace": namespace, "labels": {MANAGED_BY: "kaizen"}}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields}
