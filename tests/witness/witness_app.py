"""The app under test: one route that enqueues, one task that says when it starts and ends,
and what its steps do and return.

It is loaded by web workers, spoolers and the mule of a witness server, and by the enqueuer; each
suffers its own faults. The route writes no log: what a client may rely on is its answer alone.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, request
from flask.typing import ResponseReturnValue

from flask_spooler import DuplicateJob, EnqueueError, Retry, Spooler, current_job
from flask_spooler.failpoints import reach

from .faults import arm, from_environment
from .logs import Logs, identity
from .payload import Payload

try:
    import uwsgi
except ImportError:  # the enqueuer and the snapshot import this module without uWSGI
    uwsgi = None

DIRECTORY = Path(os.environ["WITNESS_DIRECTORY"])
TICKETS = DIRECTORY / "tickets"

logs = Logs(DIRECTORY)
spooler = Spooler()
app = Flask(__name__)
app.config.from_prefixed_env()
spooler.init_app(app)


@spooler.task(name="witness.work", max_attempts=50)
def work(
    token: str,
    seconds: float,
    due: float,
    again: int = 0,
    filler: str = "",
    steps: int = 0,
    key: str = "",
) -> str:
    """Say when it starts and when it ends, and ask to be run again where it was told to."""
    attempt, pid = current_job.attempt, identity(os.getpid())
    payload = Payload(token, seconds, due, again, filler, steps, key)
    logs.job.write("S", token, attempt, pid, os.getsid(0), payload.hash)
    time.sleep(0 if steps else seconds)
    for number in range(steps):
        step(token, f"step-{number}", seconds / steps)
    if attempt <= again:
        logs.job.write("A", token, attempt, pid)
        raise Retry(delay=0)
    logs.job.write("E", token, attempt, pid)
    reach("task.ended")
    return token


def step(token: str, name: str, seconds: float) -> None:
    """Finish one step, and say what it has returned, and whether the ledger knows."""
    assert current_job.steps is not None
    value = current_job.step(name, effect, token, name, seconds)
    written = int(not current_job.steps.unwritten)
    pid = identity(os.getpid())
    logs.job.write("G", token, current_job.attempt, pid, name, value, written)
    reach("step.returned")


def effect(token: str, name: str, seconds: float) -> str:
    """Do what must happen once: write a line that no other run can write."""
    value = secrets.token_hex(4)
    time.sleep(seconds / 2)
    pid = identity(os.getpid())
    logs.job.write("X", token, current_job.attempt, pid, name, value)
    reach("step.effect")
    time.sleep(seconds / 2)
    return value


def submit(payloads: list[dict[str, Any]], options: dict[str, Any]) -> list[str]:
    """Enqueue one job, or several together; return their ids."""
    task = work.using(**options)
    if len(payloads) == 1:
        return [task.enqueue(**payloads[0]).id]
    return [job.id for job in task.enqueue_many(payloads)]


@app.post("/work")
def enqueue() -> ResponseReturnValue:
    """Enqueue what is wished for; the answer holds the ids."""
    wish = request.get_json()
    ids = submit(wish["payloads"], wish["options"])
    reach("route.enqueued")
    return {"ids": ids}, 202


@app.get("/jobs/<job_id>")
def shown(job_id: str) -> ResponseReturnValue:
    """Answer 404, so that a starting server is seen to be there."""
    return {"id": job_id}, 404


@app.errorhandler(EnqueueError)
def refused(error: EnqueueError) -> ResponseReturnValue:
    return {"error": str(error)}, 503


@app.errorhandler(DuplicateJob)
def duplicate(error: DuplicateJob) -> ResponseReturnValue:
    return {"holder": error.job_id}, 409


def role() -> str:
    """Return what this process is, as the tickets call it."""
    if uwsgi is None:
        return "enqueuer"
    if os.getpid() == uwsgi.masterpid():
        return "master"
    if uwsgi.worker_id() > 0:
        return "worker"
    if uwsgi.mule_id() > 0:
        return "mule"
    return "spooler"


def watched(handler: Callable[[Any], int]) -> Callable[[Any], int]:
    """Let a spooler be killed before our handler, and between its answer and what uWSGI does."""

    def handle(packet: Any) -> int:
        reach("uwsgi.handed")
        answer = handler(packet)
        reach("uwsgi.answered")
        return answer

    return handle


if uwsgi is not None:
    uwsgi.spooler = watched(uwsgi.spooler)
    arm(from_environment(), logs.killer, role, TICKETS)
