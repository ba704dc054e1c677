"""The app context around a task, and what is torn down with it."""

from __future__ import annotations

import contextvars
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask, current_app, g, has_request_context, request, url_for
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Session

from flask_spooler import Spooler, current_job
from flask_spooler.databases import dispose_engines


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    app = Flask("contexts")
    app.config.update(SPOOLER_DIRECTORY=tmp_path / "spool", SPOOLER_EAGER=True)
    return app


@pytest.fixture
def spooler(app: Flask) -> Iterator[Spooler]:
    spooler = Spooler(app)

    @app.get("/reports/<int:number>")
    def report(number: int) -> str:
        return str(number)

    with app.app_context():
        yield spooler


@pytest.fixture
def torn_down(app: Flask) -> list[BaseException | None]:
    """The exceptions with which the contexts of jobs are torn down."""
    seen: list[BaseException | None] = []

    @app.teardown_appcontext
    def note(error: BaseException | None) -> None:
        if current_job:
            seen.append(error)

    return seen


def test_each_job_has_an_app_context_and_a_g_of_its_own(spooler: Spooler) -> None:
    @spooler.task
    def look() -> list[object]:
        seen = [current_app.name, g.get("mark"), has_request_context()]
        g.mark = "left"
        return seen

    g.mark = "of the caller"
    assert look.enqueue().result == ["contexts", None, False]
    assert look.enqueue().result == ["contexts", None, False]
    assert g.mark == "of the caller"


def test_a_job_that_is_run_eagerly_in_a_view_sees_no_request(app: Flask, spooler: Spooler) -> None:
    @spooler.task
    def peek() -> str:
        return request.path

    @app.get("/")
    def view() -> str:
        error = peek.enqueue().error
        return str(error and error["message"])

    assert "Working outside of request context" in app.test_client().get("/").text


def test_a_context_variable_that_one_job_sets_is_not_seen_by_the_next(spooler: Spooler) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    @spooler.task
    def act(name: str) -> str:
        before = user.get()
        user.set(name)
        return before

    user.set("of the caller")
    assert act.enqueue("first").result == "nobody"
    assert act.enqueue("second").result == "nobody"
    assert user.get() == "of the caller"


def test_the_context_is_torn_down_after_the_task_with_its_exception(
    spooler: Spooler, torn_down: list[BaseException | None]
) -> None:
    @spooler.task(timeout=0.2, max_attempts=1)
    def end(how: str) -> None:
        if how == "fail":
            raise ValueError("not today")
        if how == "hang":
            time.sleep(20)

    end.enqueue("well")
    end.enqueue("fail")
    end.enqueue("hang")
    assert [type(error).__name__ for error in torn_down] == ["NoneType", "ValueError", "JobTimeout"]


def test_a_task_that_returned_fails_with_its_teardown(app: Flask, spooler: Spooler) -> None:
    @app.teardown_appcontext
    def commit(error: BaseException | None) -> None:
        if current_job:
            raise OSError("the last write is lost")

    @spooler.task
    def work() -> str:
        return "done"

    job = work.enqueue()
    assert job.state == "retrying"
    assert job.error is not None
    assert job.error["message"] == "the last write is lost"


def test_a_task_that_failed_keeps_its_own_error_when_the_teardown_fails_too(
    app: Flask, spooler: Spooler, caplog: pytest.LogCaptureFixture
) -> None:
    @app.teardown_appcontext
    def break_down(error: BaseException | None) -> None:
        if current_job:
            raise OSError("in the teardown")

    @spooler.task(max_attempts=1)
    def work() -> None:
        raise ValueError("in the task")

    with caplog.at_level(logging.ERROR):
        job = work.enqueue()
    assert job.error is not None
    assert job.error["message"] == "in the task"
    assert "a teardown function failed, after its task had: in the teardown" in caplog.text


def test_a_session_is_closed_although_a_teardown_function_failed(
    app: Flask, spooler: Spooler
) -> None:
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db = SQLAlchemy(app)
    sessions: list[Session] = []

    @app.teardown_appcontext
    def break_down(error: BaseException | None) -> None:
        if current_job:
            raise OSError("before the session is removed")

    @spooler.task(max_attempts=1)
    def work() -> None:
        db.session.begin()
        sessions.append(db.session())

    error = work.enqueue().error
    assert error is not None
    assert error["message"] == "before the session is removed"
    assert not sessions[0].in_transaction()
    # It is found by the address of its context, which the context of the next job may get.
    assert db.session.registry.registry == {}


def test_fresh_pools_leave_the_connections_of_the_master_open(app: Flask, tmp_path: Path) -> None:
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'shop.db'}"
    db = SQLAlchemy(app)
    with app.app_context():
        with db.engine.connect() as connection:
            of_the_master = connection.connection.driver_connection
        dispose_engines(app)
        with db.engine.connect() as connection:
            assert connection.connection.driver_connection is not of_the_master
    assert of_the_master is not None
    assert of_the_master.execute("SELECT 1").fetchone() == (1,)
    of_the_master.close()
    with app.app_context():
        db.engine.dispose()


def test_the_app_can_be_asked_for_urls_when_it_knows_its_name(app: Flask, spooler: Spooler) -> None:
    app.config.update(
        SERVER_NAME="shop.example", APPLICATION_ROOT="/app", PREFERRED_URL_SCHEME="https"
    )

    @spooler.task
    def link(number: int) -> str:
        return url_for("report", number=number)

    assert link.enqueue(7).result == "https://shop.example/app/reports/7"


def test_without_a_server_name_the_error_says_what_is_missing(spooler: Spooler) -> None:
    @spooler.task
    def link(number: int) -> str:
        return url_for("report", number=number)

    error = link.enqueue(7).error
    assert error is not None
    for word in ("SERVER_NAME", "APPLICATION_ROOT", "PREFERRED_URL_SCHEME"):
        assert word in error["message"]
