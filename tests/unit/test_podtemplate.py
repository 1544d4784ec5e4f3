"""The user's Pod template under ours: nothing that we set is set otherwise, and nothing that they add is lost."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaizen.core.podtemplate import InvalidPodTemplate, merge

OURS: dict[str, Any] = {
    "metadata": {"labels": {"app.kubernetes.io/managed-by": "kaizen"}},
    "spec": {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "initContainers": [{"name": "data", "image": "kaizen"}, {"name": "training", "image": "mine"}],
        "containers": [
            {
                "name": "trainer",
                "image": "kaizen",
                "command": ["train"],
                "imagePullPolicy": "IfNotPresent",
                "env": [{"name": "KAIZEN_SPEC", "value": "{}"}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }
        ],
    },
}


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def trainer(**fields: Any) -> dict[str, Any]:
    return spec(containers=[{"name": "trainer", **fields}])


def at(document: Any, *path: str | int) -> Any:
    for step in path:
        document = document[step]
    return document


SPEC, TRAINER = ("spec",), ("spec", "containers", 0)
MERGED: dict[str, tuple[dict[str, Any], Sequence[str | int], Any]] = {
    "nothing": ({}, (), OURS),
    "nulls say nothing": (spec(restartPolicy=None, hostNetwork=None), SPEC, OURS["spec"]),
    "the same again": (spec(restartPolicy="Never"), SPEC, OURS["spec"]),
    "another field": (spec(runtimeClassName="nvidia"), (*SPEC, "runtimeClassName"), "nvidia"),
    "a label": (
        {"metadata": {"labels": {"team": "a"}}},
        ("metadata", "labels"),
        {"app.kubernetes.io/managed-by": "kaizen", "team": "a"},
    ),
    "an annotation": ({"metadata": {"annotations": {"a": "b"}}}, ("metadata", "annotations"), {"a": "b"}),
    "the namespace decides how far a Pod may go": (
        spec(securityContext={"runAsUser": 1000, "fsGroup": 7}),
        (*SPEC, "securityContext"),
        {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 7},
    ),
    "tolerations add up": (
        spec(tolerations=[{"key": "gpu", "operator": "Exists"}, {"key": "spot"}]),
        (*SPEC, "tolerations"),
        [{"key": "gpu", "operator": "Exists"}, {"key": "spot"}],
    ),
    "a volume": (
        spec(volumes=[{"name": "more", "hostPath": {"path": "/x"}}]),
        (*SPEC, "volumes"),
        [{"name": "tmp", "emptyDir": {}}, {"name": "more", "hostPath": {"path": "/x"}}],
    ),
    "a limit of ours": (
        spec(volumes=[{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]),
        (*SPEC, "volumes", 0, "emptyDir"),
        {"sizeLimit": "1Gi"},
    ),
    "a sidecar": (spec(containers=[{"name": "proxy"}]), (*SPEC, "containers", 1), {"name": "proxy"}),
    "init containers come first": (
        spec(initContainers=[{"name": "fetch"}]),
        (*SPEC, "initContainers"),
        [{"name": "fetch"}, *OURS["spec"]["initContainers"]],
    ),
    "our init container among the containers": (
        spec(containers=[{"name": "training", "workingDir": "/app"}]),
        (*SPEC, "initContainers", 1),
        {"name": "training", "image": "mine", "workingDir": "/app"},
    ),
    "a pull policy": (trainer(imagePullPolicy="Always"), (*TRAINER, "imagePullPolicy"), "Always"),
    "resources": (trainer(resources={"limits": {"memory": "1Gi"}}), (*TRAINER, "resources"), {"limits": {"memory": "1Gi"}}),
    "a variable": (trainer(env=[{"name": "PROXY", "value": "p"}]), (*TRAINER, "env", 1), {"name": "PROXY", "value": "p"}),
    "a mount": (
        trainer(volumeMounts=[{"name": "more", "mountPath": "/more"}]),
        (*TRAINER, "volumeMounts", 1),
        {"name": "more", "mountPath": "/more"},
    ),
    "the user's own command": (
        spec(initContainers=[{"name": "training", "command": ["sh"]}]),
        (*SPEC, "initContainers", 1, "command"),
        ["sh"],
    ),
}


@pytest.mark.parametrize(("template", "path", "expected"), MERGED.values(), ids=MERGED)
def test_merged(template: dict[str, Any], path: Sequence[str | int], expected: Any) -> None:
    assert at(merge(template, OURS, users=("training",)), *path) == expected


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a Pod's field at the top": ({"nodeSelector": {}}, "did you mean podTemplate.spec.nodeSelector?"),
    "a whole object": ({"kind": "PodTemplate"}, "podTemplate has the fields metadata and spec, not kind."),
    "a name": ({"metadata": {"name": "x"}}, "podTemplate.metadata has the fields annotations and labels, not name."),
    "a text for an object": ({"spec": "x"}, "podTemplate.spec must be an object."),
    "a text deeper down": (spec(volumes="x"), "podTemplate.spec.volumes must be a list."),
    "a list of texts": (spec(volumes=["x"]), "podTemplate.spec.volumes[0] must be an object with name."),
    "an object for containers": (spec(containers={"name": "trainer"}), "podTemplate.spec.containers must be a list."),
    "a nameless container": (spec(containers=[{"image": "x"}]), "podTemplate.spec.containers[0] must be an object with name."),
    "a container twice": (spec(containers=[{"name": "a"}, {"name": "a"}]), "podTemplate.spec.containers has a twice."),
    "a restart policy": (
        spec(restartPolicy="Always"), "podTemplate.spec.restartPolicy is for Kaizen to set (Never): remove it."
    ),
    "our label": (
        {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}},
        "podTemplate.metadata.labels.app.kubernetes.io/managed-by is for Kaizen to set (kaizen): remove it.",
    ),
    "our image": (trainer(image="mine"), "podTemplate: image of container trainer is for Kaizen to set: remove it."),
    "our arguments": (trainer(args=["x"]), "podTemplate: args of container trainer is for Kaizen to set: remove it."),
    "our variable": (
        trainer(env=[{"name": "KAIZEN_SPEC", "value": "{}"}]),
        "podTemplate: KAIZEN_SPEC in container trainer begins with KAIZEN_, as only Kaizen's own variables do: rename it.",
    ),
    "our mount": (
        trainer(volumeMounts=[{"name": "mine", "mountPath": "/tmp"}]),
        "podTemplate.spec.containers[trainer].volumeMounts[/tmp].name is for Kaizen to set (tmp): remove it.",
    ),
    "a reserved field": (spec(hostname="x"), "podTemplate.spec.hostname is for Kaizen to set: remove it."),
    "the user's image in another place": (
        spec(initContainers=[{"name": "training", "image": "other"}]),
        "podTemplate.spec.initContainers[training].image is for Kaizen to set (mine): remove it.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("template", "sentence"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_sentence(template: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidPodTemplate) as refused:
        merge(template, OURS, users=("training",), reserved=("hostname",))
    assert sentence in str(refused.value)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["x", "trainer", "tmp", "data", "/tmp"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "mountPath", "env", "volumeMounts", "image", "command", "emptyDir", "value"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
FIELDS = st.dictionaries(st.sampled_from([*OURS["spec"], "hostNetwork"]), ANY, max_size=4)


def kept(ours: Any, merged: Any, name: str = "") -> bool:
    """Everything of ours is there, in its order, but what gives way."""
    if name in ("securityContext", "imagePullPolicy"):
        return True
    if isinstance(ours, dict):
        return all(field in merged and kept(value, merged[field], field) for field, value in ours.items())
    if isinstance(ours, list) and ours and isinstance(ours[0], dict):
        rest = iter(merged)
        return all(any(kept(one, other) for other in rest) for one in ours)
    return bool(ours == merged)


@given(FIELDS)
def test_whatever_is_given_ours_stays_or_it_is_refused(fields: dict[str, Any]) -> None:
    try:
        merged = merge({"spec": fields}, OURS, users=("training",))
    except InvalidPodTemplate:
        return
    assert kept(OURS, merged)
