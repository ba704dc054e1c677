"""How times and lengths of time read, for people; the clock is passed in."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Final

FOUND_LATER: Final = ("crashed", "interrupted")
"""Outcomes of attempts that did not live to write down their end."""


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units.

    >>> duration(0.25), duration(61), duration(90000)
    ('250 ms', '1 min 1 s', '1 d 1 h')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        number, seconds = divmod(int(seconds), size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])


def took(outcome: str, started: float, finished: float) -> str:
    """Return how long an attempt ran, as far as that is known.

    A process that was killed writes down no end: what is known is when that was found out, which
    after a night's downtime is the next morning.

    >>> took("failed", 100.0, 103.0), took("interrupted", 100.0, 30000.0)
    ('3.0 s', 'at most 8 h 18 min')
    """
    length = duration(max(0.0, finished - started))
    return f"at most {length}" if outcome in FOUND_LATER else length


def ago(when: float, now: float) -> str:
    """Return a time as seen from now.

    >>> ago(100.0, 160.0), ago(160.0, 100.0)
    ('1 min ago', 'in 1 min')
    """
    return f"{duration(now - when)} ago" if when <= now else f"in {duration(when - now)}"


def clock(when: float) -> str:
    """Return a time of day in UTC."""
    return datetime.fromtimestamp(when, timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
