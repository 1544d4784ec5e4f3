"""What a ModelVersion should be: what the registry says of it, in the cluster's words."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kaizen.api.model_version import ModelVersionSpec
from kaizen.core import runs
from kaizen.core.plan import Observed, Plan, Ready, RegistryEntry, Retry, Terminal
from kaizen.core.specs import read_spec


def decide(observed: Observed, now: datetime) -> Plan:
    """Plan for one ModelVersion: Ready when the registry has it with this digest."""
    spec = read_spec(observed.owner, ModelVersionSpec)
    if isinstance(spec, Terminal):
        return Plan(spec)
    if not observed.bucket.usable:
        return Plan(Retry(observed.bucket.reason, observed.bucket.message), status=None)
    entry = observed.entry
    if entry is None:
        return Plan(Terminal("NotRegistered", f"The registry has no version of model {spec.model} with this digest."))
    failed = runs.failed_gates(entry.manifest)
    status = _status(entry, "Rejected" if failed else "Candidate", spec)
    if failed:
        return Plan(Ready("GatesFailed", f"Registered and rejected: gate {', '.join(failed)} failed."), status=status)
    return Plan(Ready("Registered", f"Version {entry.version} is in the registry."), status=status)


def _status(entry: RegistryEntry, stage: str, spec: ModelVersionSpec) -> dict[str, Any]:
    manifest = entry.manifest
    files = [file for file in manifest.get("files", ()) if isinstance(file, Mapping)]
    return runs.without_none(
        {
            "version": entry.version,
            "stage": stage,
            "uri": entry.uri,
            "modelDigest": runs.text(manifest.get("modelDigest"), 71),
            "sizeBytes": sum(int(file.get("size", 0)) for file in files),
            "metrics": runs.metrics(manifest),
            "gates": runs.gates(manifest) or None,
            "engine": runs.without_none(
                {"name": runs.text(manifest.get("engine"), 64) or "unknown", "reason": runs.text(manifest.get("engineReason"))}
            ),
            "lineage": runs.without_none(
                {
                    "trainingJob": spec.source.training_job_name,
                    "dataDigest": runs.text(manifest.get("dataDigest"), 71),
                    "trainedUntil": runs.text(manifest.get("trainedUntil"), 64),
                }
            ),
        }
    )
