"""The model of the settings, and where what is observed goes: what a server loads before it answers."""

import gc
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kaizen.registry.settings import BucketSettings, checked_prefix
from kaizen.serving.model import Model, Refused, fetch, open_model, remove
from kaizen.serving.settings import Settings
from kaizen.serving.watching.observation import Cells
from kaizen.serving.watching.outbox import Write

if TYPE_CHECKING:
    from kaizen.registry.store import Bucket

__all__ = ["Loaded", "load"]


@dataclass(frozen=True)
class Loaded:
    """What workers share."""

    model: Model
    cells: Cells | None
    """None: nobody asks what was observed."""
    write: Write | None
    """None: nothing is written."""
    disconnect: Callable[[], None]
    """Ends the connections to the bucket; the next request makes new ones."""


def load(settings: Settings) -> Loaded:
    """Fetch, verify, load and warm up.  For a thread, so that probes are answered meanwhile.

    Raises Refused, BucketError.
    """
    buckets: dict[BucketSettings, Bucket] = {}

    def bucket(at: BucketSettings) -> "Bucket":
        from kaizen.registry.store import Bucket  # not in a terminal: half as much memory and time

        bare = replace(at, prefix="")
        if bare not in buckets:
            buckets[bare] = Bucket(bare)
        return buckets[bare]

    def disconnect() -> None:
        for one in buckets.values():
            one.disconnect()

    write: Write | None = None
    if (windows := settings.bucket) is not None and settings.service and settings.namespace:
        place, prefix = bucket(windows), checked_prefix(windows.prefix) + settings.workload_prefix

        def write(key: str, body: bytes, content_type: str) -> object:
            return place.put(prefix + key, body, content_type)

    model = _model(settings, bucket)
    cells = None
    if model.reference is not None and (write is not None or settings.admin_port is not None):
        inputs = [one.name for one in model.engine.inputs]
        cells = Cells(model.reference, settings.service, model.version or 0, settings.window_seconds, inputs)
    # What is loaded stays: no collection looks at it again, and no worker copies it by looking.
    gc.collect()
    gc.freeze()
    return Loaded(model, cells, write, disconnect)


def _model(settings: Settings, bucket: Callable[[BucketSettings], "Bucket"]) -> Model:
    name, version, digest = settings.name, settings.version, settings.digest
    if (origin := settings.model_bucket) is None:
        return open_model(Path(settings.model), name=name, version=version, digest=digest)
    directory = Path(tempfile.mkdtemp(prefix="kaizen-model-"))
    try:
        manifest = fetch(bucket(origin), checked_prefix(origin.prefix), directory, digest)
        return open_model(directory, name=name, version=version, manifest=manifest)
    except Refused as refused:
        # A person knows the model by its place in the bucket, and each start fetches it to another directory.
        raise Refused(refused.code, str(refused).replace(str(directory), settings.model)) from refused
    finally:
        remove(directory)
