"""From loads to ratios, verdicts and a table.  Pure.

A ratio is taken within a round, where both servers met the same machine; of several rounds the median counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench.serving.cases import FULL_SHARE, P99_MS, PSS_MIB, READY_SECONDS, Case
from bench.serving.load import Load

__all__ = ["Figure", "Footprint", "Results", "figure", "ratio", "table"]

PEERS = ("MLServer", "KServe")
PLAIN, FULL, FALLBACK = "Kaizen", "Kaizen, all on", "Kaizen, scikit-learn"
WALL = "nginx"


@dataclass(frozen=True)
class Footprint:
    """What a server takes before it is asked anything, and after."""

    ready_seconds: float
    pss_mib: float
    pss_loaded_mib: float


@dataclass(frozen=True)
class Figure:
    """A measured value and whether it is good enough; `ok` is None where nothing is asked of it."""

    text: str
    value: float
    limit: float | None = None
    ok: bool | None = None


@dataclass(frozen=True)
class Results:
    """Everything that was measured."""

    loads: Mapping[tuple[Case, str], Sequence[Load]]
    """By case and server: one a round."""
    paced: Mapping[tuple[Case, str], Sequence[Load]]
    footprints: Mapping[tuple[str, str], Sequence[Footprint]]
    """By model and server: one a start."""
    machine: Mapping[str, Any]

    def servers(self, case: Case) -> list[str]:
        """Those that were loaded in a case."""
        return [server for other, server in self.loads if other == case]

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return {
            "machine": dict(self.machine),
            "loads": [
                {"case": case.name, "server": server, "rounds": [asdict(load) for load in loads]}
                for (case, server), loads in self.loads.items()
            ],
            "atHalfOfTheRate": [
                {"case": case.name, "server": server, "rounds": [asdict(load) for load in loads]}
                for (case, server), loads in self.paced.items()
            ],
            "footprints": [
                {"model": model, "server": server, "starts": [asdict(one) for one in found]}
                for (model, server), found in self.footprints.items()
            ],
            "figures": [{"figure": one.text, "value": one.value, "limit": one.limit, "ok": one.ok} for one in figures(self)],
        }


def figure(text: str, value: float, *, least: float | None = None, most: float | None = None) -> Figure:
    """A figure, judged by its limit."""
    if least is not None:
        return Figure(text, value, least, value >= least)
    return Figure(text, value, most, None if most is None else value <= most)


def ratio(mine: Sequence[Load], theirs: Sequence[Load]) -> float:
    """The median over rounds of the ratio of the rates."""
    return median(one.rate / other.rate for one, other in zip(mine, theirs, strict=True))


def cpu_ratio(mine: Sequence[Load], theirs: Sequence[Load]) -> float:
    """How many times the CPU time of one of our requests theirs takes; on a busy machine steadier than rates are."""
    return median(one.cpu_us for one in theirs) / median(one.cpu_us for one in mine)


def spread(loads: Sequence[Load]) -> float:
    """Half of the way from the smallest to the largest rate, as a share of the median."""
    rates = [load.rate for load in loads]
    return (max(rates) - min(rates)) / 2 / median(rates)


def figures(results: Results) -> list[Figure]:
    """All that has a limit."""
    found = []
    for (case, server), loads in results.loads.items():
        if server in (PLAIN, FALLBACK):
            found += [
                figure(f"{case.name} × {peer}", ratio(loads, theirs), least=case.floor)
                for peer in PEERS
                if (theirs := results.loads.get((case, peer)))
            ]
        if server == FULL and (plain := results.loads.get((case, PLAIN))):
            found.append(figure(f"{case.name} all on / plain", ratio(loads, plain), least=FULL_SHARE))
    for (case, server), loads in results.paced.items():
        most = None if server == WALL else P99_MS
        found.append(figure(f"{case.name} {server} p99 ms at half rate", median(one.p99_ms for one in loads), most=most))
    for (model, server), starts in results.footprints.items():
        ours = server in (PLAIN, FULL)
        ready, pss = median(one.ready_seconds for one in starts), max(one.pss_loaded_mib for one in starts)
        found.append(figure(f"{model} {server} ready s", ready, most=READY_SECONDS if ours else None))
        found.append(figure(f"{model} {server} PSS MiB", pss, most=PSS_MIB if ours else None))
    return found


def table(results: Results) -> str:
    """Everything, in Markdown."""
    cases = list(dict.fromkeys(case for case, _ in results.loads))
    lines = [
        "Requests/s (± half of the spread of the rounds), p50/p99 in ms, the server's CPU time for one request in µs.",
        "",
        "| case | server | requests/s | p50/p99 ms | CPU µs | × MLServer (by CPU) | × KServe (by CPU) | floor | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(results, case, server) for case in cases for server in results.servers(case)]
    if results.paced:
        lines += ["", "At half of the saturation rate, sent at random times (a Poisson process); nginx at Kaizen's rate:", ""]
        lines += ["| case | server | requests/s | p50 ms | p99 ms | worst ms | limit | |", "|---|---|---|---|---|---|---|---|"]
        lines += [_paced(case, server, loads) for (case, server), loads in results.paced.items()]
    if results.footprints:
        lines += ["", "| model | server | start → ready s | PSS MiB | after load | |", "|---|---|---|---|---|---|"]
        lines += [_footprint(model, server, starts) for (model, server), starts in results.footprints.items()]
    return "\n".join(lines)


def _row(results: Results, case: Case, server: str) -> str:
    loads = results.loads[case, server]
    cells = [
        case.name,
        server,
        f"{median(one.rate for one in loads):,.0f} ±{spread(loads):.0%}{_failures(loads)}",
        f"{median(one.p50_ms for one in loads):.2f}/{median(one.p99_ms for one in loads):.1f}",
        f"{median(one.cpu_us for one in loads):,.0f}",
    ]
    if server in (PLAIN, FALLBACK):
        ratios = [ratio(loads, theirs) if (theirs := results.loads.get((case, peer))) else None for peer in PEERS]
        cells += [_times(one, loads, results.loads.get((case, peer))) for one, peer in zip(ratios, PEERS, strict=True)]
        cells += [f"{case.floor:g}", _mark(all(one >= case.floor for one in ratios if one is not None))]
    elif server == FULL:
        plain = results.loads[case, PLAIN]
        share = ratio(loads, plain)
        cells += [f"{share:.2f} ({1 / cpu_ratio(plain, loads):.2f}) of plain", "", f"{FULL_SHARE:g}", _mark(share >= FULL_SHARE)]
    elif server == WALL and (ours := results.loads.get((case, PLAIN))):
        cells += [f"{ratio(loads, ours):.1f} × Kaizen", "", "", ""]
    else:
        cells += ["", "", "", ""]
    return "| " + " | ".join(cells) + " |"


def _paced(case: Case, server: str, loads: Sequence[Load]) -> str:
    p99 = median(one.p99_ms for one in loads)
    cells = [
        case.name,
        server,
        f"{median(one.rate for one in loads):,.0f}{_failures(loads)}",
        f"{median(one.p50_ms for one in loads):.2f}",
        f"{p99:.2f}",
        f"{max(one.worst_ms for one in loads):.1f}",
        *(("", "") if server == WALL else (f"{P99_MS:g}", _mark(p99 <= P99_MS))),
    ]
    return "| " + " | ".join(cells) + " |"


def _footprint(model: str, server: str, starts: Sequence[Footprint]) -> str:
    ready, pss = median(one.ready_seconds for one in starts), median(one.pss_mib for one in starts)
    loaded = max(one.pss_loaded_mib for one in starts)
    mark = _mark(ready <= READY_SECONDS and loaded <= PSS_MIB) if server in (PLAIN, FULL) else ""
    return f"| {model} | {server} | {ready:.2f} | {pss:.0f} | {loaded:.0f} | {mark} |"


def _times(value: float | None, mine: Sequence[Load], theirs: Sequence[Load] | None) -> str:
    return "" if value is None or theirs is None else f"{value:.1f} ({cpu_ratio(mine, theirs):.0f})"


def _failures(loads: Sequence[Load]) -> str:
    failed = sum(one.failed for one in loads)
    return f" **{failed} failed**" if failed else ""


def _mark(ok: bool) -> str:
    return "✓" if ok else "✗"
