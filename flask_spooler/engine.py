"""How a job gets to be run: the seam between a task and what runs it.

Owns the way into the spool; who enters the window is in `window`. The order of file and row
in each step is the rule by which a crash between them is repaired; `docs/guarantees.md` lists
them. What people ask for is in `operations`, what crashes leave to be done in `upkeep`. Another
engine could take the same `Job`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask

from . import _uwsgi
from .errors import DuplicateJob, EnqueueError, LedgerError, OtherKey, PayloadTooLarge
from .job import CANCELLED, QUEUED, SCHEDULED, Job, encode_packet, open_file
from .ledger import Ledger, Transaction
from .queues import Queues
from .signals import announce, job_cancelled
from .spool import Spool, fingerprint
from .window import Window


@dataclass(frozen=True)
class Submitted:
    """What became of one enqueued job: its id, and its name in the window if it stands there."""

    job_id: str
    window: str | None
    published: bool
    replaced: str | None = None
    """The job whose place it has taken."""

    @property
    def waits(self) -> bool:
        return self.published and self.window is None


class SpoolEngine:
    """Runs jobs through uWSGI's spooler: one spool directory and its ledger."""

    def __init__(
        self,
        spool: Spool,
        *,
        key: bytes | None = None,
        max_payload: int = 2**24,
        queues: Queues | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.spool = spool
        self.clock = clock
        """What time it is for jobs: when they are due, start, end and expire. Leases of files and
        all that measures the machine go by the machine's own time."""
        self.ledger = Ledger(spool.ledger, self.prepare, sync=spool.sync)
        self.max_payload = max_payload
        self.window = Window(spool, queues or Queues(), clock)
        self.app: Flask | None = None
        """The app whose jobs these are, the sender of their signals."""
        self.serves = False
        """Whether this process belongs to the server whose spoolers run the jobs."""
        self.by_hand = False
        """Whether jobs run only when a test says so, so that nobody is to be waited for."""
        self._given_key = key
        self._prepared_key: bytes | None = None

    @property
    def key(self) -> bytes:
        """The key that signs this spool's jobs; preparing the directories at first need."""
        if self._prepared_key is None:
            self.spool.prepare()
            key = self._given_key or self.spool.key.read_or_make()
            self._check_key(fingerprint(key))
            self._prepared_key = key
        return self._prepared_key

    def _check_key(self, mine: str) -> None:
        """Let the server say which key counts, and everybody else find out in time."""
        noted = self.spool.key.noted()
        if noted == mine:
            return
        if self.serves:
            self.spool.key.note(mine, sync=self.spool.sync)
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
        arguments beyond the limit; `DuplicateJob` where that was asked for.
        """
        return self.submit_many([job])[0]

    def submit_many(self, jobs: list[Job]) -> list[str]:
        """Publish jobs together, with one sync and one commit; see `submit`.

        All or none, unless the machine fails in between: then each is whole or absent.
        """
        for job in jobs:
            self.check_size(job)
        try:
            return self._publish(jobs)
        except LedgerError as error:
            raise EnqueueError(str(self.ledger.path), error) from error
        except OSError as error:
            raise EnqueueError(str(self.spool.root), error) from error

    def check_size(self, job: Job, call: str = "") -> None:
        """Raise `PayloadTooLarge` for a job whose arguments are beyond the limit.

        `call` says which one it is of several.
        """
        size = len(bytes(job.kwargs))
        if size > self.max_payload:
            what = f"the arguments of {job.task}" + (f" in {call}" if call else "")
            raise PayloadTooLarge(what, size, self.max_payload)

    def _publish(self, jobs: list[Job]) -> list[str]:
        """Write the files aside, then rename them and insert their rows in one transaction.

        Under the write lock nobody else starts, promotes or lists a job, so room in the window
        and unique keys are decided once, and a failure undoes the renames before anybody can
        have acted on them: `start` runs no file whose row is missing and which is gone.
        """
        try:
            self._write(jobs)
            with self.ledger.transaction() as rows:
                submitted = {job.id: self._insert(rows, job, alone=len(jobs) == 1) for job in jobs}
                replaced = [each.replaced for each in submitted.values() if each.replaced]
                has_key = any(job.unique for job in jobs)
                if has_key:
                    # On the disk before the commit: from then on others are given the id of who
                    # holds the key, and whom it has replaced could not be brought back.
                    self._sync_directories(list(submitted.values()))
                waiting = [job for job in jobs if submitted[job.id].waits]
                sleepers = self.window.fill(rows).sleepers if waiting else []
                ring = bool(waiting) and self._needs_housekeeper(rows, waiting)
        except BaseException:
            for job in jobs:
                self.spool.discard_written(job.id)
            if self._were_started(jobs):
                return [job.id for job in jobs]
            raise
        if not has_key:
            self._sync(jobs, submitted)
        self._bury(replaced)
        self._tell(replaced)
        _uwsgi.wake(sleepers)
        if ring:
            self.ring()
        return [submitted[job.id].job_id for job in jobs]

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

    def _insert(self, rows: Transaction, job: Job, *, alone: bool) -> Submitted:
        """Rename one file to its place and insert its row, or return who holds its key."""
        holder = rows.holder_of(job.task, job.unique) if job.unique else None
        if holder is not None:
            match job.on_duplicate:
                case "refuse":
                    raise DuplicateJob(job.task, job.unique or "", holder)
                case "replace":
                    rows.replace(holder, job.id, job.enqueued_at)
                case _:
                    self.spool.discard_written(job.id)
                    return Submitted(holder, None, published=False)
        window: str | None = None
        sleepers: list[int] = []
        if alone and not job.is_scheduled:
            window, sleepers = self.window.way_in(rows, job)
        rows.on_rollback(job.id, functools.partial(self.spool.withdraw, job.id))
        self.spool.publish(job.id, window)
        # Woken before the commit, which is done long before a spooler gets as far as `start`;
        # and there it would wait for the write lock.
        _uwsgi.wake(sleepers)
        rows.insert(job, SCHEDULED if job.is_scheduled else QUEUED, window)
        return Submitted(job.id, window, published=True, replaced=holder)

    def _needs_housekeeper(self, rows: Transaction, waiting: list[Job]) -> bool:
        """Tell whether somebody waits whom only the housekeeper can see in time.

        That is a job whose time comes before all others'; and, from a process outside the
        server, a due one for which a spooler is idle. One that is busy takes it by itself.
        """
        first = min(waiting, key=lambda job: job.due_at)
        if first.is_scheduled:
            return rows.is_first_due(first.due_at)
        if self.window.size:
            return False
        seen, pool = rows.seen(), rows.pool()
        return not pool or len(seen.busy) + seen.ready < pool

    def _sync(self, jobs: list[Job], submitted: dict[str, Submitted]) -> None:
        published = [submitted[job.id] for job in jobs if submitted[job.id].published]
        try:
            self._sync_directories(published)
        except OSError:
            # Not on the disk for sure: take all of it back, unless a spooler has some already.
            if self._take_back(published):
                raise

    def _sync_directories(self, submitted: list[Submitted]) -> None:
        for in_window in {each.window is not None for each in submitted if each.published}:
            self.spool.sync_published(in_window=in_window)

    def _bury(self, replaced: list[str]) -> None:
        """Put away the files of jobs that were replaced; those in the window when handed over."""
        for job_id in replaced:
            with contextlib.suppress(OSError):  # its row is final: whoever finds the file sees that
                self.spool.bury_waiting(job_id)

    def _tell(self, replaced: list[str]) -> None:
        """Say which of the replaced jobs are cancelled by it; one that runs ends by itself."""
        for job_id in replaced:
            with contextlib.suppress(LedgerError):
                row = self.ledger.record(job_id)
                if row is not None and row.state == CANCELLED:
                    facts = {"job_id": job_id, "task": row.task, "attempt": row.attempt}
                    announce(job_cancelled, self.app, **facts)

    def _take_back(self, published: list[Submitted]) -> bool:
        """Withdraw jobs that may not be on the disk; False where it is too late: they do run.

        A crash before the commit leaves rows whose files are in ``tmp/`` again: whoever looks for
        the files deletes the rows.
        """
        try:
            with self.ledger.transaction() as rows:
                known = [rows.row(each.job_id) for each in published]
                if any(row is None or row.attempt for row in known):
                    return False
                for each in published:
                    self.spool.withdraw(each.job_id)
                    rows.delete(each.job_id)
        except LedgerError:
            return False
        for each in published:
            self.spool.discard_written(each.job_id)
        return True

    def read_job(self, place: str, job_id: str) -> Job:
        """Return the job whose file lies in one of our directories.

        Raises `FileNotFoundError`; `PacketError` for what is not that job, whole and signed with
        this spool's key; and `NewerFormat`, for a file that waits for code that knows it.
        """
        return open_file(self.spool.read(place, job_id), self.key, job_id)

    def ring(self) -> None:
        """Wake the housekeeper from any process. Nobody home is no error: it looks by itself."""
        try:
            bell = os.open(self.spool.doorbell, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return
        with contextlib.suppress(OSError):  # full, or its reader has just ended
            os.write(bell, b"!")
        os.close(bell)
