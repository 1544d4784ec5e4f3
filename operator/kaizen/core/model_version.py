"""What a ModelVersion should be."""

from datetime import datetime

from kaizen.api.model_version import ModelVersionSpec
from kaizen.core.plan import Observed, Plan, Retry, Terminal, Waiting
from kaizen.core.specs import read_spec


def decide(observed: Observed, now: datetime) -> Plan:
    """Plan for one ModelVersion: accepted and checked; the registry does not hold versions in this release."""
    spec = read_spec(observed.owner, ModelVersionSpec)
    if isinstance(spec, Terminal):
        return Plan(spec)
    if not observed.bucket.usable:
        return Plan(Retry(observed.bucket.reason, observed.bucket.message))
    return Plan(Waiting("NotRegistered", f"The registry has no version of model {spec.model} with this digest."))
