"""Run jobs in this process, without uWSGI: eager mode, tests, and the development server.

Owns uWSGI's part in that: it locks a job's own file, as it lies on the disk, hands it to the
worker, and unlinks it after `SPOOL_OK`. So signature, codec, app context, retry policy and outcome
are the real ones. One call runs one job: a process that is no spooler of uWSGI's takes no
following job at the end of one.
"""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable

from . import _uwsgi, taken
from .aside import quarantine
from .dispatch import Desk
from .errors import PacketError
from .job import parse_file
from .retry import SPOOL_OK
from .window import RIPEN_AT_ONCE


def run_now(desk: Desk, job_id: str) -> None:
    """Run a job that waits, whosever turn it is; `SPOOLER_EAGER` does it with each new one.

    What would have to wait, scheduled jobs and second attempts, waits.
    """
    engine = desk.worker.engine
    with engine.ledger.transaction() as rows:
        window = engine.window.let_in(rows, job_id)
    if window is not None:
        hand_over(desk, window)


def run_next(desk: Desk, now: float) -> str | None:
    """Run the job whose turn it is, as a server with one spooler would; return its id.

    The order is the server's: due time, priority, shares and limits of queues, pauses. None where
    no job may start at `now`.
    """
    engine = desk.worker.engine
    if not engine.ledger.has_work(now):
        return None
    with engine.ledger.transaction() as rows:
        rows.ripen(now, RIPEN_AT_ONCE)
        window = engine.window.let_in_next(rows)
    if window is None:
        return None
    hand_over(desk, window)
    return engine.spool.job_in(window)


def hand_over(
    desk: Desk, window: str, handle: Callable[[_uwsgi.Packet], int] | None = None
) -> bool:
    """Do with one file of the window what a spooler of uWSGI does; False when others have it.

    `handle` is called in place of the desk itself, as uWSGI calls `dispatch`. uWSGI itself unlinks
    what is no packet, unseen; here it is kept in ``corrupt/``.
    """
    spool = desk.worker.engine.spool
    held = spool.lock(window)
    if held is None:
        return False
    data, lock = held
    try:
        packet = parse_file(data) | {"spooler_task_name": os.fsencode(window)}
        # In a spooler there is neither the request nor another context of whoever enqueued it.
        if contextvars.Context().run(handle or desk.handle, packet) == SPOOL_OK:
            spool.finish(window)
    except PacketError as error:
        quarantine(desk.worker.app, desk.worker.engine, window, str(error))
    finally:
        taken.release(lock)
    return True
