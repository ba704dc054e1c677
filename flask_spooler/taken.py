"""Jobs that a spooler takes by itself, without uWSGI handing them over.

Owns the way of such a job from ``waiting/`` to its attempt. When a job has ended, others wait and
no file is ready in the window, the commit that ends the one also starts the next: its file goes to
``taken/``, and this process locks it. Going back through uWSGI instead takes a rename, two commits
and several scans more, which is twice the cost of a short job.

Who dies with a taken job leaves a row that says so, and a file whose lock is free: the housekeeper
puts that file into the window, and from there on it is like any other whose process has died.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping
from typing import Any

from flask import Flask

from . import _uwsgi
from .admission import PUT_OFF_UNKNOWN
from .engine import SpoolEngine
from .errors import LedgerError, NewerFormat, PacketError
from .job import DEAD, RETRYING, open_file
from .ledger import Seen, Transaction
from .lifecycle import this_process
from .perform import Attempt
from .record import Change, ErrorInfo, Row
from .signals import announce, announce_end, file_quarantined, spool_trouble
from .task import Task

Known = Mapping[str, Task[..., Any]]
"""The tasks of this process by their names."""


class NotTaken(Exception):
    """The job that was taken is not to be run after all; its row and file are settled."""


def take(engine: SpoolEngine, tasks: Known, rows: Transaction, seen: Seen) -> Row | None:
    """Start whose turn it is, in this process; None where that takes a closer look.

    Rename, then row: a crash in between leaves a file in ``taken/`` whose row says that it waits,
    and it is found there when its turn comes again.
    """
    first = engine.window.first(rows, seen)
    if first is None or first.task not in tasks:
        return None
    name = engine.spool.take(first.id)
    if name is None:
        return None
    rows.on_rollback(first.id, functools.partial(engine.spool.untake, first.id))
    now, boot = engine.clock(), _uwsgi.boot_name()
    row = rows.start_fresh(first.id, name, now, _uwsgi.me(), boot)
    if row is None:
        engine.spool.untake(first.id)
    return row


def open_taken(app: Flask, engine: SpoolEngine, tasks: Known, row: Row) -> Attempt:
    """Lock, read and check the file of a job that was taken; `start` has been written already.

    What cannot be read is dead, and what this code is too old for goes back, without a charge:
    both raise `NotTaken`. Where disk or ledger do not allow even that, this process ends: then
    the job is one whose process died, and not one that runs for ever in a process that has
    forgotten it.
    """
    name = row.window or ""
    lock: int | None = None
    try:
        data, lock = engine.spool.read_taken(name)
        return Attempt(open_file(data, engine.key, row.id), tasks[row.task], row, name, lock)
    except PacketError as error:
        problem: Exception = error
    except NewerFormat as error:
        problem = error
    except OSError as error:
        announce(spool_trouble, app, what=f"{name} cannot be read", error=error)
        this_process().end()
    try:
        if isinstance(problem, NewerFormat):
            _return(engine, row, ErrorInfo("NewerFormat", str(problem)))
        else:
            _refuse(app, engine, row, str(problem))
    except (LedgerError, OSError) as error:
        announce(spool_trouble, app, what=f"{name} cannot be put away", error=error)
        this_process().end()
    release(lock)
    raise NotTaken


def release(lock: int | None) -> None:
    """Close the descriptor of a taken file that has been moved away or unlinked."""
    if lock is not None:
        with contextlib.suppress(OSError):  # the task may have closed it
            os.close(lock)


def _return(engine: SpoolEngine, row: Row, why: ErrorInfo) -> None:
    due = engine.clock() + PUT_OFF_UNKNOWN
    change = Change(
        outcome="interrupted",
        state=RETRYING,
        due_at=due,
        ended_at=engine.clock(),
        error=why,
        charged=False,
    )
    with engine.ledger.transaction() as rows:
        rows.settle(row, change)
    engine.spool.demote(row.window or "", row.id, due)
    engine.ring()


def _refuse(app: Flask, engine: SpoolEngine, row: Row, why: str) -> None:
    kept = engine.spool.quarantine.new_name(row.window or "")
    error = ErrorInfo("Unreadable", f"its file is kept as corrupt/{kept} and was not run: {why}")
    now = engine.clock()
    change = Change(outcome="failed", state=DEAD, due_at=row.due_at, ended_at=now, error=error)
    with engine.ledger.transaction() as rows:
        rows.settle(row, change)
    announce_end(app, row, change)
    if engine.spool.quarantine.put(row.window or "", kept=kept):
        announce(file_quarantined, app, name=kept, why=why)
