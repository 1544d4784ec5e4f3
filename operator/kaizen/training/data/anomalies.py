"""Something about the data that was not expected: a stable code, where, and how bad.

Codes are those of TensorFlow Data Validation (its docs/anomalies.md) wherever it has one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kaizen.api.training_data import Tolerated
from kaizen.training.errors import Failure

__all__ = ["Anomaly", "Severity", "fail_on", "tolerate"]

STEP = "Validate"
Severity = Literal["Error", "Warning"]


@dataclass(frozen=True)
class Anomaly:
    """One finding."""

    code: str
    """Upper case, stable, e.g. LABEL_LEAKAGE."""
    column: str | None
    message: str
    """One sentence with the first offending value and its row, and what to do about it."""
    severity: Severity
    """An Error ends the run."""

    def to_json(self) -> dict[str, str]:
        """As in status.data.anomalies."""
        column = {} if self.column is None else {"column": self.column}
        return {"code": self.code, "severity": self.severity, **column, "message": self.message}


def tolerate(anomalies: Iterable[Anomaly], tolerated: Sequence[Tolerated]) -> tuple[Anomaly, ...]:
    """Those that are tolerated become warnings; errors come first."""

    def known(anomaly: Anomaly) -> bool:
        return any(one.code == anomaly.code and one.column in (None, anomaly.column) for one in tolerated)

    judged = (replace(one, severity="Warning") if known(one) else one for one in anomalies)
    return tuple(sorted(judged, key=lambda one: one.severity != "Error"))


def fail_on(anomalies: Sequence[Anomaly]) -> None:
    """Raises Failure, by the code in UpperCamel, for the first error, and says how many more there are."""
    errors = [anomaly for anomaly in anomalies if anomaly.severity == "Error"]
    if errors:
        code = "".join(part.capitalize() for part in errors[0].code.split("_"))
        others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise Failure(STEP, code, errors[0].message + others)
