"""What the pages and the API say of the whole: counts, ages, rates, and whether all is well."""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

import msgspec

from .. import _uwsgi
from ..job import STATES
from ..ledger.insight import Figures, Insight, Minute, Running
from . import extras
from .base import config, engine, insight

HOUR: Final = 3600.0


class Worry(NamedTuple):
    """Something a person should know, and where to look."""

    level: str
    """``bad``, ``warn`` or ``info``."""
    text: str
    page: str | None = None
    since: float | None = None


class Queue(msgspec.Struct, kw_only=True):
    """One queue, as pages and API show it; ages in seconds, rates by the minute."""

    name: str
    paused: bool
    counts: dict[str, int]
    oldest_since: float | None
    oldest_wait: float | None
    limit: int | None
    weight: float | None
    done_per_minute: float
    failed_per_minute: float


class Spooler(msgspec.Struct, kw_only=True):
    """One process that runs jobs."""

    pid: int
    is_alive: bool
    job: Running | None = None
    since: float | None = None
    memory: int | None = None
    timeout: float | None = None


class Overview(msgspec.Struct, kw_only=True):
    """Everything on the first page."""

    now: float
    counts: dict[str, int]
    oldest_since: float | None
    first_due: dict[str, float]
    oldest_dead: float | None
    running: list[Running]
    pool: int
    minutes: list[Minute]
    done: int
    failed: int
    worries: list[Worry]


def overview() -> Overview:
    """Ask for everything that the first page shows."""
    now = time.time()
    asked = insight()
    counts = total(engine().ledger.counts())
    oldest = min(engine().ledger.oldest_queued().values(), default=None)
    minutes = asked.minutes(now - HOUR)
    dead = asked.oldest_dead() if counts["dead"] else None
    found = Overview(
        now=now,
        counts=counts,
        oldest_since=oldest,
        first_due=asked.first_due(),
        oldest_dead=dead,
        running=asked.running(),
        pool=pool(asked),
        minutes=minutes,
        done=sum(each.done for each in minutes),
        failed=sum(each.failed for each in minutes),
        worries=[],
    )
    found.worries = worries(found, asked)
    return found


def total(counts: dict[str, dict[str, int]]) -> dict[str, int]:
    """Return the counts of all queues together."""
    return {state: sum(each[state] for each in counts.values()) for state in STATES}


def pool(asked: Insight) -> int:
    """Return how many spoolers there are, on all servers of this spool that live."""
    said = sum(each.pool for each in asked.servers() if _uwsgi.lives_on(each.boot))
    return said or len(_uwsgi.spooler_pids())


def worries(found: Overview, asked: Insight) -> list[Worry]:
    """Return what is not as it should be, the worst first."""
    told = []
    reason = extras.reason_for_ill_health()
    if reason is not None:
        told.append(Worry("bad", reason, "system"))
    waiting = sum(found.counts[state] for state in ("queued", "scheduled", "retrying"))
    if waiting and not any(_uwsgi.lives_on(each.boot) for each in asked.servers()):
        told.append(
            Worry("bad", "No server runs jobs now: they wait until one is started", "workers")
        )
    if found.counts["dead"]:
        text = f"{found.counts['dead']:,} dead" + (", the oldest for" if found.oldest_dead else "")
        told.append(Worry("warn", text, "dead", found.oldest_dead))
    for each in asked.servers():
        if each.draining_until > found.now and _uwsgi.lives_on(each.boot):
            told.append(Worry("warn", "A server drains: it starts no more jobs", "workers"))
    paused = engine().ledger.paused()
    if paused:
        names = ", ".join(paused[:5]) + (" and others" if len(paused) > 5 else "")
        told.append(Worry("info", f"Paused: {names}", "queues"))
    return told


def queues() -> list[Queue]:
    """Return every queue that has jobs, is configured, or is paused."""
    now = time.time()
    ledger = engine().ledger
    counts, paused, oldest = ledger.counts(), set(ledger.paused()), ledger.oldest_queued()
    known = config().queues
    named = [*known.order, *known.weights]
    span = 15 * 60.0
    figures = insight().figures("queue", now - span)
    names = sorted({*counts, *paused, *named, *known.limits, "default"})
    return [
        Queue(
            name=name,
            paused=name in paused,
            counts=counts.get(name) or dict.fromkeys(STATES, 0),
            oldest_since=oldest.get(name),
            oldest_wait=max(0.0, now - oldest[name]) if name in oldest else None,
            limit=known.limits.get(name),
            weight=known.weights.get(name),
            done_per_minute=_rate(figures.get(name), span, failed=False),
            failed_per_minute=_rate(figures.get(name), span, failed=True),
        )
        for name in sorted(
            names,
            key=lambda name: (name not in named, named.index(name) if name in named else 0, name),
        )
    ]


def _rate(figures: Figures | None, span: float, *, failed: bool) -> float:
    if figures is None:
        return 0.0
    number = figures.failures if failed else figures.runs - figures.failures
    return number / (span / 60)


_hours: dict[tuple[str, int], dict[str, Figures]] = {}
"""What was counted in whole hours, by ledger and hour: they are past, and change no more."""

_HOURS_KEPT: Final = 100
_BUDGET: Final = 0.05
"""Seconds in which a page adds up hours that this process has not seen yet."""


def by_task(span: float) -> tuple[dict[str, Figures], float]:
    """Return the figures by task for this long, in whole hours, and from when on they are.

    What cannot be added up in time is left to the next look: then it begins earlier.
    """
    give_up = time.monotonic() + _BUDGET
    now, path, asked = time.time(), str(engine().ledger.path), insight()
    if span <= HOUR:
        return asked.figures("task", now - span), now - span
    hour = int(now // HOUR)
    found = asked.figures("task", hour * HOUR)
    since = hour
    while since > (now - span) // HOUR + 1:
        known = _hours.get((path, since - 1))
        if known is None:
            if time.monotonic() > give_up:
                break
            known = asked.figures("task", (since - 1) * HOUR, since * HOUR)
            if len(_hours) >= _HOURS_KEPT:
                _hours.clear()
            _hours[path, since - 1] = known
        since -= 1
        for task, figures in known.items():
            found.setdefault(task, Figures()).add(figures)
    return found, since * HOUR


def spoolers(tasks: dict[str, Any]) -> list[Spooler]:
    """Return the processes of this server's pool, and every other one that runs a job."""
    running = {job.pid: job for job in insight().running()}
    pids = list(dict.fromkeys([*_uwsgi.spooler_pids(), *(pid for pid in running if pid)]))
    return [_spooler(pid, running.get(pid), tasks) for pid in pids]


def _spooler(pid: int, job: Running | None, tasks: dict[str, Any]) -> Spooler:
    process = _uwsgi.process(pid)
    alive = bool(process.started) and (job is None or job.pid_started in (None, process.started))
    timeout = tasks[job.task].options.timeout if job and job.task in tasks else None
    return Spooler(
        pid=pid,
        is_alive=alive,
        job=job,
        since=extras.started_at(process) if alive else None,
        memory=extras.memory(pid) if alive else None,
        timeout=timeout,
    )
