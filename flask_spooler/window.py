"""The window: which jobs uWSGI sees, and whom to wake for them.

Owns who enters the directory that uWSGI scans, and when. uWSGI looks at every file in it at every
scan, and works one listing off before it makes the next: so there is at most one file for each
idle spooler, and we choose them. A spooler that is busy needs none: when it has finished, it takes
whose turn it is then. Everything here happens under the ledger's write lock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from . import _uwsgi
from .job import DEAD, Job
from .ledger import Seen, Transaction
from .queues import Queues, Waiting
from .record import ErrorInfo
from .spool import DONE, WRITING, Spool

RIPEN_AT_ONCE: Final = 500
"""Due jobs made queued in one transaction: 100,000 due in one second must not block a writer."""

LOST: Final = ErrorInfo(
    "FileLost", "the job's file is gone, and nothing tells how it ended; not run again"
)


class Promoted(NamedTuple):
    """The window after it was filled."""

    ready: int
    """Jobs that wait for a spooler now."""
    sleepers: list[int]
    """Idle spoolers to wake for them."""


class Window:
    """The window of one spool."""

    def __init__(
        self, spool: Spool, queues: Queues, clock: Callable[[], float] = time.time
    ) -> None:
        self._spool = spool
        self._queues = queues
        self._clock = clock

    @property
    def size(self) -> int:
        """How many spoolers there are to fill it for; 0 outside a server with spoolers."""
        return len(_uwsgi.spooler_pids())

    def fill(self, rows: Transaction, seen: Seen | None = None) -> Promoted:
        """Let in one job for each idle spooler that has none yet, in the order of their turn.

        Rename, then row: a crash in between leaves a row that says waiting while its file is in
        the window, which `start` accepts.
        """
        seen = seen or rows.seen()
        idle = _idle(seen)
        ready = seen.ready
        for job in self._next_jobs(rows, seen, len(idle) - ready):
            if self.let_in(rows, job.id) is not None:
                ready += 1
        me = os.getpid()  # a spooler that fills the window at the end of a job looks by itself
        wakeable = [pid for pid in idle if pid != me] if ready > seen.ready else []
        return Promoted(ready, wakeable[:ready])

    def let_in_next(self, rows: Transaction) -> str | None:
        """Let in whose turn it is and return its name, for a process that runs jobs by itself.

        Without a server nobody is idle, so nothing else fills the window. None where none may
        start.
        """
        while jobs := self._next_jobs(rows, rows.seen(), 1):
            name = self.let_in(rows, jobs[0].id)
            if name is not None:
                return name
        return None

    def let_in(self, rows: Transaction, job_id: str) -> str | None:
        """Let in one waiting job and return its name; None where its file is not to be found."""
        window = self._enter_window(job_id)
        if window is not None:
            rows.enter_window(job_id, window)
        elif self._spool.has(WRITING, job_id):
            rows.delete(job_id)  # refused; the process that took it back was killed at it
        elif not self._spool.has(DONE, job_id):
            rows.close(job_id, DEAD, self._clock(), LOST)
        return window

    def first(self, rows: Transaction, seen: Seen) -> Waiting | None:
        """Return whose turn it is, for a spooler that takes it without uWSGI.

        None while files are ready in the window: those came first.
        """
        if seen.ready or not self.size:
            return None
        return next(iter(self._next_jobs(rows, seen, 1)), None)

    def _next_jobs(self, rows: Transaction, seen: Seen, room: int) -> list[Waiting]:
        if room <= 0:
            return []
        heads = {}
        for queue in rows.open_queues(_uwsgi.boot_name(), self._clock()):
            free = self._queues.room(queue, seen.inside, room)
            if free:
                heads[queue] = rows.heads(queue, free)
        return self._queues.choose(heads, room)

    def _enter_window(self, job_id: str) -> str | None:
        window = self._spool.window_name(job_id)
        # Twice: the holder of its lock may move it from where we have not looked yet to where we
        # have, once.
        for _ in range(2):
            if self._spool.promote(job_id, window):
                return window
            # Revived by a person: the row was first, and its file may still lie in dead/.
            if self._spool.exhume(job_id) and self._spool.promote(job_id, window):
                return window
            # A spooler took it and died before its commit.
            if self._spool.give_back(job_id, window):
                return window
            # A promoter before us renamed it and died before its commit.
            for file in self._spool.window():
                if file.job_id == job_id:
                    return file.name
        return None

    def sleepers(self, rows: Transaction, unknown: int = 0) -> list[int]:
        """Return as many idle spoolers as there are ready files, no more.

        `unknown` files are ready as well, though no row speaks of them yet.
        """
        seen = rows.seen()
        return _idle(seen)[: seen.ready + unknown]

    def way_in(self, rows: Transaction, job: Job) -> tuple[str | None, list[int]]:
        """Return a name in the window, and whom to wake, if a new job passes nobody who waits."""
        seen = rows.seen()
        idle = _idle(seen)
        full = seen.ready >= len(idle) or not self._queues.room(job.queue, seen.inside, 1)
        if full or rows.anyone_waits():
            return None, []
        held = rows.held(_uwsgi.boot_name(), self._clock())
        if held.draining or job.queue in held.paused:
            return None, []
        return self._spool.window_name(job.id), idle[: seen.ready + 1]


def _idle(seen: Seen) -> list[int]:
    return [pid for pid in _uwsgi.spooler_pids() if pid not in seen.busy]
