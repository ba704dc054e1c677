"""`Spooler`, the Flask extension: wires tasks, spool, ledger and worker to an app.

Owns `init_app`, where the configuration is read and checked once, and the state it leaves in
``app.extensions["spooler"]``. Importing it, enqueueing and the command line work in any process;
inside uWSGI it also becomes the process's spooler callable.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from flask import Flask, current_app, has_app_context

from . import _uwsgi, databases, development, doctor
from .after_commit import Waiting, session_of, wait_for_commit
from .arguments import check_function
from .config import EXTENSION, Config, read_config
from .dashboard import mount
from .dispatch import Desk, Handler, open_desk
from .eager import run_now
from .engine import SpoolEngine
from .errors import (
    AppUnclear,
    ConfigError,
    DuplicateTask,
    JobNotFound,
    NotInitialised,
    OptionError,
    ServerUnfit,
    SpoolerTaken,
    UnknownTask,
)
from .handle import JobHandle
from .housekeeper import Housekeeper, keepers
from .job import Job, is_id
from .lifecycle import take_part
from .members import Members
from .options import TaskOptions, task_options
from .signals import announce, job_enqueued
from .state import AppState
from .task import Task
from .tasks import ATTACHED, Tasks

if TYPE_CHECKING:
    from typing_extensions import Unpack

P = ParamSpec("P")
R = TypeVar("R")


class Spooler:
    """Durable background jobs on uWSGI's own spooler.

    Make one at the top of a module, decorate functions with `task`, and call `init_app` where the
    app is made. Several apps in one process are fine: outside an app context a job goes to the
    only app there is, and with several the context decides.

    `session` is a callable that returns the SQLAlchemy session whose commit `enqueue_after_commit`
    waits for, such as a `scoped_session`; not needed with Flask-SQLAlchemy.
    """

    def __init__(
        self, app: Flask | None = None, *, session: Callable[[], Any] | None = None
    ) -> None:
        self._session = session
        self.tasks: dict[str, Task[..., Any]] = {}
        self._apps: Members[Flask] = Members()
        self._bare: Handler | None = None
        self.tested: list[Flask] = []
        """The apps that `flask_spooler.testing` has in hand, the last one first of all."""
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the `SPOOLER_*` configuration, and be there for this app.

        Raises `ConfigError` for wrong values, for keys that do not exist, and inside uWSGI for a
        directory that no spooler of the server scans; `ExtraMissing` for `SPOOLER_TRACING` without
        its package; and `SpoolerTaken` for an app that has a `Spooler`.
        """
        if EXTENSION in app.extensions:
            raise SpoolerTaken(app.name)
        config = read_config(app.config, os.environ, _project_root(app))
        state = AppState(self, app, config)
        state.configured.desk.bare = self._bare
        app.extensions[EXTENSION] = state
        self._apps.add(app)
        for tasks in app.extensions.get(ATTACHED, ()):
            self.register(tasks)
        mount(app, config.dashboard_prefix)
        if _uwsgi.inside():
            self._serve(app, config, *state.configured)
        else:
            development.take_part(app, config, state.configured.desk)

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
        """Make a function a task, as ``@spooler.task`` or with options, see `TaskOptions`.

        Raises `DuplicateTask` when its name is taken, and `OptionError`.
        """
        checked = task_options(name, options)

        def decorate(function: Callable[P, R]) -> Task[P, R]:
            stored = check_function(function, name)
            return self.adopt(Task(self, function, stored, checked))

        return decorate if function is None else decorate(function)

    def register(self, tasks: Tasks) -> None:
        """Run the tasks of this collection too, also those that it gets later.

        Raises `DuplicateTask` when one of their names is taken by another task, and then none is
        registered.
        """
        if not isinstance(tasks, Tasks):
            expected = "a Tasks collection; what spooler.task has decorated is registered by that"
            raise OptionError("register(tasks)", expected, tasks)
        for name, task in tasks.tasks.items():
            if self.tasks.get(name, task) is not task:
                raise DuplicateTask(name)
        self.tasks.update(tasks.tasks)
        tasks.joined(self)

    def adopt(self, task: Task[P, R]) -> Task[P, R]:
        """Know a task by its stored name; raise `DuplicateTask` when that is taken."""
        if task.name in self.tasks:
            raise DuplicateTask(task.name)
        self.tasks[task.name] = task
        return task

    def bare(self, function: Handler) -> Handler:
        """Let `function` run unsigned packets that ``uwsgi.spool`` made and no library marks.

        Whoever reaches a uwsgi socket of the server can make such packets too.
        """
        self._bare = function
        for app in self._apps:
            app.extensions[EXTENSION].configured.desk.bare = function
        return function

    def get(self, job_id: str) -> JobHandle:
        """Return the handle of a job; raise `JobNotFound` when none has this id."""
        engine = self.engine
        if not is_id(job_id) or engine.ledger.state(job_id) is None:
            raise JobNotFound(job_id)
        return JobHandle(engine, job_id)

    def get_many(self, job_ids: Iterable[str]) -> list[JobHandle]:
        """Return the handles of these jobs, in their order, with one look at the ledger.

        Those that are not known are left out: retention deletes jobs, and a page that shows many
        should not break by one of them.
        """
        if isinstance(job_ids, str):  # else it would be taken apart into its letters
            raise OptionError("get_many(job_ids)", "a list of ids; for one there is get()", job_ids)
        engine = self.engine
        wanted = [job_id for job_id in job_ids if is_id(job_id)]
        known = engine.ledger.states(wanted)
        return [JobHandle(engine, job_id) for job_id in wanted if job_id in known]

    def find_task(self, name: str) -> Task[..., Any]:
        """Return the task of this stored name; raise `UnknownTask`."""
        try:
            return self.tasks[name]
        except KeyError:
            raise UnknownTask(name, list(self.tasks)) from None

    @property
    def engine(self) -> SpoolEngine:
        """The engine of the current app, or of the only one."""
        return self._state.engine

    @property
    def max_attempts(self) -> int:
        """The `SPOOLER_MAX_ATTEMPTS` of the current app."""
        return self._state.config.max_attempts

    def enqueued(self, job: Job, job_id: str) -> None:
        """Announce that a job was enqueued, and run it now where that is asked; called by tasks.

        Nothing has happened where `job_id` is that of another one, which holds the unique key.
        """
        self._enqueued(self._app, job, job_id)

    def after_commit(self, job: Job) -> None:
        """Let a job wait for the commit of the current session; called by tasks."""
        app = self._app
        session = session_of(app, self._session)
        wait_for_commit(session, Waiting(app, job, functools.partial(self._publish, app)))

    def _publish(self, app: Flask, jobs: list[Job]) -> None:
        # To the app of the context in which they were called for, whatever the context is now.
        job_ids = app.extensions[EXTENSION].engine.submit_many(jobs)
        for job, job_id in zip(jobs, job_ids, strict=True):
            self._enqueued(app, job, job_id)

    @staticmethod
    def _enqueued(app: Flask, job: Job, job_id: str) -> None:
        if job_id != job.id:
            return
        announce(job_enqueued, app, job_id=job_id, task=job.task)
        state: AppState = app.extensions[EXTENSION]
        if state.config.eager and not job.is_scheduled:
            run_now(state.desk, job_id)

    @property
    def _app(self) -> Flask:
        current: Flask | None = None
        if has_app_context():
            current = current_app._get_current_object()  # type: ignore[attr-defined]
            if current in self._apps:
                return current
        meant = self.tested[-1] if self.tested else self._apps.only
        if meant is not None:
            return meant
        if self._apps.had_any:
            raise AppUnclear(current.name if current else None)
        raise NotInitialised

    @property
    def _state(self) -> AppState:
        state: AppState = self._app.extensions[EXTENSION]
        return state

    @staticmethod
    def _serve(app: Flask, config: Config, engine: SpoolEngine, desk: Desk) -> None:
        """Take part in the server that has loaded the app."""
        if config.eager:
            raise ConfigError("SPOOLER_EAGER", "left out inside uWSGI: it is for tests", True)
        scanned = [Path(path) for path in _uwsgi.spooler_directories()]
        if scanned and config.directory.resolve() not in scanned:
            directories = ", ".join(str(path) for path in scanned)
            expected = f"a directory that this server's spoolers scan ({directories})"
            raise ConfigError("SPOOLER_DIRECTORY", expected, str(config.directory.resolve()))
        for option, why in _uwsgi.UNFIT.items():
            if _uwsgi.is_on(option):
                raise ServerUnfit(option, why)
        engine.serves = _uwsgi.has_pool()
        engine.prepare()
        take_part(engine, config.grace)
        databases.take_part(app)
        open_desk(desk)
        doctor.take_part(app)
        if _uwsgi.has_pool():  # else it would hold the lock, with nobody to wake
            keeper = Housekeeper(app, engine, grace=config.grace, retention=config.retention)
            keepers.append(keeper)


def _project_root(app: Flask) -> Path:
    """Return what a relative directory is relative to: beside the app's module or package.

    Never the working directory: the command line must find the same spool from anywhere.
    """
    root = Path(app.root_path)
    return root.parent if (root / "__init__.py").exists() else root
