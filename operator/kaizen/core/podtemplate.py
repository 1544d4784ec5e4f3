"""A user's Pod template under Kaizen's own: a strategic merge in which nothing that Kaizen sets is set otherwise.

What both say must be the same, else the template is refused by the name of its first such field: a field that has no effect
is an error here, as everywhere in the API.  A few fields of ours are only defaults, and give way.  What a Pod may have at all
is the API server's to say.
"""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["InvalidPodTemplate", "merge"]

KEYS = {
    "containers": "name",
    "env": "name",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ports": "containerPort",
    "resourceClaims": "name",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""Lists of objects that are told apart by a field."""
ADDED = ("envFrom", "tolerations", "topologySpreadConstraints")
"""Lists that add up."""
YIELDING = ("imagePullPolicy", "securityContext", "terminationGracePeriodSeconds")
"""Ours are defaults: how far a Pod may go is for its namespace to say."""
OURS_ALONE = ("args", "command", "image", "lifecycle")
"""Fields of our containers that a template may not even add."""
TOP = {"metadata": ("annotations", "labels"), "spec": None}


class InvalidPodTemplate(ValueError):
    """What is wrong, in one sentence."""


def merge(
    template: Mapping[str, Any] | None, ours: Mapping[str, Any], *, users: Sequence[str] = (), reserved: Sequence[str] = ()
) -> dict[str, Any]:
    """Our Pod template (`metadata`, `spec`) with what the user's adds.

    `users` are the containers of ours that run the user's image, where command and arguments are the user's as well;
    `reserved` are fields of the Pod's spec that must not be there.  Raises InvalidPodTemplate.
    """
    if template is None:
        return dict(ours)
    for name, value in template.items():
        if name not in TOP:
            hint = "" if name in ("apiVersion", "kind", "template") else f"; did you mean podTemplate.spec.{name}?"
            raise InvalidPodTemplate(f"podTemplate has the fields metadata and spec, not {name}{hint or '.'}")
        if not isinstance(value, Mapping):
            raise InvalidPodTemplate(f"podTemplate.{name} must be an object.")
        for field in value:
            if (known := TOP[name]) and field not in known:
                raise InvalidPodTemplate(f"podTemplate.{name} has the fields {' and '.join(known)}, not {field}.")
    spec = template.get("spec", {})
    for name in reserved:
        if spec.get(name) is not None:
            raise InvalidPodTemplate(f"podTemplate.spec.{name} is for Kaizen to set: remove it.")
    spec = _sorted_in(spec, [container["name"] for container in ours["spec"].get("initContainers", ())])
    _check_containers(spec, ours["spec"], users)
    return _objects({**template, "spec": spec}, ours, "podTemplate")


def _sorted_in(spec: Mapping[str, Any], ours: Sequence[str]) -> dict[str, Any]:
    """The spec with what it says of our init containers among the init containers: nobody needs to know which those are."""
    containers, inits = spec.get("containers"), spec.get("initContainers")
    if not isinstance(containers, list) or not isinstance(inits, list | None):
        return dict(spec)
    moved = [one for one in containers if isinstance(one, Mapping) and one.get("name") in ours]
    rest = [one for one in containers if one not in moved]
    return {**spec, "containers": rest, "initContainers": [*(inits or ()), *moved]}


def _check_containers(spec: Mapping[str, Any], ours: Mapping[str, Any], users: Sequence[str]) -> None:
    own = {container["name"] for kind in ("containers", "initContainers") for container in ours.get(kind, ())}
    for kind in ("containers", "initContainers"):
        listed = spec.get(kind)
        for container in listed if isinstance(listed, list) else ():
            name = container.get("name") if isinstance(container, Mapping) else None
            if not isinstance(name, str) or name not in own:
                continue
            for field in OURS_ALONE if name not in users else ():
                if container.get(field) is not None:
                    raise InvalidPodTemplate(f"podTemplate: {field} of container {name} is for Kaizen to set: remove it.")
            env = container.get("env") or ()
            for variable in env if isinstance(env, list) else ():
                if isinstance(variable, Mapping) and str(variable.get("name", "")).startswith("KAIZEN_"):
                    what = f"podTemplate: {variable['name']} in container {name}"
                    raise InvalidPodTemplate(f"{what} begins with KAIZEN_, as only Kaizen's own variables do: rename it.")


def _objects(theirs: Mapping[str, Any], ours: Mapping[str, Any], path: str) -> dict[str, Any]:
    # A null says nothing, in a template as in an object.
    merged = {name: value for name, value in theirs.items() if value is not None}
    return {
        **{
            name: _field(name, merged[name], value, f"{path}.{name}") if name in merged else value for name, value in ours.items()
        },
        **{name: value for name, value in merged.items() if name not in ours},
    }


def _field(name: str, theirs: Any, ours: Any, path: str) -> Any:
    if name in YIELDING:
        return {**ours, **theirs} if isinstance(ours, Mapping) and isinstance(theirs, Mapping) else theirs
    if isinstance(ours, Mapping):
        if not isinstance(theirs, Mapping):
            raise InvalidPodTemplate(f"{path} must be an object.")
        return _objects(theirs, ours, path)
    if isinstance(ours, list) and (name in KEYS or name in ADDED):
        if not isinstance(theirs, list):
            raise InvalidPodTemplate(f"{path} must be a list.")
        if name in ADDED:
            return [*ours, *(item for item in theirs if item not in ours)]
        return _by_key(name, theirs, ours, path)
    if theirs != ours:
        raise InvalidPodTemplate(f"{path} is for Kaizen to set{_shown(ours)}: remove it.")
    return ours


def _by_key(name: str, theirs: Sequence[Any], ours: Sequence[Any], path: str) -> list[Any]:
    key, named = KEYS[name], dict[Any, Mapping[str, Any]]()
    for number, item in enumerate(theirs):
        if not isinstance(item, Mapping) or not isinstance(item.get(key), str | int):
            raise InvalidPodTemplate(f"{path}[{number}] must be an object with {key}.")
        if item[key] in named:
            raise InvalidPodTemplate(f"{path} has {item[key]} twice.")
        named[item[key]] = item
    known = {item[key] for item in ours}
    both = [_objects(named[item[key]], item, f"{path}[{item[key]}]") if item[key] in named else item for item in ours]
    others = [item for value, item in named.items() if value not in known]
    # What a person prepares is there before our steps run, and a sidecar beside all of them.
    return [*others, *both] if name == "initContainers" else [*both, *others]


def _shown(value: Any) -> str:
    return f" ({value})" if isinstance(value, str | int) and len(str(value)) <= 64 else ""
