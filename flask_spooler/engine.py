"""How a job gets to be run: the seam between a task and what runs it.

Owns the way into the spool and into the window: submit, promote, wake. The order of file and row
in each step is the rule by which a crash between them is repaired; `docs/guarantees.md` lists
them. What people ask for is in `operations`, what crashes leave to be done in `upkeep`. Another
engine could take the same `Job`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import time
from dataclasses import dataclass
from typing import Final

from . import _uwsgi
from .errors import (
    EnqueueError,
    LedgerError,
    OtherKey,
    PayloadTooLarge,
)
from .job import (
    DEAD,
    QUEUED,
    SCHEDULED,
    Job,
    encode_packet,
)
from .ledger import Ledger, Seen, Transaction
from .record import ErrorInfo
from .spool import DONE, WRITING, Spool

WINDOW_PER_SPOOLER: Final = 2
"""Ready files in the window for each spooler: one to start when a job ends, one to spare."""

LOST: Final = ErrorInfo(
    "FileLost", "the job's file is gone, and nothing tells how it ended; not run again"
)


@dataclass(frozen=True)
class Place:
    """What became of one enqueued job: its id, and its name in the window if it stands there."""

    job_id: str
    window: str | None
    published: bool


class SpoolEngine:
    """Runs jobs through uWSGI's spooler: one spool directory and its ledger."""

    def __init__(self, spool: Spool, *, key: bytes | None = None, max_payload: int = 2**24) -> None:
        self.spool = spool
        self.ledger = Ledger(spool.ledger, self.prepare)
        self.max_payload = max_payload
        self._given_key = key
        self._prepared_key: bytes | None = None

    @property
    def key(self) -> bytes:
        """The key that signs this spool's jobs; preparing the directories at first need."""
        if self._prepared_key is None:
            self.spool.prepare()
            key = self._given_key or self.spool.signing_key()
            self._check_key(hashlib.sha256(key).hexdigest()[:16])
            self._prepared_key = key
        return self._prepared_key

    def _check_key(self, fingerprint: str) -> None:
        """Let the server say which key counts, and everybody else find out in time."""
        noted = self.spool.noted_key()
        if noted == fingerprint:
            return
        if _uwsgi.spooler_pids():
            self.spool.note_key(fingerprint)
        elif noted is not None:
            raise EnqueueError(str(self.spool.root), OtherKey(str(self.spool.root)))

    def prepare(self) -> None:
        """Make directories and key now, so that a server finds out at its start if it cannot."""
        self.spool.prepare()
        assert self.key

    def submit(self, job: Job) -> str:
        """Publish a job and return the id under which it is known.

        When this returns, the file is whole, signed and in place, and its row is committed; with
        a syncing spool both file and directory are on the disk. With a `unique` key the id may
        be that of the unfinished job that holds the key. Raises `EnqueueError` where any of it
        fails, and then nothing is left behind and the job will not run; `PayloadTooLarge` for
        arguments beyond the limit.
        """
        return self.submit_many([job])[0]

    def submit_many(self, jobs: list[Job]) -> list[str]:
        """Publish jobs together, with one sync and one commit; see `submit`.

        All or none, unless the machine fails in between: then each is whole or absent.
        """
        for job in jobs:
            size = len(bytes(job.kwargs))
            if size > self.max_payload:
                raise PayloadTooLarge(f"the arguments of {job.task}", size, self.max_payload)
        try:
            return self._publish(jobs)
        except LedgerError as error:
            raise EnqueueError(str(self.ledger.path), error) from error
        except OSError as error:
            raise EnqueueError(str(self.spool.root), error) from error

    def _publish(self, jobs: list[Job]) -> list[str]:
        """Write the files aside, then rename them and insert their rows in one transaction.

        Under the write lock nobody else starts, promotes or lists a job, so room in the window
        and unique keys are decided once, and a failure undoes the renames before anybody can
        have acted on them: `start` runs no file whose row is missing and which is gone.
        """
        try:
            self._write(jobs)
            with self.ledger.transaction() as rows:
                places = {job.id: self._insert(rows, job, alone=len(jobs) == 1) for job in jobs}
                sleepers = self.promote(rows) if len(jobs) > 1 else []
                ring = self._needs_housekeeper(rows, jobs, places)
        except BaseException:
            for job in jobs:
                self.spool.discard_written(job.id)
            if self._were_started(jobs):
                return [job.id for job in jobs]
            raise
        self._sync(jobs, places)
        _uwsgi.wake(sleepers)
        if ring:
            self.ring()
        return [places[job.id].job_id for job in jobs]

    def _were_started(self, jobs: list[Job]) -> bool:
        """Tell whether spoolers have all these jobs, although their enqueue failed.

        SQLite gives up the write lock by itself on a full disk: see `Transaction.roll_back`.
        """
        try:
            return all(self.ledger.state(job.id) is not None for job in jobs)
        except LedgerError:
            return False

    def _write(self, jobs: list[Job]) -> None:
        together = len(jobs) > 1
        for job in jobs:
            due = job.due_at if job.is_scheduled else None
            self.spool.write(job.id, encode_packet(job, self.key), due, sync=not together)
        if together:
            self.spool.sync_written()

    def _insert(self, rows: Transaction, job: Job, *, alone: bool) -> Place:
        """Rename one file to its place and insert its row, or return who holds its key."""
        holder = rows.holder_of(job.task, job.unique) if job.unique else None
        if holder is not None:
            self.spool.discard_written(job.id)
            return Place(holder, None, published=False)
        window: str | None = None
        sleepers: list[int] = []
        if alone and not job.is_scheduled:
            window, sleepers = self._way_into_window(rows, job)
        rows.on_rollback(job.id, functools.partial(self.spool.withdraw, job.id))
        self.spool.publish(job.id, window)
        # Woken before the commit, which is done long before a spooler gets as far as `start`;
        # and there it would wait for the write lock.
        _uwsgi.wake(sleepers)
        rows.insert(job, SCHEDULED if job.is_scheduled else QUEUED, window)
        return Place(job.id, window, published=True)

    @staticmethod
    def _needs_housekeeper(rows: Transaction, jobs: list[Job], places: dict[str, Place]) -> bool:
        """Tell whether somebody waits whom only the housekeeper can see in time."""
        waiting = [job for job in jobs if places[job.id].published and not places[job.id].window]
        if not waiting:
            return False
        first = min(waiting, key=lambda job: job.due_at)
        return not first.is_scheduled or rows.is_first_due(first.due_at)

    def _sync(self, jobs: list[Job], places: dict[str, Place]) -> None:
        published = [places[job.id] for job in jobs if places[job.id].published]
        try:
            for in_window in {place.window is not None for place in published}:
                self.spool.sync_published(in_window=in_window)
        except OSError:
            # Not on the disk for sure: take all of it back, unless a spooler has some already.
            if self._take_back(published):
                raise

    def _take_back(self, published: list[Place]) -> bool:
        """Withdraw jobs that may not be on the disk; False where it is too late: they do run.

        A crash before the commit leaves rows whose files are in ``tmp/`` again: whoever looks for
        the files deletes the rows.
        """
        try:
            with self.ledger.transaction() as rows:
                known = [rows.row(place.job_id) for place in published]
                if any(row is None or row.attempt for row in known):
                    return False
                for place in published:
                    self.spool.withdraw(place.job_id)
                    rows.delete(place.job_id)
        except LedgerError:
            return False
        for place in published:
            self.spool.discard_written(place.job_id)
        return True

    def _way_into_window(self, rows: Transaction, job: Job) -> tuple[str | None, list[int]]:
        """Return a name in the window, and whom to wake, if a new job passes nobody who waits."""
        seen = rows.look_around(job.queue, str(_uwsgi.boot()), time.time())
        if seen.held or seen.waiting or seen.ready >= self.window_size:
            return None, []
        return self.spool.window_name(job.id), _idle(seen)[: seen.ready + 1]

    @property
    def window_size(self) -> int:
        """How many ready files may stand in the window; 0 outside a server with spoolers."""
        return WINDOW_PER_SPOOLER * len(_uwsgi.spooler_pids())

    def promote(self, rows: Transaction) -> list[int]:
        """Fill the window with whoever comes next; return the idle spoolers to wake for it.

        Rename, then row: a crash in between leaves a row that says waiting while its file is in
        the window, which `start` accepts.
        """
        seen = rows.look_around(None, str(_uwsgi.boot()), time.time())
        if seen.held or not seen.waiting:
            return []
        ready = seen.ready
        for job_id in rows.next_jobs(self.window_size - ready):
            window = self._enter_window(job_id)
            if window is not None:
                rows.enter_window(job_id, window)
                ready += 1
            elif self.spool.has(WRITING, job_id):
                rows.delete(job_id)  # refused; the process that took it back was killed at it
            elif not self.spool.has(DONE, job_id):
                rows.close(job_id, DEAD, time.time(), LOST)
        return _idle(seen)[:ready] if ready > seen.ready else []

    def _enter_window(self, job_id: str) -> str | None:
        window = self.spool.window_name(job_id)
        # Twice: the holder of its lock may move it from where we have not looked yet to where we
        # have, once.
        for _ in range(2):
            if self.spool.promote(job_id, window):
                return window
            # Revived by a person: the row was first, and its file may still lie in dead/.
            if self.spool.exhume(job_id) and self.spool.promote(job_id, window):
                return window
            # A promoter before us renamed it and died before its commit.
            for file in self.spool.window():
                if file.job_id == job_id:
                    return file.name
        return None

    def sleepers(self, rows: Transaction, unknown: int = 0) -> list[int]:
        """Return as many idle spoolers as there are ready files, no more.

        `unknown` files are ready as well, though no row speaks of them yet.
        """
        seen = rows.look_around(None, str(_uwsgi.boot()), time.time())
        return _idle(seen)[: seen.ready + unknown]

    def ring(self) -> None:
        """Wake the housekeeper from any process. Nobody home is no error: it looks by itself."""
        try:
            bell = os.open(self.spool.doorbell, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return
        with contextlib.suppress(OSError):  # full, or its reader has just ended
            os.write(bell, b"!")
        os.close(bell)


def _idle(seen: Seen) -> list[int]:
    return [pid for pid in _uwsgi.spooler_pids() if pid not in seen.busy]
