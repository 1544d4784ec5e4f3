"""Jobs and Pods as Kubernetes reports them, for what is decided about TrainingJobs."""

from datetime import UTC, datetime
from typing import Any

from kaizen.api.training_job import TrainingJobStatus
from kaizen.core.conditions import conclude
from kaizen.core.plan import Observed, Plan, Run, Settings
from tests.support import objects
from tests.support.lint import problems

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
QUEUE = {"kueue.x-k8s.io/queue-name": "gpu"}
SEARCH = {"trials": 40, "parallelism": 3, "space": [{"parameter": "max_iter", "type": "Integer", "low": 1, "high": 9}]}
RUN = Run("s3://kaizen/runs/u/")


def observed(*children: dict[str, Any], run: Run = RUN, labels: dict[str, str] | None = None, **spec: Any) -> Observed:
    body = objects.training_job(**spec)
    body["metadata"] |= {"namespace": "team-a", "uid": "u", "generation": 1, "resourceVersion": "7", "labels": labels or {}}
    body["spec"] = {name: value for name, value in body["spec"].items() if value is not None}
    body["status"] = {"observedGeneration": -1}
    return Observed(body, children, settings=Settings("kaizen/trainer:1"), run=run)


def job(
    *conditions: tuple[str, str], suspend: bool = False, labels: dict[str, str] | None = None, **status: Any
) -> dict[str, Any]:
    listed = [{"type": kind, "status": "True", "reason": reason, "message": "said"} for kind, reason in conditions]
    metadata = {"name": "flights-q1", "namespace": "team-a", "uid": "j", "resourceVersion": "1", "labels": labels or {}}
    return {"kind": "Job", "metadata": metadata, "spec": {"suspend": suspend}, "status": {"conditions": listed, **status}}


def pod(container: str, at: int = 0, index: int | None = None, init: bool = False, **state: Any) -> dict[str, Any]:
    labels = {} if index is None else {"batch.kubernetes.io/job-completion-index": str(index)}
    ended = {"terminated": {"finishedAt": f"2026-03-01T11:{at:02}:00Z", **state}}
    return {
        "kind": "Pod",
        "metadata": {"name": f"p-{index}-{at}", "labels": labels, "creationTimestamp": f"2026-03-01T11:{at:02}:00Z"},
        "status": {"initContainerStatuses" if init else "containerStatuses": [{"name": container, "state": ended}]},
    }


def status_of(plan: Plan) -> dict[str, Any]:
    body = {**objects.training_job(), "metadata": {"generation": 1, "name": "flights-q1"}}
    status = {**(plan.status or {}), "observedGeneration": 1, "conditions": conclude(plan.outcome, (), 1, NOW, plan.conditions)}
    assert problems({**body, "status": status}, NOW) == []
    # Nothing is written that the schema would drop.
    assert TrainingJobStatus.model_validate(status).model_dump(by_alias=True, exclude_none=True, exclude_unset=True) == status
    return status


def condition(status: dict[str, Any], kind: str) -> tuple[str, str] | None:
    return next(((one["status"], one["reason"]) for one in status["conditions"] if one["type"] == kind), None)
