"""Prometheus metrics: everything that monitoring needs to know of a spool, read when it is asked.

Owns the names and labels of the metrics. Nothing is counted here: the ledger has counted it
already, in the commit that made it true. So every web worker answers the same, a restart forgets
nothing, and a scrape costs the same with ten jobs and with a million. Counters fall only with a
new ledger, which Prometheus takes for the restart that it is. No job id is ever a label.

Needs the extra ``metrics``, which is imported at the first scrape. A ledger that cannot be read
is a `LedgerError`, and to Prometheus a failed scrape (``up == 0``): half the truth would look
like an idle spool.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from flask import Flask

from . import _uwsgi
from .config import EXTENSION
from .endings import BOUNDS
from .errors import ExtraMissing, NotInitialised
from .job import QUEUED, RETRYING, REVIVABLE, RUNNING, SCHEDULED, SUCCEEDED
from .ledger import SQLITE_VERSION, Ended, Figures
from .spool import CORRUPT, DEAD, DONE, TAKEN, WAITING, WRITING
from .spool.inspection import free_bytes
from .state import AppState

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily, Metric

MOST_FILES: Final = 10_000
"""Files counted in a place that is nearly empty on a good day; of more, this many are shown."""

CRASHED: Final = "crashed"


def exposition(app: Flask) -> tuple[bytes, str]:
    """Return the metrics of an app's spool in Prometheus's text format, and its content type.

    Raises `ExtraMissing` without `prometheus_client`, `NotInitialised` for an app without the
    extension, and `LedgerError` and `OSError` where the spool cannot be read.
    """
    try:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    except ImportError:
        raise ExtraMissing("the metrics", "prometheus_client", "metrics") from None
    state: AppState | None = app.extensions.get(EXTENSION)
    if state is None:
        raise NotInitialised
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SpoolCollector(state, time.time))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class SpoolCollector:
    """A collector for `prometheus_client`; may be registered beside an app's own metrics."""

    def __init__(self, state: AppState, clock: Callable[[], float]) -> None:
        self._engine = state.engine
        self._clock = clock

    def describe(self) -> Iterable[Metric]:
        """Name nothing in advance, so that registering reads nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the spool now and return all its metrics."""
        now = self._clock()
        figures = self._engine.ledger.figures(now)
        yield from _of_jobs(figures)
        yield from _of_endings(figures.ended)
        yield from _of_queues(figures, now)
        yield from _of_pool(figures)
        yield from self._of_files(figures)
        yield _info()

    def _of_files(self, figures: Figures) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        spool = self._engine.spool
        files = GaugeMetricFamily(
            "jobs_spool_files",
            "Files in each place of the spool; waiting and dead as the ledger counts them.",
            labels=["place"],
        )
        files.add_metric(["window"], len(spool.window()))
        files.add_metric([WAITING], _waiting(figures))
        files.add_metric([DEAD], _put_away(figures))
        for place in (TAKEN, WRITING, DONE, CORRUPT):
            files.add_metric([place], spool.count(place, MOST_FILES))
        yield files
        yield GaugeMetricFamily(
            "jobs_spool_free_bytes",
            "Room left in the file system of the spool.",
            value=free_bytes(spool.root),
        )
        yield CounterMetricFamily(
            "jobs_corrupt_files_total",
            "Files ever put aside because they were no readable, signed jobs.",
            value=spool.quarantine.total(),
        )


def _of_jobs(figures: Figures) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    enqueued = CounterMetricFamily(
        "jobs_enqueued_total", "Jobs ever enqueued.", labels=["queue", "task"]
    )
    for names, number in sorted(figures.enqueued.items()):
        enqueued.add_metric(names, number)
    yield enqueued
    count = GaugeMetricFamily("jobs_count", "Jobs in each state.", labels=["queue", "state"])
    for queue, states in sorted(figures.counts.items()):
        for state, number in states.items():
            count.add_metric([queue, state], number)
    yield count


def _of_endings(ended: list[Ended]) -> Iterator[Metric]:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    finished = CounterMetricFamily(
        "jobs_finished_total",
        "Attempts that ended, by how; a job that is tried three times counts three times.",
        labels=["queue", "task", "outcome"],
    )
    ran = HistogramMetricFamily(
        "jobs_run_duration_seconds", "How long attempts ran.", labels=["queue", "task"]
    )
    waited = HistogramMetricFamily(
        "jobs_wait_duration_seconds",
        "How long attempts had been due when they started.",
        labels=["queue", "task"],
    )
    ended = sorted(ended)
    for outcome, alike in itertools.groupby(ended, attrgetter("queue", "task", "outcome")):
        finished.add_metric(outcome, sum(each.number for each in alike))
    for names, group in itertools.groupby(ended, attrgetter("queue", "task")):
        attempts = list(group)
        _add(ran, names, attempts, attrgetter("ran", "run_seconds"))
        _add(waited, names, attempts, attrgetter("waited", "wait_seconds"))
    yield finished
    yield ran
    yield waited
    last = GaugeMetricFamily(
        "jobs_last_success_timestamp_seconds",
        "When an attempt of the task succeeded last; exact, and kept when its job is deleted.",
        labels=["task"],
    )
    for task, when in sorted(_last_successes(ended).items()):
        last.add_metric([task], when)
    yield last


def _add(
    histogram: HistogramMetricFamily,
    names: tuple[str, ...],
    attempts: list[Ended],
    measured: Callable[[Ended], tuple[int, float]],
) -> None:
    """Add one task's attempts to a histogram; `measured` gives their class and their seconds."""
    numbers = [0] * (len(BOUNDS) + 1)
    for attempt in attempts:
        numbers[measured(attempt)[0]] += attempt.number
    bounds = [*(str(bound) for bound in BOUNDS), "+Inf"]
    buckets = zip(bounds, itertools.accumulate(numbers), strict=True)
    seconds = sum(measured(attempt)[1] for attempt in attempts)
    histogram.add_metric(names, buckets=list(buckets), sum_value=seconds)


def _last_successes(ended: list[Ended]) -> dict[str, float]:
    last: dict[str, float] = {}
    for each in ended:
        if each.outcome == SUCCEEDED:
            last[each.task] = max(each.latest, last.get(each.task, 0.0))
    return last


def _of_queues(figures: Figures, now: float) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    latency = GaugeMetricFamily(
        "jobs_queue_latency_seconds",
        "How long the oldest due job of the queue has been waiting; 0 where none waits.",
        labels=["queue"],
    )
    paused = GaugeMetricFamily(
        "jobs_paused", "1 while the queue is paused, else 0.", labels=["queue"]
    )
    for queue in sorted({*figures.counts, *figures.paused}):
        since = figures.oldest_due.get(queue, now)
        latency.add_metric([queue], max(0.0, now - since))
        paused.add_metric([queue], queue in figures.paused)
    yield latency
    yield paused


def _of_pool(figures: Figures) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    pool = sum(size for boot, size in figures.pools.items() if _uwsgi.lives_on(boot))
    running = {row.process for row in figures.in_window if row.state == RUNNING}
    busy = sum(_uwsgi.is_alive(process) for process in running)
    workers = GaugeMetricFamily(
        "jobs_workers", "Spoolers of all servers on this spool, by what they do.", labels=["state"]
    )
    workers.add_metric(["busy"], busy)
    workers.add_metric(["idle"], max(0, pool - busy))
    yield workers
    yield CounterMetricFamily(
        "jobs_worker_respawns_total",
        "Spoolers that died while they ran a job, and were replaced by uWSGI.",
        value=sum(each.number for each in figures.ended if each.outcome == CRASHED),
    )


def _info() -> Metric:
    from prometheus_client.core import InfoMetricFamily

    versions = {
        "version": _version(),
        "uwsgi": _uwsgi.version(),
        "sqlite": SQLITE_VERSION,
    }
    return InfoMetricFamily("jobs", "Versions of what runs the jobs.", value=versions)


@functools.cache
def _version() -> str:
    return version("Flask-Spooler")


def _waiting(figures: Figures) -> int:
    """Return how many job files wait: listing a million names at each scrape takes a second."""
    states = (SCHEDULED, RETRYING, QUEUED)
    waiting = sum(count[state] for count in figures.counts.values() for state in states)
    return waiting - sum(row.state in states for row in figures.in_window)


def _put_away(figures: Figures) -> int:
    return sum(count[state] for count in figures.counts.values() for state in REVIVABLE)
