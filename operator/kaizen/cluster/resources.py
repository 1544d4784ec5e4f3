"""Where each kind lives in the API: the operator knows what it handles and asks for no discovery."""

from dataclasses import dataclass

from kaizen.api.base import API_VERSION
from kaizen.api.kinds import KINDS


@dataclass(frozen=True)
class Resource:
    """A kind's place in the API."""

    api_version: str
    kind: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of one object, of a namespace's collection, or of the whole cluster's."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        parts = [root, *(["namespaces", namespace] if namespace else []), self.plural]
        return "/".join([*parts, *([name] if name else []), *([subresource] if subresource else [])])

    @property
    def group_and_version(self) -> tuple[str, str]:
        """("apps", "v1"); the core group is the empty string."""
        group, _, version = self.api_version.rpartition("/")
        return group, version


OWN = tuple(Resource(API_VERSION, kind.name, kind.plural) for kind in KINDS)
CHILDREN = (
    Resource("v1", "Service", "services"),
    Resource("apps/v1", "Deployment", "deployments"),
    Resource("batch/v1", "Job", "jobs"),
    Resource("v1", "Pod", "pods"),
)
WATCHED = OWN + CHILDREN
"""What the store holds: our kinds, and those children that carry our label."""
OTHERS = (
    Resource("coordination.k8s.io/v1", "Lease", "leases"),
    Resource("v1", "Event", "events"),
    Resource("v1", "Namespace", "namespaces"),
    Resource("v1", "Secret", "secrets"),
    Resource("v1", "ServiceAccount", "serviceaccounts"),
)
BY_KIND = {resource.kind: resource for resource in WATCHED + OTHERS}
