"""`SPOOLER_EAGER`: a job runs on enqueue, through the real codec."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
from flask import Flask, current_app

from flask_spooler import Spooler, current_job

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
