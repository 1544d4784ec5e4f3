"""A server under everything that it may ever meet, for hours: `make soak`, or a part of it.

PYTHONPATH=operator:. python -m tests.soak [--only fuzz,attacks] [--minutes 30] [--inputs 10000000] [--seed 6] [--quick]
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.soak.parts import PARTS, Soak
from tests.soak.plan import LONG, QUICK, Plan
from tests.soak.problems import Problem


def main() -> int:
    """Run the parts, and say what they saw; the exit code."""
    parser = argparse.ArgumentParser("python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas: %(default)s")
    parser.add_argument("--minutes", type=float, help="under overload, for each number of workers; 30")
    parser.add_argument("--inputs", type=int, help="of the fuzzing in this process; 10,000,000")
    parser.add_argument("--seed", type=int, default=6, help="of the fuzzing; the same inputs for the same seed")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--quick", action="store_true", help="as in `make test`")
    parsed = parser.parse_args()
    names = parsed.only.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    plan = _plan(parsed)
    failed = False
    for name in names:
        began = time.monotonic()
        print(f"\n{name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="kaizen-soak-") as directory:
            try:
                for line in PARTS[name](Soak(plan, Path(directory), parsed.seed, parsed.first)):
                    print(f"  {line}", flush=True)
            except (Problem, AssertionError) as problem:
                failed = True
                print(f"  FAILED: {problem}", flush=True)
        print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
    return int(failed)


def _plan(parsed: argparse.Namespace) -> Plan:
    plan = QUICK if parsed.quick else LONG
    if parsed.inputs is not None:
        plan = replace(plan, inputs=parsed.inputs, socket_inputs=min(plan.socket_inputs, parsed.inputs))
    if parsed.minutes is not None:
        seconds = parsed.minutes * 60
        plan = replace(plan, overload_seconds=seconds, warm_seconds=min(plan.warm_seconds, seconds / 3))
    return plan


if __name__ == "__main__":
    sys.exit(main())
