"""Files that go anywhere but on: into quarantine, back to wait, into ``done/``, or away.

Owns what the worker does with a job file that is not simply run and answered. Each function is
called by the holder of the file's lock, and leaves row and file in a state that `start`, or the
housekeeper, goes on from.
"""

from __future__ import annotations

import contextlib
import time
from typing import Final

import msgspec
from flask import Flask

from . import _uwsgi
from .engine import SpoolEngine
from .errors import LedgerError
from .job import DEAD, FINAL, RETRYING, RUNNING, SUCCEEDED
from .ledger import Transaction
from .record import Change, ErrorInfo, Row, Unrecorded
from .signals import announce, announce_loss, file_quarantined, spool_trouble

PUT_OFF_UNDELETABLE: Final = 3600.0
"""Seconds until the file of a finished job is looked at again that cannot be removed."""


def quarantine(app: Flask, engine: SpoolEngine, window: str, why: str) -> None:
    """Keep a file that is no job of ours in ``corrupt/``, and say so in the job's row, if any."""
    kept = engine.spool.quarantine.put(window)
    if kept is None:
        return
    announce(file_quarantined, app, name=kept, why=why)
    job_id = engine.spool.job_in(window)
    if job_id is None:
        return
    error = ErrorInfo("Unreadable", f"its file is kept as corrupt/{kept} and was not run: {why}")
    lost: Row | None = None
    with contextlib.suppress(LedgerError), engine.ledger.transaction() as rows:
        row = rows.row(job_id)
        # A name alone proves nothing: another file may lie where the job's own should.
        if row is not None and row.window == window:
            now = engine.clock()
            _end_lost(rows, row, DEAD, now, now, error)
            rows.close(job_id, DEAD, now, error)
            if row.state not in FINAL and rows.known(job_id).state == DEAD:
                lost = row
    if lost is not None:
        announce_loss(app, lost, error)


def send_back(engine: SpoolEngine, window: str, seconds: float, why: ErrorInfo) -> None:
    """Let a file wait outside the window, whatever is wrong with it.

    A ready file that is only leased would hold its place in the window against all others.
    """
    now = engine.clock()
    due = now + seconds
    job_id = engine.spool.job_in(window)
    waits = False
    with contextlib.suppress(LedgerError), engine.ledger.transaction() as rows:
        row = rows.row(job_id) if job_id else None
        if row is not None:
            _end_lost(rows, row, RETRYING, due, now, why)
            row = rows.known(row.id)
        if row is not None and row.state not in FINAL and row.state != RUNNING:
            rows.put_off(row.id, due, now, why)
            waits = True
    if job_id is not None and waits:
        engine.spool.demote(window, job_id, due)
    else:
        engine.spool.lease(window, time.time() + seconds)


def _end_lost(
    rows: Transaction, row: Row, state: str, due: float, now: float, why: ErrorInfo
) -> None:
    """Write down the end of an attempt whose process is gone, for a file that cannot be opened."""
    if row.state != RUNNING or _uwsgi.is_alive(row.process):
        return
    change = Change(outcome="crashed", state=state, due_at=due, ended_at=now, error=why)
    rows.settle(row, change)


def keep_outcome(
    app: Flask, engine: SpoolEngine, window: str, job_id: str, kept: Unrecorded, why: str
) -> None:
    """Keep file and outcome in ``done/`` until the ledger can be written again.

    On a full disk a shorter outcome may still find room; the bare file says at least that the
    job has run. Raises `OSError` where even that is impossible.
    """
    nothing = dict.fromkeys(("result", "error", "progress", "output"))
    short: Change = msgspec.structs.replace(kept.change, **nothing)
    changes = [kept.change, short]
    if short.steps and short.state in FINAL:
        # One that runs again needs its steps: rather let it be dead than do them twice.
        changes.append(msgspec.structs.replace(short, steps=()))
    outcomes = [msgspec.structs.replace(kept, change=change) for change in changes]
    for outcome in map(msgspec.json.encode, outcomes):
        with contextlib.suppress(OSError):
            engine.spool.set_done(window, job_id, outcome)
            break
    else:
        engine.spool.set_done(window, job_id, None)
    what = f"the end of job {job_id} could not be written yet and is kept in done/"
    announce(spool_trouble, app, what=what, error=why)


def put_away(app: Flask, engine: SpoolEngine, window: str, job_id: str, state: str) -> None:
    """Move or unlink the file of a job that has ended, without a run."""
    if state != SUCCEEDED:
        engine.spool.bury(window, job_id)
        return
    try:
        engine.spool.finish(window)
    except OSError as error:
        # It came back because it cannot be unlinked: keep it from coming back at once.
        engine.spool.lease(window, time.time() + PUT_OFF_UNDELETABLE)
        what = f"the file of the finished job {job_id} cannot be removed"
        announce(spool_trouble, app, what=what, error=error)
