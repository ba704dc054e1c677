"""Flask-Spooler, with what only it is asked for: priorities, times, bulk, and its history."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from pathlib import Path

import msgspec
from flask import Flask

from benchmarks.marks import from_environment
from flask_spooler import Spooler, operations

MARKS = from_environment()
URGENT = 10

spooler = Spooler()


@spooler.task
def job(n: int) -> int:
    return MARKS.run(n)


@spooler.task
def lasting(n: int, seconds: float) -> int:
    MARKS.run(n)
    time.sleep(seconds)
    return n


@spooler.task
def noting_pickup(n: int) -> int:
    """Note in the place of the enqueue when uWSGI handed this job to its spooler."""
    MARKS.sent[n] = picked_up
    return MARKS.run(n)


picked_up = 0.0


def set_up(app: Flask) -> None:
    spooler.init_app(app)
    if "BENCH_PICKUPS" in os.environ:
        _watch_pickups()


def _watch_pickups() -> None:
    import uwsgi

    handler = uwsgi.spooler

    def handle(packet: dict[str | bytes, bytes]) -> int:
        global picked_up
        picked_up = time.time()
        return int(handler(packet))

    uwsgi.spooler = handle


def enqueue(n: int) -> None:
    job.enqueue(n)


def enqueue_at(first: int, count: int, start: float, gap: float) -> None:
    """Schedule jobs one after the other, each `gap` seconds after the one before."""
    for n in range(first, first + count):
        moment = datetime.fromtimestamp(start + gap * (n - first), timezone.utc)
        MARKS.sent[n] = moment.timestamp()
        job.using(at=moment).enqueue(n)


def enqueue_many(first: int, count: int, delay: float = 0.0) -> float:
    """Enqueue jobs together; return the seconds it took."""
    calls = [(n,) for n in range(first, first + count)]
    wanted = job.using(delay=delay) if delay else job
    before = time.perf_counter()
    wanted.enqueue_many(calls)
    return time.perf_counter() - before


def enqueue_due(first: int, count: int, moment: float) -> None:
    """Schedule jobs together for one moment."""
    at = datetime.fromtimestamp(moment, timezone.utc)
    job.using(at=at).enqueue_many([(n,) for n in range(first, first + count)])


def enqueue_noting_pickup(first: int, count: int) -> None:
    """Enqueue jobs one by one that note when they were picked up."""
    for n in range(first, first + count):
        noting_pickup.enqueue(n)


def enqueue_lasting(first: int, count: int, seconds: float) -> None:
    """Enqueue jobs that take some time, together."""
    lasting.enqueue_many([(n, seconds) for n in range(first, first + count)])


def enqueue_urgent(n: int) -> float:
    """Enqueue one job that goes before all others; return the seconds it took."""
    MARKS.sent[n] = time.time()
    before = time.perf_counter()
    job.using(priority=URGENT).enqueue(n)
    return time.perf_counter() - before


def pause(paused: bool) -> None:
    operations.pause(spooler.engine, "default", paused)


def pids(spoolers: bool) -> list[int]:
    """Return the processes of the server, of one kind."""
    import uwsgi

    workers = [worker["pid"] for worker in uwsgi.workers()]
    return [pid for pid in (uwsgi.spooler_pids() if spoolers else workers) if pid > 0]


def counts() -> dict[str, int]:
    return spooler.engine.ledger.counts().get("default", {})


def history(last: int) -> list[tuple[int, float, float]]:
    """Return number, start and end of the jobs that succeeded last, in the order of numbers."""
    found = spooler.engine.ledger.find(state="succeeded", limit=last)
    runs = [
        (msgspec.json.decode(record.result), record.started_at or 0.0, record.finished_at or 0.0)
        for record in found
        if record.result is not None
    ]
    return sorted(runs)


def with_syncs(first: int, count: int, gap: float = 0.003) -> list[tuple[float, float]]:
    """Enqueue into an idle pool, each followed by two syncs of the file system; seconds of each."""
    pairs = []
    scratch = Path(os.environ["SPOOLER_DIRECTORY"]).with_name("scratch")
    scratch.mkdir(exist_ok=True)
    for n in range(first, first + count):
        MARKS.sent[n] = time.time()
        before = time.perf_counter()
        job.enqueue(n)
        took = time.perf_counter() - before
        MARKS.wait(n, 1, 10, 0.0005)
        time.sleep(gap)
        pairs.append((took, _two_syncs(scratch, n)))
    return pairs


def _two_syncs(directory: Path, n: int) -> float:
    """Return the seconds that syncing a new small file and its directory takes."""
    path = directory / f"written-{n}"
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(file, bytes(400))
    before = time.perf_counter()
    os.fsync(file)
    first = time.perf_counter() - before
    os.close(file)
    path.rename(directory / f"published-{n}")
    opened = os.open(directory, os.O_RDONLY)
    before = time.perf_counter()
    os.fsync(opened)
    second = time.perf_counter() - before
    os.close(opened)
    return first + second
