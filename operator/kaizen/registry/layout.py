"""Every key in the bucket, relative to its prefix, in one place.  Pure.

Keys that end in a slash are prefixes.  Every name becomes exactly one part of a key: one that would not raises ValueError.
"""

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "attempt",
    "audit",
    "audit_record",
    "audit_sequence",
    "captures",
    "card",
    "index",
    "labels",
    "manifest",
    "production",
    "registry",
    "run",
    "run_outcome",
    "training",
    "version",
    "windows",
    "workloads",
]

MANIFEST = "manifest.json"
"""The file of a model directory that names all others; it is written last."""
SCHEMA = "schema.json"
"""The file of a model directory with the frozen schema of its data."""

_SEQUENCE_DIGITS = 12


def registry(namespace: str, model: str) -> str:
    """What the operator keeps about a model; nobody else writes there."""
    return f"registry/{_part(namespace)}/{_part(model)}/"


def index(namespace: str, model: str) -> str:
    """Which versions there are, and in which state."""
    return f"{registry(namespace, model)}index.json"


def version(namespace: str, model: str, number: int) -> str:
    """The files of one version; immutable once its manifest is there."""
    return f"{registry(namespace, model)}versions/{_positive(number)}/"


def manifest(namespace: str, model: str, number: int) -> str:
    """The manifest of one version."""
    return f"{version(namespace, model, number)}{MANIFEST}"


def card(namespace: str, model: str, number: int) -> str:
    """Serving history and approvals of a version, beside its immutable files."""
    return f"{registry(namespace, model)}cards/{_positive(number)}.json"


def production(namespace: str, model: str, service: str) -> str:
    """What a service serves."""
    return f"{registry(namespace, model)}production/{_part(service)}.json"


def training(namespace: str, model: str) -> str:
    """What automatic training must not forget."""
    return f"{registry(namespace, model)}training.json"


def audit(namespace: str, model: str) -> str:
    """The audit chain."""
    return f"{registry(namespace, model)}audit/"


def audit_record(namespace: str, model: str, sequence: int) -> str:
    """One record of the audit chain; the order of the keys is that of the records."""
    name = f"{_positive(sequence):0{_SEQUENCE_DIGITS}d}"
    if len(name) > _SEQUENCE_DIGITS:
        raise ValueError(f"an audit chain ends at {_SEQUENCE_DIGITS} digits, before record {sequence}")
    return f"{audit(namespace, model)}{name}.json"


def audit_sequence(key: str) -> int | None:
    """The number of the record with this key; None when it is not that of a record."""
    name = key.rpartition("/")[2].removesuffix(".json")
    if len(name) != _SEQUENCE_DIGITS or not (name.isascii() and name.isdigit()) or not key.endswith(".json"):
        return None
    return int(name) or None


def workloads(namespace: str) -> str:
    """What the Pods of a namespace may write."""
    return f"workloads/{_part(namespace)}/"


def run(namespace: str, job: str) -> str:
    """Everything that the attempts of a Job left; `job` is its uid."""
    return f"{workloads(namespace)}runs/{_part(job)}/"


def run_outcome(namespace: str, job: str) -> str:
    """Names the attempt that won; written last."""
    return f"{run(namespace, job)}run.json"


def attempt(namespace: str, job: str, pod: str) -> str:
    """What one attempt left: its progress, and below model/ its model directory; `pod` is the Pod's uid."""
    return f"{run(namespace, job)}{_part(pod)}/"


def dataset(namespace: str, digest: str) -> str:
    """What is kept of the data that a model was made from."""
    return f"{workloads(namespace)}datasets/{_part(digest.removeprefix('sha256:'))}/"


def windows(namespace: str, service: str) -> str:
    """The closed windows of a service."""
    return f"{workloads(namespace)}windows/{_part(service)}/"


def captures(namespace: str, service: str) -> str:
    """Rows that a service answered, by date, as JSON lines."""
    return f"{workloads(namespace)}captures/{_part(service)}/"


def labels(namespace: str, service: str) -> str:
    """What became of such rows, by the date on which it was told."""
    return f"{workloads(namespace)}labels/{_part(service)}/"


def _part(name: str) -> str:
    if not name or name in (".", "..") or "/" in name or not name.isprintable():
        raise ValueError(f"{name!r} cannot be one part of a key in the bucket: it must be a name without slashes")
    return name


def _positive(number: int) -> int:
    if number < 1:
        raise ValueError(f"versions and audit records are counted from 1: there is no {number}")
    return number
