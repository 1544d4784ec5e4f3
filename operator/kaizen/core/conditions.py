"""Outcomes become conditions here and nowhere else.

`Ready` is always present; `Reconciling` and `Stalled` only when True, never together; each names the generation it
speaks of, so that `kubectl wait`, kstatus, Flux and Argo CD read the same thing.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kaizen.core.plan import Outcome, Ready, Retry, Terminal, Waiting
from kaizen.core.times import timestamp

Condition = Mapping[str, Any]
LONGEST_MESSAGE = 1024


def conclude(
    outcome: Outcome,
    before: Sequence[Condition],
    generation: int,
    now: datetime,
    further: Sequence[tuple[str, str, str, str]] = (),
) -> list[Condition]:
    """The conditions Ready, Reconciling and Stalled that an outcome means, and `further` ones, sorted by type.

    `before` are the conditions that the object has: an unchanged status keeps its time, and an object that was Ready
    stays so through failures that a retry may mend.
    """
    wanted = _conditions(outcome, find(before, "Ready"), generation) + [_condition(*words) for words in further]
    return sorted((_stamped(c, before, generation, now) for c in wanted), key=lambda condition: str(condition["type"]))


def find(conditions: Sequence[Condition], kind: str) -> Condition | None:
    """The condition of a type, or None."""
    return next((condition for condition in conditions if condition["type"] == kind), None)


def _conditions(outcome: Outcome, ready: Condition | None, generation: int) -> list[dict[str, str]]:
    match outcome:
        case Ready(reason, message):
            return [_condition("Ready", "True", reason, message)]
        case Waiting(reason, message):
            return [_condition("Ready", "Unknown", reason, message)]
        case Terminal(reason, message):
            return [_condition("Ready", "False", reason, message), _condition("Stalled", "True", reason, message)]
        case Retry(reason, message):
            reconciling = _condition("Reconciling", "True", "ProgressingWithRetry", message)
            if ready and ready["status"] == "True" and ready["observedGeneration"] == generation:
                return [_condition("Ready", "True", ready["reason"], ready.get("message", ""))]
            return [_condition("Ready", "Unknown", reason, message), reconciling]


def _condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    text = message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…"
    return {"type": kind, "status": status, "reason": reason, "message": text}


def _stamped(condition: Condition, before: Sequence[Condition], generation: int, now: datetime) -> Condition:
    previous = find(before, str(condition["type"]))
    same = previous is not None and previous["status"] == condition["status"]
    since = previous["lastTransitionTime"] if previous is not None and same else timestamp(now)
    return {**condition, "observedGeneration": generation, "lastTransitionTime": since}
