"""What an InferenceService should be."""

from datetime import datetime

from kaizen.api.inference_service import InferenceServiceSpec
from kaizen.core import objects
from kaizen.core.plan import Child, Observed, Plan, Retry, Terminal, Waiting
from kaizen.core.specs import read_spec


def decide(observed: Observed, now: datetime) -> Plan:
    """Plan for one InferenceService: its Service exists from the start, so that its address never changes."""
    spec = read_spec(observed.owner, InferenceServiceSpec)
    if isinstance(spec, Terminal):
        return Plan(spec)
    children = (Child(objects.stable_service(observed)),)
    status = {"url": f"http://{observed.name}.{observed.namespace}.svc"}
    if not observed.bucket.usable:
        return Plan(Retry(observed.bucket.reason, observed.bucket.message), children, status=status)
    wanted = f"version {spec.version} of model {spec.model}" if spec.version else f"a version of model {spec.model}"
    return Plan(
        Waiting("WaitingForVersion", f"Waiting for {wanted}; this release of Kaizen does not train or serve one yet."),
        children,
        status=status,
    )
