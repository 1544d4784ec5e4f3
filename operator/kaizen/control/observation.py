"""What a reconcile sees: the object, its children and relatives from the store, and what the bucket says of them."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime

from kaizen.api.inference_service import InferenceServiceSpec
from kaizen.cluster.client import ApiError
from kaizen.cluster.store import Store
from kaizen.control.bucket import unusable
from kaizen.control.monitoring import Monitor
from kaizen.control.registry import Registry
from kaizen.core import jobs, serving, training_job
from kaizen.core.plan import Bucket, ModelRegistry, Object, Observed, Settings, Terminal, Watched
from kaizen.core.specs import read_spec
from kaizen.registry.errors import BucketError


class Observation:
    """Looks at objects; everything is in memory but the bucket, and what is said of Pods that do not begin."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        monitor: Monitor,
        settings: Settings,
        newest_warning: Callable[[Object], Awaitable[str | None]],
    ) -> None:
        self._newest_warning = newest_warning
        self._store = store
        self._registry = registry
        self._monitor = monitor
        self._settings = settings

    async def observe(self, owner: Object, bucket: Bucket, now: datetime) -> Observed:
        """Everything that a decision may depend on; what the bucket does not tell is as if it were not usable."""
        observed = Observed(owner, self._children(owner), bucket, self._settings)
        try:
            match owner["kind"]:
                case "TrainingJob" if bucket.usable and not training_job.is_over(owner):
                    model = await self._registry.model(observed.namespace, str(owner["spec"]["model"]))
                    run, troubled = await self._registry.run(owner), await self._troubled(observed, now)
                    return replace(observed, run=run, model=model, troubled=troubled)
                case "ModelVersion":
                    return await self._model_version(observed)
                case "InferenceService":
                    return await self._inference_service(observed, now)
        except BucketError as problem:
            return replace(observed, bucket=unusable("BucketUnreachable", problem))
        return observed

    def _children(self, owner: Object) -> tuple[Object, ...]:
        metadata = owner["metadata"]
        children = self._store.children(metadata["uid"])
        pods = [pod for child in children for pod in self._store.children(child["metadata"]["uid"])]
        if owner["kind"] == "InferenceService":
            pods += self._store.pods_of_service(metadata["namespace"], metadata["name"])
        return (*children, *pods)

    async def _troubled(self, observed: Observed, now: datetime) -> str | None:
        """Why nothing begins; asked of the API server only while nothing does."""
        about: Object | None = None
        if observed.owner["kind"] == "InferenceService":
            about = serving.may_be_troubled(observed.children, now)
        elif (job := jobs.own_job(observed.children)) is not None:
            together = "container" in observed.owner["spec"]
            about = jobs.may_be_troubled(job, observed.children, now, together=together)
        if about is None:
            return None
        try:
            return await self._newest_warning(about)
        except ApiError:
            return None  # It is a hint.

    async def _model_version(self, observed: Observed) -> Observed:
        related = self._store.of_model(observed.namespace, str(observed.owner["spec"]["model"]))
        observed = replace(observed, related=related)
        if not observed.bucket.usable:
            return observed
        entry = await self._registry.entry(observed.owner)
        model = await self._registry.model(observed.namespace, str(observed.owner["spec"]["model"]))
        return replace(observed, entry=entry, model=model)

    async def _inference_service(self, observed: Observed, now: datetime) -> Observed:
        spec = read_spec(observed.owner, InferenceServiceSpec)
        if isinstance(spec, Terminal) or not observed.bucket.usable:
            return observed
        model = await self._registry.model(observed.namespace, spec.model)
        related = self._store.of_model(observed.namespace, spec.model)
        watched, troubled = await self._watched(observed, spec, model, now), await self._troubled(observed, now)
        return replace(observed, related=related, model=model, watched=watched, troubled=troubled)

    async def _watched(
        self, observed: Observed, spec: InferenceServiceSpec, model: ModelRegistry, now: datetime
    ) -> Watched | None:
        production = model.production.get(observed.name)
        if production is None or model.entry(production.version) is None:
            return None
        return await self._monitor.observe(
            observed.namespace,
            observed.name,
            spec.model,
            production.version,
            spec.monitoring,
            model.record.acknowledged,
            spec.training.consecutive_windows if spec.training else 1,
            now,
        )
