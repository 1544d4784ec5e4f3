"""Pods that run the trainer's image: to train, and to count rows."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from kaizen.api.training_job import Recipe, TrainingJobSpec
from kaizen.core import pods
from kaizen.core.plan import Observed
from kaizen.core.podtemplate import InvalidPodTemplate, merge

__all__ = [
    "CONTAINER",
    "DEFAULTS",
    "SERVICE_ACCOUNT",
    "TRAIN",
    "container",
    "count_pod",
    "finished",
    "mount",
    "mounted",
    "scratch",
    "template",
    "told",
    "train_pod",
]

SERVICE_ACCOUNT = "kaizen-trainer"
CONTAINER = "trainer"
TRAIN = ("python", "-m", "kaizen.training.pod")
COUNT = ("python", "-m", "kaizen.training.count")
SECRETS_DIRECTORY = "/var/run/kaizen/secrets"
CLAIMS_DIRECTORY = "/var/run/kaizen/claims"
DEFAULTS = {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "4Gi"}}
COUNT_DEFAULTS = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "4Gi"}}
PLAIN = ("cpu", "memory", "ephemeral-storage")
"""Resources that every Pod uses: counting needs no GPU."""


def train_pod(
    observed: Observed,
    spec: TrainingJobSpec,
    labels: Mapping[str, str],
    environment: Mapping[str, str],
    further: Sequence[Mapping[str, Any]] = (),
    fields: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The template of a Pod that trains; `further` are variables that are no plain texts.  Raises InvalidPodTemplate."""
    volumes, mounts = mounted(spec)
    resources = pods.resources(spec.pod)
    env = told({**environment, **observed.settings.bucket_environment}, spec, further)
    trainer = container(observed, CONTAINER, TRAIN, env, [mount("tmp", "/tmp"), *mounts], resources)
    ours = template(spec, labels, [scratch("tmp"), *volumes], {"containers": [trainer], **(fields or {})})
    return finished(merge(spec.pod_template, ours, reserved=("hostname",) if fields else ()), {CONTAINER: DEFAULTS})


def count_pod(observed: Observed, recipe: Recipe, labels: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, Any]:
    """The template of a Pod that counts rows: where the recipe's Pods run, and none of their containers."""
    volumes, mounts = mounted(recipe)
    resources = {} if recipe.container else {
        kind: {name: value for name, value in amounts.items() if name in PLAIN}
        for kind, amounts in pods.resources(recipe.pod).items()
    }  # fmt: skip
    env = told({**environment, **observed.settings.bucket_environment}, recipe)
    counter = container(observed, CONTAINER, COUNT, env, [mount("tmp", "/tmp"), *mounts], resources)
    ours = template(recipe, labels, [scratch("tmp"), *volumes], {"containers": [counter]})
    theirs, spec = recipe.pod_template, (recipe.pod_template or {}).get("spec")
    if theirs is not None and isinstance(spec, Mapping):
        theirs = {**theirs, "spec": {name: spec[name] for name in spec if not name.endswith("ontainers")}}
    with suppress(InvalidPodTemplate):  # The TrainingJob says so.
        ours = merge(theirs, ours)
    return finished(ours, {CONTAINER: COUNT_DEFAULTS})


def mounted(recipe: Recipe) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes and mounts of the Secrets and claims that a recipe names, each once; all of them are only read."""
    places = [*recipe.data.sources, *((recipe.code,) if recipe.code else ())]
    secrets = {place.secret_name for place in places}
    if recipe.tracking:
        secrets.add(recipe.tracking.mlflow.secret_name)
    uris = [place.uri or "" for place in places]
    claims = {uri.removeprefix("pvc://").split("/")[0] for uri in uris if uri.startswith("pvc://")}
    volumes, mounts = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, name in enumerate(sorted(name for name in secrets if name)):
        volumes.append({"name": f"secret-{number}", "secret": {"secretName": name}})
        mounts.append(mount(f"secret-{number}", f"{SECRETS_DIRECTORY}/{name}", read_only=True))
    for number, name in enumerate(sorted(claims)):
        volumes.append({"name": f"claim-{number}", "persistentVolumeClaim": {"claimName": name, "readOnly": True}})
        mounts.append(mount(f"claim-{number}", f"{CLAIMS_DIRECTORY}/{name}", read_only=True))
    return volumes, mounts


def told(
    plain: Mapping[str, str], recipe: Recipe, further: Sequence[Mapping[str, Any]] = (), *, uid: bool = True
) -> list[dict[str, Any]]:
    """A container's variables: ours, then the user's, which may refer to ours.  Raises InvalidPodTemplate."""
    ours = [*pods.variables(plain), *(dict(one) for one in further)]
    ours = ours if uid else [one for one in ours if one != pods.POD_UID]
    names = {one["name"] for one in ours}
    theirs = pods.environment(recipe.pod)
    for one in theirs:
        if one["name"] in names:
            raise InvalidPodTemplate(f"pod.env: {one['name']} is for Kaizen to set: remove it.")
    return [*ours, *theirs]


def container(
    observed: Observed,
    name: str,
    command: Sequence[str],
    env: Sequence[Mapping[str, Any]],
    mounts: Sequence[Mapping[str, Any]],
    resources: Mapping[str, Any],
) -> dict[str, Any]:
    """A container of the trainer's image, which may use the bucket."""
    return {
        "name": name,
        "image": observed.settings.trainer_image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "env": list(env),
        "envFrom": pods.CREDENTIALS,
        **({"resources": dict(resources)} if any(resources.values()) else {}),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": list(mounts),
        "securityContext": pods.CONTAINER_SECURITY,
    }


def template(
    recipe: Recipe, labels: Mapping[str, str], volumes: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Our Pod template, before the user's is merged under it."""
    return {
        "metadata": {"labels": dict(labels)},
        "spec": {
            "restartPolicy": "Never",
            **pods.placement(recipe.pod),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": dict(pods.POD_SECURITY),
            "volumes": list(volumes),
            **fields,
        },
    }


def finished(merged: Mapping[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The merged template with what nobody set: the ServiceAccount, and resources of our containers."""
    spec = merged["spec"]
    filled = {
        kind: [
            {**one, "resources": defaults[one["name"]]} if one["name"] in defaults and not one.get("resources") else one
            for one in spec[kind]
        ]
        for kind in ("initContainers", "containers")
        if kind in spec
    }
    return {**merged, "spec": {"serviceAccountName": SERVICE_ACCOUNT, **spec, **filled}}


def scratch(name: str, **kind: Any) -> dict[str, Any]:
    """An empty volume for the Pod's life."""
    return {"name": name, "emptyDir": kind}


def mount(name: str, path: str, *, read_only: bool = False) -> dict[str, Any]:
    """Where a volume is seen in a container."""
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}
