"""Where a task may be defined, and where no spooler would ever know it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from flask_spooler import ArgumentError, JobNotFound, OptionError, Spooler, Tasks, _uwsgi
from flask_spooler.errors import DuplicateTask, LateTask

Server = Callable[..., None]


def define(home: Spooler | Tasks) -> Any:
    @home.task
    def work() -> None: ...

    return work


def named(home: Spooler | Tasks) -> Any:
    """Define one as if it stood at the top of a module."""

    def work() -> None: ...

    work.__qualname__ = "work"
    return home.task(work)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """Let this process be one of a server with these options."""

    def serve(worker_id: int = 1, **options: Any) -> None:
        opt = {name.replace("_", "-"): value for name, value in options.items()}
        module = SimpleNamespace(opt=opt, worker_id=lambda: worker_id)
        monkeypatch.setattr(_uwsgi, "module", lambda: module)

    return serve


@pytest.mark.parametrize("home", [Spooler(), Tasks("mail")], ids=["spooler", "tasks"])
def test_a_task_within_a_function_is_refused_in_a_web_worker_that_runs(
    server: Server, home: Spooler | Tasks
) -> None:
    server(spooler=b"spool", spooler_import=b"shop")
    with pytest.raises(LateTask, match=r"defined while the server runs, .*: move it to the top of"):
        define(home)
    assert home.tasks == {}


def test_a_module_that_comes_late_is_refused_where_spoolers_import_none(
    server: Server, spooler: Spooler
) -> None:
    server(spooler=b"spool")
    with pytest.raises(LateTask, match=rf"wait for ever: import {__name__} where the app is made"):
        named(spooler)
    server(spooler=b"spool", spooler_import=b"shop")
    named(spooler)


@pytest.mark.parametrize(
    "options",
    [
        {"worker_id": 0, "spooler": b"spool"},
        {"spooler_external": b"spool"},
        {"spooler": b"spool", "lazy_apps": True},
        {"spooler": b"spool", "lazy": True},
    ],
    ids=["master, spooler or mule", "spoolers elsewhere", "lazy apps", "lazy"],
)
def test_any_other_process_may_define_tasks_at_any_time(
    server: Server, spooler: Spooler, options: dict[str, Any]
) -> None:
    server(**options)
    assert define(spooler) in spooler.tasks.values()


@pytest.mark.parametrize("home", [Spooler(), Tasks("mail")], ids=["spooler", "tasks"])
def test_the_second_of_a_name_is_told_to_take_another_one(home: Spooler | Tasks) -> None:
    named(home)
    with pytest.raises(DuplicateTask, match=r"work' exists already: give one of them name='…'"):
        named(home)


def test_the_second_of_a_function_within_another_is_told_to_move(spooler: Spooler) -> None:
    define(spooler)
    with pytest.raises(
        DuplicateTask, match=r"<locals>\.work' exists already: .* move it to the top"
    ):
        define(spooler)


def test_a_task_of_a_script_is_told_how_to_be_found(app: Flask, spooler: Spooler) -> None:
    hello = spooler.task(lambda: None, name="__main__.hello")
    way_out = "start the app with flask run or uWSGI, which import it, or give the task name='…'"
    with pytest.raises(ArgumentError, match=way_out):
        hello.enqueue()


@pytest.mark.parametrize(
    "name",
    [5, b"mail", "", " mail", "mail ", "a\nb", "\x1b[31m", "\udcff", "x" * 201],
    ids=["int", "bytes", "empty", "space", "end", "line", "escape", "half", "long"],
)
@pytest.mark.parametrize("home", [Spooler(), Tasks("mail")], ids=["spooler", "tasks"])
def test_what_cannot_be_a_name_is_refused_when_the_task_is_decorated(
    home: Spooler | Tasks, name: Any
) -> None:
    expected = "^expected name to be a string of 1 to 200 printable characters, no spaces around"
    with pytest.raises(OptionError, match=expected):
        home.task(name=name)(lambda: None)
    assert home.tasks == {}


def test_every_name_that_a_function_has_of_its_own_is_a_name(app: Flask, spooler: Spooler) -> None:
    def work() -> None: ...

    work.__qualname__ = f"{'deep.' * 50}<locals>.työ"
    task = spooler.task(work)
    assert task.name == f"{__name__}.{work.__qualname__}"
    assert task.enqueue().record.task == task.name
    for name in ("<lambda>", "send mail/now", "x" * 200):
        assert spooler.task(lambda: None, name=name).enqueue().record.task == name


@pytest.mark.parametrize(
    "job_id", [None, 5, b"0" * 29, "0" * 100], ids=["none", "int", "bytes", "long"]
)
def test_what_is_no_id_is_the_id_of_no_job(app: Flask, spooler: Spooler, job_id: Any) -> None:
    with pytest.raises(JobNotFound, match="no job has the id "):
        spooler.get(job_id)
