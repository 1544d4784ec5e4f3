"""What is wrong with a stranger's bytes, in sentences that say what to send instead.  Pure."""

import errno
import json
import re
from typing import Annotated

import msgspec

__all__ = ["UNREADABLE", "Int64", "Overloaded", "RequestError", "error", "lower", "passes", "shortened", "unreadable"]

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)
"""What msgspec raises for bytes of a stranger."""

LONGEST_NAME = 60
EXPLAINED_BYTES = 1 << 20
"""Larger bodies with a bare NaN are refused without saying where it stands."""


Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A whole number that a stranger sends, of no more than 64 bits."""
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})


class RequestError(Exception):
    """What is wrong with a request, in one sentence for whoever sent it."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Overloaded(RequestError):
    """Too much waits already: the request was not looked at, and can be sent again."""

    def __init__(self, message: str, seconds: int = 1) -> None:
        super().__init__(message, 503)
        self.seconds = seconds
        """For the header Retry-After."""


def error(message: str) -> bytes:
    """The body of every answer that is not a success."""
    return msgspec.json.encode({"error": message})


def passes(problem: Exception) -> bool:
    """Whether an error is about this moment, and says nothing of the file that could not be read."""
    return type(problem) is OSError and problem.errno in _PASSING  # ssl's errors have numbers of their own


def shortened(name: str) -> str:
    """A stranger's text as part of a sentence: quoted, and not longer than a name would be."""
    return json.dumps(name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "…", ensure_ascii=False)


def unreadable(error: Exception, body: bytes) -> str:
    """Why JSON could not be read, or does not look like a request."""
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "the JSON has a string that is not UTF-8"
    if isinstance(error, msgspec.ValidationError):
        problem, _, place = str(error).partition(" - at `$")
        where = f" at {inside}" if (inside := place.strip("`.")) else ""
        return f"the request does not fit{where}: {lower(problem)}"
    if not body.strip():
        return "the body is empty; send a JSON object"
    found = re.search(r"\(byte (\d+)\)", str(error))
    byte = int(found.group(1)) if found else 0
    if token := re.match(rb"-?(NaN|Infinity)\b", body[max(0, byte - 1) :]) or re.match(rb"-?(NaN|Infinity)\b", body[byte:]):
        return f"{_where_bare(body)}the token {token.group().decode()} is not JSON; send null for a missing value"
    return f"the body is not JSON: {lower(str(error).removeprefix('JSON is malformed: '))}"


def _where_bare(body: bytes) -> str:
    """Which input holds a bare NaN; Python's own reader takes it."""
    if len(body) > EXPLAINED_BYTES:
        return ""
    try:
        inputs = json.loads(body, parse_constant=_Bare)["inputs"]
        for one in inputs:
            for number, value in enumerate(one["data"]):
                if isinstance(value, _Bare) or (isinstance(value, list) and any(isinstance(item, _Bare) for item in value)):
                    return f"input {shortened(str(one['name']))}: row {number}: "
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    return ""


class _Bare(str):
    """NaN, Infinity or -Infinity where JSON has no such thing."""


def lower(text: str) -> str:
    """The text as the middle of a sentence."""
    return text[:1].lower() + text[1:]
