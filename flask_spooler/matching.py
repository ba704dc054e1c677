"""Which enqueued job a test means: by task, arguments, and the options of a copy of the task.

Owns what is known of the jobs that a test has enqueued, and their comparison with what it says.
Arguments that are not given may be anything; what is left to a default counts as given with it.
Options are those that the test has set with `using`, and no others.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, ParamSpec, TypeVar
from uuid import UUID

import msgspec

from .engine import SpoolEngine
from .errors import ArgumentError, OptionError
from .job import FINAL, Job
from .record import Record
from .spool import DEAD, WAITING
from .task import Task
from .times import duration

P = ParamSpec("P")
R = TypeVar("R")

MOST_JOBS: Final = 100_000
"""More than any test enqueues, where the ledger wants a limit."""

PLAIN: Final = (str, bytes, int, float, date, datetime, time, timedelta, UUID, Decimal)
"""What a test gives means only itself where it is of these types; anything else may be something
that is equal to many, as `unittest.mock.ANY` is, or contain it."""

FIELDS: Final = {"at": "due_at", "delay": "due_at", "expires": "expires_at"}
"""Options whose field in a job bears another name than the option."""


class Enqueued:
    """The jobs that were enqueued into one private spool, each as it was enqueued."""

    def __init__(self, engine: SpoolEngine) -> None:
        self._engine = engine
        self._noted: dict[str, Job] = {}

    def note(self, job_id: str) -> None:
        """Keep a job right after its enqueue, while its file is where that has put it."""
        job = self._read(job_id)
        if job is not None:
            self._noted[job_id] = job

    def records(self, task: Task[..., Any] | None = None) -> list[Record]:
        """Return what is known of the jobs of one task or of all, the first one first."""
        name = None if task is None else checked(task).name
        return self._engine.ledger.find(task=name, limit=MOST_JOBS)[::-1]

    def fitting(self, task: Task[..., Any], wanted: Mapping[str, Any]) -> list[str]:
        """Return the ids of the jobs that a test means."""
        return [each.id for each in self.records(task) if fits(self._job(each), task, wanted)]

    def listed(self, now: float) -> str:
        """Return all jobs for people, one a line."""
        return "".join(f"\n  {self._line(each, now)}" for each in self.records()) or " none at all"

    def _line(self, record: Record, now: float) -> str:
        due = record.due_at - now
        when = f" in {duration(due)}" if due > 0 and record.state not in FINAL else ""
        call = _call(msgspec.json.decode(self._job(record).kwargs))
        return f"{record.task}({call}), queue {record.queue!r}: {record.state}{when}"

    def _job(self, record: Record) -> Job:
        return self._noted.get(record.id) or self._read(record.id) or _as_job(record)

    def _read(self, job_id: str) -> Job | None:
        for place in (WAITING, DEAD):
            if self._engine.spool.has(place, job_id):
                return self._engine.read_job(place, job_id)
        return None


def checked(task: Task[P, R]) -> Task[P, R]:
    """Return what a test gave as a task; raise `OptionError` for anything else, such as a name."""
    if not isinstance(task, Task):
        expected = "one that @spooler.task or @tasks.task has made, and not its name or function"
        raise OptionError("the task", expected, task)
    return task


def given(task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return what a test says of a job's arguments, by parameter name.

    Raises `ArgumentError`, a `TypeError`, for names that the task does not take and for values
    that no job of it can carry: to refute such a job would prove nothing.
    """
    arguments = checked(task).arguments
    try:
        wanted = _by_name(inspect.signature(task.function).bind_partial(*args, **kwargs))
    except TypeError as error:
        problem = arguments.misfit(error, kwargs)
        raise ArgumentError(task.name, problem, cannot="look for") from None
    for name, value in wanted.items():
        if type(value) in PLAIN:
            try:
                arguments.check(name, value)
            except ArgumentError as error:
                raise ArgumentError(task.name, error.problem, cannot="look for") from None
    return wanted


def fits(job: Job, task: Task[..., Any], wanted: Mapping[str, Any]) -> bool:
    """Tell whether a job of this task has these arguments, and the options set on the task."""
    args, kwargs = task.arguments.thaw(job.kwargs)
    bound = inspect.signature(task.function).bind(*args, **kwargs)
    bound.apply_defaults()
    actual = _by_name(bound)
    if not all(name in actual and _same(value, actual[name]) for name, value in wanted.items()):
        return False
    like_it = task.job(args, kwargs, job.enqueued_at)
    fields = {FIELDS.get(option, option) for option in task.overrides}
    return all(getattr(like_it, field) == getattr(job, field) for field in fields)


def described(task: Task[..., Any], wanted: Mapping[str, Any]) -> str:
    """Return what a test looks for, as a call."""
    call = f"{task.name}({_call(wanted)})"
    options = {name: getattr(task.options, name) for name in sorted(task.overrides)}
    return f"{call} with {_call(options)}" if options else call


def _as_job(record: Record) -> Job:
    """Return a job whose file is gone and whose enqueue nobody saw, as far as its row tells."""
    return Job(
        id=record.id,
        task=record.task,
        kwargs=msgspec.Raw(record.kwargs or b"{}"),
        enqueued_at=record.enqueued_at,
        due_at=record.due_at,
        queue=record.queue,
        priority=record.priority,
        max_attempts=record.max_attempts,
        expires_at=record.expires_at,
        unique=record.unique_key,
    )


def _by_name(bound: inspect.BoundArguments) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        named.update(value if kind is inspect.Parameter.VAR_KEYWORD else {name: value})
    return named


def _same(wanted: Any, actual: Any) -> bool:
    if wanted == actual:
        return True
    # A tuple and the list that it became on its way are the same; a date and its text are not.
    if isinstance(wanted, (list, tuple)) and isinstance(actual, (list, tuple)):
        return len(wanted) == len(actual) and all(map(_same, wanted, actual))
    if isinstance(wanted, dict) and isinstance(actual, dict):
        return wanted.keys() == actual.keys() and all(
            _same(value, actual[name]) for name, value in wanted.items()
        )
    return False


def _call(named: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in named.items())
