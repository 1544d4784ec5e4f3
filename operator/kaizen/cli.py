"""The command `kaizen`, also found by kubectl as `kubectl kaizen`.

Imports are inside the commands: `kaizen crds` must not pay for the operator's libraries.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kaizen import __version__
from kaizen.serving import cli as serving
from kaizen.training import cli as training


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 failed, 2 wrong usage."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except (ValueError, OSError) as problem:
        print(f"kaizen: {problem}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kaizen", description="Keeps machine-learning models good in production on Kubernetes.")
    parser.add_argument("--version", action="version", version=f"kaizen {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    training.add_commands(commands)
    serving.add_commands(commands)

    operator = commands.add_parser("operator", help="run the operator (what the chart's Deployment runs)")
    operator.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    operator.set_defaults(run=_operator)

    crds = commands.add_parser("crds", help="print the CustomResourceDefinitions as YAML, or write them to a directory")
    crds.add_argument("--output", type=Path, metavar="DIR", help="write one file per kind here, and remove stale ones")
    crds.set_defaults(run=_crds)
    return parser


def _operator(parsed: argparse.Namespace) -> NoReturn:
    # The process is the container's first, and such a one ignores SIGTERM until it has a handler.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    from kaizen import logs

    logs.configure(os.environ.get("KAIZEN_LOG_LEVEL") or parsed.log_level)
    from kaizen import handlers

    code = handlers.run()
    logging.shutdown()
    # Not by returning: a thread that waits for a silent S3 server would keep the process for as long.
    os._exit(code)


def _crds(parsed: argparse.Namespace) -> int:
    from kaizen.api import crd

    if parsed.output:
        crd.write(parsed.output)
    else:
        print("---\n".join(crd.files().values()), end="")
    return 0
