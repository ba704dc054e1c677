"""How an attempt ended, and what becomes of the job by it: the outcome table.

Owns the kinds of outcome and `judge`, the one `match` that turns an outcome into a `Change`. Pure:
the clock and all facts are passed in. `perform` makes outcomes and decides nothing; the worker
acts on the change and decides nothing either.

==============  ===========  =======  ====================================================
outcome         attempt is   charged  the job is then
==============  ===========  =======  ====================================================
Succeeded       succeeded    yes      succeeded
Failed          failed       yes      retrying after its backoff; dead when out of attempts
                                      or when the error is not worth another one
TimedOut        timed_out    yes      like Failed; dead when discard_on has JobTimeout
AskedAgain      failed       yes      retrying after the delay asked for; dead when out of
                                      attempts
Discarded       failed       yes      dead
Cancelled       cancelled    yes      cancelled
Crashed         crashed      yes      retrying at once; dead after too many in a row or when
                                      out of attempts
Interrupted     interrupted  no       retrying at once; dead after ten in a row
==============  ===========  =======  ====================================================
"""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from .job import CANCELLED, DEAD, FINAL, RETRYING, SUCCEEDED
from .record import Change, ErrorInfo, Row, Unwritten

NOTHING: Final = Unwritten()

GROUP: Final[Any] = getattr(builtins, "BaseExceptionGroup", ())
"""Python has it from 3.11 on."""

MOST_INTERRUPTIONS: Final = 10
"""In a row: a job can take the whole server down, and every restart would run it again."""


@dataclass(frozen=True)
class Succeeded:
    """The task returned; `result` is JSON."""

    result: bytes | None


@dataclass(frozen=True)
class Failed:
    """The task raised; `again` says whether its error is worth another attempt."""

    error: ErrorInfo
    again: bool
    raised: BaseException | None = field(default=None, compare=False, repr=False)
    """The exception itself, for a test that shows it; nothing else may depend on it."""


@dataclass(frozen=True)
class TimedOut:
    """The task was stopped at its `timeout`, or its process killed at its `hard_timeout`."""

    error: ErrorInfo
    again: bool = True
    raised: BaseException | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class AskedAgain:
    """The task raised `Retry` or returned `SPOOL_RETRY`."""

    delay: float | None
    error: ErrorInfo
    raised: BaseException | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Discarded:
    """The task raised `Discard`."""

    error: ErrorInfo
    raised: BaseException | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Cancelled:
    """The running task was aborted."""

    raised: BaseException | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Crashed:
    """Its process died, for no reason that we know of."""

    error: ErrorInfo


@dataclass(frozen=True)
class Interrupted:
    """The server was stopped or reloaded while it ran, or could not tell what steps it has done."""

    error: ErrorInfo


Outcome = Succeeded | Failed | TimedOut | AskedAgain | Discarded | Cancelled | Crashed | Interrupted


@dataclass(frozen=True)
class Policy:
    """The limits under which one job is tried again."""

    max_attempts: int
    max_crashes: int
    wait: Callable[[int], float]
    """Seconds to wait after the n-th charged attempt."""


def without_exception(outcome: Outcome, *, is_kept: bool) -> Outcome:
    """Return an outcome that holds nothing of what the task had in hand.

    An exception leads to all frames it came through, and would keep their files, connections and
    data until the next job has ended, or longer: event loops leave it in cycles. So the frames are
    emptied, unless somebody keeps the exception to show it.
    """
    match outcome:
        case (
            Failed(raised=error)
            | TimedOut(raised=error)
            | AskedAgain(raised=error)
            | Discarded(raised=error)
            | Cancelled(raised=error)
        ):
            if not is_kept:
                _empty_frames(error)
            return replace(outcome, raised=None)
        case _:
            return outcome


def _empty_frames(error: BaseException | None) -> None:
    """Empty them for this exception, what it came of, and, of a group, what it is made of."""
    pending = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        pending += [one.__cause__, one.__context__]
        if isinstance(one, GROUP):
            pending += one.exceptions


def judge(
    outcome: Outcome,
    row: Row,
    policy: Policy,
    now: float,
    unwritten: Unwritten = NOTHING,
) -> Change:
    """Return what the end of the attempt in `row` changes; `row.charged` counts it already."""
    left = row.charged < policy.max_attempts

    def change(name: str, state: str, due: float = now, **more: Any) -> Change:
        kept = {**msgspec.structs.asdict(unwritten), **more}
        # An ended job goes on showing when it had been due.
        due = row.due_at if state in FINAL else due
        return Change(outcome=name, state=state, due_at=due, ended_at=now, **kept)

    match outcome:
        case Succeeded(result):
            return change("succeeded", SUCCEEDED, result=result)
        case Failed(error, again=True) if left:
            return change("failed", RETRYING, now + policy.wait(row.charged), error=error)
        case Failed(error):
            return change("failed", DEAD, error=error)
        case TimedOut(error, again=True) if left:
            return change("timed_out", RETRYING, now + policy.wait(row.charged), error=error)
        case TimedOut(error):
            return change("timed_out", DEAD, error=error)
        case AskedAgain(delay, error) if left:
            wait = policy.wait(row.charged) if delay is None else delay
            return change("failed", RETRYING, now + wait, error=error)
        case AskedAgain(_, error) | Discarded(error):
            return change("failed", DEAD, error=error)
        case Cancelled():
            return change("cancelled", CANCELLED)
        case Crashed(error) if left and row.crashes + 1 < policy.max_crashes:
            return change("crashed", RETRYING, error=error, crashes=row.crashes + 1)
        case Crashed(error):
            return change("crashed", DEAD, error=error, crashes=row.crashes + 1)
        case Interrupted(error) if row.interruptions + 1 < MOST_INTERRUPTIONS:
            more = row.interruptions + 1
            return change(
                "interrupted",
                RETRYING,
                error=error,
                charged=False,
                crashes=row.crashes,
                interruptions=more,
            )
        case Interrupted(error):
            return change("interrupted", DEAD, error=error, charged=False)
