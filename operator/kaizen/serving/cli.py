"""`kaizen serve`: in a terminal with a model directory, in a Pod with nothing but its environment."""

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path
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
    parser.add_argument("--grpc-port", type=_port, metavar="PORT", help="also answer gRPC there")
    parser.add_argument("--workers", type=_workers, default=1, metavar="N", help="processes that answer (default: %(default)s)")
    parser.add_argument("--tokens", type=Path, metavar="DIR", help="ask for a bearer token; each file of DIR is one")
    parser.add_argument("--tls", type=Path, metavar="DIR", help="speak TLS with DIR/tls.crt and DIR/tls.key")
    parser.add_argument(
        "--cors-origins", type=_origins, default=(), metavar="ORIGINS", help="pages that may ask, comma-separated, or * for all"
    )
    parser.set_defaults(run=_serve)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"a port must be a whole number from 1 to 65535, not {text!r}")
    return int(text)


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not int(text):
        raise argparse.ArgumentTypeError(f"workers must be a whole number of at least 1, not {text!r}")
    return int(text)


def _origins(text: str) -> tuple[str, ...]:
    from kaizen.serving.settings import origins

    try:
        return origins(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def _serve(parsed: argparse.Namespace) -> int:
    began = time.monotonic()
    _log_to_standard_error()
    for library in ("OMP", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")  # requests are small, and threads of libraries do not survive a fork
    from kaizen.registry.errors import BucketError
    from kaizen.serving.processes.server import serve
    from kaizen.serving.settings import Settings

    if parsed.model is None:
        settings = Settings.from_environment(os.environ)
    else:
        settings = Settings.for_terminal(
            parsed.model,
            os.environ,
            host=parsed.host,
            port=parsed.port,
            metrics_port=parsed.metrics_port,
            grpc_port=parsed.grpc_port,
            workers=parsed.workers,
            tokens_directory=parsed.tokens,
            tls_directory=parsed.tls,
            cors_origins=parsed.cors_origins,
        )
    try:
        return serve(settings, lambda model: _say_ready(settings, model, time.monotonic() - began))
    except BucketError as problem:
        logging.getLogger(__name__).error("%s", problem)
        return 1


def _say_ready(settings: "Settings", model: "Model", seconds: float) -> None:
    version = "" if model.version is None else f" version {model.version}"
    engine = {"sklearn": "scikit-learn", "onnx": "onnxruntime"}.get(model.kind, "the compiled engine")
    because = f", because {model.reason}" if model.reason else ""
    workers = f" and {settings.workers} workers" if settings.workers > 1 else ""
    logging.getLogger(__name__).info(
        "%s%s (%s) is ready on port %d after %.2f s, with %s%s%s",
        model.name,
        version,
        model.digest[:19],
        settings.port,
        seconds,
        engine,
        because,
        workers,
    )
    if sys.stderr.isatty() and model.example:
        print(f"\nTry it:\n  {_example(settings, model)}\n\nCtrl-C ends it.", file=sys.stderr)


def _example(settings: "Settings", model: "Model") -> str:
    """A request that this model answers, for a shell."""
    text = model.example.decode().replace("'", "'\\''")
    scheme = "https" if settings.tls_directory else "http"
    token = " -H 'Authorization: Bearer TOKEN'" if settings.tokens_directory else ""
    host = settings.host or "localhost"
    address = f"[{host}]" if ":" in host else host
    return f"curl -s {scheme}://{address}:{settings.port}/v2/models/{model.name}/infer{token} -d '{text}'"


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
