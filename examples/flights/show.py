"""How the demo tells what it sees: sections, progress, tables, and sentences made of statuses.  Standard library only."""

import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

Object = Mapping[str, Any]
FIGURES = (
    ("log_loss", "log loss"),
    ("calibration_gap", "calibration gap"),
    ("roc_auc", "AUC"),
    ("predicted_share", "late, said"),
)
PROGRESS_SECONDS = 15.0
"""Between two lines of progress where a line cannot be replaced."""
STAMP = "  {:>5}  "
INDENT = " " * len(STAMP.format(""))


class Teller:
    """Prints plain text; what is still going on replaces its own line on a terminal."""

    def __init__(self, out: TextIO = sys.stdout, clock: Any = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._began: float = clock()
        self._live = out.isatty()
        self._open = False
        self._told: tuple[float, str] = (float("-inf"), "")
        self._sections = 0
        self._width = min(shutil.get_terminal_size((100, 24)).columns, 110)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return float(self._clock() - self._began)

    def section(self, title: str) -> None:
        """A heading, with its number."""
        self._sections += 1
        heading = f"{self._sections}. {title}"
        self._print(f"\n{heading}\n{'-' * len(heading)}")

    def say(self, text: str) -> None:
        """What happens, with the time."""
        self._paragraph(text, STAMP.format(elapsed(self.seconds)))

    def explain(self, text: str) -> None:
        """Why, without the time."""
        self._paragraph(text, INDENT)

    def table(self, lines: Iterable[str]) -> None:
        """Lines as they are."""
        self._print("\n" + "\n".join(f"{INDENT}{line}" for line in lines) + "\n")

    def verbatim(self, line: str) -> None:
        """A command, to be copied."""
        self._print(f"{INDENT}    {line}")

    def progress(self, text: str) -> None:
        """How far something is: one line that is replaced, or a line now and then."""
        line = f"{STAMP.format(elapsed(self.seconds))}… {text}"
        if self._live:
            self._out.write(f"\r\x1b[K{line[: self._width]}")
            self._out.flush()
            self._open = True
        elif self.seconds - self._told[0] >= PROGRESS_SECONDS:
            self._told = (self.seconds, text)
            self._print(line)

    def _paragraph(self, text: str, first: str) -> None:
        self._told = (self.seconds, "")
        self._print(textwrap.fill(text, self._width, initial_indent=first, subsequent_indent=INDENT, break_on_hyphens=False))

    def _print(self, text: str) -> None:
        if self._open:
            self._out.write("\r\x1b[K")
            self._open = False
        self._out.write(f"{text}\n")
        self._out.flush()


def elapsed(seconds: float) -> str:
    """Minutes and seconds; before the start with a sign."""
    whole = round(abs(seconds))
    return f"{'-' if seconds <= -0.5 else ''}{whole // 60}:{whole % 60:02d}"


def aligned(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table: the first column to the left, the others to the right."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    first, others = widths[0], widths[1:]
    return [
        (line[0].ljust(first) + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], others, strict=True))).rstrip()
        for line in lines
    ]


def comparison(answers: Sequence[tuple[str, Mapping[str, float]]]) -> list[str]:
    """Who answered the same flights how well; the truth is the same for all."""
    rows = [(who, *(_figure(name, found) for name, _ in FIGURES)) for who, found in answers]
    truth = answers[0][1]["true_share"]
    return [*aligned(("", *(title for _, title in FIGURES)), rows), f"Flights that were late: {truth:.1%}"]


def _figure(name: str, found: Mapping[str, float]) -> str:
    if name not in found:
        return "-"
    return f"{found[name]:.1%}" if name.endswith("share") else f"{found[name]:.4f}"


def condition(body: Object | None, kind: str) -> Object | None:
    """A condition of an object's status; None when it is not there."""
    found: Sequence[Object] = (body or {}).get("status", {}).get("conditions", ())
    return next((one for one in found if one["type"] == kind), None)


def said(found: Object | None) -> str:
    """A condition in words."""
    return f"{found['type']}={found['status']}, {found['reason']}: {found.get('message', '')}" if found else "not told yet"


def verdict(monitoring: Object) -> str:
    """The verdict on the newest span, and what it rests on."""
    kind, rows = monitoring["verdict"], monitoring["rows"]
    words = f"verdict {kind} on {rows:,} rows"
    if kind == "NotEnoughData":
        return f"{words}: fewer than drift.minimumRows"
    drifted = [one for one in monitoring.get("features", ()) if one["drifted"]]
    if drifted:
        return f"{words}: {', '.join(map(_distance, drifted))}"
    closest = nearest(monitoring)
    return f"{words}; nearest to its limit is {_distance(closest)}" if closest else words


def nearest(monitoring: Object) -> Object | None:
    """The feature that is nearest to its limit, or farthest beyond it."""
    voting = [one for one in monitoring.get("features", ()) if not one["context"]]
    return max(voting, key=lambda one: one["distance"] / max(one["threshold"], 1e-9), default=None)


def _distance(feature: Object) -> str:
    return f"{feature['name']} (PSI {feature['distance']:.2f}, limit {feature['threshold']:.2f})"


def number(job: Object) -> tuple[str, str]:
    """By which TrainingJobs are ordered: when they were made."""
    return str(job["metadata"].get("creationTimestamp", "")), str(job["metadata"]["name"])


def step(job: Object) -> str:
    """How far a TrainingJob is."""
    status = job.get("status", {})
    done, name = status.get("progress"), status.get("step")
    if not name:
        return "its Pod is being started"
    return f"step {name}" + (f" ({done['done']} of {done['total']})" if done else "")


def gates(job: Object) -> list[str]:
    """What a TrainingJob's gates said, a sentence each."""
    found: Sequence[Object] = job.get("status", {}).get("gates") or ()
    return [f"Gate {one['name']}: {one['outcome']}" + (f", {one['message']}." if one.get("message") else ".") for one in found]


def metrics(job: Object, dataset: str) -> dict[str, float]:
    """A TrainingJob's figures on one dataset."""
    found: Sequence[Object] = job.get("status", {}).get("metrics") or ()
    return {one["name"]: float(one["value"]) for one in found if one["dataset"] == dataset}


@dataclass(frozen=True)
class Event:
    """One line of the timeline."""

    time: datetime
    source: str
    what: str


def moment(text: str) -> datetime:
    """A time of the API or the registry."""
    return datetime.fromisoformat(text).astimezone(UTC)


def events(service: Object, jobs: Iterable[Object], records: Iterable[Object]) -> list[Event]:
    """What the cluster and the registry remember: TrainingJobs, the audit chain, and why each version was promoted.

    In this order, not in that of time.
    """
    found: list[Event] = []
    for job in jobs:
        status, name = job.get("status", {}), f"TrainingJob {job['metadata']['name']}"
        found.append(Event(moment(job["metadata"]["creationTimestamp"]), name, "made by the InferenceService"))
        ended = condition(job, "Succeeded")
        if ended and ended["status"] != "Unknown":
            words = " ".join([f"{ended['reason']}.", *gates(job)])
            found.append(Event(moment(status.get("completionTime") or ended["lastTransitionTime"]), name, words))
    why = {(one["version"], one["time"]): one["reason"] for one in service.get("status", {}).get("history", ())}
    intended = {record["sequence"]: record["details"].get("reason", "") for record in records}
    for record in records:
        if record["action"] == "PromotionIntended":
            continue  # Its end is recorded as well.
        details = record["details"]
        reason = details.get("reason") or why.get((details.get("version"), record["time"]))
        reason = reason or intended.get(details.get("intent"), "")
        what = f"{record['action']} {record['object']}"
        if "version" in details:
            what += f", version {details['version']}"
        found.append(Event(moment(record["time"]), f"audit record {record['sequence']}", f"{what}: {reason}" if reason else what))
    return found


def timeline(found: Iterable[Event], began: datetime, width: int = 110) -> list[str]:
    """A table of events, oldest first, by the time since the start.

    The API and the registry tell whole seconds, so within one the order is that in which the events were given.
    """
    ordered = sorted(found, key=lambda event: event.time.replace(microsecond=0))
    rows = [(elapsed((event.time - began).total_seconds()), event.source, event.what) for event in ordered]
    sources = max((len(source) for _, source, _ in rows), default=0)
    lines = []
    for time_, source, what in rows:
        first = f"{time_:>6}  {source:<{sources}}  "
        lines += textwrap.wrap(what, width, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)
    return lines
