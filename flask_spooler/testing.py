"""Tests of tasks without a server: the real way of a job, run when the test says so.

Owns `SpoolerJobs`, which holds the clock of one app's jobs and plays the server: whose turn it is,
when a time comes, what has expired. Everything else is the library itself: real job files in a
private directory, signature, codec, app context, retry policy, outcome table. What only a server
has is missing: other processes, `hard_timeout`, the log of a job. The guide is docs/testing.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, Literal, ParamSpec, TypeVar

import msgspec
from flask import Flask

from . import operations, upkeep
from .config import EXTENSION
from .eager import run_next, run_now
from .errors import AppWithoutSpooler, OptionError
from .handle import JobHandle
from .job import FINAL
from .matching import MOST_JOBS, Enqueued, checked, described, given
from .options import moment
from .outcome import AskedAgain, Cancelled, Discarded, Failed, Outcome, Succeeded, TimedOut
from .perform import Attempt
from .private import PrivateSpool
from .schedule import Seconds, seconds_of
from .signals import file_quarantined, job_enqueued, job_put_off, spool_trouble
from .state import AppState
from .task import Task

__all__ = ["SpoolerJobs", "TaskFailed", "spooler_jobs"]

P = ParamSpec("P")
R = TypeVar("R")

Exceptions = type[BaseException] | tuple[type[BaseException], ...]
Until = timedelta | datetime | float | Literal["all"]

LATEST: Final = 1e12

TROUBLES: Final = {
    job_put_off: "{task} was not run: {why}",
    file_quarantined: "{name} is no job of this spool: {why}",
    spool_trouble: "{what}: {error}",
}
"""What only a line in the log says on a server, and fails a test."""


class TaskFailed(AssertionError):
    """A task has failed in a test that did not expect it; its own exception is the cause."""


class SpoolerJobs:
    """The jobs of one app within one test, and the clock they go by.

    The clock stands still until the test moves it, with `advance` or `run_pending`. It is the
    clock of jobs alone: what a task itself reads from `time` or `datetime` is the real time.
    """

    def __init__(self, app: Flask, state: AppState) -> None:
        self._app = app
        self._now = time.time()
        self._state = state
        self._spool = PrivateSpool()
        self._parts = state.work_privately(self._spool, lambda: self._now)
        self._engine, self._desk = self._parts
        self._enqueued = Enqueued(self._engine)
        self._ended: list[tuple[Attempt, Outcome]] = []
        self._troubles: list[str] = []
        self._desk.worker.witness = lambda attempt, outcome: self._ended.append((attempt, outcome))

    @contextmanager
    def in_charge(self) -> Iterator[None]:
        """Let the app use this spool within the body, and no longer."""
        state = self._state
        before, state.lent = state.lent, self._parts
        state.spooler.tested.append(self._app)
        try:
            with job_enqueued.connected_to(self._note, sender=self._app):
                yield
        finally:
            state.spooler.tested.remove(self._app)
            state.lent = before
            self._engine.ledger.close()
            self._spool.close()

    def _note(self, sender: Flask, *, job_id: str, **facts: Any) -> None:
        if self._state.lent is self._parts:
            self._enqueued.note(job_id)

    @property
    def now(self) -> float:
        """What time it is for jobs, in unix seconds."""
        return self._now

    def advance(self, length: Seconds) -> None:
        """Move the clock on by seconds or a `timedelta`, and run nothing."""
        self._now += seconds_of("advance", length)

    def run_pending(
        self, until: Until | None = None, *, expected: Exceptions = (), limit: int = 1000
    ) -> list[JobHandle]:
        """Run every job that is due, those that these enqueue too, and return them in that order.

        They run in the order in which a server with one spooler would start them. With `until`
        the clock moves on from one due time to the next, second attempts and scheduled jobs run
        at theirs, and at the end it stands at `until`: a length of time from now, a moment, or
        ``"all"``, which goes on until nothing waits any more. A number is seconds from now, from
        1,000,000,000 on a unix time. A job that ran twice is in the list twice.

        A task that raises anything but `Retry` or `Discard` raises `TaskFailed` at once, unless
        the test is about that and names the exception as `expected`. More than `limit` runs are
        an error too: a job that enqueues itself would go on for ever.
        """
        __tracebackhide__ = True
        end = self._end(until)
        ran: list[JobHandle] = []
        while True:
            self._run_due(ran, expected, limit)
            next_moment = self._next_moment(end)
            if next_moment is None:
                break
            self._now = next_moment
        if math.isfinite(end):
            self._now = end
        return ran

    def perform(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run one job of this task now, alone, and return its result as a caller would get it.

        Arguments and result pass through the codec, and the task runs in an app context with a
        `current_job`. Whatever it raises is raised here, `Retry` and `Discard` too. No trace of
        the job is left, so nothing is enqueued by this.
        """
        job = checked(task).job(args, kwargs, self._now)
        job = msgspec.structs.replace(job, due_at=self._now, expires_at=None, unique=None)
        self._engine.submit(job)
        handle = self._handle(job.id)
        try:
            with self._watching():
                run_now(self._desk, job.id)
            error = error_of(self._outcome_of(handle))
            if error is not None:
                raise error
            return handle.result
        finally:
            self._forget(job.id)

    def all_enqueued(self, task: Task[..., Any] | None = None) -> list[JobHandle]:
        """Return the jobs enqueued so far, of one task or of all, the first one first.

        Whatever has become of them: a job that has run was enqueued.
        """
        return [self._handle(record.id) for record in self._enqueued.records(task)]

    def assert_enqueued(self, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> JobHandle:
        """Return the newest job of this task with these arguments; `AssertionError` if none is.

        Arguments that are not named may be anything. Options are given as they are when
        enqueueing, on a copy of the task, and those that are given there have to be the job's:
        ``assert_enqueued(resize.using(queue="images", delay=60), "a.png")``.
        """
        __tracebackhide__ = True
        wanted = given(task, args, kwargs)
        found = self._enqueued.fitting(task, wanted)
        if not found:
            listed = self._enqueued.listed(self._now)
            call = described(task, wanted)
            raise AssertionError(f"expected {call} to be enqueued, got:{listed}")
        return self._handle(found[-1])

    def refute_enqueued(self, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Raise `AssertionError` if a job of this task with these arguments was enqueued."""
        __tracebackhide__ = True
        wanted = given(task, args, kwargs)
        if self._enqueued.fitting(task, wanted):
            call, listed = described(task, wanted), self._enqueued.listed(self._now)
            raise AssertionError(f"expected no {call} to be enqueued, got:{listed}")

    def clear(self) -> None:
        """Forget all jobs, those that wait and those that have ended. The clock stays."""
        for record in self._enqueued.records():
            self._forget(record.id)

    def _end(self, until: Until | None) -> float:
        if until is None or until == "all":
            return self._now if until is None else math.inf
        if not isinstance(until, (int, float, timedelta, datetime)):
            raise OptionError("until", "'all', seconds, a timedelta or an aware datetime", until)
        end = moment("until", until, self._now)
        if end < self._now:
            raise OptionError("until", f"no time before now, which is {self._now:.0f}", until)
        return end

    def _run_due(self, ran: list[JobHandle], expected: Exceptions, limit: int) -> None:
        __tracebackhide__ = True
        upkeep.expire(self._engine, self._now, MOST_JOBS)
        with self._watching():
            while job_id := run_next(self._desk, self._now):
                self._check(expected)
                if not self._ended:
                    continue  # it was cancelled or has expired, and its file was put away
                self._ended.clear()
                ran.append(self._handle(job_id))
                if len(ran) > limit:
                    raise AssertionError(
                        f"more than {limit} jobs have run, the last one of "
                        f"{ran[-1].record.task}: does it enqueue itself? Where that is meant, end "
                        "at a time with until=, or give a higher limit="
                    )

    def _next_moment(self, end: float) -> float | None:
        """Return when the next job is due or expires, if that is after now and not after `end`."""
        with self._engine.ledger.transaction() as rows:
            overdue = [rows.known(each) for each in rows.overdue(min(end, LATEST), MOST_JOBS)]
        moments = [row.expires_at for row in overdue if row.expires_at is not None]
        moments.append(self._engine.ledger.next_due() or math.inf)
        return min((each for each in moments if self._now < each <= min(end, LATEST)), default=None)

    def _check(self, expected: Exceptions) -> None:
        """Let what the test does not expect fail the test."""
        __tracebackhide__ = True
        if self._troubles:
            raise AssertionError("; ".join(self._troubles))
        for attempt, outcome in self._ended:
            if not isinstance(outcome, (Failed, TimedOut)):
                continue
            raised, kind = outcome.raised, outcome.error.type
            if raised is not None and not isinstance(raised, (Exception, SystemExit)):
                raise raised  # Ctrl-C, and what pytest itself raises
            if not isinstance(raised, expected):
                raise TaskFailed(
                    f"{attempt.task.name} failed in attempt {attempt.number} of "
                    f"{attempt.job.max_attempts}: {kind}: {outcome.error.message}; where the test "
                    f"is about that: run_pending(expected={kind})"
                ) from raised

    def _outcome_of(self, handle: JobHandle) -> Outcome:
        for attempt, outcome in self._ended:
            if attempt.job.id == handle.id:
                return outcome
        why = "; ".join(self._troubles) or f"it is {handle.state}: is its queue paused?"
        raise AssertionError(f"{handle.record.task} did not run: {why}")

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Hear what a server would only log, while jobs run."""
        self._ended.clear()
        self._troubles.clear()

        def note(line: str) -> Callable[..., None]:
            return lambda sender, **facts: self._troubles.append(line.format(**facts))

        with ExitStack() as stack:
            for signal, line in TROUBLES.items():
                stack.enter_context(signal.connected_to(note(line), sender=self._app))
            yield

    def _handle(self, job_id: str) -> JobHandle:
        return JobHandle(self._engine, job_id)

    def _forget(self, job_id: str) -> None:
        handle = self._handle(job_id)
        if handle.state not in FINAL:
            handle.cancel()
        operations.delete(self._engine, job_id)


def error_of(outcome: Outcome) -> BaseException | None:
    """Return what a task has raised, or an error that says how else it has failed."""
    match outcome:
        case Succeeded():
            return None
        case Cancelled():
            return TaskFailed("the job was cancelled while it ran")
        case Failed() | TimedOut() | AskedAgain() | Discarded() if outcome.raised is not None:
            return outcome.raised
        case _:
            return TaskFailed(f"{outcome.error.type}: {outcome.error.message}")


@contextmanager
def spooler_jobs(app: Flask) -> Iterator[SpoolerJobs]:
    """Give the jobs of one app into the hand of a test, for as long as the body runs.

    They go to a spool of their own, whatever the app is configured for, and with it they are gone.
    Where no app context says otherwise, tasks are enqueued for this app.
    """
    state = app.extensions.get(EXTENSION)
    if state is None:
        raise AppWithoutSpooler(app.name)
    jobs = SpoolerJobs(app, state)
    with jobs.in_charge():
        yield jobs
