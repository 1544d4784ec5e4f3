"""Requests to the API server: few verbs, dict bodies, every write guarded.

Two field managers are load-bearing: `kaizen` owns children, `kaizen-status` owns statuses.  Renaming one would leave
fields behind that nobody owns.
"""

import json
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException

from kaizen import __version__, metrics
from kaizen.cluster.resources import BY_KIND, Resource
from kaizen.core.plan import Object

CHILD_MANAGER = "kaizen"
STATUS_MANAGER = "kaizen-status"
REQUEST_SECONDS = 30
PAGE = 500


class ApiError(Exception):
    """The API server refused a request, or could not be reached (status 0)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotFound(ApiError):
    """The object does not exist."""


class Conflict(ApiError):
    """The object is not as it was observed, or exists already: look again."""


class Client:
    """A connection to one API server."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    @classmethod
    async def connect(cls, kubeconfig: str | None = None) -> "Client":
        """Connect with the Pod's service account, or outside a cluster with a kubeconfig file (default: the user's)."""
        configuration = Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except ConfigException:
            await config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
        api = ApiClient(configuration)
        api.user_agent = f"kaizen/{__version__}"
        return cls(api)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def get(self, kind: str, namespace: str | None, name: str) -> Object:
        """One object; raises NotFound."""
        return await self._request("GET", BY_KIND[kind].path(namespace, name))

    async def list_all(self, resource: Resource, label_selector: str | None = None) -> tuple[list[Object], int]:
        """Every object of a kind in the cluster, from the API server's cache, and the resourceVersion of the list."""
        found: list[Object] = []
        following = ""
        while True:
            query = {"limit": str(PAGE), "labelSelector": label_selector or "", "continue": following}
            if not following:
                query["resourceVersion"] = "0"
            page = await self._request("GET", resource.path(), {key: value for key, value in query.items() if value})
            # Items of a list carry neither kind nor apiVersion.
            found += [{"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in page["items"]]
            following = page["metadata"].get("continue", "")
            if not following:
                return found, int(page["metadata"]["resourceVersion"])

    async def create(self, body: Object, manager: str = CHILD_MANAGER) -> Object:
        """Create an object; raises Conflict when its name is taken."""
        path = BY_KIND[body["kind"]].path(body["metadata"].get("namespace"))
        # A person has a hand in a Job's template: a field that is none must not vanish silently.
        strict = {"fieldValidation": "Strict"} if body["kind"] == "Job" else {}
        return await self._request("POST", path, {"fieldManager": manager, **strict}, body)

    async def create_applied(self, body: Object) -> Object:
        """Create an object that will change, by server-side apply; raises Conflict when its name is taken.

        What a POST has set stays although a later apply leaves it out: to the API server they are two managers.
        """
        metadata = body["metadata"]
        # No object has this version, so one that exists is not touched.
        guarded = {**body, "metadata": {**metadata, "resourceVersion": "1"}}
        path = BY_KIND[body["kind"]].path(metadata.get("namespace"), metadata["name"])
        query = {"fieldManager": CHILD_MANAGER, "force": "true"}
        return await self._request("PATCH", path, query, guarded, "application/apply-patch+yaml")

    async def newest_warning(self, observed: Object) -> str | None:
        """What the newest warning event about an object says; None when there is none."""
        selector = f"involvedObject.uid={observed['metadata']['uid']},type=Warning"
        path = BY_KIND["Event"].path(observed["metadata"]["namespace"])
        found = (await self._request("GET", path, {"fieldSelector": selector, "limit": str(PAGE)}))["items"]
        newest = max(found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default=None)
        return None if newest is None else str(newest.get("message", ""))

    async def apply(self, body: Object, observed: Object) -> Object:
        """Server-side apply of an object that was observed; raises Conflict when it changed since."""
        return await self._apply(body, observed, CHILD_MANAGER, None)

    async def apply_status(self, body: Object, observed: Object) -> Object:
        """Server-side apply of a whole status; raises Conflict when the object changed since it was observed."""
        return await self._apply(body, observed, STATUS_MANAGER, "status")

    async def replace(self, body: Object) -> Object:
        """Replace an object; its resourceVersion guards it.  Raises Conflict when it changed since."""
        metadata = body["metadata"]
        path = BY_KIND[body["kind"]].path(metadata.get("namespace"), metadata["name"])
        return await self._request("PUT", path, {"fieldManager": CHILD_MANAGER}, body)

    async def suspend(self, job: Object, suspended: bool) -> None:
        """Stop or continue an observed Job; raises Conflict when it changed since."""
        metadata = job["metadata"]
        path = BY_KIND["Job"].path(metadata["namespace"], metadata["name"])
        guard = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = {"metadata": guard, "spec": {"suspend": suspended}}
        await self._request("PATCH", path, {"fieldManager": CHILD_MANAGER}, body, "application/merge-patch+json")

    async def delete(self, observed: Object) -> None:
        """Delete just the observed object; one that is gone already is fine, a changed one raises Conflict."""
        metadata = observed["metadata"]
        body = {
            "propagationPolicy": "Background",
            "preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
        }
        try:
            await self._request("DELETE", BY_KIND[observed["kind"]].path(metadata["namespace"], metadata["name"]), None, body)
        except NotFound:
            return

    async def _apply(self, body: Object, observed: Object, manager: str, subresource: str | None) -> Object:
        metadata = observed["metadata"]
        guarded = {
            **body,
            "metadata": {**body["metadata"], "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
        }
        path = BY_KIND[body["kind"]].path(metadata.get("namespace"), metadata["name"], subresource)
        query = {"fieldManager": manager, "force": "true"}
        return await self._request("PATCH", path, query, guarded, "application/apply-patch+yaml")

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        configuration = self._api.configuration
        headers = {"Content-Type": content_type, "Accept": "application/json", "User-Agent": self._api.user_agent}
        url = f"{configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            if token := await configuration.get_api_key_with_prefix("BearerToken"):
                headers["Authorization"] = token
            response = await self._api.call_api(method, url, headers, body=body, _request_timeout=REQUEST_SECONDS)
            data = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError, ConfigException) as problem:
            raise ApiError(
                0, "Unreachable", f"The API server cannot be reached: {str(problem) or type(problem).__name__}."
            ) from problem
        answer = _decode(data)
        if response.status >= 400:
            raise _error(response.status, answer)
        if method != "GET":
            metrics.WRITES.labels(method, (body or answer).get("kind", "")).inc()
        return answer


def _decode(data: bytes) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], json.loads(data))
    except ValueError:
        return {"message": data[:200].decode(errors="replace")}


def _error(status: int, answer: Mapping[str, Any]) -> ApiError:
    kind = {404: NotFound, 409: Conflict}.get(status, ApiError)
    causes = (answer.get("details") or {}).get("causes") or ()
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        kind = NotFound  # What it was for is going away.
    return kind(status, str(answer.get("reason", "")), str(answer.get("message", f"HTTP status {status}")))
