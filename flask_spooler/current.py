"""`current_job`: the job that this code runs for.

Owns one context variable. Inside a task `current_job` stands for the running job; anywhere else
using it is an error that says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from werkzeug.local import LocalProxy

from .errors import OptionError
from .job import Job
from .record import Progress

REPORT_EVERY: Final = 0.1
"""Seconds between two writes of progress: a task may report a million times and costs ten a
second. The last report is never lost: it is written with the end of the attempt."""


class CurrentJob:
    """What a task may know and say of its own job.

    A task that is called here and now, without a job, has one that nobody asks for: its progress
    goes nowhere.
    """

    def __init__(
        self, job: Job, attempt: int, report: Callable[[str, Progress], bool] | None
    ) -> None:
        self.is_enqueued = report is not None
        self.id = job.id
        self.task = job.task
        self.queue = job.queue
        self.attempt = attempt
        self.max_attempts = job.max_attempts
        self.unwritten: Progress | None = None
        self._report = report
        self._reported_at = -math.inf

    def __repr__(self) -> str:
        return f"<current job {self.id}, attempt {self.attempt}>"

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Say how far the task is: `done` units, out of `total` where that is known.

        Cheap enough for inner loops: what comes faster than ten times a second is kept in memory
        and the newest wins. Raises `OptionError` for what is no finite number.
        """
        for name, value in (("done", done), ("total", total)):
            if value is not None and not _is_number(value):
                raise OptionError(f"progress({name}=…)", "a finite number", value)
        if note is not None and not _is_text(note):
            raise OptionError("progress(note=…)", "text", note)
        self.unwritten = Progress(float(done), None if total is None else float(total), note)
        now = time.monotonic()
        if now - self._reported_at >= REPORT_EVERY:
            self._reported_at = now
            if self._report is None or self._report(self.id, self.unwritten):
                self.unwritten = None


_running: ContextVar[CurrentJob] = ContextVar("flask_spooler.current_job")

current_job: CurrentJob = LocalProxy(  # type: ignore[assignment]
    _running,
    unbound_message="there is no current job here: current_job works inside a running task",
)


@contextmanager
def running(job: CurrentJob) -> Iterator[CurrentJob]:
    """Make `job` the current one within the body."""
    token = _running.set(job)
    try:
        yield job
    finally:
        _running.reset(token)


def inside_task() -> bool:
    """Tell whether this code runs within an enqueued task."""
    job = _running.get(None)
    return job is not None and job.is_enqueued


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
