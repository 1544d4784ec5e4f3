"""The kind cluster with Kaizen installed: made when absent, continued when alive, replaced when dead or outdated."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from hack import bases, engine, golang, images, node
from hack.engine import Engine
from hack.images import IMAGES, Image
from hack.paths import CACHE, KUBECONFIG, REPOSITORY
from hack.steps import Step, Stop, discard, quietly, say, step

NAME = "kaizen"
NAMESPACE = "kaizen-system"
_NODE = f"{NAME}-control-plane"
_CHART = REPOSITORY / "charts" / "kaizen"
_S3_NODE_PORT = 30070
"""Of the node; kind-config.yaml gives it a port of this machine."""
_S3_OUTSIDE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "kaizen-s3-outside", "namespace": NAMESPACE},
    "spec": {
        "type": "NodePort",
        "selector": {"app.kubernetes.io/name": "kaizen", "app.kubernetes.io/component": "s3"},
        "ports": [{"port": 7070, "targetPort": "s3", "nodePort": _S3_NODE_PORT}],
    },
}
"""The embedded bucket for programs of this machine: `kubectl port-forward` may hang once a connection was broken off."""
_SYSTEM_NAMESPACE = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
}


def up() -> None:
    """Bring this machine to a running cluster with the checkout's Kaizen installed; raises Stop with one sentence."""
    this = engine.detect()
    engine.check_machine(this)
    world = "public images" if this.public else "images made from packages"
    say(f"Cluster {NAME!r} by {this.command}, with {world}; cache in {CACHE}")
    engine.install(this)
    with ThreadPoolExecutor(max_workers=2) as pool:
        tools = pool.submit(_build_tools, this)
        python_base = bases.provide(this, bases.PYTHON)
        names = {key: images.provide(this, image, python_base) for key, image in IMAGES.items() if not image.tools}
        node_image = _node_image(this, tools)
        tools.result()
    names |= {key: images.provide(this, image, python_base) for key, image in IMAGES.items() if image.tools}
    for key, name in names.items():
        _check_size(this, IMAGES[key], name)
    _cluster(this, node_image)
    _load(this, list(names.values()))
    _install(names)
    say(f"Ready. Use it with: export KUBECONFIG={KUBECONFIG} PATH={CACHE / 'bin'}:$PATH; kubectl get kaizen -A")


def down() -> None:
    """Delete the cluster and everything in it; images and caches stay."""
    this = engine.detect()
    if this.ask("container", "inspect", _NODE) is not None:
        with step("Delete the cluster") as current:
            _delete(this, current)
    discard(KUBECONFIG)


def kubectl(*words: str, timeout: float = 30) -> str | None:
    """Standard output of a kubectl command against the cluster, or None when it fails."""
    answer = quietly(_kubectl_path(), "--kubeconfig", KUBECONFIG, *words, timeout=timeout)
    return answer.stdout if answer.returncode == 0 else None


def s3_url() -> str:
    """The embedded S3 server as programs of this machine reach it; raises Stop when there is no cluster."""
    address = _published(engine.detect())
    if address is None:
        raise Stop("There is no cluster that this machine reaches: run `make cluster`.")
    return f"http://{address}"


def _published(this: Engine) -> str | None:
    """Where this machine listens for the node's port of the embedded S3 server."""
    return (this.ask("port", _NODE, f"{_S3_NODE_PORT}/tcp") or "").partition("\n")[0] or None


def _kubectl_path() -> Path:
    return CACHE / "bin" / "kubectl"


def _build_tools(this: Engine) -> None:
    """Build what the cluster needs, the longest first, and link the commands that a person uses into one directory."""
    kubernetes = golang.KUBECTL if this.public else golang.NODE
    in_node = () if this.public else (golang.ETCD, golang.COREDNS, golang.LOCAL_PATH)
    for tool in (kubernetes, *in_node, golang.KIND, golang.VERSITYGW, golang.HELM):
        golang.build(tool)
    for tool, command in ((kubernetes, "kubectl"), (golang.KIND, "kind"), (golang.HELM, "helm"), (golang.VERSITYGW, "versitygw")):
        link = CACHE / "bin" / command
        if not link.is_symlink() or link.readlink() != tool.directory / command:
            discard(link)
            link.symlink_to(tool.directory / command)


def _node_image(this: Engine, tools: "Future[None]") -> str:
    if this.public:
        return node.image(this)
    base = bases.provide(this, bases.NODE)
    tools.result()
    return node.provide(this, base)


def _check_size(this: Engine, image: Image, name: str) -> None:
    megabytes = this.image_bytes(name) / 1e6
    say(f"  image {image.name}: {megabytes:.0f} MB unpacked (limit {image.limit_mb} MB)")
    if megabytes > image.limit_mb:
        raise Stop(f"The image {image.name} has {megabytes:.0f} MB unpacked, and may have {image.limit_mb}.")


def _cluster(this: Engine, node_image: str) -> None:
    if _is_alive(this, node_image):
        return
    with step("Create the cluster") as current:
        _delete(this, current)
        command = (
            golang.KIND.directory / "kind", "create", "cluster", "--config", REPOSITORY / "kind-config.yaml",
            "--image", node_image, "--kubeconfig", KUBECONFIG, "--wait", "180s",
        )  # fmt: skip
        current.run(*command, env=this.env)


def _is_alive(this: Engine, node_image: str) -> bool:
    """Whether a cluster of this node image answers.  One whose processes died with a session does not."""
    running = this.ask("container", "inspect", "--format", "{{.State.Running}} {{.Config.Image}}", _NODE)
    if running is None or running.split() != ["true", node_image] or _published(this) is None:
        return False
    ready = kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=45s", timeout=50)
    return ready is not None and kubectl("get", "--raw", "/readyz") is not None


def _delete(this: Engine, current: Step) -> None:
    # By kind where it is there and works, and by force where a dead engine's leftovers confuse it.
    quietly(CACHE / "bin" / "kind", "delete", "cluster", "--name", NAME, "--kubeconfig", KUBECONFIG, env=this.env, timeout=120)
    this.ask("rm", "--force", "--volumes", _NODE)
    discard(KUBECONFIG.with_name(f"{KUBECONFIG.name}.lock"))
    if this.ask("container", "inspect", _NODE) is not None:
        raise Stop(f"The container {_NODE} cannot be removed; its engine's words: {this.run(current, 'rm', '--force', _NODE)}")


def _load(this: Engine, names: list[str]) -> None:
    present = (this.ask("exec", _NODE, "ctr", "--namespace", "k8s.io", "images", "ls", "-q") or "").split()
    absent = [name for name in names if name not in present and f"docker.io/{name}" not in present]
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda name: _load_one(this, name), absent))


def _load_one(this: Engine, name: str) -> None:
    short = name.rpartition("/")[2]
    with step(f"Load {short} into the cluster") as current:
        archive = CACHE / f"load-{short.replace(':', '-')}.tar"
        discard(archive)
        this.run(current, "save", "--output", archive, name)
        current.run(golang.KIND.directory / "kind", "load", "image-archive", archive, "--name", NAME, env=this.env)
        discard(archive)


def _install(names: dict[str, str]) -> None:
    """Install or upgrade the chart with these images, by their names in the chart's values."""
    values = {"images": {key: _reference(name) for key, name in names.items()}}
    around = {"apiVersion": "v1", "kind": "List", "items": [_SYSTEM_NAMESPACE, _S3_OUTSIDE]}
    with step("Install the chart") as current:
        current.run(_kubectl_path(), "--kubeconfig", KUBECONFIG, "apply", "--filename", "-", stdin=json.dumps(around))
        # A helm that was killed leaves its release locked.
        kubectl(
            "delete",
            "secret",
            "--namespace",
            NAMESPACE,
            "--selector",
            "owner=helm,name=kaizen,status in (pending-install,pending-upgrade,pending-rollback)",
        )
        try:
            current.run(
                golang.HELM.directory / "helm", "upgrade", "--install", "kaizen", _CHART, "--kubeconfig", KUBECONFIG,
                "--namespace", NAMESPACE, "--values", "-", "--wait", "--timeout", "120s",
                stdin=json.dumps(values),
            )  # fmt: skip
        except Stop as problem:
            raise Stop(f"{problem}\n{_what_runs()}") from None


def _what_runs() -> str:
    """The installed Pods, their latest events and the operator's last words: why an install did not end."""
    asked = (
        ("get", "pods", "--output", "wide"),
        ("get", "events", "--sort-by", ".lastTimestamp"),
        ("logs", "--selector", "app.kubernetes.io/component=operator", "--tail", "15"),
    )
    answers = (kubectl("--namespace", NAMESPACE, *words) or "" for words in asked)
    return "\n".join("\n".join(answer.splitlines()[-15:]) for answer in answers)


def _reference(image: str) -> dict[str, str]:
    repository, _, tag = image.rpartition(":")
    return {"repository": repository, "tag": tag}
