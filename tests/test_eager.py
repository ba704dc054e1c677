"""`SPOOLER_EAGER`: a job runs on enqueue, through the real codec."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from flask import Flask, current_app

from flask_spooler import Spooler, current_job, operations
from flask_spooler.dispatch import Desk
from flask_spooler.eager import hand_over, run_next
from tests.helpers import in_child
from tests.uwsgi.server import outcomes

NOON = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)


@pytest.fixture
def spooler(tmp_path: Path) -> Iterator[Spooler]:
    spooler = Spooler()
    app = Flask("eager")
    app.config.update(SPOOLER_DIRECTORY=tmp_path / "spool", SPOOLER_EAGER=True)
    spooler.init_app(app)
    with app.app_context():
        yield spooler


def test_an_eager_job_has_run_when_enqueue_returns(spooler: Spooler) -> None:
    @spooler.task
    def describe(when: datetime) -> list[str]:
        return [current_app.name, type(when).__name__, when.isoformat(), current_job.id]

    job = describe.enqueue(NOON)
    assert job.state == "succeeded"
    assert job.result == ["eager", "datetime", NOON.isoformat(), job.id]
    assert not any(spooler.engine.spool.counts().values())


def test_an_eager_job_that_fails_is_retrying_or_dead_as_on_a_server(spooler: Spooler) -> None:
    @spooler.task
    def fail() -> None:
        raise ValueError("not today")

    assert fail.enqueue().state == "retrying"
    job = fail.using(max_attempts=1).enqueue()
    assert job.state == "dead"
    assert job.error is not None
    assert job.error["message"] == "not today"
    assert spooler.engine.spool.has("dead", job.id)


def test_an_eager_job_for_later_waits(spooler: Spooler) -> None:
    @spooler.task
    def fail() -> None:
        raise AssertionError("it is not due")

    assert fail.using(delay=60).enqueue().state == "scheduled"


def test_an_eager_job_may_enqueue_another(spooler: Spooler) -> None:
    @spooler.task
    def inner() -> str:
        return current_job.id

    @spooler.task
    def outer() -> list[str]:
        return [inner.enqueue().result, current_job.id]

    job = outer.enqueue()
    assert job.result[1] == job.id
    assert job.result[0] != job.id


def test_an_eager_job_whose_key_is_held_runs_nothing(spooler: Spooler) -> None:
    @spooler.task
    def run() -> None:
        raise AssertionError("the key is held")

    held = run.using(unique="key", delay=60).enqueue()
    assert run.using(unique="key").enqueue() == held


@pytest.fixture
def desk(tmp_path: Path, spooler: Spooler) -> Iterator[Desk]:
    """Where the jobs of an app go that is not eager."""
    app = Flask("by-hand")
    app.config.update(SPOOLER_DIRECTORY=tmp_path / "by-hand", SPOOLER_DURABILITY="process")
    spooler.init_app(app)
    with app.app_context():
        found: Desk = app.extensions["spooler"].desk
        yield found


def test_without_a_server_the_next_job_is_the_one_that_a_server_would_start(
    desk: Desk, spooler: Spooler
) -> None:
    @spooler.task
    def work(number: int) -> int:
        return number

    late = work.using(delay=3600).enqueue(0)
    first, second = work.enqueue(1), work.enqueue(2)
    urgent = work.using(priority=5).enqueue(3)
    paused = work.using(queue="paused").enqueue(4)
    operations.pause(desk.worker.engine, "paused")
    order = [run_next(desk, time.time()) for _ in range(4)]
    assert order == [urgent.id, first.id, second.id, None]
    assert [job.state for job in (late, paused, urgent)] == ["scheduled", "queued", "succeeded"]


def test_a_job_whose_process_died_is_run_again(desk: Desk, spooler: Spooler) -> None:
    @spooler.task
    def kill_once() -> None:
        if current_job.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    job = kill_once.enqueue()
    assert in_child(lambda: run_next(desk, time.time())) == -signal.SIGKILL
    assert job.state == "running"
    assert run_next(desk, time.time()) is None
    (file,) = desk.worker.engine.spool.window()
    assert hand_over(desk, file.name)
    assert job.state == "succeeded"
    assert outcomes(job) == ["interrupted", "succeeded"]


def test_a_file_that_another_process_has_locked_is_left_alone(desk: Desk, spooler: Spooler) -> None:
    spool = desk.worker.engine.spool

    @spooler.task
    def look() -> bool:
        (file,) = spool.window()
        return bool(in_child(lambda: os._exit(hand_over(desk, file.name))))

    job = look.enqueue()
    run_next(desk, time.time())
    assert job.result is False


def test_a_file_in_the_window_that_is_no_packet_is_kept_and_not_run(desk: Desk) -> None:
    desk.worker.engine.prepare()
    spool = desk.worker.engine.spool
    name = spool.window_name("0" * 29)
    (spool.root / name).write_bytes(b"nothing")
    assert hand_over(desk, name)
    assert (spool.counts()["window"], spool.counts()["corrupt"]) == (0, 1)


def test_a_process_that_is_no_spooler_never_signals_itself(desk: Desk, spooler: Spooler) -> None:
    @spooler.task
    def let_another_in() -> None:
        engine = desk.worker.engine
        with engine.ledger.transaction() as rows:
            engine.window.let_in_next(rows)  # as another thread may do at this moment

    jobs = [let_another_in.enqueue(), let_another_in.enqueue()]
    assert run_next(desk, time.time()) == jobs[0].id  # SIGUSR1 would have ended these tests
    (file,) = desk.worker.engine.spool.window()
    assert hand_over(desk, file.name)
    assert {job.state for job in jobs} == {"succeeded"}
