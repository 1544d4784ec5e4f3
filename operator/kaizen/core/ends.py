"""How the Pods of a Job ended, in words: whose end it was that ended the Job, and what it said."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kaizen.core import pods
from kaizen.core.container_pods import DATA, TRAINING
from kaizen.core.distributed import failed_indexes, index_of
from kaizen.core.plan import Object
from kaizen.core.trainer_pods import CONTAINER

__all__ = ["End", "cause", "explain", "has_ended", "last_success", "last_words"]

DO_NOT_RETRY = 10
STEPS = (DATA, TRAINING, CONTAINER)
"""The containers in the order in which they run; a Pod that trains by a built-in estimator has only the last."""
SIGNALLED = 128
"""An exit code above says which signal ended a process."""


@dataclass(frozen=True)
class End:
    """How a container of a Pod ended."""

    container: str
    state: Mapping[str, Any]
    index: int | None
    limit: str | None
    """Of the container's memory."""
    remedy: str
    """The field that sets it."""

    @property
    def exit_code(self) -> int:
        return int(self.state.get("exitCode") or 0)

    @property
    def at(self) -> str:
        return str(self.state.get("finishedAt", ""))


def has_ended(pod: Object) -> bool:
    """Whether nothing more will come of a Pod."""
    # A Pod that was evicted may have ended without its container's end being told.
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed") or _failed(pod) is not None or _success(pod) is not None


def cause(job: Object, tried: Sequence[Object]) -> End | None:
    """The end that a failed Job is to be explained by; None when no Pod of it was seen to fail.

    Of several members, each one's last: the one that ran out of memory, else the first to end, which took the others along.
    """
    failed = sorted((end for pod in tried if (end := _failed(pod))), key=lambda end: end.at)
    if final := [end for end in failed if _is_final(end)]:
        return final[-1]
    given_up = failed_indexes(job)
    newest = {end.index: end for end in failed if not given_up or end.index in given_up}
    if 0 in given_up and 0 in newest:
        return newest[0]
    return min(newest.values(), key=lambda end: (end.state.get("reason") != "OOMKilled", end.at), default=None)


def last_success(tried: Sequence[Object]) -> Mapping[str, Any] | None:
    """How the last Pod that ended well did."""
    return max(
        (state for pod in tried if (state := _success(pod))), key=lambda state: str(state.get("finishedAt", "")), default=None
    )


def explain(end: End) -> dict[str, Any]:
    """The end in words: its own last ones where it could still write them."""
    state, exit_code, said = end.state, end.state.get("exitCode"), pods.said(end.state)
    step = {"step": "Train"} if end.container == TRAINING else {}
    if not step and isinstance(said.get("code"), str) and pods.REASON.fullmatch(said["code"]):
        told = {"step": str(said.get("step", ""))[:64], "code": said["code"], "message": str(said.get("message", ""))[:1024]}
        return {**told, "exitCode": exit_code}
    if state.get("reason") == "OOMKilled":
        limit = f" of {end.limit}" if end.limit else ""
        sentence = f"The {'container' if step else 'run'} needed more memory than its limit{limit}: raise {end.remedy}."
        return {**step, "code": "OOMKilled", "message": sentence, "exitCode": exit_code}
    words = last_words(state)
    if step and state.get("reason") in (None, "Error", "Completed"):
        if end.exit_code > SIGNALLED:
            how, kind = f"The container was ended by {_signal(end.exit_code - SIGNALLED)}", "Signal"
        else:
            how, kind = f"The container ended with exit code {exit_code}", "ExitCode"
        return {**step, "code": kind, "message": f"{how}: {words}" if words else f"{how}.", "exitCode": exit_code}
    code = str(state.get("reason") or "Error")
    return {
        **step,
        "code": code if pods.REASON.fullmatch(code) else "Error",
        "message": f"The container ended with exit code {exit_code}: {words}",
        "exitCode": exit_code,
    }


def last_words(state: Mapping[str, Any]) -> str:
    """The end of what a container left, in one line."""
    return " ".join(str(state.get("message") or "").split())[-400:]


def _is_final(end: End) -> bool:
    return end.container != TRAINING and end.exit_code == DO_NOT_RETRY


def _failed(pod: Object) -> End | None:
    """The end of the first step of a Pod that did not end well."""
    for container in STEPS:
        state = pods.last_end(pod, container)
        if state is not None and state.get("exitCode") != 0:
            return End(container, state, index_of(pod), *_memory(pod, container))
    return None


def _success(pod: Object) -> Mapping[str, Any] | None:
    state = pods.last_end(pod, CONTAINER)
    return state if state is not None and state.get("exitCode") == 0 else None


def _memory(pod: Object, container: str) -> tuple[str | None, str]:
    """A container's memory limit, and the field of a TrainingJob that raises it."""
    inits = pod.get("spec", {}).get("initContainers", ())
    users = container == TRAINING or all(one["name"] != TRAINING for one in inits)
    remedy = "pod.resources.limits.memory" if users else f"resources.limits.memory of container {container} in podTemplate"
    for one in (*inits, *pod.get("spec", {}).get("containers", ())):
        if one["name"] == container:
            limit = one.get("resources", {}).get("limits", {}).get("memory")
            return None if limit is None else str(limit), remedy
    return None, remedy


def _signal(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
