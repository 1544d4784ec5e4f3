"""Is Kaizen's server as fast as issue 6 asks?  `make bench-serving`, or with options:

    PYTHONPATH=operator:. .venv/bin/python -m bench.serving --seconds 1 --repeats 1 --cases lr

Installs MLServer, KServe, wrk and nginx below Kaizen's cache, fits the models, starts every server with one worker, checks every
answer against scikit-learn's, before and after loading, and loads all in turn.  Prints a table; exits 1 when a floor is missed.
"""

import argparse
import fcntl
import json
import os
import platform
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy

from bench.serving import load, models, results, servers
from bench.serving.cases import CASES, Case
from bench.serving.install import BENCH, PEERS, install_peer, install_tools, lock
from hack.paths import REPOSITORY
from hack.steps import Stop, alone, digest, discard, fail, publish, say, step

WARM_SECONDS = 1
PACED_CONNECTIONS = 64


class Run:
    """One run of the benchmark."""

    def __init__(self, options: argparse.Namespace, bucket: servers.BucketThatTakesAll) -> None:
        self.options, self.bucket = options, bucket
        with alone():
            self.tools = install_tools()
            self.peers = {name: install_peer(name) for name in PEERS if name in options.peers}
        os.sched_setaffinity(0, servers.LOADER_CORES)
        self.home = BENCH / "run"
        shutil.rmtree(self.home, ignore_errors=True)
        self.loads: dict[tuple[Case, str], list[load.Load]] = {}
        self.paced: dict[tuple[Case, str], list[load.Load]] = {}
        self.footprints: dict[tuple[str, str], list[results.Footprint]] = {}

    def all(self) -> results.Results:
        """Model by model: its servers all run, one at a time is loaded."""
        wanted = [case for case in CASES if any(word in case.name for word in self.options.cases)]
        for model in dict.fromkeys(case.model for case in wanted):
            made = _model(model)
            with step(f"Load the servers of {model}"), ExitStack() as stack:
                self._model(made, [case for case in wanted if case.model == model], stack)
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "seconds": self.options.seconds}
        machine |= {"repeats": self.options.repeats, "load": os.getloadavg()}
        return results.Results(self.loads, self.paced, self.footprints, machine)

    def _model(self, made: models.Made, wanted: list[Case], stack: ExitStack) -> None:
        home = self.home / made.name
        running = {one.name: one for one in self._servers(made, wanted, home)}
        for one in running.values():
            self._start(made, one, stack)
        wall = servers.nginx(json.dumps(running[results.PLAIN].ask(_first(made, 1))[1]).encode(), self.tools, home)
        running[wall.name] = stack.enter_context(wall)
        for case in wanted:
            for server in self._asked(case, running):
                if server != results.WALL:
                    running[server].check(made, case.rows)
                load.wrk(running[server], made.bodies[case.rows], case.connections, WARM_SECONDS, self.tools)
        for number in range(self.options.repeats):
            for case in wanted:
                asked = self._asked(case, running)
                for server in asked[number % len(asked) :] + asked[: number % len(asked)]:
                    found = load.wrk(running[server], made.bodies[case.rows], case.connections, self.options.seconds, self.tools)
                    self.loads.setdefault((case, server), []).append(found)
                if case.paced:
                    self._pace(made, case, running)
        for name, one in running.items():
            if name != results.WALL:
                for rows in {case.rows for case in wanted}:
                    one.check(made, rows)
                started = self.footprints[made.name, name]
                started[-1] = results.Footprint(started[-1].ready_seconds, started[-1].pss_mib, one.pss_mib())

    def _servers(self, made: models.Made, wanted: list[Case], home: Path) -> Iterator[servers.Server]:
        yield servers.kaizen_plain(results.PLAIN, made, made.compiled, home)
        if any(case.full for case in wanted):
            yield servers.kaizen_full(results.FULL, made, made.compiled, home, self.bucket)
        if any(case.fallback for case in wanted):
            yield servers.kaizen_plain(results.FALLBACK, made, made.fallback, home)
        if "mlserver" in self.peers:
            yield servers.mlserver(made, self.peers["mlserver"], home)
        if "kserve" in self.peers:
            yield servers.kserve(made, self.peers["kserve"], home)

    def _start(self, made: models.Made, server: servers.Server, stack: ExitStack) -> None:
        """Started as often as there are rounds, for the time it takes; the last one stays.  Of peers one start is enough."""
        for _ in range(self.options.repeats - 1 if server.name in (results.PLAIN, results.FULL) else 0):
            with server:
                self._started(made, server)
        stack.enter_context(server)
        self._started(made, server)

    def _started(self, made: models.Made, server: servers.Server) -> None:
        found = results.Footprint(server.ready_seconds, server.pss_mib(), 0.0)
        self.footprints.setdefault((made.name, server.name), []).append(found)

    def _asked(self, case: Case, running: dict[str, servers.Server]) -> list[str]:
        """Servers of a case, in the table's order."""
        ours = [results.FALLBACK] if case.fallback else [results.PLAIN, *([results.FULL] if case.full else [])]
        wall = [results.WALL] if case.rows == 1 and not case.fallback else []
        return [*ours, *(peer for peer in results.PEERS if peer in running), *wall]

    def _pace(self, made: models.Made, case: Case, running: dict[str, servers.Server]) -> None:
        """At half of each one's own rate; the wall, which shows what the machine itself adds, at Kaizen's."""
        for server in (results.PLAIN, results.FULL, results.WALL):
            own = results.PLAIN if server == results.WALL else server
            rate = self.loads[case, own][-1].rate / 2
            found = load.pace(running[server], made.bodies[case.rows], PACED_CONNECTIONS, self.options.seconds, rate)
            self.paced.setdefault((case, server), []).append(found)


def _first(made: models.Made, rows: int) -> bytes:
    return made.bodies[rows].read_bytes().splitlines()[0]


def _model(name: str) -> models.Made:
    """A model, fitted and packaged when it or what packages it has changed."""
    here, operator = Path(__file__).parent, REPOSITORY / "operator" / "kaizen"
    made_from = digest(here / "models.py", operator / "serving" / "engine", REPOSITORY / "requirements" / "dev.txt")
    home = BENCH / "models" / f"{name}-{made_from}"
    if not home.exists():
        for older in home.parent.glob(f"{name}-*"):
            discard(older)
        with step(f"Fit and package {name}"):
            publish(home, lambda partial: models.make(name, partial))
    return models.read(name, home)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.serving", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=[""], help="parts of names: " + ", ".join(case.name for case in CASES))
    parser.add_argument("--seconds", type=int, default=3, help="of each load (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), metavar="PEER", help="any of mlserver, kserve (default: both)")
    parser.add_argument("--output", type=Path, default=BENCH / "serving.json", help="all figures (default: %(default)s)")
    parser.add_argument("--lock", action="store_true", help="only pin the peers anew")
    return parser.parse_args()


@contextmanager
def _ended_properly() -> Iterator[None]:
    """A signal that ends the process ends the servers first."""

    def leave(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _alone() -> Iterator[None]:
    """Two runs at once would measure each other; the lock goes away with the process, however it ends."""
    BENCH.mkdir(parents=True, exist_ok=True)
    with (BENCH / ".lock").open("w") as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Stop("another run of this benchmark is under way; wait for its end.") from None
        yield


def main() -> int:
    """Measure, print, write; 0 when every floor is reached."""
    options = _options()
    try:
        if options.lock:
            lock()
            return 0
        with _ended_properly(), _alone(), servers.BucketThatTakesAll() as bucket:
            found = Run(options, bucket).all()
    except Stop as problem:
        return fail(problem)
    except (OSError, RuntimeError, ValueError) as problem:
        return fail(Stop(str(problem)))
    except KeyboardInterrupt:
        return fail(Stop("interrupted; nothing was kept."))
    text = results.table(found)
    say("\n" + text)
    options.output.write_text(json.dumps(found.to_json(), indent=1) + "\n")
    options.output.with_suffix(".md").write_text(text + "\n")
    judged = [one for one in results.figures(found) if one.ok is not None]
    missed = [one for one in judged if not one.ok]
    say(f"\nWritten to {options.output}; {len(missed)} of {len(judged)} limits are missed.")
    for one in missed:
        say(f"  {one.text}: {one.value:.2f}, limit {one.limit:g}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
