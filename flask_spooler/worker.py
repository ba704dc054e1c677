"""One attempt: what happens when uWSGI hands us a locked job file.

Owns the five steps of an attempt: open, start, perform, settle, answer. Each hands one value to
the next; a step that cannot go on raises `NotNow`. While others wait, `settle` starts the next job
too, and its attempt follows in the same call: see `taken`. The answer is `SPOOL_OK` when the job
has succeeded, and uWSGI unlinks its file; it is `SPOOL_RETRY` when the file stays or is where it
belongs. Nothing else is ever answered: uWSGI would unlink, loop or crash.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from blinker import NamedSignal
from flask import Flask

from . import _uwsgi, aside, capture, taken
from .admission import PUT_OFF_UNKNOWN, Close, Decision, PutAway, Start, Wait, admit, autopsy
from .current import CurrentJob
from .engine import SpoolEngine
from .errors import LedgerError, NewerFormat, PacketError
from .job import (
    CANCELLED,
    EXPIRED,
    QUEUED,
    RETRYING,
    RUNNING,
    SUCCEEDED,
    Job,
    open_packet,
)
from .ledger import Transaction
from .lifecycle import this_process
from .outcome import Outcome, Policy, judge, without_exception
from .perform import Attempt, perform
from .record import Change, ErrorInfo, Output, Progress, Row, Step, Unrecorded, Unwritten
from .retry import SPOOL_OK, SPOOL_RETRY, SpoolAnswer, backoff_seconds
from .signals import (
    announce,
    announce_end,
    job_cancelled,
    job_expired,
    job_put_off,
    job_started,
    spool_trouble,
)
from .steps import Steps
from .task import DEFAULT_BACKOFF, Task
from .window import Promoted

LONGEST_STAY: Final = 1.0
"""Seconds for which a spooler goes on by itself before it returns to uWSGI, which may have packets
of other libraries for it, and counts its tasks for `spooler-max-tasks`."""

PUT_OFF: Final = 2.0
"""Seconds until a file is looked at again whose former process still lives."""

PUT_OFF_LEDGER: Final = 3.0
"""Seconds until a file is looked at again that met an unusable ledger."""

LOG_PATIENCE: Final = 0.1
"""Seconds that lines of a log wait for the ledger while the task itself may want to use it."""


class NotNow(Exception):
    """There is nothing to perform; the file stays or was moved, so the answer is a retry."""


@dataclass(frozen=True)
class Opened:
    """A job file that is whole and ours."""

    job: Job
    window: str


Performed = tuple[Outcome, Unwritten]
"""How a task ended, and what it said of itself that is not written yet."""


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
        engine.app = app
        self.tasks = tasks
        self.max_crashes = max_crashes
        self.grace = grace
        self._spool = engine.spool
        self._ledger = engine.ledger
        self.witness: Callable[[Attempt, Outcome], object] | None = None
        """Told how each attempt ends, before that is written down; for tests."""
        self._return_at = 0.0

    def handle(self, packet: _uwsgi.Packet) -> SpoolAnswer:
        """Run the job in a packet that uWSGI holds locked, and say what becomes of its file.

        Goes on with whose turn it is then, while others wait; see `taken`.
        """
        with this_process().busy(self._note_stop):
            self._return_at = time.monotonic() + LONGEST_STAY
            try:
                attempt = self.start(self.open(packet))
                while True:
                    outcome, unwritten = self.perform(attempt)
                    change, following = self.settle(attempt, outcome, unwritten)
                    if following is None:
                        return self.answer(attempt, change)
                    self.put_away(attempt, change)
                    attempt = self.go_on(following)
            except NotNow:
                return SPOOL_RETRY

    def open(self, packet: _uwsgi.Packet) -> Opened:
        """Check signature, length and form; what is not a job of ours is put into quarantine."""
        window = window_of(packet)
        try:
            return Opened(open_packet(packet, self.engine.key), window)
        except PacketError as error:
            aside.quarantine(self.app, self.engine, window, str(error))
            self._let_in()
        except NewerFormat as error:
            why = ErrorInfo("NewerFormat", str(error))
            aside.send_back(self.engine, window, PUT_OFF_UNKNOWN, why)
            announce(spool_trouble, self.app, what=f"{window} has to wait", error=error)
        raise NotNow

    def start(self, opened: Opened) -> Attempt:
        """Count the attempt and write down who runs it, or see that it is not to be run now."""
        job = opened.job
        lost: Change | None = None
        decision: Decision = Start(lease=0.0)
        try:
            with self._ledger.transaction() as rows:
                row = self._start_fresh(rows, opened)
                if row is None:
                    before = self._known_row(rows, opened)
                    lost = self._settle_lost_attempt(rows, before, opened)
                    row = before if lost is None else rows.known(job.id)
                    decision = self._admit(rows, row, job)
                    row = self._note(rows, row, opened, decision)
        except LedgerError as error:
            announce(spool_trouble, self.app, what=f"job {job.id} has to wait", error=error)
            raise self._put_off(opened, "the ledger is not usable", PUT_OFF_LEDGER) from None
        if lost is not None:
            announce_end(self.app, before, lost)
        self._act(opened, decision)
        announce(job_started, self.app, job_id=job.id, task=job.task, attempt=row.attempt)
        return Attempt(job, self.tasks[job.task], row, opened.window)

    def perform(self, attempt: Attempt) -> Performed:
        """Run the user's function; return how it ended, and what is not written yet."""
        job_id, longest = attempt.job.id, self.engine.max_payload
        read = functools.partial(self._ledger.steps, job_id)
        keep = functools.partial(self._keep_steps, job_id)
        steps = Steps(attempt.number, longest, read, keep, self.engine.clock)
        current = CurrentJob(attempt.job, attempt.number, self._report, steps)
        is_cancelled = functools.partial(self._is_cancelled, job_id)
        me = os.getpid()
        capture.begin(job_id, attempt.number, self._keep_output)
        outcome = perform(attempt, self.app, current, is_cancelled, longest)
        if os.getpid() != me:
            os._exit(1)  # the task forked, and its child came back here: the job is not its own
        output = capture.end()
        this_process().tidy()
        if self.witness is not None:
            self.witness(attempt, outcome)
        # In its place: this frame is one of the exception's.
        outcome = without_exception(outcome, is_kept=self.witness is not None)
        return outcome, Unwritten(current.unwritten, output, tuple(steps.unwritten))

    def settle(
        self, attempt: Attempt, outcome: Outcome, unwritten: Unwritten
    ) -> tuple[Change, Row | None]:
        """Write down how it ended, and start whose turn it is or let others in: one commit.

        The user's code has run, so it is never run again because of the ledger: while that is
        unusable this tries again for `grace` seconds, and then puts file and outcome into
        ``done/`` for the housekeeper.
        """
        policy = self._policy(attempt.job)
        change = judge(outcome, attempt.row, policy, self.engine.clock(), unwritten)
        if this_process().spoiled:
            self._keep_outcome(attempt, change, "the task closed descriptors that are not its own")
            this_process().end()
        give_up = time.monotonic() + self.grace
        for pause in pauses():
            try:
                with self._ledger.transaction() as rows:
                    change = self._record(rows, attempt, change)
                    following, promoted = self._following(rows)
                break
            except LedgerError as error:
                if time.monotonic() >= give_up:
                    raise self._keep_outcome(attempt, change, str(error)) from None
                time.sleep(pause)
            except Exception as error:  # whatever it is: the user's code has run
                raise self._keep_outcome(attempt, change, repr(error)) from None
        self._wake(promoted)
        announce_end(self.app, attempt.row, change)
        return change, following

    def put_away(self, attempt: Attempt, change: Change) -> None:
        """Put the file where its state belongs; that of a finished job is unlinked.

        Where the disk refuses, it stays where it is: the row says what becomes of it, to whom
        uWSGI hands it again, or to the housekeeper. The next job may have been started already.
        """
        try:
            match change.state:
                case "succeeded":
                    self._spool.finish(attempt.window)
                case "retrying":
                    self._spool.demote(attempt.window, attempt.job.id, change.due_at)
                    self.engine.ring()
                case _:
                    self._spool.bury(attempt.window, attempt.job.id)
        except OSError as error:
            what = f"the file of job {attempt.job.id} cannot be put away"
            announce(spool_trouble, self.app, what=what, error=error)
        finally:
            taken.release(attempt.lock)

    def answer(self, attempt: Attempt, change: Change) -> SpoolAnswer:
        """Put the file away and answer for the one that uWSGI handed over.

        After `SPOOL_OK` uWSGI unlinks that itself; after `SPOOL_RETRY` it may be gone.
        """
        if change.state == SUCCEEDED and attempt.lock is None:
            return SPOOL_OK
        self.put_away(attempt, change)
        return SPOOL_RETRY

    def go_on(self, following: Row) -> Attempt:
        """Begin the attempt of a job that was started by the end of another one."""
        try:
            attempt = taken.open_taken(self.app, self.engine, self.tasks, following)
        except taken.NotTaken:
            self._let_in()
            raise NotNow from None
        facts = {"job_id": following.id, "task": following.task, "attempt": following.attempt}
        announce(job_started, self.app, **facts)
        return attempt

    def _following(self, rows: Transaction) -> tuple[Row | None, Promoted]:
        seen = rows.seen()
        try:
            if not this_process().told_to_end and time.monotonic() < self._return_at:
                row = taken.take(self.engine, self.tasks, rows, seen)
                if row is not None:
                    return row, Promoted(0, [])
            return None, self.engine.window.fill(rows, seen)
        except OSError as error:  # of another job's file: no reason to lose this one's outcome
            announce(spool_trouble, self.app, what="no job could be let in", error=error)
            return None, Promoted(seen.ready, [])

    def _let_in(self) -> None:
        """Fill the window where a file has left it without a run."""
        try:
            with self._ledger.transaction() as rows:
                promoted = self.engine.window.fill(rows)
        except (LedgerError, OSError) as error:  # the housekeeper looks once a second
            announce(spool_trouble, self.app, what="no job could be let in", error=error)
            return
        self._wake(promoted)

    def _wake(self, promoted: Promoted) -> None:
        # Only idle spoolers are woken by others, and this one is not idle yet. A process that runs
        # jobs without being a spooler looks by itself, and the signal would end it.
        me = os.getpid()
        myself = [me] if promoted.ready and me in _uwsgi.spooler_pids() else []
        _uwsgi.wake([*promoted.sleepers, *myself])

    def _keep_outcome(self, attempt: Attempt, change: Change, why: str) -> NotNow:
        kept = Unrecorded(attempt.number, change)
        try:
            aside.keep_outcome(self.app, self.engine, attempt.window, attempt.job.id, kept, why)
        finally:
            taken.release(attempt.lock)
        return NotNow()

    def _report(self, job_id: str, progress: Progress) -> bool:
        try:
            with self._ledger.transaction() as rows:
                rows.progress(job_id, progress)
        except LedgerError:
            return False  # kept in memory; a later report or the end of the attempt brings it
        return True

    def _keep_steps(self, job_id: str, steps: list[Step]) -> bool:
        try:
            with self._ledger.transaction(durable=True) as rows:
                if rows.row(job_id) is None:
                    return False  # in a new ledger, the end of the attempt makes the row again
                for step in steps:
                    rows.step(job_id, step)
        except LedgerError:
            return False  # kept in memory; the next step or the end of the attempt brings it
        return True

    def _keep_output(self, job_id: str, output: Output) -> bool:
        try:
            with self._ledger.transaction(LOG_PATIENCE) as rows:
                rows.log(job_id, output)
        except LedgerError:
            return False  # kept in memory; a later try or the end of the attempt brings it
        return True

    def _start_fresh(self, rows: Transaction, opened: Opened) -> Row | None:
        """Start a job against which nothing speaks; None where that takes a closer look."""
        job = opened.job
        if job.task not in self.tasks:
            return None
        now, boot = self.engine.clock(), _uwsgi.boot_name()
        return rows.start_fresh(job.id, opened.window, now, _uwsgi.me(), boot)

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
        outcome = autopsy(row, opened.job, self.engine.clock(), server_lives=lives)
        change = judge(outcome, row, self._policy(opened.job), self.engine.clock())
        rows.settle(row, change)
        return change

    def _admit(self, rows: Transaction, row: Row, job: Job) -> Decision:
        now = self.engine.clock()
        held = rows.holds(row.queue, _uwsgi.boot_name(), now)
        return admit(row, job, now, known=job.task in self.tasks, held=held)

    def _note(self, rows: Transaction, row: Row, opened: Opened, decision: Decision) -> Row:
        """Write the decision into the row, before anything happens to the file."""
        job_id = opened.job.id
        match decision:
            case Start(lease):
                if lease:
                    self._spool.lease(opened.window, time.time() + lease)
                boot = _uwsgi.boot_name()
                return rows.start(job_id, opened.window, self.engine.clock(), _uwsgi.me(), boot)
            case Close(state):
                rows.close(job_id, state, self.engine.clock(), None)
            case Wait(due, why):
                rows.put_off(job_id, due, self.engine.clock(), why)
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
                    seconds = due - self.engine.clock()
                    self._tell(job_put_off, job, why=why.message, seconds=seconds)
            case Close(state) | PutAway(state):
                aside.put_away(self.app, self.engine, opened.window, job.id, state)
                if decision == Close(CANCELLED):
                    self._tell(job_cancelled, job, attempt=0)
                elif decision == Close(EXPIRED):
                    self._tell(job_expired, job)
                self._let_in()
        raise NotNow

    def _put_off(self, opened: Opened, why: str, seconds: float) -> NotNow:
        """Lease the file, and return the `NotNow` to raise."""
        self._spool.lease(opened.window, time.time() + seconds)
        self._tell(job_put_off, opened.job, why=why, seconds=seconds)
        return NotNow()

    def _record(self, rows: Transaction, attempt: Attempt, change: Change) -> Change:
        """Write the end of the attempt; return it as it was written."""
        if rows.settle(attempt.row, change):
            return change
        row = rows.row(attempt.job.id)
        if row is None:
            # The ledger was deleted while the job ran: its history begins here.
            rows.insert_running(attempt.job, attempt.number)
        elif row.cancel_asked and change.state == RETRYING:
            # Asked for when the task was just over: it does not run again.
            change = msgspec.structs.replace(change, state=CANCELLED)
        rows.settle(attempt.row, change)
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
        with contextlib.suppress(LedgerError), self._ledger.transaction() as rows:
            rows.note_stop(_uwsgi.me())

    def _is_cancelled(self, job_id: str) -> bool:
        try:
            return self._ledger.is_cancel_asked(job_id)
        except LedgerError:
            return False

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
