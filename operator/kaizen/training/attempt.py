"""What the operator's Job tells a training Pod, as environment variables."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Attempt", "spec_from_environment"]


@dataclass(frozen=True)
class Attempt:
    """One attempt at a TrainingJob."""

    spec: Mapping[str, Any]
    namespace: str
    job: str
    """The TrainingJob's uid."""
    pod: str
    """The Pod's uid."""
    champion: Mapping[str, Any] | None
    """{version, digest} of what serves."""
    anchors: tuple[Mapping[str, Any], ...]
    """The same of what served in the last year."""
    recipe: str | None
    """Digest of what makes the model what it is."""
    lineage: Mapping[str, Any]
    """{trainingJob, trigger, parentVersion}."""
    study: tuple[str, int] | None
    """Host and port at which index 0 of a search holds the study; None for one Pod."""
    index: int
    """Of this Pod in a search, or of the rank in a container's run."""
    trained: Path | None
    """Where the user's own container left its model."""
    prepared: Path | None
    """Where the data step left the table."""
    metrics: Path | None
    """What the container measured over time."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Attempt":
        """Read KAIZEN_… variables; raises ValueError naming the first that is missing or broken."""
        host, _, port = environment.get("KAIZEN_STUDY_ADDRESS", "").rpartition(":")
        index = environment.get("KAIZEN_WORKER_INDEX") or environment.get("KAIZEN_RANK") or "0"
        try:
            study, number = ((host, int(port)) if host else None), int(index)
        except ValueError as problem:
            raise ValueError("KAIZEN_STUDY_ADDRESS must be HOST:PORT, and KAIZEN_WORKER_INDEX a number.") from problem
        lineage = _json(environment, "KAIZEN_LINEAGE") or {}
        return cls(
            spec_from_environment(environment),
            _needed(environment, "KAIZEN_NAMESPACE"),
            _needed(environment, "KAIZEN_JOB_UID"),
            _needed(environment, "KAIZEN_POD_UID"),
            _json(environment, "KAIZEN_CHAMPION"),
            tuple(_json(environment, "KAIZEN_ANCHORS") or ()),
            environment.get("KAIZEN_RECIPE_DIGEST"),
            lineage,
            study,
            number,
            _path(environment, "KAIZEN_TRAINED_DIR"),
            _path(environment, "KAIZEN_PREPARED_DIR"),
            _path(environment, "KAIZEN_METRICS_FILE"),
        )

    def facts(self) -> dict[str, Any]:
        """What the manifest says of where it comes from."""
        known = {"recipeDigest": self.recipe, "lineage": dict(self.lineage) or None}
        return {name: value for name, value in known.items() if value}


def spec_from_environment(environment: Mapping[str, str]) -> Mapping[str, Any]:
    """The spec that the Pod was told; raises ValueError naming the variable that is missing or broken."""
    text = environment.get("KAIZEN_SPEC") or Path(_needed(environment, "KAIZEN_SPEC_FILE")).read_text(encoding="utf-8")
    spec: Mapping[str, Any] = _json({"KAIZEN_SPEC": text}, "KAIZEN_SPEC")
    return spec


def _needed(environment: Mapping[str, str], name: str) -> str:
    if not (value := environment.get(name)):
        raise ValueError(f"The environment variable {name} is not set; the TrainingJob's Pod has it.")
    return value


def _json(environment: Mapping[str, str], name: str) -> Any:
    try:
        return json.loads(environment.get(name) or "null")
    except ValueError as problem:
        raise ValueError(f"The environment variable {name} is not JSON.") from problem


def _path(environment: Mapping[str, str], name: str) -> Path | None:
    return Path(value) if (value := environment.get(name)) else None
