"""Pods that run a user's own image, between two steps of ours:

    data         ours: reads, checks and splits the rows
    checkpoints  ours, beside the next one: restores checkpoints, then mirrors them to the bucket
    training     the user's: trains; it ends before the last one begins, and holds no credentials
    trainer      ours: judges and packages the model that was left

All but the last are init containers, so that kubelet keeps this order and knows how the user's code ended.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from kaizen.api.training_job import Container, TrainingJobSpec
from kaizen.core import distributed, pods
from kaizen.core.plan import Observed
from kaizen.core.podtemplate import InvalidPodTemplate, merge
from kaizen.core.trainer_pods import CONTAINER, DEFAULTS, TRAIN, container, finished, mount, mounted, scratch, template, told

__all__ = ["CHECKPOINTS", "DATA", "TRAINING", "container_pod"]

DATA, CHECKPOINTS, TRAINING = "data", "checkpoints", "training"
ROOT = "/var/run/kaizen"
PLACES = {
    "KAIZEN_DATA_DIR": f"{ROOT}/data",
    "KAIZEN_MODEL_DIR": f"{ROOT}/model",
    "KAIZEN_METRICS_FILE": f"{ROOT}/metrics/metrics.jsonl",
    "KAIZEN_CHECKPOINT_DIR": f"{ROOT}/checkpoints",
}
PREPARED = f"{ROOT}/prepared"
RESTORED = "/tmp/restored"
"""The file that says that the checkpoints of an earlier attempt are there."""
RESTORE_SECONDS = 1800
GRACE_SECONDS = 60
"""For the last checkpoint to reach the bucket."""
CHECKPOINTS_RESOURCES = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
USER_SECURITY: Mapping[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""As far as the restricted Pod Security standard asks: the image may write its own file system."""


def container_pod(
    observed: Observed, spec: TrainingJobSpec, labels: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, Any]:
    """The template of a Pod that runs the user's image.  Raises InvalidPodTemplate."""
    wanted = spec.container
    assert wanted is not None
    volumes, mounts = mounted(spec)
    scratches = [scratch(f"tmp-{name}") for name in (DATA, CHECKPOINTS, TRAINING, CONTAINER)]
    shared = [scratch(name) for name in ("data", "model", "metrics", "checkpoints", "prepared")]
    memory = scratch("shared-memory", medium="Memory")
    ours = template(
        spec,
        labels,
        [*scratches, *shared, memory, *volumes],
        {
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "initContainers": [
                _data(observed, spec, environment, mounts),
                _checkpoints(observed, spec, environment),
                _training(observed, spec, wanted),
            ],
            "containers": [_trainer(observed, spec, environment, mounts)],
            **distributed.fields(observed, spec),
        },
    )
    merged = merge(spec.pod_template, ours, users=(TRAINING,), reserved=("hostname",) if wanted.replicas > 1 else ())
    return finished(merged, {DATA: DEFAULTS, CHECKPOINTS: CHECKPOINTS_RESOURCES, TRAINING: DEFAULTS, CONTAINER: DEFAULTS})


def _ours(observed: Observed, spec: TrainingJobSpec, environment: Mapping[str, str], **more: str) -> list[dict[str, Any]]:
    rank = [distributed.from_index("KAIZEN_RANK")] if distributed.members(spec) > 1 else []
    return told({**environment, **observed.settings.bucket_environment, **more}, spec, rank)


def _data(
    observed: Observed, spec: TrainingJobSpec, environment: Mapping[str, str], sources: list[dict[str, Any]]
) -> dict[str, Any]:
    places = {name: PLACES[name] for name in ("KAIZEN_DATA_DIR", "KAIZEN_MODEL_DIR", "KAIZEN_METRICS_FILE")}
    mounts = [
        mount(f"tmp-{DATA}", "/tmp"),
        *sources,
        mount("data", f"{ROOT}/data"),
        mount("prepared", PREPARED),
        mount("model", f"{ROOT}/model"),
        mount("metrics", f"{ROOT}/metrics"),
    ]
    env = _ours(observed, spec, environment, KAIZEN_PREPARED_DIR=PREPARED, **places)
    return container(observed, DATA, ("python", "-m", "kaizen.training.container", "data"), env, mounts, {})


def _checkpoints(observed: Observed, spec: TrainingJobSpec, environment: Mapping[str, str]) -> dict[str, Any]:
    mounts = [mount(f"tmp-{CHECKPOINTS}", "/tmp"), mount("checkpoints", PLACES["KAIZEN_CHECKPOINT_DIR"])]
    known = {name: environment[name] for name in ("KAIZEN_NAMESPACE", "KAIZEN_JOB_UID")}
    places = {"KAIZEN_CHECKPOINT_DIR": PLACES["KAIZEN_CHECKPOINT_DIR"], "KAIZEN_RESTORED_FILE": RESTORED}
    env = _ours(observed, spec, known, **places)
    return {
        **container(observed, CHECKPOINTS, ("python", "-m", "kaizen.training.checkpoints"), env, mounts, {}),
        "restartPolicy": "Always",
        "startupProbe": {
            "exec": {"command": ["test", "-f", RESTORED]}, "periodSeconds": 1, "failureThreshold": RESTORE_SECONDS
        },
    }  # fmt: skip


def _training(observed: Observed, spec: TrainingJobSpec, wanted: Container) -> dict[str, Any]:
    plain, further = distributed.ranks(observed, spec)
    # An unknown user's home is /, which it may not write.
    home = {} if any(one.name == "HOME" for one in spec.pod.env) else {"HOME": "/tmp"}
    resources = pods.resources(spec.pod)
    return {
        "name": TRAINING,
        "image": wanted.image,
        **({"command": list(wanted.command)} if wanted.command else {}),
        **({"args": list(wanted.args)} if wanted.args else {}),
        "env": told({**home, **PLACES, **_parameters(wanted), **plain}, spec, further, uid=False),
        **({"resources": resources} if any(resources.values()) else {}),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            mount(f"tmp-{TRAINING}", "/tmp"),
            mount("data", f"{ROOT}/data", read_only=True),
            mount("model", f"{ROOT}/model"),
            mount("metrics", f"{ROOT}/metrics"),
            mount("checkpoints", f"{ROOT}/checkpoints"),
            # PyTorch's data loaders hand rows over in it; the default of 64 MB is too little for them.
            mount("shared-memory", "/dev/shm"),
        ],
        "securityContext": USER_SECURITY,
    }


def _trainer(
    observed: Observed, spec: TrainingJobSpec, environment: Mapping[str, str], sources: list[dict[str, Any]]
) -> dict[str, Any]:
    mounts = [
        mount(f"tmp-{CONTAINER}", "/tmp"),
        *sources,
        mount("prepared", PREPARED, read_only=True),
        mount("model", f"{ROOT}/model", read_only=True),
        mount("metrics", f"{ROOT}/metrics", read_only=True),
    ]
    places = {"KAIZEN_PREPARED_DIR": PREPARED, "KAIZEN_TRAINED_DIR": f"{ROOT}/model"}
    env = _ours(observed, spec, environment, KAIZEN_METRICS_FILE=PLACES["KAIZEN_METRICS_FILE"], **places)
    return container(observed, CONTAINER, TRAIN, env, mounts, {})


def _parameters(wanted: Container) -> dict[str, str]:
    """All parameters as JSON, and each by its name; texts as they are, everything else as JSON."""
    found = {"KAIZEN_PARAMETERS": json.dumps(wanted.parameters, sort_keys=True)}
    for name, value in sorted(wanted.parameters.items()):
        variable = f"KAIZEN_PARAMETER_{re.sub('[^A-Za-z0-9]', '_', name).upper()}"
        if variable in found:
            raise InvalidPodTemplate(f"container.parameters: two names become {variable}: rename one of them.")
        found[variable] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return found
