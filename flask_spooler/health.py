"""Is all well? One question for load balancers and monitors, answered in one sentence.

Owns what counts as trouble. Every look is bounded and changes nothing, because anybody may ask.
The reason names no path, no queue and no job: it goes to whoever asks, and the log has the rest.

Not trouble: dead jobs (`jobs_count` and its alert tell them), a paused queue, a drain, a queue at
its limit. A process outside uWSGI says nothing about pool and housekeeper, which are not its own.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

from flask import Flask

from . import _uwsgi
from .config import EXTENSION
from .engine import SpoolEngine
from .errors import LedgerError, NotInitialised
from .job import RUNNING
from .ledger import Figures
from .spool.inspection import is_writable
from .state import AppState

PATIENCE: Final = 60.0
"""Seconds that a due job may wait while spoolers are idle. An idle spooler takes a job in
milliseconds, after a lost wake-up in a second, after a crash in the seconds of its lease."""

LEDGER: Final = "the ledger cannot be used"
SPOOL: Final = "the spool cannot be written"
HOUSEKEEPER: Final = "no housekeeper is alive"
POOL: Final = "no spooler is alive"
STUCK: Final = "due jobs wait while spoolers are idle"


def health(app: Flask) -> str | None:
    """Return None where jobs are taken and run as they should, else why not, without details.

    Raises `NotInitialised` for an app without the extension.
    """
    state: AppState | None = app.extensions.get(EXTENSION)
    if state is None:
        raise NotInitialised
    now = time.time()
    figures = _figures(state.engine, now)
    if not _is_writable(state.engine):
        return SPOOL
    if figures is None:
        return LEDGER
    if not _uwsgi.has_pool():
        return None
    if not _alive():
        return POOL
    if not state.engine.spool.has_housekeeper():
        return HOUSEKEEPER
    return STUCK if _is_stuck(state, figures, now) else None


def _figures(engine: SpoolEngine, now: float) -> Figures | None:
    """Return the ledger's figures, None where it cannot be read; makes a spool's first one."""
    try:
        return engine.ledger.figures(now)
    except LedgerError:
        return None


def _is_writable(engine: SpoolEngine) -> bool:
    try:
        return is_writable(engine.spool.root)
    except OSError:
        return False


def _is_stuck(state: AppState, figures: Figures, now: float) -> bool:
    """Tell whether a job has waited too long that an idle spooler of this server could run."""
    running = [row for row in figures.in_window if row.state == RUNNING]
    if not set(_alive()) - {row.pid for row in running}:
        return False
    if figures.draining.get(_uwsgi.boot_name(), 0.0) > now:
        return False
    inside = Counter(row.queue for row in running)
    return any(
        now - since > PATIENCE
        for queue, since in figures.oldest_due.items()
        if queue not in figures.paused and state.config.queues.room(queue, inside, 1)
    )


def _alive() -> list[int]:
    return [pid for pid in _uwsgi.spooler_pids() if _uwsgi.process(pid).started]
