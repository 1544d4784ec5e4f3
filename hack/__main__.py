"""`python3 -m hack COMMAND`: what the Makefile calls."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  (before the other imports, which an older Python does not understand)
    sys.exit("kaizen: Python 3.11 or newer is needed, and this is " + sys.version.split()[0] + ".")

import argparse

from hack import clean, cluster, environment, mlflow
from hack.steps import Stop, alone, fail


def _lock() -> None:
    environment.lock()
    mlflow.lock()


_COMMANDS = {
    "cluster": cluster.up,
    "venv": environment.install,
    "lock": _lock,
    "clean": clean.clean,
    "distclean": clean.distclean,
}


def main() -> int:
    """Run one command; 0 done, 1 failed with one sentence, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python3 -m hack", description=__doc__)
    parser.add_argument("command", choices=sorted(_COMMANDS))
    command = parser.parse_args().command
    try:
        with alone():
            _COMMANDS[command]()
    except Stop as problem:
        return fail(problem)
    except OSError as problem:
        return fail(Stop(str(problem)))
    except KeyboardInterrupt:
        return fail(Stop("interrupted; the same command continues from here."))
    return 0


if __name__ == "__main__":
    sys.exit(main())
