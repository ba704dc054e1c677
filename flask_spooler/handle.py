"""What a caller holds of a job: its id, and a fresh look at the ledger.

Owns `JobHandle`, the object that `enqueue` and `spooler.get` return. It keeps no copy of
anything: each attribute is read when it is asked for, so it is never out of date.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final

from . import operations
from .current import inside_task
from .engine import SpoolEngine
from .errors import JobNotFound, OptionError, WaitForNobody, WaitInsideTask, WaitTimeout
from .job import FINAL
from .record import Record, decoded

SHORTEST_LOOK: Final = 0.005
LONGEST_LOOK: Final = 0.25
"""Seconds between two looks at a job that is waited for: at first, and when it takes longer."""


class JobHandle:
    """A job by its id. Every attribute raises `JobNotFound` once the history is purged."""

    def __init__(self, engine: SpoolEngine, job_id: str, enqueued_as: str | None = None) -> None:
        self._engine = engine
        self.id = job_id
        self.enqueued_as = enqueued_as
        """The state in which `enqueue` left it, queued or scheduled; None from `spooler.get`."""

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def record(self) -> Record:
        """Everything known of the job at one moment."""
        record = self._engine.ledger.record(self.id)
        if record is None:
            raise JobNotFound(self.id)
        return record

    @property
    def state(self) -> str:
        """One of the eight states, four of which are final."""
        state = self._engine.ledger.state(self.id)
        if state is None:
            raise JobNotFound(self.id)
        return state

    @property
    def attempt(self) -> int:
        """The number of the attempt that runs or ran last; 0 before the first."""
        return self.record.attempt

    @property
    def result(self) -> Any:
        """What the task returned, None until it has succeeded."""
        return decoded(self.record.result)

    @property
    def error(self) -> dict[str, Any] | None:
        """Type, message and traceback of the last failure, None when there is none."""
        return self.record.error

    @property
    def progress(self) -> dict[str, Any] | None:
        """What the task reported last: ``done``, ``total`` and ``note``."""
        return self.record.progress

    @property
    def tags(self) -> list[str]:
        """The tags given by the task or by `using`, sorted."""
        return self.record.all_tags

    def as_dict(self) -> dict[str, Any]:
        """Return the job as JSON, arguments and tracebacks included."""
        ledger = self._engine.ledger
        return self.record.as_dict(ledger.attempts(self.id), ledger.steps(self.id))

    def wait(self, timeout: float | None = None) -> str:
        """Return the final state, waiting for it up to `timeout` seconds, or without limit.

        With 0, or less, as when the time for it is over, it looks once.
        Raises `WaitTimeout` when it is not reached by then; `WaitInsideTask` inside a task, where
        all spoolers could come to wait for each other; and `WaitForNobody` in a test that has not
        run the job.
        """
        if inside_task():
            raise WaitInsideTask
        seconds = math.inf if timeout is None else timeout
        is_length = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not is_length or math.isnan(seconds):
            raise OptionError("wait(timeout=…)", "a number of seconds, or None", timeout)
        seconds = max(seconds, 0.0)
        give_up = time.monotonic() + seconds
        look = SHORTEST_LOOK
        while (state := self.state) not in FINAL:
            if self._engine.by_hand:
                raise WaitForNobody(self.id, state)
            if time.monotonic() >= give_up:
                raise WaitTimeout(self.id, state, seconds)
            time.sleep(look)
            look = min(look * 1.5, LONGEST_LOOK)
        return state

    def cancel(self) -> str:
        """Cancel the job for good and return its state; a running one is asked to stop.

        Raises `JobStateError` for a job that has ended.
        """
        return operations.cancel(self._engine, self.id)

    def retry(self) -> None:
        """Run a dead, cancelled or expired job again; its limits start anew.

        One that never started and whose time has not come waits for it again: it is scheduled.
        Raises `JobStateError` for any other, and for one whose unique key another job holds now.
        """
        operations.revive(self._engine, self.id)
