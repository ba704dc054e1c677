"""Jobs that end in every way, and a line for each signal: the same for a server and for a test."""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from typing import Any

from app import app
from flask_spooler import SPOOL_OK, SPOOL_RETRY, Discard, JobHandle, Retry, current_job
from flask_spooler.current import inside_task
from flask_spooler.retry import SpoolAnswer
from flask_spooler.signals import (
    job_cancelled,
    job_dead,
    job_enqueued,
    job_expired,
    job_put_off,
    job_retrying,
    job_started,
    job_succeeded,
)
from tasks import spooler

__all__ = ["app", "spooler"]

VARIABLE = "SCENARIO_EVENTS"
"""Names the file that the lines go to; without it nothing is noted."""

WAIT = "SCENARIO_WAIT"
"""The backoff of this run in seconds, by which the noted waits are divided."""


def note(signal: str, sender: Any, *, job_id: str, **facts: Any) -> None:
    """Append what has happened to which job, and what the ledger says of it by then."""
    file = os.environ.get(VARIABLE)
    if file is None or (signal == "job-enqueued" and not inside_task()):
        return
    ledger = sender.extensions["spooler"].engine.ledger
    record, attempts = ledger.record(job_id), ledger.attempts(job_id)
    event = {
        "signal": signal,
        "job": json.loads(record.kwargs)["label"],
        "state": record.state,
        "outcomes": [attempt.outcome for attempt in attempts],
        **{key: value for key, value in facts.items() if key not in ("due_at", "seconds")},
    }
    if "due_at" in facts:
        waits = (facts["due_at"] - attempts[-1].finished_at) / float(os.environ[WAIT])
        event["waits"] = round(waits, 3)
    with open(file, "a") as lines:
        lines.write(json.dumps(event) + "\n")


for each in (
    job_enqueued, job_started, job_succeeded, job_retrying, job_dead, job_cancelled, job_expired,
    job_put_off,
):  # fmt: skip
    each.connect(functools.partial(note, each.name), weak=False)


def events(file: str | Path) -> list[dict[str, Any]]:
    """Return what was noted, in its order."""
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


@spooler.task(name="scenarios.work")
def work(label: str) -> str:
    return label


@spooler.task(name="scenarios.fail")
def fail(label: str, times: int) -> str:
    if current_job.attempt <= times:
        raise ConnectionError(f"failure {current_job.attempt}")
    return "worked"


@spooler.task(name="scenarios.ask")
def ask(label: str, way: str, delay: float) -> SpoolAnswer:
    if current_job.attempt > 1:
        return SPOOL_OK
    match way:
        case "retry":
            raise Retry(delay=delay, reason="not yet")
        case "discard":
            raise Discard("never")
    return SPOOL_RETRY


@spooler.task(name="scenarios.hang")
def hang(label: str) -> None:
    while True:
        time.sleep(0.01)


@spooler.task(name="scenarios.lead")
def lead(label: str) -> str:
    work.enqueue(f"{label}'s follower")
    return label


def enqueue_all(wait: float) -> list[JobHandle]:
    """Enqueue every scenario into the queues `one` and `two`; `wait` is all backoffs and delays.

    They are far enough apart for a server that takes its time, and its order stays the same."""
    backoff = [wait, 2 * wait]
    one = {"queue": "one", "backoff": backoff}
    made = [
        work.using(delay=1.5 * wait, **one).enqueue("scheduled"),
        work.using(delay=3 * wait, expires=wait, **one).enqueue("expires"),
        work.using(**one).enqueue("succeeds"),
        fail.using(**one).enqueue("fails twice", 2),
        fail.using(max_attempts=2, **one).enqueue("fails always", 9),
        fail.using(discard_on=OSError, **one).enqueue("is not worth it", 9),
        ask.using(**one).enqueue("asks again", "retry", 2 * wait),
        ask.using(**one).enqueue("answers retry", "answer", wait),
        ask.using(**one).enqueue("discards itself", "discard", wait),
        hang.using(timeout=0.1, max_attempts=2, **one).enqueue("hangs"),
        lead.using(**one).enqueue("leads"),
        work.using(unique="a key", **one).enqueue("alone"),
        work.using(unique="a key", **one).enqueue("not alone"),
        work.using(unique="a key", on_duplicate="replace", **one).enqueue("alone now"),
        work.using(queue="two").enqueue("other queue"),
        work.using(queue="two", priority=5).enqueue("urgent"),
        work.using(queue="two", priority=-5).enqueue("last"),
        work.using(**one).enqueue("cancelled"),
    ]
    made[-1].cancel()
    return made
