"""The table of the three kinds: how each is decided."""

from collections.abc import Callable, Mapping
from datetime import datetime

from kaizen.core import inference_service, model_version, training_job
from kaizen.core.plan import Observed, Plan

Decide = Callable[[Observed, datetime], Plan]

DECIDE: Mapping[str, Decide] = {
    "TrainingJob": training_job.decide,
    "ModelVersion": model_version.decide,
    "InferenceService": inference_service.decide,
}
