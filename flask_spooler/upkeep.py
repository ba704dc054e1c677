"""What a crash, a power cut or the passing of time leaves to be done; the housekeeper calls it.

Owns the steps that make rows and files agree again. Each is safe to do twice and at any moment.
"""

from __future__ import annotations

from typing import Final

import msgspec

from . import _uwsgi
from .engine import SpoolEngine
from .errors import PacketError
from .job import (
    CANCELLED,
    EXPIRED,
    FINAL,
    QUEUED,
    RETRYING,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
)
from .job import DEAD as DEAD_STATE
from .record import ErrorInfo, Row, Unrecorded
from .signals import announce, announce_end, announce_loss, job_expired
from .spool import DEAD, DONE, TAKEN, WAITING, WRITING
from .window import LOST

NO_OUTCOME: Final = ErrorInfo(
    "OutcomeLost", "it has run, and there was no room on the disk to write down how it ended"
)

JUST_TAKEN: Final = 2.0
"""Seconds for which a taken file without a row is left alone: locking it takes microseconds."""

FORGOTTEN: Final = ErrorInfo(
    "HistoryLost", "why it ended stood in a ledger that is gone; its file is kept"
)


def adopt(engine: SpoolEngine, place: str, job_id: str) -> bool:
    """Make the row of a file in ``waiting/`` or ``dead/`` again; False when it has one.

    What cannot be read, or is not signed with this spool's key, goes to ``corrupt/``. Raises
    `NewerFormat`, and leaves that file where it is.
    """
    try:
        job = engine.read_job(place, job_id)
    except FileNotFoundError:
        return False
    except PacketError:
        engine.spool.quarantine.put_from(place, job_id)
        return False
    with engine.ledger.transaction() as rows:
        if not engine.spool.has(place, job_id):
            return False  # withdrawn by an enqueue that failed
        if place == DEAD:
            return rows.insert_dead(job, engine.clock(), FORGOTTEN)
        return rows.insert(job, SCHEDULED if job.is_scheduled else QUEUED, None)


def find_again(engine: SpoolEngine, job_id: str) -> None:
    """Put right a row that says its file is in the window, where it is not.

    A power cut can take back the last commits of the ledger while the moves of files stay,
    and people delete files. Where the file lies now says what the job is.
    """
    lost: Row | None = None
    with engine.ledger.transaction() as rows:
        row = rows.row(job_id)
        if row is None or row.window is None or engine.spool.in_window(row.window):
            return
        if row.state == RUNNING and _uwsgi.is_alive(row.process):
            return
        if engine.spool.has(DONE, job_id):
            return
        if engine.spool.has(WRITING, job_id):
            rows.delete(job_id)  # refused; the process that took it back was killed at it
        elif engine.spool.has(WAITING, job_id):
            rows.requeue(job_id)
            engine.spool.make_ready(job_id)
        elif engine.spool.has(DEAD, job_id):
            # Revived, and put away a moment later; or dead, and a power cut took its row back.
            rows.requeue(job_id)
            if row.state == RUNNING:
                rows.close(job_id, DEAD_STATE, engine.clock(), FORGOTTEN)
        else:
            rows.end_lost(job_id, engine.clock(), LOST)
            lost = row
    if lost is not None:
        announce_loss(engine.app, lost, LOST)


def look_at_taken(engine: SpoolEngine, job_id: str, now: float) -> bool:
    """Put right what the end of its process has left of a taken file; True when it is ready.

    What its row says by then tells how far that process had come. The write lock is held, so
    nobody is between two steps of taking it.
    """
    with engine.ledger.transaction() as rows:
        row = rows.row(job_id)
        name = f"{TAKEN}/{job_id}"
        if row is None:
            _return_unknown(engine, job_id, now)
            return False
        if row.state == RUNNING:
            if _uwsgi.is_alive(row.process):
                return False
            window = engine.spool.window_name(job_id)
            if engine.spool.give_back(job_id, window):
                rows.give_back(job_id, window)
            return True
        if row.state == SUCCEEDED:
            engine.spool.remove(TAKEN, job_id)
        elif row.state in FINAL:
            engine.spool.bury(name, job_id)
        else:
            engine.spool.untake(job_id)
    return False


def _return_unknown(engine: SpoolEngine, job_id: str, now: float) -> None:
    # The ledger was lost: whoever runs it holds its lock, but for a moment after taking it.
    young = engine.spool.age(TAKEN, job_id, now) < JUST_TAKEN
    if not young and not engine.spool.is_locked(job_id):
        engine.spool.untake(job_id)  # and from there it is adopted like any other


def record_late(engine: SpoolEngine, job_id: str, kept: Unrecorded) -> None:
    """Write the row of a job in ``done/`` and put its file where its state belongs."""
    with engine.ledger.transaction() as rows:
        row = rows.row(job_id)
        if row is None:
            job = engine.read_job(DONE, job_id)
            rows.insert_running(job, kept.attempt)
            row = rows.known(job_id)
        change = kept.change
        if row.cancel_asked and change.state == RETRYING:
            change = msgspec.structs.replace(change, state=CANCELLED)
        row = msgspec.structs.replace(row, attempt=kept.attempt)
        is_news = rows.settle(row, change)
    if is_news:
        announce_end(engine.app, row, change)
    place = {SUCCEEDED: None, RETRYING: WAITING}.get(change.state, DEAD)
    engine.spool.clear_done(job_id, place)
    engine.ring()


def expire(engine: SpoolEngine, now: float, limit: int) -> int:
    """Close up to `limit` waiting jobs whose `expires` has passed; how many that were."""
    with engine.ledger.transaction() as rows:
        overdue = [rows.known(job_id) for job_id in rows.overdue(now, limit)]
        expired = [row for row in overdue if rows.close(row.id, EXPIRED, now, None)]
    for row in expired:
        engine.spool.bury_waiting(row.id)
        announce(job_expired, engine.app, job_id=row.id, task=row.task)
    return len(expired)


def record_bare(engine: SpoolEngine, job_id: str) -> None:
    """Make a job dead that has run, and whose outcome nobody could write down."""
    with engine.ledger.transaction() as rows:
        if rows.row(job_id) is None:
            job = engine.read_job(DONE, job_id)
            rows.insert_running(job, 1)
        row = rows.known(job_id)
        rows.end_lost(job_id, engine.clock(), NO_OUTCOME)
    if row.state not in FINAL:
        announce_loss(engine.app, row, NO_OUTCOME)
    engine.spool.clear_done(job_id, DEAD)


def is_running(engine: SpoolEngine, job_id: str) -> bool:
    """Tell whether a living process runs this job."""
    row = engine.ledger.in_window().get(job_id)
    return row is not None and row.state == RUNNING and _uwsgi.is_alive(row.process)
