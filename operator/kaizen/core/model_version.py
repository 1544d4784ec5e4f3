"""What a ModelVersion should be: what the registry says of it, in the cluster's words."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kaizen.api.model_version import ModelVersionSpec
from kaizen.core import runs
from kaizen.core.plan import ModelRegistry, Observed, Plan, Ready, RegistryEntry, Retry, Terminal
from kaizen.core.specs import read_spec


def decide(observed: Observed, now: datetime) -> Plan:
    """Plan for one ModelVersion: Ready when the registry has it with this digest."""
    spec = read_spec(observed.owner, ModelVersionSpec)
    if isinstance(spec, Terminal):
        return Plan(spec)
    if not observed.bucket.usable or observed.model is None:
        return Plan(Retry(observed.bucket.reason, observed.bucket.message), status=None)
    entry = observed.entry
    if entry is None:
        return Plan(Terminal("NotRegistered", f"The registry has no version of model {spec.model} with this digest."))
    status = _status(entry, _stage(entry, observed.model, _services(observed)), spec)
    if refused := _refusal(entry, observed.model):
        return Plan(Terminal(*refused), status=status)
    if failed := runs.failed_gates(entry.manifest):
        return Plan(Ready("GatesFailed", f"Registered and rejected: gate {', '.join(failed)} failed."), status=status)
    return Plan(Ready("Registered", f"Version {entry.version} is in the registry."), status=status)


def _services(observed: Observed) -> set[str]:
    """Names of the InferenceServices of this model that exist: a pointer may outlive its service."""
    return {body["metadata"]["name"] for body in observed.related if body["kind"] == "InferenceService"}


def _stage(entry: RegistryEntry, model: ModelRegistry, services: set[str]) -> str:
    """Production where a service has it, Archived where a newer one took over, Rejected where a gate failed."""
    serving = {production.version for name, production in model.production.items() if name in services}
    if entry.version in serving:
        return "Production"
    if runs.failed_gates(entry.manifest):
        return "Rejected"
    served = {one.version for production in model.production.values() for one in production.history}
    return "Archived" if entry.version in served else "Candidate"


def _refusal(entry: RegistryEntry, model: ModelRegistry) -> tuple[str, str] | None:
    """Why servers would not serve the version: code and message."""
    if entry.reason:
        return "DigestMismatch", f"{entry.reason.rstrip('.')}."
    for service, skipped in sorted(model.record.rolled_back.items()):
        if entry.version in skipped:
            code, _, why = skipped[entry.version].partition(": ")
            if why and code.isalnum():
                return code, f"The servers of InferenceService {service} refuse it: {why.rstrip('.')}."
    return None


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
            "engine": runs.engine(manifest),
            "lineage": runs.without_none(
                {
                    "trainingJob": spec.source.training_job_name,
                    "dataDigest": runs.text(manifest.get("dataDigest"), 71),
                    "codeDigest": runs.text(manifest.get("codeDigest"), 71),
                    "trainedUntil": runs.text(manifest.get("trainedUntil"), 64),
                    **_lineage(manifest),
                }
            ),
        }
    )


def _lineage(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Which version served when this one was trained, and what asked for it."""
    found = manifest.get("lineage")
    known: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    parent = known.get("parentVersion")
    return {"parentVersion": parent if type(parent) is int else None, "trigger": runs.text(known.get("trigger"), 64)}
