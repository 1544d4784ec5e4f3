"""Every Prometheus metric of the operator, in one place.  No label ever holds the name of an object."""

from prometheus_client import Counter, Gauge, Histogram

RECONCILE_SECONDS = Histogram(
    "kaizen_reconcile_duration_seconds",
    "Time of one reconcile, by kind and result (Done, Conflict, Failed).",
    ("kind", "result"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
RECONCILE_ERRORS = Counter("kaizen_reconcile_errors_total", "Reconciles that failed, by kind and reason.", ("kind", "reason"))
WRITES = Counter("kaizen_writes_total", "Requests that changed an object, by verb and kind.", ("verb", "kind"))
QUEUE_DEPTH = Gauge("kaizen_queue_depth", "Keys that are due and wait for a worker.")
QUEUE_OLDEST_SECONDS = Gauge("kaizen_queue_oldest_seconds", "How long the oldest due key has waited.")
OBJECTS = Gauge("kaizen_objects", "Objects by kind and the status of their Ready condition.", ("kind", "ready"))
EVENTS = Counter("kaizen_events_total", "Kubernetes events recorded, by type and reason.", ("type", "reason"))
LEADER = Gauge("kaizen_leader", "1 while this process holds the Lease.")
READY_TIME = Gauge(
    "kaizen_ready_timestamp_seconds", "When /readyz first said ok; with process_start_time_seconds, the start-up time."
)
BUCKET_USABLE = Gauge("kaizen_bucket_usable", "1 while the registry's bucket answers and belongs to this cluster.")
RESYNC_TIME = Gauge("kaizen_last_resync_timestamp_seconds", "When the last full list of all watched objects ended.")
WATCH_EVENTS = Counter("kaizen_watch_events_total", "Watch events received, by kind.", ("kind",))
