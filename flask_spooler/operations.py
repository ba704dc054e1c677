"""What people ask for: cancel, retry, delete, purge, pause, drain.

Owns the steps by which a person's wish changes rows and files; the command line, handles and the
edges call these. As everywhere, the order of row and file is the rule by which a crash between
them is repaired.
"""

from __future__ import annotations

from . import _uwsgi
from .engine import SpoolEngine
from .errors import JobNotFound, JobStateError, NewerFormat, PacketError
from .job import CANCELLED, FINAL, QUEUED, REVIVABLE, RUNNING, SCHEDULED
from .signals import announce, job_cancelled
from .spool import DEAD, TAKEN, WAITING


def cancel(engine: SpoolEngine, job_id: str) -> str:
    """Cancel a job for good and return its state; a running one is asked to stop.

    A waiting job is cancelled at once. One that is in the window is cancelled too: its file
    is put away when uWSGI hands it to a spooler, and is not run. Raises `JobNotFound`, and
    `JobStateError` for a job that has ended.
    """
    with engine.ledger.transaction() as rows:
        row = rows.row(job_id)
        if row is None:
            raise JobNotFound(job_id)
        if row.state == RUNNING:
            rows.ask_cancel(job_id)
        elif not rows.close(job_id, CANCELLED, engine.clock(), None):
            raise JobStateError(job_id, "cancel", row.state, "unfinished")
    if row.state == RUNNING:
        _uwsgi.abort(row.process)
        return RUNNING
    facts = {"job_id": job_id, "task": row.task, "attempt": row.attempt}
    announce(job_cancelled, engine.app, **facts)
    if row.window is None:
        engine.spool.bury_waiting(job_id)
    return CANCELLED


def revive(engine: SpoolEngine, job_id: str) -> str:
    """Run a dead, cancelled or expired job again and return its state: row first, then the file.

    Attempt numbers go on, limits start anew. One that never started and whose time has not come
    is scheduled for that time again. Raises `JobNotFound` and `JobStateError`.
    """
    now = engine.clock()
    with engine.ledger.transaction() as rows:
        row = rows.row(job_id)
        if row is None:
            raise JobNotFound(job_id)
        if row.state not in REVIVABLE:
            raise JobStateError(job_id, "retry", row.state, "dead, cancelled or expired")
        unique = row.unique_key or _key_given_up(engine, job_id)
        holder = rows.holder_of(row.task, unique) if unique else None
        if holder is not None:
            others = f"alone under its unique key, which job {holder} holds now"
            raise JobStateError(job_id, "retry", row.state, others)
        is_early = row.attempt == 0 and row.due_at > now
        rows.revive(job_id, row.due_at if is_early else now, now, unique)
    engine.spool.exhume(job_id, row.due_at if is_early else None)
    engine.ring()
    return SCHEDULED if is_early else QUEUED


def _key_given_up(engine: SpoolEngine, job_id: str) -> str | None:
    """Return the unique key of a job that lost it to another one while it ran: its file knows."""
    try:
        return engine.read_job(DEAD, job_id).unique
    except (OSError, PacketError, NewerFormat):
        return None  # whoever is handed the file says what is wrong with it


def delete(engine: SpoolEngine, job_id: str) -> None:
    """Forget a job that has ended, its file included; `JobNotFound`, `JobStateError`."""
    state = engine.ledger.state(job_id)
    if state is None:
        raise JobNotFound(job_id)
    if state not in FINAL:
        raise JobStateError(job_id, "delete", state, "one that has ended")
    if not _forget(engine, [job_id]):
        raise JobStateError(job_id, "delete", f"{state}, its file still in use", "put away")


def purge(engine: SpoolEngine, before: float, limit: int, states: frozenset[str] = FINAL) -> int:
    """Delete up to `limit` jobs in these final states that ended before a time; how many."""
    ended = engine.ledger.ended_before(before, limit, states)
    return len(_forget(engine, ended)) if ended else 0


def _forget(engine: SpoolEngine, job_ids: list[str]) -> list[str]:
    """Delete files, then rows, of those that are still final; return whom it was done to.

    A row may go only when its file is gone: else the file would be found, adopted and run.
    One that is still in the window, to be put away by its lock's holder, stays for now.
    """
    forgotten = []
    with engine.ledger.transaction() as rows:
        in_window = {file.job_id for file in engine.spool.window()}
        for job_id in job_ids:
            row = rows.row(job_id)
            if row is None or row.state not in FINAL or job_id in in_window:
                continue
            for place in (WAITING, DEAD, TAKEN):
                engine.spool.remove(place, job_id)
            rows.delete(job_id)
            forgotten.append(job_id)
    return forgotten


def pause(engine: SpoolEngine, queue: str, paused: bool = True) -> None:
    """Start no more jobs of a queue, or go on; kept across restarts."""
    with engine.ledger.transaction() as rows:
        rows.pause(queue, paused)
    if not paused:
        engine.ring()


def drain(engine: SpoolEngine, until: float) -> int:
    """Let the servers on this spool start no jobs until a time; how many servers that are.

    It belongs to their present boot, so a reload ends it too. A time in the past takes it
    back.
    """
    alive = [boot for boot in engine.ledger.servers() if _uwsgi.lives_on(boot)]
    with engine.ledger.transaction() as rows:
        for boot in alive:
            rows.drain(boot, until)
    if until <= engine.clock():
        engine.ring()
    return len(alive)


def running(engine: SpoolEngine, boot: str | None = None) -> int:
    """Return how many jobs run now, on all servers of this spool or in one boot."""
    return sum(
        row.state == RUNNING and boot in (None, row.boot) and _uwsgi.is_alive(row.process)
        for row in engine.ledger.in_window().values()
    )
