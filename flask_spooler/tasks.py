"""`Tasks`: tasks of a blueprint or a package that has no `Spooler` of its own.

Owns the names of such tasks and the way to the `Spooler` that runs them, which is found when a
job is enqueued: that of the current app, or the only one that has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from flask import Blueprint, current_app, has_app_context

from .arguments import check_function
from .config import EXTENSION
from .engine import SpoolEngine
from .errors import DuplicateTask, NotRegistered, OptionError
from .handle import JobHandle
from .job import Job
from .members import Members
from .options import TaskOptions, check_name, task_options
from .task import Task

if TYPE_CHECKING:
    from flask.sansio.app import App
    from typing_extensions import Unpack

    from .extension import Spooler

P = ParamSpec("P")
R = TypeVar("R")

LONGEST_TASKS: Final = 100
"""Characters of the name with which the stored names of a collection begin."""

ATTACHED: Final = "spooler_tasks"
"""The key in ``app.extensions`` of what came with the app's blueprints."""


class Tasks:
    """Tasks that wait for a `Spooler`: for blueprints and reusable packages.

    Decorate functions with `task`, and `attach` the collection to a blueprint, or pass it to
    `Spooler.register`. The stored names are ``<name>.<function>``, like endpoints of a blueprint:
    they stay the same when the module moves.
    """

    def __init__(self, name: str) -> None:
        check_name("Tasks(name)", name, LONGEST_TASKS)
        self.name = name
        self.tasks: dict[str, Task[..., Any]] = {}
        self._spoolers: Members[Spooler] = Members()

    def __repr__(self) -> str:
        return f"<Tasks {self.name}>"

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self, /, *, name: str | None = None, **options: Unpack[TaskOptions]
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(
        self,
        function: Callable[P, R] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
        """Make a function a task, as ``@tasks.task`` or with options, see `TaskOptions`.

        `name` stands in place of the function's own. Raises `DuplicateTask` when it is taken, and
        `OptionError`.
        """
        checked = task_options(name, options)

        def decorate(function: Callable[P, R]) -> Task[P, R]:
            own = check_function(function, name).rpartition(".")[2]
            stored = f"{self.name}.{name or own}"
            if stored in self.tasks:
                raise DuplicateTask(stored)
            task = Task(self, function, stored, checked)
            for spooler in self._spoolers:
                spooler.adopt(task)
            self.tasks[stored] = task
            return task

        return decorate if function is None else decorate(function)

    def attach(self, blueprint: Blueprint) -> None:
        """Register these tasks with the `Spooler` of each app that `blueprint` is registered with.

        It does not matter which comes first, ``register_blueprint`` or ``spooler.init_app``, nor
        how often and under which names the blueprint is registered.
        """
        if not isinstance(blueprint, Blueprint):
            expected = "a Blueprint; for an app call spooler.register(tasks)"
            raise OptionError("attach(blueprint)", expected, blueprint)
        blueprint.record(lambda state: self._come_with(state.app))

    def get(self, job_id: str) -> JobHandle:
        """Return the handle of a job of the app, whichever task it is of; see `Spooler.get`.

        Raises `JobNotFound`, and `NotRegistered` where no `Spooler` has these tasks.
        """
        return self._spooler.get(job_id)

    def get_many(self, job_ids: Iterable[str]) -> list[JobHandle]:
        """Return the handles of these jobs, in their order; see `Spooler.get_many`."""
        return self._spooler.get_many(job_ids)

    def joined(self, spooler: Spooler) -> None:
        """Know a `Spooler` that has these tasks; called by `Spooler.register`."""
        self._spoolers.add(spooler)

    def _come_with(self, app: App) -> None:
        app.extensions.setdefault(ATTACHED, []).append(self)
        state = app.extensions.get(EXTENSION)
        if state is not None:
            state.spooler.register(self)

    @property
    def engine(self) -> SpoolEngine:
        """The engine of the app whose jobs these would be."""
        return self._spooler.engine

    @property
    def max_attempts(self) -> int:
        """The `SPOOLER_MAX_ATTEMPTS` of that app."""
        return self._spooler.max_attempts

    def enqueued(self, job: Job, job_id: str) -> None:
        """Hand on that a job was enqueued; called by tasks."""
        self._spooler.enqueued(job, job_id)

    def after_commit(self, job: Job) -> None:
        """Hand on a job that waits for a commit; called by tasks."""
        self._spooler.after_commit(job)

    @property
    def _spooler(self) -> Spooler:
        if has_app_context():
            state = current_app.extensions.get(EXTENSION)
            if state is not None and state.spooler in self._spoolers:
                found: Spooler = state.spooler
                return found
        tested = [spooler for spooler in self._spoolers if spooler.tested]
        meant = tested[0] if len(tested) == 1 else self._spoolers.only
        if meant is None:
            raise NotRegistered(self.name)
        return meant
