"""When a job is due: from what people write to unix seconds, purely.

Owns the meaning of `at`, `delay` and `expires`, in Python and in the text form that HTTP and the
command line use. Times are unix seconds, UTC, floats. The clock is passed in.

>>> due_time(at=None, delay=0.5, now=100.0)
100.5
>>> parse_at("2030-01-01T00:00:00Z")
1893456000.0
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from .errors import OptionError

When = datetime | float | int
Seconds = timedelta | float | int

LATEST = 253_402_300_800.0
"""The year 10000, where `datetime` ends."""


def due_time(at: When | None, delay: Seconds | None, now: float) -> float:
    """Return the unix time before which the job must not start; `now` when neither is given.

    `at` is an aware `datetime` or unix seconds; one in the past means now. `delay` is seconds or
    a `timedelta`, from 0. Raises `OptionError` for both at once, for a naive `datetime`, and for
    anything that is not a finite time before the year 10000.
    """
    if at is not None and delay is not None:
        raise OptionError("at and delay", "given one at a time", (at, delay))
    if at is not None:
        return max(unix_time("at", at), now)
    if delay is not None:
        return now + seconds_of("delay", delay)
    return now


def unix_time(option: str, when: When) -> float:
    """Return `when` as unix seconds; `option` names it in the `OptionError`."""
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise OptionError(option, "a datetime with a time zone", when.isoformat())
        return when.timestamp()
    if not _is_number(when) or not 0 <= when < LATEST:
        raise OptionError(option, "an aware datetime or unix seconds before the year 10000", when)
    return float(when)


def seconds_of(option: str, length: Seconds) -> float:
    """Return a length of time in seconds; `option` names it in the `OptionError`."""
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if not _is_number(seconds) or not 0 <= seconds < LATEST - 2**34:
        raise OptionError(option, "a finite number of seconds from 0, or a timedelta", length)
    return float(seconds)


def parse_at(text: str) -> float:
    """Read unix seconds or an ISO 8601 time with its zone; raise `OptionError` otherwise."""
    try:
        number = float(text)
    except ValueError:
        return unix_time("at", _iso(text))
    return unix_time("at", number)


def parse_seconds(option: str, text: str) -> float:
    """Read a number of seconds as text; raise `OptionError` for anything else."""
    try:
        return seconds_of(option, float(text))
    except (ValueError, OverflowError):
        raise OptionError(option, "a finite number of seconds from 0", text) from None


UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def parse_length(option: str, text: str) -> float:
    """Read a length of time such as ``7d`` or ``90s``; raise `OptionError` for anything else.

    A number without a unit is refused, but for 0: of 7 nobody knows whether days or seconds are
    meant.

    >>> parse_length("--older-than", "1.5h")
    5400.0
    """
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = 1 if text == "0" else UNITS.get(text[len(number) :])
    try:
        return seconds_of(option, float(number) * (unit or math.nan))
    except ValueError:
        raise OptionError(option, "a length of time such as 7d, 12h or 90s", text) from None


def _iso(text: str) -> datetime:
    # Before Python 3.11 fromisoformat does not know the Z that everybody writes.
    spelled = text[:-1] + "+00:00" if text[-1:] in "zZ" else text
    try:
        return datetime.fromisoformat(spelled)
    except ValueError:
        expected = f"unix seconds or an ISO 8601 time with a zone{lost_plus(text)}"
        raise OptionError("at", expected, text) from None


def lost_plus(text: str) -> str:
    """Say how a URL writes the plus of a zone, where a text has a space in its place; else "".

    >>> lost_plus("2030-01-01T00:00:00 02:00")
    ' (whose + is %2B in a URL)'
    """
    time, _, offset = text.rpartition(" ")
    try:
        zone = datetime.fromisoformat(f"{time}+{offset}").tzinfo
    except ValueError:
        return ""
    return " (whose + is %2B in a URL)" if zone else ""


def _is_number(value: object) -> bool:
    return is_finite(value) and not isinstance(value, bool)


def is_finite(value: object) -> bool:
    """Tell whether this is a number that a float can hold; never raises."""
    if not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
