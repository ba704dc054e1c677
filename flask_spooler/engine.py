"""How a job gets to be run: the seam between a task and what runs it.

Owns the steps that need the spool and the ledger together: submit, promote, wake, cancel, revive.
The order of file and row in each step is the rule by which a crash between them is repaired;
`docs/guarantees.md` lists them. Another engine could take the same `Job`.
"""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from typing import Final

from . import _uwsgi
from .errors import (
    EnqueueError,
    JobNotFound,
    JobStateError,
    LedgerError,
    PacketError,
    PayloadTooLarge,
)
from .job import (
    CANCELLED,
    DEAD,
    EXPIRED,
    FINAL,
    QUEUED,
    RETRYING,
    REVIVABLE,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    Job,
    encode_packet,
    is_ours,
    open_packet,
    parse_file,
)
from .ledger import Ledger, Seen, Transaction
from .record import ErrorInfo, Unrecorded
from .spool import DEAD as DEAD_PLACE
from .spool import DONE, WAITING, Spool

WINDOW_PER_SPOOLER: Final = 2
"""Ready files in the window for each spooler: one to start when a job ends, one to spare."""

LOST: Final = ErrorInfo(
    "FileLost", "the job's file is gone, and nothing tells how it ended; not run again"
)

FORGOTTEN: Final = ErrorInfo(
    "HistoryLost", "why it ended stood in a ledger that is gone; its file is kept"
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
            self._prepared_key = self._given_key or self.spool.signing_key()
        return self._prepared_key

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
            raise
        self._sync(jobs, places)
        _uwsgi.wake(sleepers)
        if ring:
            self.ring()
        return [places[job.id].job_id for job in jobs]

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
        rows.on_rollback(functools.partial(self.spool.withdraw, job.id))
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
            with self.ledger.transaction() as rows:
                known = [rows.row(place.job_id) for place in published]
                if any(row is None or row.attempt for row in known):
                    return
                for place in published:
                    rows.forget_unstarted(place.job_id)
                    self.spool.withdraw(place.job_id)
            raise

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
            elif not self.spool.has(DONE, job_id):
                rows.close(job_id, DEAD, time.time(), LOST)
        return _idle(seen)[:ready] if ready > seen.ready else []

    def _enter_window(self, job_id: str) -> str | None:
        window = self.spool.window_name(job_id)
        if self.spool.promote(job_id, window):
            return window
        # Revived by a person: the row was first, and its file may still lie in dead/.
        if self.spool.exhume(job_id) and self.spool.promote(job_id, window):
            return window
        # A promoter before us renamed it and died before its commit.
        for file in self.spool.window():
            if file.job_id == job_id:
                return file.name
        # It was moved back to waiting/ while we looked elsewhere.
        return window if self.spool.promote(job_id, window) else None

    def sleepers(self, rows: Transaction, unknown: int = 0) -> list[int]:
        """Return as many idle spoolers as there are ready files, no more.

        `unknown` files are ready as well, though no row speaks of them yet.
        """
        seen = rows.look_around(None, str(_uwsgi.boot()), time.time())
        return _idle(seen)[: seen.ready + unknown]

    def drain(self, until: float) -> int:
        """Let the servers on this spool start no jobs until a time; how many servers that are.

        It belongs to their present boot, so a reload ends it too. A time in the past takes it
        back.
        """
        alive = [boot for boot in self.ledger.servers() if _uwsgi.lives_on(boot)]
        with self.ledger.transaction() as rows:
            for boot in alive:
                rows.drain(boot, until)
        if until <= time.time():
            self.ring()
        return len(alive)

    def pause(self, queue: str, paused: bool = True) -> None:
        """Start no more jobs of a queue, or go on; kept across restarts."""
        with self.ledger.transaction() as rows:
            rows.pause(queue, paused)
        if not paused:
            self.ring()

    def running(self) -> int:
        """Return how many jobs run now, on all servers of this spool."""
        return sum(
            row.state == RUNNING and _uwsgi.is_alive(row.process)
            for row in self.ledger.in_window().values()
        )

    def runs_here(self, boot: str) -> bool:
        """Tell whether a process of this boot still runs a job."""
        return any(
            row.state == RUNNING and row.boot == boot and _uwsgi.is_alive(row.process)
            for row in self.ledger.in_window().values()
        )

    def is_draining(self, boot: str) -> bool:
        """Tell whether this boot starts no jobs for now."""
        return self.ledger.is_draining(boot, time.time())

    def ring(self) -> None:
        """Wake the housekeeper from any process. Nobody home is no error: it looks by itself."""
        try:
            bell = os.open(self.spool.doorbell, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return
        try:
            os.write(bell, b"!")
        except BlockingIOError:
            return
        finally:
            os.close(bell)

    def adopt(self, place: str, job_id: str) -> bool:
        """Make the row of a file in ``waiting/`` or ``dead/`` again; False when it has one.

        What cannot be read, or is not signed with this spool's key, goes to ``corrupt/``.
        """
        try:
            packet = parse_file(self.spool.read(place, job_id))
            if not is_ours(packet):
                raise PacketError("not a job of this library")
            job = open_packet(packet, self.key)
            if job.id != job_id:
                raise PacketError(f"it bears the name of another job than {job.id}")
        except FileNotFoundError:
            return False
        except PacketError:
            self.spool.quarantine_from(place, job_id)
            return False
        with self.ledger.transaction() as rows:
            if not self.spool.has(place, job_id):
                return False  # withdrawn by an enqueue that failed
            if place == DEAD_PLACE:
                return rows.insert_dead(job, time.time(), FORGOTTEN)
            return rows.insert(job, SCHEDULED if job.is_scheduled else QUEUED, None)

    def find_again(self, job_id: str) -> None:
        """Put right a row that says its file is in the window, where it is not.

        A power cut can take back the last commits of the ledger while the moves of files stay,
        and people delete files. Where the file lies now says what the job is.
        """
        with self.ledger.transaction() as rows:
            row = rows.row(job_id)
            if row is None or row.window is None or self.spool.in_window(row.window):
                return
            if row.state == RUNNING and _uwsgi.is_alive(row.process):
                return
            if self.spool.has(DONE, job_id):
                return
            if self.spool.has(WAITING, job_id):
                rows.requeue(job_id)
            else:
                rows.end_lost(job_id, time.time(), LOST)

    def record_late(self, job_id: str, kept: Unrecorded) -> None:
        """Write the row of a job in ``done/`` and put its file where its state belongs."""
        with self.ledger.transaction() as rows:
            row = rows.row(job_id)
            if row is None:
                job = open_packet(parse_file(self.spool.read(DONE, job_id)), self.key)
                rows.insert_running(job, kept.attempt)
            rows.settle(job_id, kept.attempt, kept.change)
        place = {SUCCEEDED: None, RETRYING: WAITING}.get(kept.change.state, DEAD_PLACE)
        self.spool.clear_done(job_id, place)
        self.ring()

    def cancel(self, job_id: str) -> str:
        """Cancel a job for good and return its state; a running one is asked to stop.

        A waiting job is cancelled at once. One that is in the window is cancelled too: its file
        is put away when uWSGI hands it to a spooler, and is not run. Raises `JobNotFound`, and
        `JobStateError` for a job that has ended.
        """
        with self.ledger.transaction() as rows:
            row = rows.row(job_id)
            if row is None:
                raise JobNotFound(job_id)
            if row.state == RUNNING:
                rows.ask_cancel(job_id)
            elif not rows.close(job_id, CANCELLED, time.time(), None):
                raise JobStateError(job_id, "cancel", row.state, "unfinished")
        if row.state == RUNNING:
            _uwsgi.abort(row.process)
            return RUNNING
        if row.window is None:
            self.spool.bury_waiting(job_id)
        return CANCELLED

    def expire(self, now: float, limit: int) -> int:
        """Close up to `limit` waiting jobs whose `expires` has passed; how many that were."""
        with self.ledger.transaction() as rows:
            expired = [job_id for job_id in rows.overdue(now, limit)
                       if rows.close(job_id, EXPIRED, now, None)]  # fmt: skip
        for job_id in expired:
            self.spool.bury_waiting(job_id)
        return len(expired)

    def delete(self, job_id: str) -> None:
        """Forget a job that has ended, its file included; `JobNotFound`, `JobStateError`."""
        state = self.ledger.state(job_id)
        if state is None:
            raise JobNotFound(job_id)
        if state not in FINAL:
            raise JobStateError(job_id, "delete", state, "one that has ended")
        if not self._forget([job_id]):
            raise JobStateError(job_id, "delete", f"{state}, its file still in use", "put away")

    def purge(self, before: float, limit: int, states: frozenset[str] = FINAL) -> int:
        """Delete up to `limit` jobs in these final states that ended before a time; how many."""
        ended = self.ledger.ended_before(before, limit, states)
        return len(self._forget(ended)) if ended else 0

    def _forget(self, job_ids: list[str]) -> list[str]:
        """Delete files, then rows, of those that are still final; return whom it was done to.

        A row may go only when its file is gone: else the file would be found, adopted and run.
        One that is still in the window, to be put away by its lock's holder, stays for now.
        """
        forgotten = []
        with self.ledger.transaction() as rows:
            in_window = {file.job_id for file in self.spool.window()}
            for job_id in job_ids:
                row = rows.row(job_id)
                if row is None or row.state not in FINAL or job_id in in_window:
                    continue
                for place in (WAITING, DEAD_PLACE):
                    self.spool.remove(place, job_id)
                rows.delete(job_id)
                forgotten.append(job_id)
        return forgotten

    def revive(self, job_id: str) -> None:
        """Run a dead, cancelled or expired job again: row first, then the file.

        Attempt numbers go on, limits start anew. Raises `JobNotFound` and `JobStateError`.
        """
        with self.ledger.transaction() as rows:
            row = rows.row(job_id)
            if row is None:
                raise JobNotFound(job_id)
            if row.state not in REVIVABLE:
                raise JobStateError(job_id, "retry", row.state, "dead, cancelled or expired")
            holder = rows.holder_of(row.task, row.unique_key) if row.unique_key else None
            if holder is not None:
                others = f"alone under its unique key, which job {holder} holds now"
                raise JobStateError(job_id, "retry", row.state, others)
            rows.revive(job_id, time.time())
        self.spool.exhume(job_id)
        self.ring()


def _idle(seen: Seen) -> list[int]:
    return [pid for pid in _uwsgi.spooler_pids() if pid not in seen.busy]
