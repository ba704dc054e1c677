"""Live views of the command line: of all jobs, or of one and its log.

Owns what is looked at, how often, and in which of three forms it comes: drawn again and again on
a terminal, as lines elsewhere, and as one JSON object a line for machines. Reads only; a view ends
by itself at its time, when its job has ended, or by Ctrl-C.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import click
from rich.console import Console
from rich.live import Live

from .engine import SpoolEngine
from .errors import JobNotFound
from .job import DEAD, FINAL, RETRYING, RUNNING, SUCCEEDED
from .ledger import Ledger
from .record import Record
from .tables import job_line, log_text, overview, overview_line

EVERY: Final = 1.0
"""Seconds between two looks at all jobs."""

LOOK: Final = 0.2
"""Seconds between two looks at one job."""

MOST: Final = 20
"""Running jobs that are shown, those that have run longest."""

FAILURES: Final = 5


def watch_all(engine: SpoolEngine, seconds: float | None, *, as_json: bool) -> None:
    """Show all jobs every second, for some seconds or until Ctrl-C; once where that is 0."""
    if sys.stdout.isatty() and not as_json and seconds != 0:
        with Live(screen=True, auto_refresh=False) as live:
            for found in _snapshots(engine, seconds):
                live.update(overview(found), refresh=True)
        return
    for found in _snapshots(engine, seconds):
        if as_json:
            click.echo(json.dumps(found, ensure_ascii=False))
        elif sys.stdout.isatty():
            Console().print(overview(found))
        else:
            click.echo(overview_line(found))


def warn_of_nobody(engine: SpoolEngine, job_id: str | None) -> None:
    """Say on stderr when what is to be watched waits for a server that does not run."""
    record = engine.ledger.record(job_id) if job_id else None
    if engine.by_hand or engine.spool.has_housekeeper() or (job_id and record is None):
        return
    if record is None or record.state not in FINAL:
        told = "No server works on this spool: jobs wait until one is started."
        click.echo(f"{told} What is wrong: flask spooler doctor", err=True)


def snapshot(engine: SpoolEngine, now: float) -> dict[str, Any]:
    """Return what there is to see at one moment, as JSON."""
    ledger = engine.ledger
    rows = [row for row in ledger.in_window().values() if row.state == RUNNING]
    rows.sort(key=lambda row: row.started_at or now)
    records = [record for row in rows[:MOST] if (record := ledger.record(row.id))]
    counts = ledger.counts()
    failed = [record for state in (DEAD, RETRYING) if any(each[state] for each in counts.values())
              for record in ledger.find(state=state, limit=FAILURES)]  # fmt: skip
    failed.sort(key=lambda record: record.finished_at or record.started_at or 0.0, reverse=True)
    oldest = min(ledger.oldest_queued().values(), default=None)
    return {
        "at": now,
        "queues": counts,
        "paused": ledger.paused(),
        "oldest_queued_seconds": None if oldest is None else max(0.0, now - oldest),
        "running": [_running(record, now) for record in records],
        "running_total": len(rows),
        "failures": [_failure(record) for record in failed[:FAILURES]],
    }


def watch_job(engine: SpoolEngine, job_id: str, seconds: float | None, *, as_json: bool) -> bool:
    """Show state, progress and log of one job as they come; tell whether it has succeeded.

    Until it has ended, for some seconds, or until Ctrl-C. Raises `JobNotFound`.
    """
    looks = _looks(engine, job_id, seconds)
    if as_json:
        return _as_objects(looks)
    return _as_status_line(looks) if sys.stdout.isatty() else _as_lines(looks)


def show_log(engine: SpoolEngine, job_id: str, *, follow: bool, as_json: bool) -> bool:
    """Print the log of one job, with `follow` until it has ended; tell whether there was any."""
    console, lines, found = Console(soft_wrap=True), Lines(), False
    for record, text in _looks(engine, job_id, None if follow else 0.0):
        found = found or bool(text)
        if as_json and text:
            click.echo(json.dumps({"id": job_id, "log": text}, ensure_ascii=False))
        elif not as_json:
            _print_log(console, lines.whole(text, last=not follow or record.state in FINAL))
    return found


class Lines:
    """Makes whole lines of text that comes in pieces."""

    def __init__(self) -> None:
        self._begun = ""

    def whole(self, text: str, *, last: bool) -> str:
        """Return the lines that are whole by now, or all there is at the end."""
        text = self._begun + text
        size = len(text) if last else text.rfind("\n") + 1
        self._begun = text[size:]
        return text[:size]


def _as_objects(looks: Iterator[tuple[Record, str]]) -> bool:
    before: dict[str, Any] | None = None
    for record, text in looks:
        found = {name: value for name, value in record.as_dict().items() if name in SHOWN}
        if text or found != before:
            click.echo(json.dumps(found | {"log": text}, ensure_ascii=False))
        before = found
    return record.state == SUCCEEDED


SHOWN: Final = ("id", "task", "state", "attempt", "progress", "error", "started_at", "finished_at")


def _as_lines(looks: Iterator[tuple[Record, str]]) -> bool:
    console, lines, before = Console(soft_wrap=True), Lines(), ""
    for record, text in looks:
        line = str(job_line(record))
        if record.state not in FINAL and line != before:
            click.echo(line)
        _print_log(console, lines.whole(text, last=record.state in FINAL))
        if record.state in FINAL:
            click.echo(line)
        before = line
    return record.state == SUCCEEDED


def _as_status_line(looks: Iterator[tuple[Record, str]]) -> bool:
    console, lines = Console(soft_wrap=True), Lines()
    with Live(console=console, auto_refresh=False) as live:
        for record, text in looks:
            _print_log(console, lines.whole(text, last=record.state in FINAL))
            live.update(job_line(record, time.time()), refresh=True)
    return record.state == SUCCEEDED


def _print_log(console: Console, text: str) -> None:
    if text:
        console.print(log_text(text), end="")


def _snapshots(engine: SpoolEngine, seconds: float | None) -> Iterator[dict[str, Any]]:
    for _ in _beats(EVERY, seconds):
        yield snapshot(engine, time.time())


def _looks(engine: SpoolEngine, job_id: str, seconds: float | None) -> Iterator[tuple[Record, str]]:
    """Give a job again and again, each time with what has been added to its log."""
    part = 0
    for _ in _beats(LOOK, seconds):
        record = engine.ledger.record(job_id)  # before its log: what is final, has all of it
        if record is None:
            raise JobNotFound(job_id)
        part, text = _more(engine.ledger, job_id, part)
        yield record, text
        if record.state in FINAL:
            return


def _more(ledger: Ledger, job_id: str, after: int) -> tuple[int, str]:
    parts = ledger.log(job_id, after)
    return (parts[-1][0] if parts else after), "".join(text for _, text in parts)


def _beats(every: float, seconds: float | None) -> Iterator[None]:
    """Give a beat now and one each `every` seconds, until `seconds` are over; at least one."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        yield
        left = every if end is None else min(every, end - time.monotonic())
        if left <= 0:
            return
        time.sleep(left)


def _running(record: Record, now: float) -> dict[str, Any]:
    return {
        "id": record.id,
        "task": record.task,
        "queue": record.queue,
        "attempt": record.attempt,
        "seconds": max(0.0, now - (record.started_at or now)),
        "progress": record.progress,
    }


def _failure(record: Record) -> dict[str, Any]:
    error = record.error or {}
    return {
        "id": record.id,
        "task": record.task,
        "state": record.state,
        "attempt": record.attempt,
        "at": record.finished_at or record.started_at,
        "error": {"type": error.get("type"), "message": error.get("message")},
    }
