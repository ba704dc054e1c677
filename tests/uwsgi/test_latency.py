"""How soon a job starts, and what an idle server costs; run with ``-s`` to see the figures.

The bounds tell right from wrong on a busy machine; the figures themselves are for the eye.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import jobs
import pytest
from server import Server, client, wait_until
from standstill import Standstill

Start = Callable[..., Server]

pytestmark = pytest.mark.alone

REQUESTS = 200
IDLE = 5.0


def percentiles(what: str, seconds: list[float]) -> tuple[float, float]:
    """Print p10 (what an undisturbed machine does), p50 and p99; return the last two."""
    cuts = statistics.quantiles(seconds, n=100)
    shown = ", ".join(f"p{n} {cuts[n - 1] * 1000:.2f} ms" for n in (10, 50, 99))
    print(f"\n{what}: {shown}")
    return cuts[49], cuts[98]


def latencies(server: Server) -> list[float]:
    """Enqueue one job after the other through HTTP; seconds from enqueue to start of each."""
    seconds = []
    with client(jobs.spooler, server.directory):
        for _ in range(REQUESTS):
            handle = jobs.spooler.get(server.get("/uwsgi_spool?duration=0").json["id"])
            handle.wait(60)
            record = handle.record
            assert record.started_at is not None
            seconds.append(record.started_at - record.enqueued_at)
    return seconds


def test_an_idle_pool_starts_a_job_at_once(start_server: Start, standstill: Standstill) -> None:
    server = start_server(processes=4, environment={"FLASK_SPOOLER_DURABILITY": "process"})
    middle, late = percentiles("enqueue to start, idle pool", latencies(server))
    assert middle < 0.02
    assert late < 0.5 + standstill.seconds, (
        "wake-ups get lost: a scan a second is what starts these jobs"
    )


def test_an_idle_pool_starts_a_synced_job_at_once(
    start_server: Start, standstill: Standstill
) -> None:
    server = start_server(processes=4)
    middle, late = percentiles("enqueue to start, idle pool, synced", latencies(server))
    assert middle < 0.1
    assert late < 0.7 + standstill.seconds, (
        "wake-ups get lost: a scan a second is what starts these jobs"
    )


def test_a_due_job_starts_within_milliseconds_of_its_time(start_server: Start) -> None:
    server = start_server(processes=4, environment={"FLASK_SPOOLER_DURABILITY": "process"})
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process"):
        handles = [jobs.echo.using(delay=0.5 + n * 0.03).enqueue(n) for n in range(60)]
        for handle in handles:
            handle.wait(60)
        records = [handle.record for handle in handles]
    late = [(record.started_at or 0.0) - record.due_at for record in records]
    assert min(late) >= 0
    middle, _ = percentiles("due time to start", late)
    assert middle < 0.05


def test_an_idle_server_costs_next_to_nothing(start_server: Start) -> None:
    """Ten spoolers, as by default, with jobs done behind it and jobs scheduled before it."""
    server = start_server(processes=10)
    with client(jobs.spooler, server.directory):
        for n in range(50):
            jobs.echo.using(delay=3600 + n).enqueue(n)
        for n in range(20):
            jobs.echo.enqueue(n).wait(60)
    before, since = server.cpu_seconds(), time.monotonic()
    wait_until(lambda: time.monotonic() - since > IDLE)
    used = (server.cpu_seconds() - before) / (time.monotonic() - since)
    print(f"\nidle, 10 spoolers and 2 workers: {used:.2%} of one core")
    assert used < 0.02
