"""May this job run now? Pure decisions, made when uWSGI hands over its file.

Owns `admit`, which turns what is known of a job into one decision, and `autopsy`, which says what
became of an attempt whose end nobody wrote down. The worker carries decisions out; the clock and
all facts are passed in.

===========  =================================================================================
decision     when
===========  =================================================================================
PutAway      the job has ended already, its file was left behind by a crash
Close        it was cancelled while it waited, or its `expires` has passed
Wait         it is not due, its task is unknown to this code, its queue is paused,
             or the server is draining
Start        none of these
===========  =================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .job import CANCELLED, EXPIRED, FINAL, Job
from .outcome import Cancelled, Crashed, Interrupted, Outcome, TimedOut
from .record import ErrorInfo, Row

PUT_OFF_UNKNOWN: Final = 30.0
"""Seconds until a job is looked at again whose task or format this code does not know."""

LEASE: Final = 2.0
"""Seconds that the second crash or interruption in a row waits; doubled with each further one."""

LONGEST_LEASE: Final = 300.0


@dataclass(frozen=True)
class Start:
    """Run it; should this end its process, let the file wait for `lease` seconds from now."""

    lease: float


@dataclass(frozen=True)
class PutAway:
    """It is final: its file goes where its state belongs."""

    state: str


@dataclass(frozen=True)
class Close:
    """It is to become final without a run."""

    state: str


@dataclass(frozen=True)
class Wait:
    """It goes back to wait until `due`; `why` is set where a person should know."""

    due: float
    why: ErrorInfo | None = None


Decision = Start | PutAway | Close | Wait


def admit(row: Row, job: Job, now: float, *, known: bool, held: bool) -> Decision:
    """Decide about a job that is not running; `held` when its queue is paused or all drain."""
    if row.state in FINAL:
        return PutAway(row.state)
    if row.cancel_asked:
        return Close(CANCELLED)
    if row.expires_at is not None and row.expires_at <= now:
        return Close(EXPIRED)
    if row.due_at > now:
        return Wait(row.due_at)
    if not known:
        return Wait(now + PUT_OFF_UNKNOWN, _unknown(job.task))
    if held:
        return Wait(row.due_at)
    return Start(_lease(row.crashes + row.interruptions))


def autopsy(row: Row, job: Job, now: float, *, server_lives: bool) -> Outcome:
    """Say how an attempt ended whose process is gone, or went on without writing it down.

    What tells a crash from an interruption is whether the boot that it ran in goes on: a stop or
    reload of the server ends its boot, a crash of one process does not.
    """
    ran = now - (row.started_at or now)
    if row.cancel_asked:
        return Cancelled()
    if not server_lives:
        return Interrupted(_error("Interrupted", "the server was stopped or reloaded", row))
    if job.hard_timeout and ran >= job.hard_timeout:
        reason = f"its process was killed at the hard timeout of {job.hard_timeout:g} s"
        return TimedOut(_error("HardTimeout", reason, row))
    return Crashed(_error("ProcessDied", "its process died", row))


def _error(kind: str, what: str, row: Row) -> ErrorInfo:
    return ErrorInfo(kind, f"{what} while attempt {row.attempt} ran in process {row.pid}")


def _unknown(task: str) -> ErrorInfo:
    way_out = "let the app, or spooler-import, import its module, or cancel the job"
    if "<locals>" in task:
        way_out = "move it out of its function to the top of a module, and cancel the job"
    why = f"no task is named {task!r} in this server's code: {way_out}"
    return ErrorInfo("UnknownTask", why)


def _lease(strikes: int) -> float:
    return min(LEASE * 2.0 ** min(strikes - 1, 30), LONGEST_LEASE) if strikes else 0.0
