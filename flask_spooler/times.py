"""How times and lengths of time read, for people; the clock is passed in."""

from __future__ import annotations

from datetime import datetime, timezone


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


def ago(when: float, now: float) -> str:
    """Return a time as seen from now.

    >>> ago(100.0, 160.0), ago(160.0, 100.0)
    ('1 min ago', 'in 1 min')
    """
    return f"{duration(now - when)} ago" if when <= now else f"in {duration(when - now)}"


def clock(when: float) -> str:
    """Return a time of day in UTC."""
    return datetime.fromtimestamp(when, timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
