"""What really happened: labels for answered rows, checked, kept in bounded memory, handed on as files for the bucket.

A label names its row by the row's id, as the answer's output `id` gives it, or by the keys that the model's dataset declares.
Nothing is joined here: that is for whoever reads the files.
"""

import gzip
import threading
from collections.abc import Sequence, Set
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from kaizen.serving.engine.base import Label
from kaizen.serving.problems import UNREADABLE, Int64, Overloaded, RequestError, shortened, unreadable
from kaizen.serving.watching.pseudonyms import Pseudonyms

__all__ = ["Feedback"]

BUFFERED_BYTES = 8 << 20
"""Of lines that wait for the bucket."""
MOST_LABELS = 10_000
"""Of one request: to look at them keeps all others waiting for a twentieth of a second."""
LONGEST_ID = 280
"""A request's id, a hyphen and a row."""
NAMED = 10
AHEAD = timedelta(days=1)
"""So far a label's time may be after the server's clock: the newest counts, and one of year 9999 could never be corrected."""

_encode = msgspec.json.Encoder().encode


class _Label(msgspec.Struct, forbid_unknown_fields=True):
    label: str | bool | Int64 | float
    id: str | None = None
    keys: dict[str, str | bool | Int64 | float] | None = None
    time: str | None = None


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    labels: list[_Label]


_decoder = msgspec.json.Decoder(_Body)


class Feedback:
    """The labels of one server process.  `offer` runs in the event loop's thread, `take` in any."""

    def __init__(
        self,
        classes: Sequence[Label] | None,
        keys: Sequence[str],
        buffered_bytes: int = BUFFERED_BYTES,
        pseudonyms: Pseudonyms | None = None,
    ) -> None:
        """`classes` are None for a regression; `pseudonyms` are those of captured rows, with which labels are joined."""
        self._pseudonyms = pseudonyms
        self._classes = None if classes is None else tuple(classes)
        self._kinds = frozenset(map(type, classes or ()))
        self._keys = frozenset(keys)
        self._most = buffered_bytes
        self._lock = threading.Lock()
        self._lines: list[bytes] = []
        self._bytes = 0
        self.accepted = 0
        """Labels taken, ever."""

    @property
    def waiting(self) -> int:
        """Bytes that were not taken yet."""
        return self._bytes

    def offer(self, body: bytes, now: float) -> int:
        """Keep the labels of a request, received at `now` (since 1970), all or none; how many there were.

        Raises RequestError for what is no label, and for more than there is ever room for; Overloaded when there is no room now.
        """
        lines = self._checked(body, datetime.fromtimestamp(now, UTC))
        size = sum(map(len, lines))
        if size > self._most:
            told = f"these labels take {size} bytes, more than the {self._most} that are kept; send fewer at once"
            raise RequestError(told, 413)
        with self._lock:
            if self._bytes + size > self._most:
                raise Overloaded("too many labels wait to be written to the bucket; try again in a minute", 60)
            self._lines += lines
            self._bytes += size
            self.accepted += len(lines)
        return len(lines)

    def take(self) -> bytes | None:
        """All that waits, as gzip of JSON lines {id | keys, label, time}; None when there is nothing.

        It is then the caller's: what cannot be written must be kept and tried again, before more is taken.
        """
        with self._lock:
            lines, self._lines, self._bytes = self._lines, [], 0
        return gzip.compress(b"".join(lines), compresslevel=6, mtime=0) if lines else None

    def _checked(self, body: bytes, now: datetime) -> list[bytes]:
        try:
            labels = _decoder.decode(body).labels
        except UNREADABLE as error:
            raise RequestError(unreadable(error, body)) from None
        if not labels:
            raise RequestError('"labels" is empty; send at least one, as {"id": "<row id>", "label": …}')
        if len(labels) > MOST_LABELS:
            raise RequestError(f"the request has {len(labels)} labels; send at most {MOST_LABELS} at once", 413)
        return [self._line(number, label, now) for number, label in enumerate(labels)]

    def _line(self, number: int, given: _Label, now: datetime) -> bytes:
        if (given.id is None) == (given.keys is None):
            raise RequestError(f'label {number} must have either "id", as the answer\'s output id gives it, or "keys"')
        row: dict[str, Any] = (
            {"id": self._id(number, given.id)} if given.keys is None else {"keys": self._own(number, given.keys)}
        )
        row["label"] = self._value(number, given.label)
        row["time"] = _utc(now if given.time is None else _moment(number, given.time, now))
        return _encode(row) + b"\n"

    def _id(self, number: int, id: str | None) -> str:
        if not id or len(id) > LONGEST_ID:
            raise RequestError(f"label {number} has an id of {len(id or '')} characters; it must have 1 to {LONGEST_ID}")
        return id

    def _own(self, number: int, keys: dict[str, Any]) -> dict[str, Any]:
        if not self._keys:
            raise RequestError(f'label {number} has "keys", but the model\'s dataset declares none; send "id"')
        if keys.keys() != self._keys:
            there = ", ".join(map(shortened, list(keys)[:NAMED])) or "none"
            raise RequestError(f"label {number} has the keys {there}; send {', '.join(sorted(self._keys))}")
        return keys if self._pseudonyms is None else self._pseudonyms.applied(keys)

    def _value(self, number: int, value: Label) -> Label:
        """The label as the model's own type.  A class that the model has never seen is one it gets wrong: it is kept."""
        classes = self._classes
        if classes is None:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value
            raise RequestError(f"label {number} is {_told(value)}; this model predicts a number, so send one")
        for known in classes:
            if known == value and isinstance(known, bool) == isinstance(value, bool):
                return known
        if isinstance(value, str) and self._kinds == {str}:
            return value
        if isinstance(value, int | float) and (own := _as_number(value, self._kinds)) is not None:
            return own
        named = ", ".join(map(_told, classes[:NAMED])) + (", …" if len(classes) > NAMED else "")
        raise RequestError(f"label {number} is {_told(value)}; send a class, as {named}")


def _told(value: Label) -> str:
    return shortened(value) if isinstance(value, str) else shortened(_encode(value).decode()).strip('"')


def _as_number(value: float, kinds: Set[type]) -> int | float | None:
    """As classes of these types would be; None where none of them could."""
    if isinstance(value, bool) or not kinds <= {int, float}:
        return None
    if float in kinds:
        return float(value)
    return int(value) if -(2**63) <= value < 2**63 and int(value) == value else None


def _moment(number: int, text: str, now: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        moment = found.astimezone(UTC) if found.tzinfo is not None and len(text) >= len("2026-11-21T08:30Z") else None
    except (ValueError, OverflowError):
        moment = None
    if moment is None:
        raise RequestError(f"label {number} has the time {shortened(text)}; send it as RFC 3339, like 2026-11-21T08:30:00Z")
    if moment - now > AHEAD:
        raise RequestError(
            f"label {number} has the time {shortened(text)}, more than a day after now, which is {_utc(now)} by the server's "
            "clock; send when it happened"
        )
    return moment


def _utc(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
