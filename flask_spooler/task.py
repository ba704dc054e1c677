"""What the user wrote: a function that can be called here and now, or enqueued.

Owns the way from a call to a frozen `Job`. A task knows no app: it asks its `Spooler` for the
engine when it is enqueued, so the decorator works at import time, before any app exists.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

import msgspec

from . import _uwsgi
from .arguments import Arguments
from .current import CurrentJob, inside_task, running
from .engine import SpoolEngine
from .errors import ArgumentError, ExtraMissing, LateTask, NotATask, OptionError
from .handle import JobHandle
from .job import QUEUED, SCHEDULED, Job, new_id
from .options import Exceptions, JobOptions, Options, dereference, reference
from .retry import Backoff, exponential
from .schedule import due_time

if TYPE_CHECKING:
    from typing_extensions import Unpack

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

DEFAULT_BACKOFF = exponential()


class Home(Protocol):
    """What a task needs of the extension it belongs to."""

    @property
    def engine(self) -> SpoolEngine: ...

    @property
    def max_attempts(self) -> int: ...

    def enqueued(self, job: Job, job_id: str) -> None: ...

    def after_commit(self, job: Job) -> None: ...


class Task(Generic[P, R_co]):
    """A function under a stored name, with the options its jobs have by default."""

    def __init__(
        self, home: Home, function: Callable[P, R_co], name: str, options: Options
    ) -> None:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            way_out = "call or loop over it in a function, and make that the task"
            raise NotATask(name, "a generator", f"its body would never run: {way_out}")
        functools.update_wrapper(self, function)
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        if self.is_async and importlib.util.find_spec("asgiref") is None:
            raise ExtraMissing(f"the async def task {name}", "asgiref", "async")
        self.name = name
        self.options = options
        self.arguments = Arguments(name, function)
        self._home = home
        self._overrides: frozenset[str] = frozenset()
        _check_in_time(name, function)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function here and now, as if it were not a task.

        Outside of a job its `current_job` then stands for none, and its progress goes nowhere.
        """
        if inside_task():
            return self.function(*args, **kwargs)
        if self.is_async:
            return self._awaited(*args, **kwargs)  # type: ignore[return-value]
        with running(self._nobodys_job()):
            return self.function(*args, **kwargs)

    async def _awaited(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        # The function's body runs when it is awaited, so the job has to be there then.
        with running(self._nobodys_job()):
            return await self.function(*args, **kwargs)  # type: ignore[misc]

    def _nobodys_job(self) -> CurrentJob:
        now = time.time()
        job = Job(
            id=new_id(), task=self.name, kwargs=msgspec.Raw(b"{}"), enqueued_at=now, due_at=now
        )
        return CurrentJob(job, 1, None)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def using(self, **options: Unpack[JobOptions]) -> Task[P, R_co]:
        """Return a copy of the task whose jobs have these options; see `JobOptions`.

        Callables and exception classes given here travel with the job by name, so they have to
        be importable. Raises `OptionError`.
        """
        copy: Task[P, R_co] = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.options = self.options.but(**options)
        copy._overrides = self._overrides | options.keys()
        return copy

    @property
    def overrides(self) -> frozenset[str]:
        """The options that were given to `using`."""
        return self._overrides

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> JobHandle:
        """Publish one job and return its handle, when it is as safe as the configuration asks.

        All arguments go to the function. Raises `ArgumentError` for those that do not fit it and
        `EnqueueError` when the job could not be published; then it will not run.
        """
        engine = self._home.engine
        job = self.job(args, kwargs, engine.clock())
        job_id = engine.submit(job)
        self._home.enqueued(job, job_id)
        return JobHandle(engine, job_id, SCHEDULED if job.is_scheduled else QUEUED)

    def holder_of(self, unique: str) -> JobHandle | None:
        """Return the unfinished job of this task that holds a unique key, None where it is free.

        For a page that shows what is under way, or to cancel it. Not for a decision to enqueue: the
        answer may be out of date at once, and enqueue with `unique` decides without a race.
        """
        key = self.options.but(unique=unique).unique
        engine = self._home.engine
        job_id = None if key is None else engine.ledger.holder_of(self.name, key)
        return None if job_id is None else JobHandle(engine, job_id)

    def enqueue_after_commit(self, /, *args: P.args, **kwargs: P.kwargs) -> JobHandle:
        """Publish one job when the database session has committed; never after a rollback.

        Call it before the commit, and after a flush where an argument is a key that this makes.
        The session is that of Flask-SQLAlchemy, or what the `Spooler` was given as `session`. A
        savepoint's jobs are dropped when it is rolled back, and else wait for the outermost commit.
        Arguments are checked now. The handle has the job's id; until the commit there is no such
        job, and its other attributes raise `JobNotFound`. A `delay` counts from this call.

        Raises what `enqueue` does for wrong arguments, `NoTransaction` where there is nothing to
        commit, and `NoSession`. A failure to publish after the commit is announced by the signal
        `job_unpublished` and logged: the commit has happened, so it must not look as if it failed.
        """
        engine = self._home.engine
        job = self.job(args, kwargs, engine.clock())
        engine.check_size(job)
        self._home.after_commit(job)
        return JobHandle(engine, job.id)

    def enqueue_many(self, calls: Iterable[tuple[Any, ...] | dict[str, Any]]) -> list[JobHandle]:
        """Publish one job for each call, a tuple of positional or a dict of keyword arguments.

        All calls are checked before the first is published, so a wrong one enqueues nothing. They
        are published together, with one sync and one commit, and durable when this returns. With
        a unique key they duplicate each other, so the second call meets the job of the first.
        """
        engine = self._home.engine
        now = engine.clock()
        jobs = [self._one_of_many(number, call, now) for number, call in self._numbered(calls)]
        options = self.options
        if len(jobs) > 1 and options.unique is not None and options.on_duplicate == "refuse":
            expected = "'return' or 'replace' for several jobs with one unique key"
            raise OptionError("on_duplicate", expected, options.on_duplicate)
        job_ids = engine.submit_many(jobs) if jobs else []
        for job, job_id in zip(jobs, job_ids, strict=True):
            self._home.enqueued(job, job_id)
        return [JobHandle(engine, job_id) for job_id in job_ids]

    def _numbered(self, calls: Iterable[Any]) -> Iterable[tuple[int, Any]]:
        if not isinstance(calls, Iterable) or isinstance(calls, (str, bytes, dict)):
            expected = "a list of calls, each a tuple of positional or a dict of keyword arguments"
            raise ArgumentError(self.name, f"expected {expected}, got: {calls!r}")
        return enumerate(calls)

    def _one_of_many(self, number: int, call: Any, now: float) -> Job:
        try:
            job = self.job(*self._split(call), now)
        except ArgumentError as error:
            raise ArgumentError(self.name, f"calls[{number}]: {error.problem}") from None
        self._home.engine.check_size(job, f"calls[{number}]")
        return job

    def _split(
        self, call: tuple[Any, ...] | dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if isinstance(call, dict):
            return (), call
        if not isinstance(call, (tuple, list)):  # a text would be taken apart into its letters
            expected = "a tuple of positional or a dict of keyword arguments"
            raise ArgumentError(self.name, f"expected {expected}, got: {call!r}")
        return tuple(call), {}

    def job(self, args: tuple[Any, ...], kwargs: dict[str, Any], now: float) -> Job:
        """Return the frozen job that this call at this time would enqueue."""
        options = self.options
        if self.name.startswith("__main__."):
            problem = (
                "it stands in a script, under a name that no spooler can know: start the app with "
                "flask run or uWSGI, which import it, or give the task name='…'"
            )
            raise ArgumentError(self.name, problem)
        if "on_duplicate" in self._overrides and options.unique is None:
            raise OptionError(
                "on_duplicate", "given together with a unique key", options.on_duplicate
            )
        due = due_time(options.at, options.delay, now)
        return Job(
            id=new_id(),
            task=self.name,
            kwargs=msgspec.Raw(self.arguments.freeze(args, kwargs)),
            enqueued_at=now,
            due_at=due,
            queue=options.queue,
            priority=options.priority,
            max_attempts=options.max_attempts or self._home.max_attempts,
            timeout=options.timeout,
            hard_timeout=options.hard_timeout,
            expires_at=options.expires_at(now),
            unique=options.unique,
            on_duplicate=options.on_duplicate,
            tags=options.tags,
            backoff=self._travelling_backoff(),
            retry_on=self._travelling("retry_on", options.retry_on),
            discard_on=self._travelling("discard_on", options.discard_on),
        )

    def backoff(self, job: Job) -> Backoff:
        """Return the backoff for a job of this task: its own where it brought one."""
        if isinstance(job.backoff, str):
            return dereference(job.backoff)  # type: ignore[no-any-return]
        return job.backoff or self.options.backoff or DEFAULT_BACKOFF

    def retries(self, job: Job, error: BaseException) -> bool:
        """Tell whether this error is worth another attempt."""
        if self.discards(job, error):
            return False
        return isinstance(error, self._classes(job.retry_on, self.options.retry_on, (Exception,)))

    def discards(self, job: Job, error: BaseException) -> bool:
        """Tell whether this error makes the job dead at once."""
        return isinstance(error, self._classes(job.discard_on, self.options.discard_on, ()))

    def _travelling_backoff(self) -> list[float] | str | None:
        if "backoff" not in self._overrides or self.options.backoff is None:
            return None
        backoff = self.options.backoff
        return reference("backoff", backoff) if callable(backoff) else list(backoff)

    def _travelling(self, option: str, classes: Exceptions | None) -> list[str] | None:
        if option not in self._overrides or classes is None:
            return None
        return [reference(option, each) for each in classes]

    @staticmethod
    def _classes(
        brought: list[str] | None, own: Exceptions | None, default: Exceptions
    ) -> Exceptions:
        if brought is not None:
            return tuple(dereference(name) for name in brought)
        return default if own is None else own


def _check_in_time(name: str, function: Callable[..., Any]) -> None:
    """Raise `LateTask` for a task that the spoolers of this server can not know.

    They were forked before it was defined. What stands at the top of a module they may have by
    ``spooler-import``, however late a web worker imports it; what a view defines they have not.
    """
    if not _uwsgi.is_apart_from_spoolers():
        return
    if "<locals>" in getattr(function, "__qualname__", ""):
        raise LateTask(name, "move it to the top of a module that spooler-import loads")
    if "spooler-import" not in _uwsgi.options():
        where = function.__module__
        raise LateTask(name, f"import {where} where the app is made, or name it in spooler-import")
