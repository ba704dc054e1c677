"""The steps of one job: each runs once, and later attempts get what it returned.

Owns what is remembered of them while an attempt runs. A step is written down in a commit of its
own, synced where the spool syncs, when its function has returned: who is killed before that runs it
again, who is killed after that does not. What cannot be written, because the ledger cannot, is
kept and goes with the next step or with the end of the attempt: the effect has happened, and to
fail because of it would only make it happen again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from .errors import OptionError, StepError
from .record import Step, decoded

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
        self._attempt = attempt
        self._longest = longest
        self._read = read
        self._write = write
        self._clock = clock
        self._finished: dict[str, Step] | None = None
        self._begun: set[str] = set()

    def begin(self, name: str) -> Step | None:
        """Return the step of this name if it is finished; raise `OptionError` for a wrong name."""
        ok = isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable()
        if not ok:
            expected = f"a name of 1 to {LONGEST_NAME} printable characters"
            raise OptionError("step(name)", expected, name)
        if name in self._begun:
            expected = "a name that no other step of this task has, such as f'mail {address}'"
            raise OptionError("step(name)", expected, name)
        if self._finished is None:
            self._finished = {step.name: step for step in self._read()}
        self._begun.add(name)
        return self._finished.get(name)

    def fail(self, name: str) -> None:
        """Let a step be tried again that has raised."""
        self._begun.discard(name)

    def finish(self, name: str, result: Any, seconds: float) -> Any:
        """Write down what a step returned, and return it as later attempts will get it.

        Raises `StepError` for what is not JSON or too large.
        """
        try:
            data = msgspec.json.encode(result)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            problem = f"a {type(result).__name__}, which is not JSON ({error})"
            raise StepError(name, problem) from None
        if len(data) > self._longest:
            problem = f"{len(data):,} bytes, more than SPOOLER_MAX_PAYLOAD ({self._longest:,})"
            raise StepError(name, problem)
        self.unwritten.append(Step(name, self._attempt, self._clock(), seconds, data))
        if self._write(self.unwritten):
            self.unwritten = []
        return decoded(data)
