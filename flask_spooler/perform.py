"""Run the user's function and say how it ended; decide nothing, touch no file of the spool.

Owns what surrounds a task while it runs: the app context, `current_job`, the soft and the hard
time limit, the abort by signal, and the guarantee that nothing a task raises, returns or leaves
behind gets further than an `Outcome`. Context variables that it sets end with it. Limits and abort
need the main thread, where uWSGI runs spooler callables and most tests run; in any other one, as
that of a view with `SPOOLER_EAGER`, they are not armed.
"""

from __future__ import annotations

import contextvars
import inspect
import math
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, NoReturn, Protocol

from flask import Flask

from . import _uwsgi
from ._uwsgi import ABORT
from .arguments.hints import with_article
from .callables import is_promise
from .contexts import task_context
from .current import CurrentJob, running
from .errors import JobCancelled, JobTimeout, PayloadTooLarge
from .interrupts import deliver, forget, get_handler, set_handler
from .job import Job
from .lifecycle import this_process
from .outcome import (
    AskedAgain,
    Cancelled,
    Discarded,
    Failed,
    Interrupted,
    Outcome,
    Succeeded,
    TimedOut,
)
from .record import ErrorInfo, Row
from .result import NotJSON, to_json
from .retry import SPOOL_OK, SPOOL_RETRY, Discard, Retry
from .steps import Steps
from .task import Task

LONGEST_TRACEBACK: Final = 65_536
LONGEST_MESSAGE: Final = 4_096

ALARM: Final = int(signal.SIGALRM)


@dataclass(frozen=True)
class Attempt:
    """One run of one job: everything that `perform` and `settle` need to know."""

    job: Job
    task: Task[..., Any]
    row: Row
    window: str
    lock: int | None = None
    """The descriptor that holds a taken file; uWSGI holds those in the window."""

    @property
    def number(self) -> int:
        return self.row.attempt


def perform(
    attempt: Attempt,
    app: Flask,
    current: CurrentJob,
    is_cancelled: Callable[[], bool],
    longest_result: int,
) -> Outcome:
    """Run the task of this attempt in an app context and return how it ended.

    Never raises, whatever the task does short of ending its process. `is_cancelled` is asked
    when the abort signal comes, or had come before: the signal itself only means *look*.
    """
    try:
        call = _call(attempt.task, app)
        with running(current), _limits(attempt.job, is_cancelled, call.interrupt):
            result = contextvars.copy_context().run(_run, attempt, app, call)
        return _returned(attempt.task, result, longest_result)
    except Retry as asked:
        return AskedAgain(asked.delay, error_info(asked), asked)
    except Discard as reason:
        return Discarded(error_info(reason), reason)
    except JobTimeout as error:
        return _timed_out(attempt, error)
    except JobCancelled as error:
        return Cancelled(error)
    except BaseException as error:  # SystemExit and KeyboardInterrupt end the task, not the pool
        return _failed(attempt, error, current)


class Call(Protocol):
    """A call of a task's function, which can be interrupted."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any: ...

    def interrupt(self, reason: BaseException) -> None: ...


class PlainCall:
    """A call that is interrupted by an exception, wherever it is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    def interrupt(self, reason: BaseException) -> NoReturn:
        """Raise `reason` out of the signal handler that this is called in."""
        try:
            raise reason
        finally:
            del reason  # else it and this frame would hold each other, and the task's data


def _call(task: Task[..., Any], app: Flask) -> Call:
    if not task.is_async:
        return PlainCall(task.function)
    from .coroutines import AsyncCall

    return AsyncCall(app, task.function)


def _run(attempt: Attempt, app: Flask, call: Call) -> Any:
    args, kwargs = attempt.task.arguments.thaw(attempt.job.kwargs)
    with task_context(app):
        return call(*args, **kwargs)


def _returned(task: Task[..., Any], result: Any, longest: int) -> Outcome:
    if result is SPOOL_OK:
        return Succeeded(None)
    if result is SPOOL_RETRY:
        return AskedAgain(None, error_info(Retry(reason="the task returned SPOOL_RETRY")))
    later = _does_its_work_later(result)
    if later:
        problem = f"{task.name} returned {later} instead of doing its work"
        return Failed(ErrorInfo("TypeError", problem), again=False)
    try:
        data = None if result is None else to_json(result)
    except NotJSON as error:
        problem = f"{task.name} returned {error}"
        return Failed(ErrorInfo("TypeError", problem[:LONGEST_MESSAGE]), again=False)
    if data is not None and len(data) > longest:
        too_large = PayloadTooLarge(f"the result of {task.name}", len(data), longest)
        return Failed(error_info(too_large), again=False)
    return Succeeded(data)


def _does_its_work_later(result: Any) -> str:
    """Say what a result is that nobody has awaited or iterated, and how to mend it; else ""."""
    is_awaited = inspect.isawaitable(result)
    if not (is_promise(result) or is_awaited):
        return ""
    if inspect.iscoroutine(result):
        return "a coroutine (make the task itself async def, and await it there)"
    kind = with_article(type(result).__name__)
    if is_awaited:
        return f"{kind} to be awaited (make the task async def, and await it)"
    return f"{kind} (loop over it inside the task)"


def _failed(attempt: Attempt, error: BaseException, current: CurrentJob) -> Outcome:
    match current.steps:
        case Steps(has_lost_one=True):
            # It has run and another attempt would run it again, whatever the task made of this.
            return Failed(error_info(error), again=False, raised=error)
        case Steps(are_unreadable=True):
            # No fault of the task, so no charge: a ledger is away for a while, or is begun anew.
            return Interrupted(error_info(error))
    try:
        again = attempt.task.retries(attempt.job, error)
    except Exception as broken:  # the user's own retry_on or discard_on cannot be found any more
        return Failed(error_info(broken), again=False, raised=broken)
    return Failed(error_info(error), again=again, raised=error)


def _timed_out(attempt: Attempt, error: JobTimeout) -> Outcome:
    try:
        again = not attempt.task.discards(attempt.job, error)
    except Exception as broken:
        return Failed(error_info(broken), again=False, raised=broken)
    return TimedOut(error_info(error), again=again, raised=error)


def error_info(error: BaseException) -> ErrorInfo:
    """Return type, message and traceback of an error, bounded; never raises."""
    try:
        message = str(error)
        trace = "".join(traceback.format_exception(error))
    except Exception:  # a __str__ that raises must not take the spooler down
        message, trace = "(its message could not be shown)", ""
    kind = type(error).__name__
    return ErrorInfo(
        _writable(kind), _writable(message[:LONGEST_MESSAGE]), _writable(trace[-LONGEST_TRACEBACK:])
    )


def _writable(text: str) -> str:
    # SQLite takes UTF-8: lone surrogates, as in names of undecodable files, would be refused.
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def _limits(
    job: Job, is_cancelled: Callable[[], bool], interrupt: Callable[[BaseException], None]
) -> Iterator[None]:
    """Arm timeout, hard timeout and abort; whatever comes late is dropped with the job."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    active = True

    def on_alarm(signum: int, frame: FrameType | None) -> None:
        deliver(time_is_up)

    def on_abort(signum: int, frame: FrameType | None) -> None:
        deliver(look)

    def time_is_up() -> None:
        if active:
            interrupt(JobTimeout(job.timeout or 0.0))

    def look() -> None:
        if active and is_cancelled():
            interrupt(JobCancelled())

    abort_before = set_handler(ABORT, on_abort)
    # Where jobs run within a test, that may have an alarm of its own: a job without a timeout
    # leaves it to go off, one with a timeout sets it again at its end.
    alarm_before = set_handler(ALARM, on_alarm) if job.timeout else get_handler(ALARM)
    timer_before = signal.getitimer(signal.ITIMER_REAL)
    try:
        try:
            if job.hard_timeout:
                _uwsgi.harakiri(math.ceil(job.hard_timeout))
            if job.timeout:
                signal.setitimer(signal.ITIMER_REAL, job.timeout)
            # A cancel that came between the start commit and the handlers above.
            if this_process().take_abort_note():
                look()
            yield
        finally:
            active = False
    finally:
        active = False
        signal.setitimer(signal.ITIMER_REAL, *timer_before)
        if job.hard_timeout:
            _uwsgi.harakiri(0)
        _restore(ALARM, alarm_before)
        _restore(ABORT, abort_before)
        forget()


def _restore(number: int, before: Any) -> None:
    # None stands for a handler that C code has set: uWSGI ignores both of these in spoolers.
    set_handler(number, signal.SIG_IGN if before is None else before)
