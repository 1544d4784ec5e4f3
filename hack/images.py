"""Kaizen's own images, each tagged with a digest of everything it is made from, so that a tag never lies."""

import re
from dataclasses import dataclass
from pathlib import Path

from hack import bases, golang
from hack.engine import PYTHON_IMAGE, Engine
from hack.paths import REPOSITORY
from hack.steps import digest, step

_IMAGES = REPOSITORY / "images"
_SHARED = _IMAGES / "shared"
_SOURCE = REPOSITORY / "operator"
_COPIED = re.compile(r"^COPY --from=source (.+) \S+$", re.MULTILINE)


@dataclass(frozen=True)
class Image:
    """A Dockerfile under images/, and what goes into the build besides it."""

    name: str
    limit_mb: int
    """What the unpacked image may weigh, in units of 1,000,000 bytes; a larger one fails the build."""
    directory: str
    """Of the Dockerfile."""
    requirements: str = ""
    """The file with Python packages, next to the Dockerfile."""
    tools: tuple[golang.Tool, ...] = ()
    """Go tools, each a build context of its module's name."""

    @property
    def context(self) -> Path:
        return _IMAGES / self.directory

    @property
    def sources(self) -> list[Path]:
        """What the Dockerfile copies of the operator's source."""
        copied = _COPIED.findall((self.context / "Dockerfile").read_text())
        return [_SOURCE / path for paths in copied for path in paths.split()]

    def tag(self, engine: Engine) -> str:
        """The full name of this image as the checkout stands."""
        base = PYTHON_IMAGE if engine.public else bases.PYTHON.image
        python = [self.context / self.requirements, _SHARED, *self.sources] if self.requirements else []
        made_from = digest(self.context / "Dockerfile", base, *python, *(tool.key for tool in self.tools))
        return f"localhost/kaizen/{self.name}:{made_from}"


IMAGES = {
    "operator": Image("operator", 350, "operator", "requirements.txt"),
    "trainer": Image("trainer", 1200, "trainer", "requirements.txt"),
    "server": Image("server", 300, "server", "requirements.txt"),
    "serverSklearn": Image("server-sklearn", 600, "server", "requirements-sklearn.txt"),
    "s3": Image("s3", 100, "s3", tools=(golang.VERSITYGW,)),
}
"""By their names in the chart's values."""


def provide(engine: Engine, image: Image, base: str) -> str:
    """The name of an image that exists and is up to date, built first when it has to be."""
    name = image.tag(engine)
    if not engine.has_image(name):
        with step(f"Build the image {image.name}") as current:
            arguments = {"BASE": base}
            contexts = {tool.module: tool.directory for tool in image.tools}
            if image.requirements:
                arguments["REQUIREMENTS"] = image.requirements
                contexts |= {"source": _SOURCE, "shared": _SHARED}
            engine.build(current, image.context, name, arguments=arguments, contexts=contexts)
        engine.drop_other_tags(name)
    return name
