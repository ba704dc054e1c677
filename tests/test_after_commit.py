"""`enqueue_after_commit`: exactly what is committed is enqueued."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, Session, mapped_column, scoped_session, sessionmaker

from flask_spooler import (
    ArgumentError,
    EnqueueError,
    JobNotFound,
    JobTimeout,
    Spooler,
    SpoolerError,
    Task,
    current_job,
)
from flask_spooler.errors import NoSession, NoTransaction, PayloadTooLarge
from flask_spooler.job import Job
from flask_spooler.signals import job_dropped, job_enqueued, job_unpublished
from tests.conftest import FailAt

db = SQLAlchemy()


class Order(db.Model):  # type: ignore[name-defined,misc]
    id: Mapped[int] = mapped_column(primary_key=True)


class Entry(db.Model):  # type: ignore[name-defined,misc]
    __bind_key__ = "journal"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def app(app: Flask, memory: Path) -> Iterator[Flask]:
    app.config.update(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{memory / 'shop.db'}",
        SQLALCHEMY_BINDS={"journal": f"sqlite:///{memory / 'journal.db'}"},
        SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"timeout": 60}},
    )
    db.init_app(app)
    with app.app_context():
        db.create_all()
        yield app
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()


@pytest.fixture
def ship(app: Flask, spooler: Spooler) -> Task[[int], None]:
    @spooler.task(name="ship")
    def ship(order: int) -> None: ...

    return ship


def shipped(spooler: Spooler) -> list[int]:
    """The orders for which there is a job."""
    records = spooler.engine.ledger.find(limit=5_000)
    return sorted(record.as_dict([])["kwargs"]["order"] for record in records)


def place(order: int) -> None:
    db.session.add(Order(id=order))


def test_a_job_is_published_by_the_commit_and_not_before(
    spooler: Spooler, ship: Task[[int], None]
) -> None:
    place(1)
    job = ship.enqueue_after_commit(1)
    with pytest.raises(JobNotFound):
        _ = job.state
    db.session.commit()
    assert job.state == "queued"
    assert spooler.get(job.id) == job


def test_after_a_rollback_there_is_no_job(spooler: Spooler, ship: Task[[int], None]) -> None:
    place(1)
    ship.enqueue_after_commit(1)
    db.session.rollback()
    place(2)
    db.session.commit()
    assert shipped(spooler) == []


def test_each_transaction_of_a_session_has_jobs_of_its_own(
    spooler: Spooler, ship: Task[[int], None]
) -> None:
    for order in (1, 2, 3):
        place(order)
        ship.enqueue_after_commit(order)
        if order == 2:
            db.session.rollback()
        else:
            db.session.commit()
    assert shipped(spooler) == [1, 3]


def test_the_jobs_of_a_savepoint_wait_for_the_outermost_commit_or_are_dropped_with_it(
    spooler: Spooler, ship: Task[[int], None]
) -> None:
    place(1)
    ship.enqueue_after_commit(1)
    with db.session.begin_nested():
        place(2)
        ship.enqueue_after_commit(2)
        inner = db.session.begin_nested()
        ship.enqueue_after_commit(3)
        inner.rollback()
        with db.session.begin_nested():
            ship.enqueue_after_commit(4)
    dropped = db.session.begin_nested()
    ship.enqueue_after_commit(5)
    with db.session.begin_nested():
        ship.enqueue_after_commit(6)
    dropped.rollback()
    assert shipped(spooler) == []
    db.session.commit()
    assert shipped(spooler) == [1, 2, 4]


def test_a_released_savepoint_is_dropped_with_its_transaction(
    spooler: Spooler, ship: Task[[int], None]
) -> None:
    with db.session.begin_nested():
        ship.enqueue_after_commit(1)
    db.session.rollback()
    db.session.commit()
    assert shipped(spooler) == []


def test_a_commit_within_a_savepoint_commits_all_of_it(
    spooler: Spooler, ship: Task[[int], None]
) -> None:
    place(1)
    db.session.begin_nested()
    ship.enqueue_after_commit(1)
    db.session.commit()
    assert shipped(spooler) == [1]


def test_a_flush_that_fails_drops_the_jobs_of_its_savepoint_only(
    spooler: Spooler, ship: Task[[int], None]
) -> None:
    place(1)
    db.session.flush()
    ship.enqueue_after_commit(1)

    def again() -> None:
        with db.session.begin_nested():
            ship.enqueue_after_commit(2)
            place(1)

    with pytest.raises(IntegrityError):
        again()
    db.session.commit()
    assert shipped(spooler) == [1]


def test_a_commit_that_fails_enqueues_nothing(spooler: Spooler, ship: Task[[int], None]) -> None:
    db.session.execute(db.insert(Order).values(id=1))
    db.session.commit()
    place(1)
    ship.enqueue_after_commit(1)
    with pytest.raises(IntegrityError):
        db.session.commit()
    db.session.rollback()
    db.session.commit()
    assert shipped(spooler) == []


def test_a_session_that_is_closed_without_a_commit_enqueues_nothing_and_says_so(
    app: Flask, spooler: Spooler, ship: Task[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    why: list[str] = []

    @job_dropped.connect_via(app)
    def note(sender: Flask, **facts: Any) -> None:
        why.append(facts["why"])

    with app.app_context():
        place(1)
        job = ship.enqueue_after_commit(1)
    assert len(why) == 1
    assert why[0].startswith("its session was closed without a commit")
    assert f"job {job.id} was not enqueued after the commit: ship" in caplog.text
    place(2)
    ship.enqueue_after_commit(2)
    db.session.rollback()
    assert len(why) == 1, "a rollback is meant"
    assert shipped(spooler) == []


def test_a_job_that_is_enqueued_after_the_commit_it_was_meant_for_is_dropped_and_says_so(
    app: Flask, spooler: Spooler, ship: Task[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    with app.app_context():
        order = Order(id=1)
        db.session.add(order)
        db.session.commit()
        job = ship.enqueue_after_commit(order.id)  # reading it opens a transaction
    assert f"job {job.id} was not enqueued after the commit: ship" in caplog.text
    assert "or enqueue_after_commit was called after the commit" in caplog.text
    assert shipped(spooler) == []


def test_several_databases_are_one_transaction(spooler: Spooler, ship: Task[[int], None]) -> None:
    db.session.add_all([Order(id=1), Entry(id=1)])
    ship.enqueue_after_commit(1)
    db.session.commit()
    db.session.add_all([Order(id=2), Entry(id=2)])
    ship.enqueue_after_commit(2)
    db.session.rollback()
    assert shipped(spooler) == [1]


def test_a_prepared_transaction_enqueues_when_it_is_committed(
    app: Flask, ship: Task[[int], None], spooler: Spooler, memory: Path
) -> None:
    engine = create_engine(f"sqlite:///{memory / 'shop.db'}")
    # SQLite has no two phases, so no connection takes part.
    with Session(engine, twophase=True) as session:
        spooler._session = lambda: session
        session.begin()
        ship.enqueue_after_commit(1)
        session.prepare()
        assert shipped(spooler) == []
        session.commit()
    engine.dispose()
    assert shipped(spooler) == [1]


def test_a_plain_session_does_as_well(app: Flask, memory: Path) -> None:
    engine = create_engine(f"sqlite:///{memory / 'plain.db'}")
    own = scoped_session(sessionmaker(engine))
    spooler = Spooler(session=own)
    spooler.init_app(bare_app(memory))

    @spooler.task(name="ship")
    def ship(order: int) -> None: ...

    own.begin()
    job = ship.enqueue_after_commit(1)
    own.commit()
    assert job.state == "queued"
    own.remove()
    engine.dispose()


def bare_app(memory: Path) -> Flask:
    app = Flask("bare")
    app.config.update(SPOOLER_DIRECTORY=memory / "bare", SPOOLER_DURABILITY="process")
    return app


def test_many_jobs_of_one_transaction_keep_their_order(
    app: Flask, spooler: Spooler, ship: Task[[int], None]
) -> None:
    announced: list[str] = []

    @job_enqueued.connect_via(app)
    def note(sender: Flask, **facts: Any) -> None:
        announced.append(facts["job_id"])

    place(1)
    ids = [ship.enqueue_after_commit(number).id for number in range(300)]
    db.session.commit()
    assert announced == ids
    assert shipped(spooler) == list(range(300))


def test_options_count_as_they_do_for_enqueue(spooler: Spooler, ship: Task[[int], None]) -> None:
    place(1)
    later = ship.using(delay=60, queue="mail").enqueue_after_commit(1)
    first = ship.using(unique="one").enqueue_after_commit(2)
    second = ship.using(unique="one").enqueue_after_commit(2)
    db.session.commit()
    assert (later.state, later.record.queue) == ("scheduled", "mail")
    assert first.state == "queued"
    with pytest.raises(JobNotFound):
        _ = second.state


def test_wrong_arguments_are_refused_before_the_commit(
    app: Flask, spooler: Spooler, ship: Task[[int], None]
) -> None:
    @spooler.task
    def keep(text: str) -> None: ...

    place(1)
    with pytest.raises(ArgumentError, match="order"):
        ship.enqueue_after_commit("one")  # type: ignore[arg-type]
    with pytest.raises(PayloadTooLarge):
        keep.enqueue_after_commit("x" * 2**24)


def test_without_a_transaction_there_is_nothing_to_wait_for(
    spooler: Spooler, ship: Task[[int], None]
) -> None:
    place(1)
    db.session.commit()
    with pytest.raises(NoTransaction, match=r"cannot enqueue ship .*enqueue\(\), which"):
        ship.enqueue_after_commit(1)


def test_without_flask_sqlalchemy_the_error_names_both_ways_out(memory: Path) -> None:
    spooler = Spooler(bare_app(memory))

    @spooler.task
    def work() -> None: ...

    with pytest.raises(NoSession, match=r"db\.init_app\(app\).*Spooler\(session=Session\)"):
        work.enqueue_after_commit()


def test_a_job_that_cannot_be_published_fails_no_commit_and_is_announced(
    app: Flask,
    spooler: Spooler,
    ship: Task[[int], None],
    fail_at: FailAt,
    caplog: pytest.LogCaptureFixture,
) -> None:
    missing: list[str] = []

    @job_unpublished.connect_via(app)
    def note(sender: Flask, **facts: Any) -> None:
        assert isinstance(facts["error"], EnqueueError)
        missing.append(facts["job_id"])

    fail_at("publish.rename", OSError(28, "No space left on device"))
    place(1)
    job = ship.enqueue_after_commit(1)
    with caplog.at_level(logging.ERROR):
        db.session.commit()
    assert missing == [job.id]
    assert f"job {job.id} is missing, although its transaction is committed" in caplog.text
    assert db.session.get(Order, 1) is not None


def test_a_unique_job_that_is_refused_costs_no_other_one(
    app: Flask, spooler: Spooler, ship: Task[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = spooler.engine.submit_many

    def refuse(jobs: list[Job]) -> list[str]:
        if any(job.unique for job in jobs):
            raise SpoolerError("the key is held")
        return submit(jobs)

    monkeypatch.setattr(spooler.engine, "submit_many", refuse)
    place(1)
    ship.enqueue_after_commit(1)
    ship.using(unique="held").enqueue_after_commit(2)
    ship.enqueue_after_commit(3)
    db.session.commit()
    assert shipped(spooler) == [1, 3]


def test_the_timeout_of_a_task_that_commits_is_not_held_back(
    spooler: Spooler, ship: Task[[int], None], fail_at: FailAt
) -> None:
    fail_at("publish.rename", JobTimeout(1))
    place(1)
    ship.enqueue_after_commit(1)
    with pytest.raises(JobTimeout):
        db.session.commit()


def test_an_eager_job_finds_what_was_committed(memory: Path) -> None:
    app = bare_app(memory)
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", SPOOLER_EAGER=True)
    spooler = Spooler(app)
    db.init_app(app)

    @spooler.task
    def ship(order: int) -> bool:
        return db.session.get(Order, order) is not None and bool(current_job)

    with app.app_context():
        db.create_all(None)
        place(1)
        job = ship.enqueue_after_commit(1)
        db.session.commit()
        assert job.result is True
        db.session.remove()
        db.engine.dispose()


def test_of_a_thousand_transactions_exactly_the_committed_ones_enqueue(
    app: Flask, spooler: Spooler, ship: Task[[int], None]
) -> None:
    kept: set[int] = set()
    ends = ("commit", "rollback", "nested commit", "nested rollback", "half", "close")

    def transact(number: int, end: str) -> None:
        with app.app_context():
            place(number)
            ship.enqueue_after_commit(number)
            savepoint = db.session.begin_nested()
            place(number + 10_000)
            ship.enqueue_after_commit(number + 10_000)
            match end:
                case "commit":
                    db.session.commit()
                    kept.update({number, number + 10_000})
                case "rollback":
                    db.session.rollback()
                case "close":
                    pass
                case "nested commit":
                    savepoint.commit()
                    db.session.commit()
                    kept.update({number, number + 10_000})
                case "nested rollback":
                    savepoint.commit()
                    db.session.rollback()
                case "half":
                    savepoint.rollback()
                    db.session.commit()
                    kept.add(number)

    with ThreadPoolExecutor(max_workers=8) as threads:
        for done in [threads.submit(transact, number, ends[number % 6]) for number in range(1_000)]:
            done.result()
    in_database = {order for (order,) in db.session.execute(db.select(Order.id))}
    assert in_database == kept
    assert set(shipped(spooler)) == kept
    assert len(shipped(spooler)) == len(kept)
