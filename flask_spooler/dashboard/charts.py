"""Charts as numbers: what the macro in ``charts.html`` draws. Pure.

Owns the geometry. A chart is a picture of a table, and the table comes along with it, so nothing
is told by shape or colour alone.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from ..endings import percentile
from ..ledger.insight import CLASSES, Minute
from ..times import duration

WIDTH: Final = 600
HEIGHT: Final = 120


class Bar(NamedTuple):
    """One minute of a chart of endings."""

    x: float
    width: float
    done_y: float
    done_height: float
    failed_y: float
    failed_height: float
    label: str
    minute: int
    done: int
    failed: int


class Endings(NamedTuple):
    """The chart of what was done and what failed, minute by minute."""

    bars: list[Bar]
    top: int
    done: int
    failed: int
    lines: list[tuple[float, str]]


class Line(NamedTuple):
    """One percentile over time."""

    name: str
    path: str
    last: str


class Waits(NamedTuple):
    """The chart of how long jobs waited, minute by minute."""

    lines: list[Line]
    top: str
    rows: list[tuple[int, str, str]]
    """The minute, its p50 and its p95."""
    marks: list[tuple[float, str]]


def endings(minutes: list[Minute], now: float, span: int = 60) -> Endings:
    """Return one bar for each of the last `span` minutes."""
    known = {each.minute: each for each in minutes}
    first = int(now // 60) - span + 1
    top = nice(max((each.done + each.failed for each in minutes), default=0))
    step = WIDTH / span
    bars = []
    for place in range(span):
        each = known.get(first + place)
        done, failed = (each.done, each.failed) if each else (0, 0)
        done_height = _height(done, top)
        # One failure among ten thousand is what one looks for: never less than two pixels.
        failed_height = max(2.0, _height(failed, top)) if failed else 0.0
        label = f"{_minute(first + place)} UTC: {done:,} done, {failed:,} failed"
        bars.append(
            Bar(
                round(place * step + 1, 2),
                round(step - 2, 2),
                round(HEIGHT - done_height, 2),
                round(done_height, 2),
                round(HEIGHT - done_height - failed_height, 2),
                round(failed_height, 2),
                label,
                first + place,
                done,
                failed,
            )
        )
    lines = [(HEIGHT / 2, f"{top // 2:,}"), (0.0, f"{top:,}")] if top > 1 else [(0.0, str(top))]
    return Endings(bars, top, sum(bar.done for bar in bars), sum(bar.failed for bar in bars), lines)


def waits(minutes: list[Minute], now: float, span: int = 60) -> Waits:
    """Return how long jobs waited in each of the last `span` minutes: the half, and nearly all.

    The scale is logarithmic, from a millisecond to two hours: jobs that wait 2 ms and jobs that
    wait a minute are both to be seen.
    """
    first = int(now // 60) - span + 1
    step = WIDTH / span
    lines = []
    rows: dict[int, list[str]] = {each.minute: [] for each in minutes if each.minute >= first}
    for part, name in ((0.5, "p50"), (0.95, "p95")):
        path, pen_down, last = [], False, "–"
        known = {each.minute: each for each in minutes}
        for place in range(span):
            each = known.get(first + place)
            bound = percentile(each.waits, part) if each else None
            if bound is None:
                pen_down = False
                continue
            x = place * step
            y = round(_log_y(bound), 2)
            path.append(f"{'L' if pen_down else 'M'}{x:.1f} {y}h{step:.1f}")
            pen_down = True
            last = bounded(bound)
            rows[first + place].append(last)
        lines.append(Line(name, "".join(path), last))
    told = [(minute, both[0], both[1]) for minute, both in sorted(rows.items()) if len(both) == 2]
    marks = [(_log_y(seconds), duration(seconds)) for seconds in (0.01, 1.0, 60.0, 3600.0)]
    return Waits(lines, "2 h", told, marks)


def sparkline(classes: list[int]) -> list[tuple[float, float, float]]:
    """Return x, y and height of one bar for each class of a distribution, in 72 by 20."""
    top = max(classes) or 1
    step = 72 / CLASSES
    found = []
    for place, number in enumerate(classes):
        height = max(1.5, 20 * number / top) if number else 0.0
        found.append((round(place * step, 2), round(20 - height, 2), round(height, 2)))
    return found


def bounded(seconds: float | None) -> str:
    """Return a percentile, which is the upper bound of its class, as text.

    >>> bounded(0.25), bounded(math.inf), bounded(None)
    ('≤ 250 ms', '> 2 h', '–')
    """
    if seconds is None:
        return "–"
    if math.isinf(seconds):
        return "> 2 h"
    # The bounds have fractions of a millisecond and of a second, which `duration` rounds away.
    if seconds < 1:
        return f"≤ {seconds * 1000:g} ms"
    return f"≤ {seconds:g} s" if seconds < 60 else f"≤ {duration(seconds)}"


def nice(number: int) -> int:
    """Return the top of a scale that holds a number: 1, 2, 4, 6, 8, 10, 20, 40 and so on.

    >>> [nice(each) for each in (0, 1, 3, 17, 40, 41, 6400)]
    [1, 1, 4, 20, 40, 60, 8000]
    """
    size = 1
    while True:
        for factor in (1, 2, 4, 6, 8):
            if number <= factor * size:
                return factor * size
        size *= 10


def _height(number: int, top: int) -> float:
    return HEIGHT * number / top


def _log_y(seconds: float) -> float:
    low, high = math.log10(0.001), math.log10(7200.0)
    at = math.log10(min(max(seconds, 0.001), 7200.0))
    return (HEIGHT - 4) * (1 - (at - low) / (high - low)) + 2


def _minute(minute: int) -> str:
    return f"{minute // 60 % 24:02}:{minute % 60:02}"
