"""`kaizen serve`: in a terminal with a model directory, in a Pod with nothing but its environment."""

import argparse
import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kaizen.serving.model import Model
    from kaizen.serving.settings import Settings

__all__ = ["add_commands"]

PORT = 8080


def add_commands(subparsers: Any) -> None:
    """Add `serve` to the commands of `kaizen`."""
    parser = subparsers.add_parser("serve", help="answer requests with a model directory (without one: as a Pod, from KAIZEN_…)")
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="a directory that `kaizen train` has written, or s3://BUCKET/PREFIX"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=PORT, help="port to listen on (default: %(default)s)")
    parser.add_argument("--metrics-port", type=_port, metavar="PORT", help="also serve /metrics and /healthz there")
    parser.set_defaults(run=_serve)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"a port must be a whole number from 1 to 65535, not {text!r}")
    return int(text)


def _serve(parsed: argparse.Namespace) -> int:
    began = time.monotonic()
    _log_to_standard_error()
    from kaizen.registry.errors import BucketError
    from kaizen.serving.server import serve
    from kaizen.serving.settings import Settings

    if parsed.model is None:
        settings = Settings.from_environment(os.environ)
    else:
        settings = Settings.for_terminal(parsed.model, parsed.host, parsed.port, parsed.metrics_port, os.environ)
    try:
        return serve(settings, lambda model: _say_ready(settings, model, time.monotonic() - began))
    except BucketError as problem:
        logging.getLogger(__name__).error("%s", problem)
        return 1


def _say_ready(settings: "Settings", model: "Model", seconds: float) -> None:
    version = "" if model.version is None else f" version {model.version}"
    engine = "scikit-learn" if model.kind == "sklearn" else "the compiled engine"
    logging.getLogger(__name__).info(
        "%s%s (%s) is ready on port %d after %.2f s, with %s",
        model.name,
        version,
        model.digest[:19],
        settings.port,
        seconds,
        engine,
    )
    if sys.stderr.isatty() and model.example:
        print(f"\nTry it:\n  {_example(settings, model)}\n\nCtrl-C ends it.", file=sys.stderr)


def _example(settings: "Settings", model: "Model") -> str:
    """A request that this model answers, for a shell."""
    text = model.example.decode().replace("'", "'\\''")
    return f"curl -s http://{settings.host or 'localhost'}:{settings.port}/v2/models/{model.name}/infer -d '{text}'"


class _Lines(logging.Formatter):
    """JSON lines, for machines."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log_to_standard_error() -> None:
    """As kaizen.logs does, without its library, which the server's image lacks."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S") if sys.stderr.isatty() else _Lines())
    logging.basicConfig(level=(os.environ.get("KAIZEN_LOG_LEVEL") or "info").upper(), handlers=[handler], force=True)
    for name in ("botocore", "urllib3", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
