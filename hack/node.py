"""The kind node image: the stock one where a registry answers, otherwise made from Go modules and Debian's packages."""

from pathlib import Path

from hack import bases, golang
from hack.engine import Engine
from hack.paths import CACHE, REPOSITORY
from hack.steps import Step, digest, discard, step

_SOURCE = REPOSITORY / "images" / "kind-node"
_COMPONENTS = "localhost/kaizen/components:node"
"""Tag of the image with all components, also named by rootfs/kind/manifests/default-storage.yaml."""


def image(engine: Engine) -> str:
    """The name of the node image for this world; nothing is built."""
    if engine.public:
        return f"docker.io/kindest/node:{golang.KUBERNETES}"
    tools = (golang.NODE, golang.ETCD, golang.COREDNS, golang.LOCAL_PATH)
    return f"localhost/kaizen/node:{digest(_SOURCE, bases.NODE.image, *(tool.key for tool in tools))}"


def provide(engine: Engine, base: str) -> str:
    """The name of a node image that exists, built first when it has to be.  Its tools must have been built."""
    name = image(engine)
    if not engine.public and not engine.has_image(name):
        with step("Build the node image") as current:
            _build(engine, current, base, name)
        engine.drop_other_tags(name)
    return name


def _build(engine: Engine, current: Step, base: str, name: str) -> None:
    archives = CACHE / "node-images"
    discard(archives)
    archives.mkdir(parents=True)
    _components(engine, current, base, archives / "components.tar")
    contexts = {"bin": golang.NODE.directory, "images": archives}
    engine.build(current, _SOURCE, name, arguments={"BASE": base}, contexts=contexts)
    discard(archives)


def _components(engine: Engine, current: Step, base: str, archive: Path) -> None:
    """Write one archive with every image that kubeadm will ask for, under the names it will ask for."""
    listed = current.run(golang.NODE.directory / "kubeadm", "config", "images", "list", "--kubernetes-version", golang.KUBERNETES)
    wanted = listed.split()
    contexts = {
        "kubernetes": golang.NODE.directory,
        "etcd": golang.ETCD.directory,
        "coredns": golang.COREDNS.directory,
        "local-path": golang.LOCAL_PATH.directory,
    }
    for stage in ("components", "coredns", "pause"):
        tag = _COMPONENTS if stage == "components" else f"localhost/kaizen/components-{stage}:node"
        engine.build(
            current, _SOURCE, tag,
            dockerfile="Dockerfile.components", target=stage, arguments={"BASE": base}, contexts=contexts,
        )  # fmt: skip
        for official in wanted:
            own_stage = next((s for s in ("coredns", "pause") if f"/{s}:" in official), "components")
            if own_stage == stage:
                engine.run(current, "tag", tag, official)
    engine.run(current, "save", "--multi-image-archive", "--format", "docker-archive", "--output", archive, _COMPONENTS, *wanted)
