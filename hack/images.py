"""Kaizen's own images, each tagged with a digest of everything it is made from, so that a tag never lies."""

from dataclasses import dataclass

from hack import bases, golang
from hack.engine import PYTHON_IMAGE, Engine
from hack.paths import REPOSITORY
from hack.steps import digest, step

_IMAGES = REPOSITORY / "images"


@dataclass(frozen=True)
class Image:
    """A directory under images/, and what goes into the build besides it."""

    name: str
    sources: tuple[str, ...] = ()
    """Paths of the checkout that the Dockerfile copies."""
    tools: tuple[golang.Tool, ...] = ()
    """Go tools, each a build context of its module's name."""
    limit_mb: int = 0
    """What the unpacked image may weigh, in units of 1,000,000 bytes; a larger one fails the build."""

    def tag(self, engine: Engine) -> str:
        """The full name of this image as the checkout stands."""
        base = PYTHON_IMAGE if engine.public else bases.PYTHON.image
        sources = [REPOSITORY / source for source in self.sources]
        made_from = digest(_IMAGES / self.name, base, *sources, *(tool.key for tool in self.tools))
        return f"localhost/kaizen/{self.name}:{made_from}"


OPERATOR = Image("operator", sources=("operator",), limit_mb=350)
_TRAINING = ("__init__.py", "api", "core", "monitoring", "registry", "serving", "training")
TRAINER = Image("trainer", sources=tuple(f"operator/kaizen/{part}" for part in _TRAINING), limit_mb=1200)
S3 = Image("s3", tools=(golang.VERSITYGW,), limit_mb=100)


def provide(engine: Engine, image: Image, base: str) -> str:
    """The name of an image that exists and is up to date, built first when it has to be."""
    name = image.tag(engine)
    if not engine.has_image(name):
        with step(f"Build the image {image.name}") as current:
            contexts = {"source": REPOSITORY / "operator"} if image.sources else {}
            contexts |= {tool.module: tool.directory for tool in image.tools}
            engine.build(current, _IMAGES / image.name, name, arguments={"BASE": base}, contexts=contexts)
        engine.drop_other_tags(name)
    return name
