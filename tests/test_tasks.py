"""`Tasks`: what a blueprint or a package brings along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, current_app

from flask_spooler import Spooler, Tasks
from flask_spooler.errors import DuplicateTask, JobNotFound, NotRegistered, OptionError
from flask_spooler.options import Options


def make_app(directory: Path, name: str = "shop") -> Flask:
    app = Flask(name)
    app.config.update(
        SPOOLER_DIRECTORY=directory / name, SPOOLER_DURABILITY="process", SPOOLER_EAGER=True
    )
    return app


def mail() -> tuple[Tasks, Blueprint]:
    tasks = Tasks("mail")
    blueprint = Blueprint("letters", __name__)

    @tasks.task
    def send(to: str) -> str:
        return f"{to} by {current_app.name}"

    @tasks.task(name="digest", queue="slow")
    def every_week() -> None: ...

    tasks.attach(blueprint)
    return tasks, blueprint


def test_the_names_are_those_of_the_collection_and_the_functions() -> None:
    tasks, _ = mail()
    assert list(tasks.tasks) == ["mail.send", "mail.digest"]
    assert tasks.tasks["mail.digest"].options == Options(queue="slow")


@pytest.mark.parametrize("first", ["spooler", "blueprint"])
def test_it_does_not_matter_whether_spooler_or_blueprint_comes_first(
    memory: Path, first: str
) -> None:
    tasks, blueprint = mail()
    app, spooler = make_app(memory), Spooler()
    if first == "spooler":
        spooler.init_app(app)
    app.register_blueprint(blueprint)
    if first == "blueprint":
        spooler.init_app(app)
    assert tasks.tasks["mail.send"].enqueue("ada").result == "ada by shop"
    assert spooler.find_task("mail.send") is tasks.tasks["mail.send"]


def test_a_blueprint_may_be_registered_twice_under_two_names(memory: Path) -> None:
    _, blueprint = mail()
    app = make_app(memory)
    spooler = Spooler(app)
    app.register_blueprint(blueprint)
    app.register_blueprint(blueprint, name="again", url_prefix="/again")
    assert set(spooler.tasks) == {"mail.send", "mail.digest"}


def test_a_nested_blueprint_brings_its_tasks(memory: Path) -> None:
    _, blueprint = mail()
    outer = Blueprint("outer", __name__)
    outer.register_blueprint(blueprint)
    app = make_app(memory)
    spooler = Spooler(app)
    app.register_blueprint(outer)
    assert "mail.send" in spooler.tasks


def test_a_task_that_is_declared_after_the_registration_is_known_too(memory: Path) -> None:
    tasks = Tasks("late")
    spooler = Spooler(make_app(memory))
    spooler.register(tasks)

    @tasks.task
    def work() -> int:
        return 1

    assert spooler.find_task("late.work") is work
    assert work.enqueue().result == 1


def test_each_app_runs_the_jobs_that_were_enqueued_in_its_context(memory: Path) -> None:
    tasks, blueprint = mail()
    apps = [make_app(memory, name) for name in ("first", "second")]
    for app in apps:
        Spooler(app)
        app.register_blueprint(blueprint)
    for app in apps:
        with app.app_context():
            assert tasks.tasks["mail.send"].enqueue("ada").result == f"ada by {app.name}"


def test_jobs_are_looked_up_in_the_app_that_would_run_them(memory: Path) -> None:
    tasks, blueprint = mail()
    apps = [make_app(memory, name) for name in ("first", "second")]
    for app in apps:
        Spooler(app)
        app.register_blueprint(blueprint)
    with apps[0].app_context():
        jobs = [tasks.tasks["mail.send"].enqueue(name) for name in ("ada", "grace")]
        asked = [jobs[1].id, "1" + 28 * "0", jobs[0].id]
        assert tasks.get(jobs[0].id) == jobs[0]
        assert tasks.get_many(asked) == [jobs[1], jobs[0]]
    with apps[1].app_context():
        assert tasks.get_many(asked) == []
        with pytest.raises(JobNotFound):
            tasks.get(jobs[0].id)


def test_jobs_of_unregistered_tasks_cannot_be_looked_up() -> None:
    tasks, _ = mail()
    for look_up in (tasks.get, tasks.get_many):
        with pytest.raises(NotRegistered, match=r"'mail'.*before jobs are used"):
            look_up("1" + 28 * "0")


def test_a_job_of_unregistered_tasks_is_refused_with_both_ways_out(memory: Path) -> None:
    tasks, _ = mail()
    send = tasks.tasks["mail.send"]
    with pytest.raises(NotRegistered, match=r"'mail'.*blueprint.*spooler\.register\(tasks\)"):
        send.enqueue("ada")
    Spooler(make_app(memory, "without"))
    with pytest.raises(NotRegistered):
        send.enqueue("ada")


def work() -> None: ...


def test_two_tasks_of_one_name_are_refused(memory: Path) -> None:
    tasks, _ = mail()
    with pytest.raises(DuplicateTask, match=r"mail\.send"):
        tasks.task(name="send")(work)
    spooler = Spooler()
    spooler.task(name="mail.send")(work)
    with pytest.raises(DuplicateTask, match=r"mail\.send"):
        spooler.register(tasks)
    assert set(spooler.tasks) == {"mail.send"}


def test_options_of_one_job_are_refused_as_those_of_a_task() -> None:
    with pytest.raises(OptionError, match="given to using"):
        Tasks("mail").task(delay=3)(work)


@pytest.mark.parametrize("name", ["", None, 5, "a\nb", "a" * 101], ids=repr)
def test_a_collection_needs_a_name_that_can_begin_others(name: Any) -> None:
    with pytest.raises(OptionError, match=r"expected Tasks\(name\) to be a string of 1 to 100"):
        Tasks(name)


def test_what_cannot_be_attached_to_or_registered_is_refused_with_the_way_out(
    memory: Path,
) -> None:
    tasks, _ = mail()
    app: Any = make_app(memory)
    task: Any = tasks.tasks["mail.send"]
    with pytest.raises(OptionError, match=r"for an app call spooler\.register\(tasks\), got: <Fl"):
        tasks.attach(app)
    with pytest.raises(OptionError, match=r"to be a Tasks collection; .*, got: <Task mail\.send>"):
        Spooler().register(task)
