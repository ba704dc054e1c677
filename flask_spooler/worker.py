"""One attempt: what happens when uWSGI hands us a locked job file.

Owns the five steps of an attempt: open, start, perform, settle, answer. Each hands one value to
the next; a step that cannot go on raises `NotNow`. The answer is `SPOOL_OK` when the job has
succeeded, and uWSGI unlinks its file; it is `SPOOL_RETRY` when the file stays or has been moved
to where it belongs. Nothing else is ever answered: uWSGI would unlink, loop or crash.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from blinker import NamedSignal
from flask import Flask

from . import _uwsgi
from .admission import PUT_OFF_UNKNOWN, Close, Decision, PutAway, Start, Wait, admit, autopsy
from .current import CurrentJob
from .engine import SpoolEngine
from .errors import LedgerError, NewerFormat, PacketError
from .job import (
    CANCELLED,
    DEAD,
    EXPIRED,
    FINAL,
    QUEUED,
    RETRYING,
    RUNNING,
    SUCCEEDED,
    Job,
    open_packet,
)
from .ledger import Transaction
from .lifecycle import this_process
from .outcome import Outcome, Policy, judge
from .perform import Attempt, perform
from .record import Change, ErrorInfo, Progress, Row, Unrecorded
from .retry import SPOOL_OK, SPOOL_RETRY, SpoolAnswer, backoff_seconds
from .signals import (
    announce,
    file_quarantined,
    job_cancelled,
    job_dead,
    job_expired,
    job_put_off,
    job_retrying,
    job_started,
    job_succeeded,
    spool_trouble,
)
from .task import DEFAULT_BACKOFF, Task

PUT_OFF: Final = 2.0
"""Seconds until a file is looked at again whose former process still lives."""

PUT_OFF_LEDGER: Final = 3.0
"""Seconds until a file is looked at again that met an unusable ledger."""

PUT_OFF_UNDELETABLE: Final = 3600.0
"""Seconds until the file of a finished job is looked at again that cannot be removed."""


class NotNow(Exception):
    """There is nothing to perform; the file stays or was moved, so the answer is a retry."""


@dataclass(frozen=True)
class Opened:
    """A job file that is whole and ours."""

    job: Job
    window: str


class Worker:
    """Runs the jobs of one app in a spooler process."""

    def __init__(
        self,
        app: Flask,
        engine: SpoolEngine,
        tasks: dict[str, Task[..., Any]],
        *,
        max_crashes: int,
        grace: float,
    ) -> None:
        self.app = app
        self.engine = engine
        self.tasks = tasks
        self.max_crashes = max_crashes
        self.grace = grace
        self._spool = engine.spool
        self._ledger = engine.ledger
        self._in_hand: str | None = None

    def handle(self, packet: _uwsgi.Packet) -> SpoolAnswer:
        """Run the job in a packet that uWSGI holds locked, and say what becomes of its file."""
        with this_process().busy(self._note_stop):
            try:
                opened = self.open(packet)
                attempt = self.start(opened)
                outcome, progress = self.perform(attempt)
                change = self.settle(attempt, outcome, progress)
                return self.answer(attempt, change)
            except NotNow:
                return SPOOL_RETRY
            finally:
                self._in_hand = None

    def open(self, packet: _uwsgi.Packet) -> Opened:
        """Check signature, length and form; what is not a job of ours is put into quarantine."""
        window = window_of(packet)
        try:
            return Opened(open_packet(packet, self.engine.key), window)
        except PacketError as error:
            kept = self._spool.quarantine(window)
            announce(file_quarantined, self.app, name=kept or window, why=str(error))
            self._tell_row(window, kept, str(error))
        except NewerFormat as error:
            self.send_back(window, PUT_OFF_UNKNOWN, ErrorInfo("NewerFormat", str(error)))
            announce(spool_trouble, self.app, what=f"{window} has to wait", error=error)
        raise NotNow

    def send_back(self, window: str, seconds: float, why: ErrorInfo) -> None:
        """Let a file wait outside the window, whatever is wrong with it.

        A ready file that is only leased would hold its place in the window against all others.
        """
        due = time.time() + seconds
        job_id = self._spool.job_in(window)
        try:
            with self._ledger.transaction() as rows:
                row = rows.row(job_id) if job_id else None
                waits = row is not None and row.state not in FINAL and row.state != RUNNING
                if row is not None and waits:
                    rows.put_off(row.id, due, time.time(), why)
        except LedgerError:
            waits = False
        if job_id is not None and waits:
            self._spool.demote(window, job_id, due)
        else:
            self._spool.lease(window, due)

    def start(self, opened: Opened) -> Attempt:
        """Count the attempt and write down who runs it, or see that it is not to be run now."""
        job = opened.job
        try:
            with self._ledger.transaction() as rows:
                before = self._known_row(rows, opened)
                lost = self._settle_lost_attempt(rows, before, opened)
                row = before if lost is None else rows.known(job.id)
                decision = self._admit(rows, row, job)
                row = self._note(rows, row, opened, decision)
        except LedgerError as error:
            announce(spool_trouble, self.app, what=f"job {job.id} has to wait", error=error)
            raise self._put_off(opened, "the ledger is not usable", PUT_OFF_LEDGER) from None
        self._in_hand = job.id
        if lost is not None:
            self._announce(job, before, lost)
        self._act(opened, decision)
        announce(job_started, self.app, job_id=job.id, task=job.task, attempt=row.attempt)
        return Attempt(job, self.tasks[job.task], row, opened.window)

    def perform(self, attempt: Attempt) -> tuple[Outcome, Progress | None]:
        """Run the user's function; return how it ended and progress not yet written."""
        current = CurrentJob(attempt.job, attempt.number, self._report)
        is_cancelled = functools.partial(self._is_cancelled, attempt.job.id)
        longest = self.engine.max_payload
        me = os.getpid()
        outcome = perform(attempt, self.app, current, is_cancelled, longest)
        if os.getpid() != me:
            os._exit(1)  # the task forked, and its child came back here: the job is not its own
        this_process().tidy()
        return outcome, current.unwritten

    def settle(self, attempt: Attempt, outcome: Outcome, progress: Progress | None) -> Change:
        """Write down how it ended, and let the next jobs into the window: one commit.

        The user's code has run, so it is never run again because of the ledger: while that is
        unusable this tries again for `grace` seconds, and then puts file and outcome into
        ``done/`` for the housekeeper.
        """
        change = judge(outcome, attempt.row, self._policy(attempt.job), time.time(), progress)
        if this_process().spoiled:
            self._set_aside(attempt, change, "the task closed descriptors that are not its own")
            this_process().end()
        give_up = time.monotonic() + self.grace
        for pause in pauses():
            try:
                with self._ledger.transaction() as rows:
                    change = self._record(rows, attempt, change)
                    sleepers = self._promote(rows)
                    more = rows.ready() > 0
                break
            except LedgerError as error:
                if time.monotonic() >= give_up:
                    raise self._set_aside(attempt, change, str(error)) from None
                time.sleep(pause)
            except Exception as error:  # whatever it is: the user's code has run
                raise self._set_aside(attempt, change, repr(error)) from None
        # Only idle spoolers are woken by others, and this one is not idle yet.
        _uwsgi.wake([*sleepers, os.getpid()] if more else sleepers)
        self._announce(attempt.job, attempt.row, change)
        return change

    def answer(self, attempt: Attempt, change: Change) -> SpoolAnswer:
        """Put the file where its state belongs and answer accordingly."""
        match change.state:
            case "succeeded":
                return SPOOL_OK
            case "retrying":
                self._spool.demote(attempt.window, attempt.job.id, change.due_at)
                self.engine.ring()
            case _:
                self._spool.bury(attempt.window, attempt.job.id)
        return SPOOL_RETRY

    def _promote(self, rows: Transaction) -> list[int]:
        try:
            return self.engine.promote(rows)
        except OSError as error:  # of another job's file: no reason to lose this one's outcome
            announce(spool_trouble, self.app, what="no job could enter the window", error=error)
            return []

    def _set_aside(self, attempt: Attempt, change: Change, error: str) -> NotNow:
        """Keep file and outcome in ``done/`` until the ledger can be written again.

        On a full disk a shorter outcome may still find room; the bare file says at least that the
        job has run.
        """
        short = msgspec.structs.replace(change, result=None, error=None, progress=None)
        for each in (change, short, None):
            kept = msgspec.json.encode(Unrecorded(attempt.number, each)) if each else None
            try:
                self._spool.set_done(attempt.window, attempt.job.id, kept)
                break
            except OSError:
                if each is None:
                    raise
        what = f"the end of job {attempt.job.id} could not be written yet and is kept in done/"
        announce(spool_trouble, self.app, what=what, error=error)
        return NotNow()

    def _report(self, job_id: str, progress: Progress) -> bool:
        try:
            with self._ledger.transaction() as rows:
                rows.progress(job_id, progress)
        except LedgerError:
            return False  # kept in memory; a later report or the end of the attempt brings it
        return True

    def _known_row(self, rows: Transaction, opened: Opened) -> Row:
        """Return the job's row, made again from its file where there is none."""
        row = rows.row(opened.job.id)
        if row is not None:
            return row
        if not self._spool.in_window(opened.window):
            # Its enqueue failed half-way and took the file back: nobody was promised a run.
            raise NotNow
        rows.insert(opened.job, QUEUED, opened.window)
        return rows.known(opened.job.id)

    def _settle_lost_attempt(self, rows: Transaction, row: Row, opened: Opened) -> Change | None:
        """Write down the end of an attempt that could not do so itself.

        We hold the file's lock, so that run is over, unless its process lives on without the
        lock: then nothing is known, and the file waits.
        """
        if row.state != RUNNING:
            return None
        if row.pid != os.getpid() and _uwsgi.is_alive(row.process):
            raise self._put_off(opened, f"process {row.pid} still runs it", PUT_OFF)
        lives = _uwsgi.lives_on(row.boot)
        outcome = autopsy(row, opened.job, time.time(), server_lives=lives)
        change = judge(outcome, row, self._policy(opened.job), time.time())
        rows.settle(row.id, row.attempt, change)
        return change

    def _admit(self, rows: Transaction, row: Row, job: Job) -> Decision:
        now = time.time()
        held = rows.holds(row.queue, str(_uwsgi.boot()), now)
        return admit(row, job, now, known=job.task in self.tasks, held=held)

    def _note(self, rows: Transaction, row: Row, opened: Opened, decision: Decision) -> Row:
        """Write the decision into the row, before anything happens to the file."""
        job_id = opened.job.id
        match decision:
            case Start(lease):
                if lease:
                    self._spool.lease(opened.window, time.time() + lease)
                boot = str(_uwsgi.boot())
                return rows.start(job_id, opened.window, time.time(), _uwsgi.me(), boot)
            case Close(state):
                rows.close(job_id, state, time.time(), None)
            case Wait(due, why):
                rows.put_off(job_id, due, time.time(), why)
            case PutAway():
                pass
        return row

    def _act(self, opened: Opened, decision: Decision) -> None:
        """Do to the file what was decided; only `Start` goes on from here."""
        job = opened.job
        match decision:
            case Start():
                return
            case Wait(due, why):
                self._spool.demote(opened.window, job.id, due)
                self.engine.ring()
                if why is not None:
                    seconds = due - time.time()
                    self._tell(job_put_off, job, why=why.message, seconds=seconds)
            case Close(state) | PutAway(state):
                self._put_away(opened, state)
                if decision == Close(CANCELLED):
                    self._tell(job_cancelled, job, attempt=0)
                elif decision == Close(EXPIRED):
                    self._tell(job_expired, job)
        raise NotNow

    def _put_away(self, opened: Opened, state: str) -> None:
        """Move or unlink the file of a job that has ended, without a run."""
        if state != SUCCEEDED:
            self._spool.bury(opened.window, opened.job.id)
            return
        try:
            self._spool.finish(opened.window)
        except OSError as error:
            # It came back because it cannot be unlinked: keep it from coming back at once.
            self._spool.lease(opened.window, time.time() + PUT_OFF_UNDELETABLE)
            what = f"the file of the finished job {opened.job.id} cannot be removed"
            announce(spool_trouble, self.app, what=what, error=error)

    def _put_off(self, opened: Opened, why: str, seconds: float) -> NotNow:
        """Lease the file, and return the `NotNow` to raise."""
        self._spool.lease(opened.window, time.time() + seconds)
        self._tell(job_put_off, opened.job, why=why, seconds=seconds)
        return NotNow()

    def _record(self, rows: Transaction, attempt: Attempt, change: Change) -> Change:
        """Write the end of the attempt; return it as it was written."""
        job = attempt.job
        row = rows.row(job.id)
        if row is None:
            # The ledger was deleted while the job ran: its history begins here.
            rows.insert_running(job, attempt.number)
        elif row.cancel_asked and change.state == RETRYING:
            # Asked for when the task was just over: it does not run again.
            change = msgspec.structs.replace(change, state=CANCELLED)
        rows.settle(job.id, attempt.number, change)
        return change

    def _policy(self, job: Job) -> Policy:
        def wait(attempt: int) -> float:
            task = self.tasks.get(job.task)
            try:
                return backoff_seconds(task.backoff(job) if task else DEFAULT_BACKOFF, attempt)
            except Exception as error:  # the user's own policy: its bug must not cost the job
                what = f"the backoff of {job.task} failed, the default is used"
                announce(spool_trouble, self.app, what=what, error=error)
                return backoff_seconds(DEFAULT_BACKOFF, attempt)

        return Policy(job.max_attempts, self.max_crashes, wait)

    def _note_stop(self) -> None:
        if self._in_hand is not None:
            with contextlib.suppress(LedgerError), self._ledger.transaction() as rows:
                rows.note_stop(self._in_hand)

    def _tell_row(self, window: str, kept: str | None, why: str) -> None:
        """Say in the job's row, if it has one, where its unreadable file is kept."""
        job_id = self._spool.job_in(window)
        if job_id is None or kept is None:
            return
        error = ErrorInfo(
            "Unreadable", f"its file is kept as corrupt/{kept} and was not run: {why}"
        )
        with contextlib.suppress(LedgerError), self._ledger.transaction() as rows:
            row = rows.row(job_id)
            # A name alone proves nothing: another file may lie where the job's own should.
            if row is not None and row.window == window:
                rows.close(job_id, DEAD, time.time(), error)

    def _is_cancelled(self, job_id: str) -> bool:
        try:
            with self._ledger.transaction() as rows:
                row = rows.row(job_id)
        except LedgerError:
            return False
        return row is not None and bool(row.cancel_asked)

    def _announce(self, job: Job, row: Row, change: Change) -> None:
        facts: dict[str, Any] = {"attempt": row.attempt}
        error = f"{change.error.type}: {change.error.message}" if change.error else ""
        match change.state:
            case "succeeded":
                seconds = change.ended_at - (row.started_at or change.ended_at)
                self._tell(job_succeeded, job, seconds=seconds, **facts)
            case "cancelled":
                self._tell(job_cancelled, job, **facts)
            case "retrying":
                facts |= {"outcome": change.outcome, "error": error, "due_at": change.due_at}
                self._tell(job_retrying, job, **facts)
            case _:
                self._tell(job_dead, job, outcome=change.outcome, error=error, **facts)

    def _tell(self, signal: NamedSignal, job: Job, **facts: Any) -> None:
        announce(signal, self.app, job_id=job.id, task=job.task, **facts)


def window_of(packet: _uwsgi.Packet) -> str:
    """Return the name under which the packet's file stands in the window."""
    return os.fsdecode(packet["spooler_task_name"])


def pauses() -> Iterator[float]:
    """Return seconds to wait between tries, longer and longer up to half a second."""
    pause = 0.01
    while True:
        yield pause
        pause = min(pause * 2, 0.5)
