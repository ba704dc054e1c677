"""The steps of one job: each runs once, and later attempts get what it returned.

Owns what is remembered of them while an attempt runs. A step is written down in a commit of its
own, synced where the spool syncs, when its function has returned: who is killed before that runs it
again, who is killed after that does not. What cannot be written, because the ledger cannot, is
kept and goes with the next step or with the end of the attempt: the effect has happened, and to
fail because of it would only make it happen again. Threads of a task may have steps at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final

from .arguments.returned import NotKept, Returned
from .errors import OptionError, StepChanged, StepError
from .interrupts import shielded
from .record import Step

LONGEST_NAME: Final = 200


class Steps:
    """What one attempt knows of its job's steps.

    `read` returns those that are finished, when the first one is asked for: a job without steps
    costs nothing. `write` keeps some, and says whether it could.
    """

    def __init__(
        self,
        attempt: int,
        longest: int,
        read: Callable[[], list[Step]],
        write: Callable[[list[Step]], bool],
        clock: Callable[[], float],
    ) -> None:
        self.unwritten: list[Step] = []
        self.has_lost_one = False
        """Whether a step has run that no attempt will know of."""
        self.are_unreadable = False
        """Whether the ledger could not say, when it was asked last, which steps are finished."""
        self._mutex = threading.RLock()
        self._attempt = attempt
        self._longest = longest
        self._read = read
        self._write = write
        self._clock = clock
        self._finished: dict[str, Step] = {}
        self._has_read = False
        self._begun: dict[str, int] = {}

    def begin(self, name: str) -> Step | None:
        """Return the step of this name if it is finished; raise `OptionError` for a wrong name."""
        ok = isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable()
        if not ok:
            expected = f"a name of 1 to {LONGEST_NAME} printable characters"
            raise OptionError("step(name)", expected, name)
        name = name[:]  # the plain text in a proxy or a subclass, which SQLite would refuse
        with self._mutex:
            if name in self._begun:
                expected = "a name that no other step of this task has, such as f'mail {address}'"
                raise OptionError("step(name)", expected, name)
            if not self._has_read:
                self.are_unreadable = True
                self._finished = {step.name: step for step in self._read()}
                self.are_unreadable, self._has_read = False, True
            self._begun[name] = os.getpid()
            return self._finished.get(name)

    def fail(self, name: str) -> None:
        """Let a step be tried again that has raised."""
        self._begun.pop(name, None)

    def finish(self, name: str, way: Returned, result: Any, seconds: float) -> Any:
        """Write down what a step returned, and return it as later attempts will get it.

        A timeout or a cancel waits until that is done. Raises `StepError` for what would not come
        back as it is, or is too large. A child that the step's function forked, and that came back
        from it, ends here.
        """
        name = name[:]
        if self._begun.get(name) != os.getpid():
            os._exit(1)
        with shielded:
            try:
                data = self._short(name, way, result)
            except StepError:
                self.has_lost_one = True
                raise
            step = Step(name, self._attempt, self._clock(), seconds, data)
            with self._mutex:
                self._keep(step)
        return way.thaw(data)

    def _short(self, name: str, way: Returned, result: Any) -> bytes:
        data = _encoded(name, way, result)
        if len(data) > self._longest:
            problem = f"{len(data):,} bytes, more than SPOOLER_MAX_PAYLOAD ({self._longest:,})"
            raise StepError(name, problem)
        return data

    def _keep(self, step: Step) -> None:
        self._finished[step.name] = step
        self.unwritten.append(step)
        written = self._write(self.unwritten)
        # Else all that are known: the ledger may be another one by then, which has none of them,
        # and one that knew the later steps without the earlier would mix two runs of the job.
        self.unwritten = [] if written else list(self._finished.values())


class Forgotten:
    """The steps of a task that is called without a job: all of them run, and no one is kept."""

    def begin(self, name: str) -> None:
        """Know of no step that is finished."""

    def fail(self, name: str) -> None:
        """Know of no step that has begun."""

    def finish(self, name: str, way: Returned, result: Any, seconds: float) -> Any:
        """Return what a step returned as it would come back in a job; raise `StepError`."""
        return way.thaw(_encoded(name, way, result))


def remembered(step: Step, way: Returned) -> Any:
    """Return what a finished step returned; raise `StepChanged` where that does not fit now."""
    try:
        return way.thaw(step.result)
    except ValueError as error:
        raise StepChanged(step.name, str(error)) from None


def _encoded(name: str, way: Returned, result: Any) -> bytes:
    try:
        return way.freeze(result)
    except NotKept as error:
        raise StepError(name, str(error), error.way_out) from None
