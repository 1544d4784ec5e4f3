"""What a TrainingJob should be."""

from datetime import datetime

from kaizen.api.training_job import TrainingJobSpec
from kaizen.core.plan import Observed, Plan, Retry, Terminal, Waiting
from kaizen.core.specs import read_spec


def decide(observed: Observed, now: datetime) -> Plan:
    """Plan for one TrainingJob: accepted and checked; nothing runs it in this release."""
    spec = read_spec(observed.owner, TrainingJobSpec)
    if isinstance(spec, Terminal):
        return Plan(spec)
    if not observed.bucket.usable:
        return Plan(Retry(observed.bucket.reason, observed.bucket.message))
    return Plan(Waiting("TrainerNotAvailable", "Accepted; this release of Kaizen does not run TrainingJobs yet."))
