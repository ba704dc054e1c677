"""What this library has to reach, and whether a sitting shows it.

Owns one function a bar. Each takes the figures of a sitting and says what was measured and whether
that is enough, or None where the sitting did not measure it. A bar is judged by medians over the
rounds; what compares us with a peer, by the median of the ratios of neighbouring runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from . import backlog, enqueue, idle_cost, memory, schedule_accuracy, start_latency, throughput
from .figures import OURS, Figures, shown
from .sitting import DISK, MEMORY
from .systems.store import CeleryRedis, HueyRedis, RqRedis
from .systems.uwsgi import BareSpooler, UwsgiTasks

WITHOUT_STATUS: Final = frozenset({BareSpooler.name, UwsgiTasks.name})
"""Peers that keep nothing of a job: what they do without costs them no time."""

FLAT: Final = 1.05
"""By how much memory may differ after a minute and still be called flat."""

PLACES: Final = (MEMORY, DISK)

Verdict = tuple[str, bool]
"""What was measured, and whether it is enough."""


@dataclass(frozen=True)
class Bar:
    """One figure that has to be reached."""

    figure: str
    demand: str
    judge: Callable[[Figures], Verdict | None]


@dataclass(frozen=True)
class Judged:
    """One bar after a sitting; `met` is None where it was not measured."""

    figure: str
    demand: str
    measured: str
    met: bool | None


def judge(figures: Figures) -> list[Judged]:
    """Hold the figures of a sitting against all bars."""
    judged = []
    for bar in BARS:
        measured, met = bar.judge(figures) or ("not measured", None)
        judged.append(Judged(bar.figure, bar.demand, measured, met))
    return judged


def _together(parts: list[Verdict]) -> Verdict | None:
    """Return one verdict of several: all of them have to be met."""
    if not parts:
        return None
    return ", ".join(text for text, _ in parts), all(met for _, met in parts)


def _limit(figure: str, most: float, unit: str) -> Callable[[Figures], Verdict | None]:
    """Return a judge for a figure of ours that may not be more, wherever it was measured."""

    def judge(figures: Figures) -> Verdict | None:
        parts = []
        for place in figures.places(figure):
            spread = figures.spread(figure, place)
            if spread is not None:
                text = f"{shown(spread.median)} {unit} on {place}"
                parts.append((text, spread.median <= most))
        return _together(parts)

    return judge


def _faster(place: str, *demands: tuple[str, float]) -> Callable[[Figures], Verdict | None]:
    """Return a judge for our drain rate, so many times that of a peer."""

    def judge(figures: Figures) -> Verdict | None:
        parts = []
        for name, times in demands:
            ratio = figures.ratio(throughput.DRAIN, place, name)
            if ratio is not None:
                enough = ratio.median >= times
                parts.append((f"{shown(ratio.median)} times {name}", enough))
        return _together(parts)

    return judge


def _below_peers(
    figure: str,
    most: float,
    *,
    but: frozenset[str] = frozenset(),
) -> Callable[[Figures], Verdict | None]:
    """Return a judge for a figure that has to be at most so many times the best peer's."""

    def judge(figures: Figures) -> Verdict | None:
        parts = []
        for place in figures.places(figure):
            ratios = {
                name: ratio.median
                for name in figures.systems(figure)
                if name != OURS and name not in but
                if (ratio := figures.ratio(figure, place, name)) is not None
            }
            if ratios:
                best = max(ratios, key=ratios.__getitem__)
                text = f"{shown(ratios[best])} times {best} on {place}"
                parts.append((text, ratios[best] <= most))
        return _together(parts)

    return judge


def _idle(figures: Figures) -> Verdict | None:
    for place in figures.places(idle_cost.MANY):
        used = figures.spread(idle_cost.MANY, place)
        before = figures.spread(idle_cost.BEFORE, place)
        after = figures.spread(idle_cost.AFTER, place)
        if used and before and after:
            text = (
                f"{shown(used.median)} % of a core; {shown(before.median)} MB, "
                f"then {shown(after.median)} MB"
            )
            return text, used.median < 1.0 and after.median <= before.median * FLAT
    return None


def _full_spool(figures: Figures) -> Verdict | None:
    parts = []
    for place in figures.places(enqueue.EMPTY):
        empty = figures.spread(enqueue.EMPTY, place)
        for figure, what in ((enqueue.SCHEDULED, "scheduled"), (enqueue.WAITING, "waiting")):
            full = figures.spread(figure, place)
            if empty and full:
                times = full.median / empty.median
                parts.append((f"{shown(times)} times, {what}", times <= 1.3))
    return _together(parts)


def _bulk(figures: Figures) -> Verdict | None:
    parts = []
    for place in figures.places(enqueue.BULK):
        alone, bulk = figures.spread(enqueue.ONE_BY_ONE, place), figures.spread(enqueue.BULK, place)
        if alone and bulk:
            times = alone.median / bulk.median
            parts.append((f"{shown(times)} times cheaper on {place}", times >= 5))
    return _together(parts)


def _power_latency(figures: Figures) -> Verdict | None:
    added = figures.spread(start_latency.ADDED, DISK)
    syncs = figures.spread(start_latency.SYNCS, DISK)
    if added is None or syncs is None:
        return None
    text = f"adds {shown(added.median)} ms, the syncs cost {shown(syncs.median)} ms"
    return text, added.median <= syncs.median


def _accuracy(figures: Figures) -> Verdict | None:
    parts = []
    for place in PLACES:
        early = figures.spread(schedule_accuracy.EARLIEST, place)
        late = figures.spread(schedule_accuracy.P99, place)
        if early and late:
            text = f"{shown(early.low)} to {shown(late.median)} ms on {place}"
            parts.append((text, early.low >= 0 and late.median <= 50))
    return _together(parts)


def _order(figures: Figures) -> Verdict | None:
    parts = []
    for place in PLACES:
        one, four = figures.spread(backlog.ONE, place), figures.spread(backlog.FOUR, place)
        if one and four:
            text = f"{shown(one.high)} and {shown(four.high)} out of order on {place}"
            parts.append((text, one.high == 0 and four.high == 0))
    return _together(parts)


BARS: Final = (
    Bar("idle CPU, 1,000,000 scheduled, 4 spoolers, frequency 1",
        "under 1 % of a core; memory flat", _idle),
    Bar("cost of an enqueue with 1,000,000 scheduled or 100,000 waiting",
        "at most 1.3 times that of an empty spool", _full_spool),
    Bar("due job, idle pool", "starts 0 to 50 ms after its time, p99, and never before", _accuracy),
    Bar("urgent job behind 100,000 waiting, 4 spoolers, 10 ms jobs",
        f"starts within {backlog.BOUND:.0f} ms, p99", _limit(backlog.P99, backlog.BOUND, "ms")),
    Bar("FIFO, 10,000 jobs",
        "one spooler: exact order; 4 spoolers: in order but for those that overlap", _order),
    Bar("drain of no-op jobs, tmpfs", "1.5 times Huey on Redis, half of the bare spooler",
        _faster(MEMORY, (HueyRedis.name, 1.5), (BareSpooler.name, 0.5))),
    Bar("drain of no-op jobs, disk", "1.0 times Huey on Redis, 5 times Celery, 30 times RQ",
        _faster(DISK, (HueyRedis.name, 1.0), (CeleryRedis.name, 5.0), (RqRedis.name, 30.0))),
    Bar("start latency, idle, `process`", "p50 at most 0.6 ms",
        _limit(start_latency.P50, 0.6, "ms")),
    Bar("start latency, beside peers", "below every peer's, p50",
        _below_peers(start_latency.P50, 1.0)),
    Bar("start latency, beside peers that keep a status or result", "below every peer's, p50",
        _below_peers(start_latency.P50, 1.0, but=WITHOUT_STATUS)),
    Bar("start latency, `power`", "adds no more than the file system's syncs", _power_latency),
    Bar("enqueue alone, `process`", "at most 1.0 times the cheapest peer's",
        _below_peers(enqueue.ALONE, 1.0)),
    Bar("enqueue in a row, `process`", "at most 1.0 times the cheapest peer's",
        _below_peers(enqueue.ROW, 1.0)),
    Bar("enqueue alone, beside peers that keep a status or result",
        "at most 1.0 times the cheapest peer's",
        _below_peers(enqueue.ALONE, 1.0, but=WITHOUT_STATUS)),
    Bar("enqueue in a row, beside peers that keep a status or result",
        "at most 1.0 times the cheapest peer's",
        _below_peers(enqueue.ROW, 1.0, but=WITHOUT_STATUS)),
    Bar("enqueue, `power`", "within 150 us of the file system's own two fsyncs",
        _limit(enqueue.BEYOND, 150.0, "us")),
    Bar("memory, 2 workers, 4 spoolers, housekeeper", "at most 60 MB PSS",
        _limit(memory.WHOLE, 60.0, "MB")),
    Bar("100,000 due in the same second", "an urgent job is not blocked for more than two seconds",
        _limit(schedule_accuracy.BLOCKED, 2000.0, "ms")),
    Bar("enqueue_many of 10,000", "at least five times cheaper each than one by one", _bulk),
)  # fmt: skip
