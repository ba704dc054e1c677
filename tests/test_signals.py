"""The events: what receivers get, when, and what it costs when they fail."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from blinker import NamedSignal
from flask import Flask

from flask_spooler import Spooler, Task, signals, upkeep
from flask_spooler._uwsgi import Process
from flask_spooler.engine import SpoolEngine
from flask_spooler.record import Change, Unrecorded
from flask_spooler.retry import Discard
from flask_spooler.signals import (
    job_cancelled,
    job_dead,
    job_enqueued,
    job_expired,
    job_retrying,
    job_started,
    job_succeeded,
)

ENDS = (job_succeeded, job_dead, job_cancelled, job_expired)


@pytest.fixture
def app(app: Flask) -> Iterator[Flask]:
    with app.app_context():
        yield app


@pytest.fixture
def engine(app: Flask, spooler: Spooler) -> SpoolEngine:
    spooler.engine.prepare()
    return spooler.engine


@pytest.fixture
def work(spooler: Spooler) -> Task[[], None]:
    @spooler.task(name="work")
    def work() -> None: ...

    return work


@pytest.fixture
def eager(memory: Path) -> Iterator[Spooler]:
    app = Flask("eager")
    app.config.update(
        SPOOLER_DIRECTORY=memory / "eager", SPOOLER_DURABILITY="process", SPOOLER_EAGER=True
    )
    spooler = Spooler(app)
    with app.app_context():
        yield spooler


Heard = list[tuple[str, dict[str, Any]]]


@contextmanager
def listening(*to: NamedSignal) -> Iterator[Heard]:
    heard: Heard = []

    def listener(name: str) -> Callable[..., None]:
        return lambda sender, **facts: heard.append((name, facts))

    listeners = [(signal, listener(signal.name)) for signal in to]
    for signal, receiver in listeners:
        signal.connect(receiver)
    try:
        yield heard
    finally:
        for signal, receiver in listeners:
            signal.disconnect(receiver)


def test_the_life_of_a_job_is_told_in_order(eager: Spooler) -> None:
    @eager.task(name="work", backoff=[60.0])
    def work(how: str) -> None:
        if how == "fail":
            raise ValueError("not today")
        if how == "discard":
            raise Discard("no such customer")

    with listening(job_enqueued, job_started, job_retrying, *ENDS) as heard:
        for how in ("well", "fail", "discard"):
            work.enqueue(how)
    names = [name.removeprefix("job-") for name, _ in heard]
    assert names == [
        *("enqueued", "started", "succeeded"),
        *("enqueued", "started", "retrying"),
        *("enqueued", "started", "dead"),
    ]
    assert {facts["task"] for _, facts in heard} == {"work"}
    retrying, dead = heard[5][1], heard[8][1]
    assert retrying["outcome"] == "failed"
    assert retrying["error"] == "ValueError: not today"
    assert 'raise ValueError("not today")' in retrying["traceback"]
    assert retrying["due_at"] > time.time()
    assert (dead["attempt"], dead["error"]) == (1, "Discard: no such customer")


def test_a_receiver_finds_the_state_that_it_is_told_of(eager: Spooler) -> None:
    seen: list[str] = []

    def note(sender: Flask, **facts: Any) -> None:
        seen.append(eager.get(facts["job_id"]).state)

    @eager.task
    def work() -> None: ...

    for signal in (job_enqueued, job_started, job_succeeded):
        signal.connect(note)
    work.enqueue()
    assert seen == ["queued", "running", "succeeded"]


def cancelled(engine: SpoolEngine, work: Task[[], None]) -> None:
    work.enqueue().cancel()


def replaced(engine: SpoolEngine, work: Task[[], None]) -> None:
    alone = work.using(unique="key", on_duplicate="replace")
    alone.enqueue()
    alone.enqueue()


def expired(engine: SpoolEngine, work: Task[[], None]) -> None:
    work.using(expires=1).enqueue()
    upkeep.expire(engine, time.time() + 2, 10)
    upkeep.expire(engine, time.time() + 2, 10)


def file_lost(engine: SpoolEngine, work: Task[[], None]) -> None:
    job = work.enqueue()
    window = engine.spool.window_name(job.id)
    with engine.ledger.transaction() as rows:
        rows.enter_window(job.id, window)
    engine.spool.remove("waiting", job.id)
    upkeep.find_again(engine, job.id)
    upkeep.find_again(engine, job.id)


def in_done(engine: SpoolEngine, work: Task[[], None]) -> str:
    job = work.enqueue()
    window = engine.spool.window_name(job.id)
    with engine.ledger.transaction() as rows:
        engine.spool.promote(job.id, window)
        rows.enter_window(job.id, window)
    engine.spool.set_done(window, job.id, None)
    return job.id


def outcome_lost(engine: SpoolEngine, work: Task[[], None]) -> None:
    job_id = in_done(engine, work)
    upkeep.record_bare(engine, job_id)
    upkeep.record_bare(engine, job_id)


def told_late(engine: SpoolEngine, work: Task[[], None]) -> None:
    job_id = in_done(engine, work)
    now = time.time()
    change = Change(outcome="succeeded", state="succeeded", due_at=now, ended_at=now)
    with engine.ledger.transaction() as rows:
        rows.requeue(job_id)
        rows.start(job_id, "window", now, Process(1, 1), "1.1.0")
    upkeep.record_late(engine, job_id, Unrecorded(1, change))
    upkeep.record_late(engine, job_id, Unrecorded(1, change))


@pytest.mark.parametrize(
    ("end", "signal", "facts"),
    [
        (cancelled, job_cancelled, {"attempt": 0}),
        (replaced, job_cancelled, {"attempt": 0}),
        (expired, job_expired, {}),
        (file_lost, job_dead, {"outcome": "lost"}),
        (outcome_lost, job_dead, {"outcome": "lost"}),
        (told_late, job_succeeded, {"attempt": 1}),
    ],
    ids=["cancelled", "replaced", "expired", "file lost", "outcome lost", "told late"],
)
def test_an_end_outside_of_a_run_is_told_once(
    app: Flask,
    engine: SpoolEngine,
    work: Task[[], None],
    end: Callable[[SpoolEngine, Task[[], None]], None],
    signal: NamedSignal,
    facts: dict[str, Any],
) -> None:
    senders: list[object] = []

    @signal.connect
    def note(sender: object, **_: Any) -> None:
        senders.append(sender)

    with listening(*ENDS) as heard:
        end(engine, work)
    assert [name for name, _ in heard] == [signal.name]
    assert heard[0][1]["task"] == "work"
    assert heard[0][1].items() >= facts.items()
    assert senders == [app]


def test_a_receiver_that_fails_costs_neither_the_job_nor_the_other_receivers(
    app: Flask, work: Task[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def fail(sender: Flask, **facts: Any) -> None:
        raise RuntimeError("broken")

    def hear(sender: Flask, **facts: Any) -> None:
        heard.append(facts["job_id"])

    for receiver in (fail, hear, fail):
        job_enqueued.connect(receiver, sender=app)
    with caplog.at_level(logging.ERROR):
        job = work.enqueue()
    assert job.state == "queued"
    assert heard == [job.id]
    assert "a receiver of job-enqueued failed" in caplog.text


def test_a_receiver_hears_only_the_app_that_it_asks_for(app: Flask, work: Task[[], None]) -> None:
    heard: list[str] = []

    @job_enqueued.connect_via(Flask("another"))
    def never(sender: Flask, **facts: Any) -> None:
        heard.append("another")

    @job_enqueued.connect_via(app)
    def note(sender: Flask, **facts: Any) -> None:
        heard.append(sender.name)

    work.enqueue()
    assert heard == ["tests"]


def test_a_receiver_may_be_a_coroutine_function(app: Flask, work: Task[[], None]) -> None:
    heard: list[str] = []

    @job_enqueued.connect_via(app)
    async def note(sender: Flask, **facts: Any) -> None:
        heard.append(facts["job_id"])

    job = work.enqueue()
    assert heard == [job.id]


def test_a_receiver_that_takes_too_long_within_a_task_times_that_out(eager: Spooler) -> None:
    @eager.task(name="inner")
    def inner() -> None: ...

    @eager.task(name="outer", timeout=0.2, max_attempts=1)
    def outer() -> None:
        inner.using(delay=60).enqueue()

    def hang(sender: Flask, **facts: Any) -> None:
        if facts["task"] == "inner":
            time.sleep(20)

    job_enqueued.connect(hang)
    began = time.monotonic()
    error = outer.enqueue().error
    assert error is not None
    assert error["type"] == "JobTimeout"
    assert time.monotonic() - began < 10


def test_every_signal_has_a_line_in_the_log() -> None:
    named = {each.name for each in vars(signals).values() if isinstance(each, NamedSignal)}
    assert named == set(signals._LINES)
