"""Dates and times of requests: one reading of the texts for the compiled engine and for the DataFrames of scikit-learn."""

from datetime import UTC, datetime, timedelta

from kaizen.serving.engine.base import Refused

__all__ = ["NO_DATE", "UNITS", "moment"]

NO_DATE = -(2**63)
"""NumPy's missing date, as a number."""
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Of NumPy's dates, and how many of them are a second."""

_START = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LARGEST = 2**63


def moment(text: str, kept: str, wanted: str = "") -> int:
    """Units since 1970, UTC, of an ISO 8601 text; one without a zone is in UTC.

    It is cut to the unit in which its column was kept in training, then counted in the wanted one.  Fractions of a
    microsecond are cut.  Raises Refused: no date and time, or outside of what the unit can count.
    """
    try:
        read = datetime.fromisoformat(text)
        microseconds = ((read if read.tzinfo else read.replace(tzinfo=UTC)) - _START) // _MICROSECOND
    except (ValueError, OverflowError) as error:
        raise Refused(f"{text!r:.60} is no date and time as 2026-11-21T08:30:00") from error
    units = microseconds * UNITS[kept] // UNITS["us"]
    if not -_LARGEST < units < _LARGEST:
        raise Refused(f"{text!r:.60} is outside of the dates that this model was trained on can be: 1678 to 2261")
    return units * UNITS[wanted or kept] // UNITS[kept]
