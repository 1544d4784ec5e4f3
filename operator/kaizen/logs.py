"""Logs: JSON lines with the object's key, for machines; plain lines on a terminal."""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

_QUIET = ("kopf", "aiohttp.access", "botocore", "urllib3", "asyncio")


def configure(level: str) -> None:
    """Send every log line to standard error in the form that fits it."""
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(
            JsonFormatter(
                "%(asctime)s %(levelname)s %(name)s %(message)s",
                rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
                datefmt="%Y-%m-%dT%H:%M:%S%z",
            )
        )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
