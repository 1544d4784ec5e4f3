"""What a run is told of the model's past: who trained the same before, and who served in the last year."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from kaizen.api.training_job import Recipe, TrainingJobSpec
from kaizen.core import runs
from kaizen.core.plan import ModelRegistry, Production, RegistryEntry

__all__ = ["anchors", "known", "recipe_digest", "repeated"]

SAME_MODEL = {
    "pod",
    "pod_template",
    "backoff_limit",
    "active_deadline_seconds",
    "tracking",
    "ttl_seconds_after_finished",
    "suspend",
}
"""What may differ between two specs that make the same model."""
MOST_KNOWN = 10
MOST_ANCHORS = 10
ANCHOR_DAYS = 365


def recipe_digest(spec: Recipe) -> str:
    """Of everything in a TrainingJob's spec that makes the model what it is, defaults included."""
    document = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=SAME_MODEL)
    return f"sha256:{hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()}"


def known(spec: TrainingJobSpec, model: ModelRegistry, champion: Production | None = None) -> list[dict[str, Any]]:
    """The versions that the same recipe made, newest first: {version, digest, recipeDigest, dataDigest, codeDigest}.

    None for an image that is not named by its digest: what it holds today nobody knows.  Nor one that was rejected, or was
    compared with another version than the one that serves now: training it again judges it anew.
    """
    if spec.container and "@sha256:" not in spec.container.image:
        return []
    wanted = recipe_digest(spec)
    return [
        {"version": entry.version, "digest": entry.digest, **_digests(entry)}
        for entry in sorted(model.entries, key=lambda entry: -entry.version)
        if _made_by(entry, wanted) and _digests(entry).get("dataDigest") and _stands(entry, champion)
    ][:MOST_KNOWN]


def repeated(spec: TrainingJobSpec, model: ModelRegistry | None, version: int) -> RegistryEntry | None:
    """The version that a run says it would make again; None unless it is there and the same recipe made it."""
    entry = model.entry(version) if model else None
    return entry if entry is not None and _made_by(entry, recipe_digest(spec)) else None


def anchors(model: ModelRegistry, champion: Production | None, now: datetime) -> list[dict[str, Any]]:
    """The versions besides the champion that served the model's requests in the last year, newest first: {version, digest}."""
    since = now - timedelta(days=ANCHOR_DAYS)
    served = dict[int, str]()
    for pointer in model.production.values():
        ends = [one.time for one in pointer.history[1:]] + [now.isoformat()]
        for one, end in zip(pointer.history, ends, strict=True):
            if datetime.fromisoformat(end) >= since:
                served[one.version] = max(one.time, served.get(one.version, ""))
    if champion is not None:
        served.pop(champion.version, None)
    newest = sorted(served, key=lambda version: (served[version], version), reverse=True)
    entries = (model.entry(version) for version in newest)
    return [{"version": entry.version, "digest": entry.digest} for entry in entries if entry and not entry.reason][:MOST_ANCHORS]


def _made_by(entry: RegistryEntry, recipe: str) -> bool:
    return entry.reason is None and entry.manifest.get("recipeDigest") == recipe


def _stands(entry: RegistryEntry, champion: Production | None) -> bool:
    """Whether a version's gates would be judged as they were."""
    gates = [gate for gate in entry.manifest.get("gates") or () if isinstance(gate, Mapping)]
    compared = {gate.get("championDigest") for gate in gates if gate.get("championDigest")}
    served = {champion.digest} if champion else set()
    return not runs.failed_gates(entry.manifest) and (compared <= served or entry.digest in served)


def _digests(entry: RegistryEntry) -> Mapping[str, str]:
    found = {name: entry.manifest.get(name) for name in ("recipeDigest", "dataDigest", "codeDigest")}
    return {name: value for name, value in found.items() if isinstance(value, str) and len(value) <= 80}
