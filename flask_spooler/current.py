"""`current_job`: the job that this code runs for.

Owns one context variable. Inside a task `current_job` stands for the running job; anywhere else
using it is an error that says so.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, ParamSpec, TypeVar

from werkzeug.local import LocalProxy

from .arguments.returned import Returned
from .callables import close, is_async, is_promise
from .errors import OptionError
from .job import Job
from .record import Progress, Step
from .schedule import is_finite
from .steps import Forgotten, Steps, remembered

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

REPORT_EVERY: Final = 0.1
"""Seconds between two writes of progress: a task may report a million times and costs ten a
second. The last report is never lost: it is written with the end of the attempt."""

DOES_ITS_WORK: Final = (
    "one that does its work when it is called, or a coroutine function by itself, not in a lambda"
)


def _told(step: F) -> F:
    """Let `step` refuse a call without a function to call, which is mostly one made too early.

    Around it and not within, so that it keeps the signature by which type checkers know that.
    """

    @functools.wraps(step)
    def checked(*given: Any, **kwargs: Any) -> Any:
        name, *rest = given[1:] or ("load",)
        if not rest:
            like = f"step({name!r}, load)" if isinstance(name, str) else "step('load', load)"
            expected = f"called with a name and a function, as in {like}"
            raise OptionError("step", expected, given[1:])
        if not callable(rest[0]):
            close(rest[0])
            expected = f"the function itself, as in step({name!r}, load, 5) and not load(5)"
            raise OptionError(f"step({name!r}, function)", expected, rest[0])
        return step(*given, **kwargs)

    return checked  # type: ignore[return-value]


class CurrentJob:
    """What a task may know and say of its own job.

    A task that is called here and now, without a job, has one that nobody asks for: its progress
    goes nowhere, and its steps are not kept.
    """

    def __init__(
        self,
        job: Job,
        attempt: int,
        report: Callable[[str, Progress], bool] | None,
        steps: Steps | Forgotten | None = None,
    ) -> None:
        self.is_enqueued = report is not None
        self.id = job.id
        self.task = job.task
        self.queue = job.queue
        self.attempt = attempt
        self.max_attempts = job.max_attempts
        self.unwritten: Progress | None = None
        self.steps = steps or Forgotten()
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
            if value is not None and not is_finite(value):
                raise OptionError(f"progress({name}=…)", "a finite number", value)
        if note is not None and not _is_text(note):
            raise OptionError("progress(note=…)", "text", note)
        self.unwritten = Progress(float(done), None if total is None else float(total), note)
        now = time.monotonic()
        if now - self._reported_at >= REPORT_EVERY:
            self._reported_at = now
            if self._report is None or self._report(self.id, self.unwritten):
                self.unwritten = None

    @_told
    def step(self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `function` once in the life of this job, and return its result.

        Later attempts do not call it: they get what it returned, whatever had ended the attempt
        before, an error, a crash or a restart. The result comes back as what the function's return
        annotation says, or else as plain JSON, and at once too, so that no attempt sees anything
        else than the others. One that was killed within the function, or before its commit, runs
        it again. A step that raises is not finished. For a coroutine function this returns an
        awaitable.

        Raises `OptionError` for a name that this attempt has used already: names are what tells
        steps apart, and for a call without a function. Raises `StepError` for a result that would
        come back as another one; the job is dead if it ends in an error then. Raises `StepChanged`
        where a remembered result does not fit the function any more.
        """
        finished = self.steps.begin(name)
        if is_async(function):
            return self._await_step(self.steps, name, finished, function, args, kwargs)  # type: ignore[return-value]
        way = Returned(function)
        if finished is not None:
            return remembered(finished, way)  # type: ignore[no-any-return]
        began = time.monotonic()
        try:
            result = function(*args, **kwargs)
            if is_promise(result):
                raise OptionError("step(name, function)", DOES_ITS_WORK, function)
        except BaseException:
            self.steps.fail(name)
            raise
        return self.steps.finish(name, way, result, time.monotonic() - began)  # type: ignore[no-any-return]

    @staticmethod
    async def _await_step(
        steps: Steps | Forgotten,
        name: str,
        finished: Step | None,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        way = Returned(function)
        if finished is not None:
            return remembered(finished, way)
        began = time.monotonic()
        try:
            result = await function(*args, **kwargs)
        except BaseException:
            steps.fail(name)
            raise
        return steps.finish(name, way, result, time.monotonic() - began)


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
