"""Run a job on enqueue, in this process: `SPOOLER_EAGER`, for tests without a server.

Owns uWSGI's part in that: it hands the job's own file to the worker, as it lies on the disk, and
unlinks it after `SPOOL_OK`. So signature, codec, app context and outcome are the real ones. What
would have to wait, scheduled jobs and second attempts, waits.
"""

from __future__ import annotations

import os

from .dispatch import Desk
from .job import parse_file
from .retry import SPOOL_OK
from .spool import WAITING


def run_now(desk: Desk, job_id: str) -> None:
    """Run a job that was just published into ``waiting/``."""
    engine = desk.worker.engine
    file = engine.spool.read(WAITING, job_id)
    window = engine.spool.window_name(job_id)
    with engine.ledger.transaction() as rows:
        engine.spool.promote(job_id, window)
        rows.enter_window(job_id, window)
    packet = parse_file(file) | {"spooler_task_name": os.fsencode(window)}
    if desk.handle(packet) == SPOOL_OK:
        engine.spool.finish(window)
