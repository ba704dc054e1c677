"""`flask_spooler.testing`: jobs run when a test says so, by a clock that it holds."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

from flask_spooler import (
    SPOOL_RETRY,
    Discard,
    JobTimeout,
    OptionError,
    Retry,
    Spooler,
    Tasks,
    _uwsgi,
    current_job,
    operations,
)
from flask_spooler.cli import spooler_cli
from flask_spooler.errors import AppWithoutSpooler, EnqueueError, WaitForNobody
from flask_spooler.private import PrivateSpool
from flask_spooler.state import AppState
from flask_spooler.testing import SpoolerJobs, TaskFailed, spooler_jobs
from tests.helpers import in_child
from tests.uwsgi.server import outcomes

HOUR = 3600.0

App = Callable[..., Flask]


@pytest.fixture
def new_app(tmp_path: Path, spooler: Spooler, monkeypatch: pytest.MonkeyPatch) -> App:
    """Make apps that are configured for a directory that no test may use."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    def make(**config: Any) -> Flask:
        app = Flask("tested")
        app.config.update(SPOOLER_DIRECTORY=tmp_path / "production", **config)
        spooler.init_app(app)
        return app

    return make


@pytest.fixture
def app(new_app: App) -> Flask:
    return new_app()


@pytest.fixture
def jobs(app: Flask) -> Iterator[SpoolerJobs]:
    with spooler_jobs(app) as found:
        yield found


def directory(app: Flask) -> Path:
    state: AppState = app.extensions["spooler"]
    return state.engine.spool.root


# Running what is due.


def test_nothing_runs_until_the_test_says_so(spooler: Spooler, jobs: SpoolerJobs) -> None:
    @spooler.task
    def add(a: int, b: int = 2) -> int:
        return a + b

    job = add.enqueue(1)
    assert (job.state, job.attempt) == ("queued", 0)
    assert jobs.run_pending() == [job]
    assert (job.state, job.result) == ("succeeded", 3)
    assert jobs.run_pending() == []


def test_a_job_runs_in_an_app_context_with_its_arguments_as_they_travel(
    spooler: Spooler, jobs: SpoolerJobs
) -> None:
    @spooler.task
    def describe(when: datetime, names: list[str]) -> list[Any]:
        return [current_app.name, type(when).__name__, names, current_job.attempt]

    job = describe.enqueue(datetime(2030, 1, 1, tzinfo=timezone.utc), ["a"])
    jobs.run_pending()
    assert job.result == ["tested", "datetime", ["a"], 1]


def test_jobs_run_in_the_order_of_a_server_with_one_spooler(spooler: Spooler, new_app: App) -> None:
    app = new_app(SPOOLER_QUEUES=["urgent", "default"])

    @spooler.task
    def work() -> None:
        return

    with spooler_jobs(app) as jobs:
        last = work.using(priority=-5).enqueue()
        second, third = work.enqueue(), work.enqueue()
        first = work.using(queue="urgent", priority=-100).enqueue()
        early = work.using(priority=1).enqueue()
        assert jobs.run_pending() == [first, early, second, third, last]


def test_what_a_job_enqueues_runs_too(spooler: Spooler, jobs: SpoolerJobs) -> None:
    @spooler.task
    def count_down(number: int) -> None:
        if number:
            count_down.enqueue(number - 1)

    count_down.enqueue(3)
    assert len(jobs.run_pending()) == 4


def test_a_paused_queue_waits(spooler: Spooler, app: Flask, jobs: SpoolerJobs) -> None:
    @spooler.task(queue="mail")
    def send() -> None:
        return

    job = send.enqueue()
    operations.pause(spooler.engine, "mail")
    assert jobs.run_pending("all") == []
    operations.pause(spooler.engine, "mail", paused=False)
    assert jobs.run_pending() == [job]


def test_a_job_that_enqueues_itself_for_ever_is_an_error(
    spooler: Spooler, jobs: SpoolerJobs
) -> None:
    @spooler.task
    def again() -> None:
        again.using(delay=60).enqueue()

    again.enqueue()
    with pytest.raises(AssertionError, match=r"more than 20 jobs have run.*does it enqueue itself"):
        jobs.run_pending("all", limit=20)
    assert len(jobs.run_pending(until=300)) == 5


# The clock.


def test_a_scheduled_job_runs_when_the_clock_gets_there(
    spooler: Spooler, jobs: SpoolerJobs
) -> None:
    @spooler.task
    def work() -> None:
        return

    begun = jobs.now
    job = work.using(delay=timedelta(days=3)).enqueue()
    assert jobs.run_pending(until=timedelta(days=2)) == []
    assert (job.state, jobs.now) == ("scheduled", begun + 2 * 86_400)
    assert jobs.run_pending(until=timedelta(days=2)) == [job]
    assert job.as_dict()["started_at"] == begun + 3 * 86_400
    assert jobs.now == begun + 4 * 86_400


@pytest.mark.parametrize(
    "kind", ["timedelta", "seconds", "datetime", "unix time", "all", "advance"]
)
def test_the_clock_goes_on_to_a_moment_that_may_be_given_in_several_ways(
    kind: str, spooler: Spooler, jobs: SpoolerJobs
) -> None:
    @spooler.task
    def work() -> None:
        return

    job = work.using(at=jobs.now + HOUR).enqueue()
    jobs.run_pending()
    assert job.state == "scheduled"
    if kind == "advance":
        jobs.advance(HOUR)
        assert job.state == "scheduled"
        jobs.run_pending()
    else:
        end = jobs.now + HOUR + 1e-6
        jobs.run_pending(
            until={
                "timedelta": timedelta(hours=1),
                "seconds": HOUR,
                "datetime": datetime.fromtimestamp(end, timezone.utc),
                "unix time": end,
                "all": "all",
            }[kind]
        )
    assert job.state == "succeeded"


@pytest.mark.parametrize("until", ["tomorrow", -1, 1_000_000_000, datetime(2040, 1, 1)])
def test_a_moment_that_cannot_be_is_refused(until: Any, jobs: SpoolerJobs) -> None:
    with pytest.raises(OptionError, match="expected until to be"):
        jobs.run_pending(until=until)


def test_what_is_no_moment_at_all_is_told_every_kind_there_is(jobs: SpoolerJobs) -> None:
    kinds = "to be 'all', seconds, a timedelta or an aware datetime, got: 'tomorrow'"
    with pytest.raises(OptionError, match=kinds):
        jobs.run_pending(until="tomorrow")  # type: ignore[arg-type]


def test_a_retry_with_a_backoff_of_an_hour_takes_milliseconds(
    spooler: Spooler, jobs: SpoolerJobs
) -> None:
    started: list[float] = []

    @spooler.task(backoff=[HOUR, 2 * HOUR])
    def fail_twice() -> str:
        started.append(jobs.now)
        if current_job.attempt < 3:
            raise ConnectionError("not yet")
        return "worked"

    job = fail_twice.enqueue()
    begun = time.monotonic()
    assert jobs.run_pending(expected=ConnectionError) == [job]
    assert job.state == "retrying"
    assert jobs.run_pending(until=HOUR, expected=ConnectionError) == [job]
    assert jobs.run_pending(until=2 * HOUR) == [job]
    assert time.monotonic() - begun < 1
    assert (job.state, job.result) == ("succeeded", "worked")
    assert [when - started[0] for when in started] == [0, HOUR, 3 * HOUR]
    assert outcomes(job) == ["failed", "failed", "succeeded"]


def test_two_jobs_with_different_backoffs_take_turns(spooler: Spooler, jobs: SpoolerJobs) -> None:
    @spooler.task(max_attempts=3)
    def ask() -> None:
        raise Retry

    slow = ask.using(backoff=[100.0]).enqueue()
    quick = ask.using(backoff=[60.0]).enqueue()
    assert jobs.run_pending("all") == [slow, quick, quick, slow, quick, slow]
    assert (slow.state, quick.state) == ("dead", "dead")


def test_a_job_that_has_expired_does_not_run(spooler: Spooler, jobs: SpoolerJobs) -> None:
    @spooler.task
    def work() -> None:
        raise AssertionError("too late")

    waits = work.using(delay=2 * HOUR, expires=HOUR).enqueue()
    due = work.using(expires=HOUR).enqueue()
    jobs.advance(HOUR)
    assert jobs.run_pending("all") == []
    assert (waits.state, due.state) == ("expired", "expired")
    assert waits.as_dict()["finished_at"] == jobs.now


def test_an_expiry_on_the_way_to_a_later_moment_happens_at_its_time(
    spooler: Spooler, jobs: SpoolerJobs
) -> None:
    @spooler.task
    def work() -> None:
        raise AssertionError("too late")

    expiry = jobs.now + HOUR
    job = work.using(delay=2 * HOUR, expires=HOUR).enqueue()
    jobs.run_pending(until=5 * HOUR)
    assert (job.state, job.as_dict()["finished_at"]) == ("expired", expiry)


def test_a_dead_job_can_be_retried_and_a_waiting_one_cancelled(
    spooler: Spooler, jobs: SpoolerJobs
) -> None:
    @spooler.task(max_attempts=1)
    def fail_once() -> None:
        if current_job.attempt == 1:
            raise OSError("down")

    job, other = fail_once.enqueue(), fail_once.using(delay=1).enqueue()
    other.cancel()
    jobs.run_pending("all", expected=OSError)
    assert (job.state, other.state) == ("dead", "cancelled")
    job.retry()
    assert jobs.run_pending() == [job]
    assert (job.state, job.attempt) == ("succeeded", 2)


# Failures.


def test_a_task_that_fails_fails_the_test_with_its_own_exception_as_the_cause(
    spooler: Spooler, jobs: SpoolerJobs
) -> None:
    @spooler.task
    def fail() -> None:
        raise ValueError("not today")

    job = fail.enqueue()
    with pytest.raises(
        TaskFailed, match=r"fail failed in attempt 1 of 5: ValueError: not today"
    ) as caught:
        jobs.run_pending()
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value.__cause__, ValueError)
    last = caught.value.__cause__.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    assert last is not None
    assert last.tb_frame.f_code.co_name == "fail"
    assert job.state == "retrying"


def test_an_exception_that_is_expected_goes_on_and_another_one_does_not(
    spooler: Spooler, jobs: SpoolerJobs
) -> None:
    @spooler.task(max_attempts=2, backoff=[HOUR])
    def fail() -> None:
        raise OSError("down") if current_job.attempt == 1 else NameError("a mistake")

    fail.enqueue()
    with pytest.raises(TaskFailed, match="attempt 2 of 2: NameError"):
        jobs.run_pending("all", expected=(OSError, KeyError))


def test_what_a_task_asks_for_is_no_failure(spooler: Spooler, jobs: SpoolerJobs) -> None:
    @spooler.task(max_attempts=2)
    def ask(way: str) -> Any:
        match way:
            case "retry":
                raise Retry(delay=HOUR)
            case "discard":
                raise Discard("no such customer")
        return SPOOL_RETRY

    handles = [ask.enqueue(way) for way in ("retry", "discard", "code")]
    jobs.run_pending()
    assert [job.state for job in handles] == ["retrying", "dead", "retrying"]


@pytest.mark.parametrize(
    ("result", "kind"), [(object(), "an object"), ({"mean": math.nan}, "a dict")], ids=type
)
def test_a_result_that_is_not_json_fails_the_test(
    spooler: Spooler, jobs: SpoolerJobs, result: Any, kind: str
) -> None:
    @spooler.task
    def work() -> Any:
        return result

    job = work.enqueue()
    with pytest.raises(TaskFailed, match=f"returned {kind}, which is not JSON"):
        jobs.run_pending()
    assert (job.state, job.attempt) == ("dead", 1)


def test_a_timeout_is_a_failure_like_any_other(spooler: Spooler, jobs: SpoolerJobs) -> None:
    @spooler.task(timeout=0.05, max_attempts=1)
    def hang() -> None:
        while True:
            time.sleep(0.01)

    job = hang.enqueue()
    jobs.run_pending(expected=JobTimeout)
    assert outcomes(job) == ["timed_out"]


def test_a_job_with_a_timeout_gives_back_the_alarm_that_it_found(
    spooler: Spooler, jobs: SpoolerJobs
) -> None:
    @spooler.task
    def look() -> float:
        return signal.getitimer(signal.ITIMER_REAL)[0]

    before = signal.getsignal(signal.SIGALRM)
    job, limited = look.enqueue(), look.using(timeout=5).enqueue()
    was = signal.setitimer(signal.ITIMER_REAL, 90)
    try:
        jobs.run_pending()
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 80
        assert signal.getsignal(signal.SIGALRM) is before
    finally:
        signal.setitimer(signal.ITIMER_REAL, *was)
    assert job.result > 80
    assert 0 < limited.result <= 5


@pytest.mark.parametrize("raised", [KeyboardInterrupt, pytest.fail.Exception])
def test_what_ends_a_test_ends_it_also_from_within_a_task(
    raised: type[BaseException], spooler: Spooler, jobs: SpoolerJobs
) -> None:
    @spooler.task
    def interrupted() -> None:
        raise raised

    interrupted.enqueue()
    with pytest.raises(raised):
        jobs.run_pending(expected=Exception)


def test_a_job_of_an_unknown_task_fails_the_test(spooler: Spooler, jobs: SpoolerJobs) -> None:
    @spooler.task(name="gone")
    def gone() -> None:
        return

    gone.enqueue()
    del spooler.tasks["gone"]
    with pytest.raises(AssertionError, match="gone was not run: no task is named 'gone'"):
        jobs.run_pending()


def test_a_broken_backoff_fails_the_test(spooler: Spooler, jobs: SpoolerJobs) -> None:
    @spooler.task(backoff=lambda attempt: 1 // 0)
    def ask() -> None:
        raise Retry

    ask.enqueue()
    with pytest.raises(AssertionError, match=r"the backoff of .*ask failed.*division"):
        jobs.run_pending()


# What was enqueued.


@pytest.fixture
def resize(spooler: Spooler) -> Any:
    @spooler.task(name="resize")
    def resize(path: str, width: int = 300, *, queue: str = "", at: str = "") -> None:
        return

    return resize


def test_a_job_is_found_by_task_and_by_the_arguments_that_are_given(
    resize: Any, jobs: SpoolerJobs
) -> None:
    job = resize.enqueue("a.png", queue="mine")
    for args, kwargs in (
        ((), {}),
        (("a.png",), {}),
        (("a.png", 300), {}),
        ((), {"queue": "mine"}),
        ((), {"path": "a.png", "width": 300, "queue": "mine", "at": ""}),
    ):
        assert jobs.assert_enqueued(resize, *args, **kwargs) == job
    jobs.refute_enqueued(resize, "b.png")
    jobs.refute_enqueued(resize, width=301)


def test_what_was_enqueued_is_said_where_something_else_was_expected(
    resize: Any, jobs: SpoolerJobs
) -> None:
    with pytest.raises(AssertionError, match=r"resize\(\) to be enqueued, got: none at all"):
        jobs.assert_enqueued(resize)
    resize.enqueue("a.png")
    resize.using(queue="images", delay=HOUR).enqueue("b.png", width=200)
    expected = (
        "expected resize(path='c.png') with queue='images' to be enqueued, got:\n"
        "  resize(path='a.png'), queue 'default': queued\n"
        "  resize(path='b.png', width=200), queue 'images': scheduled in 1 h"
    )
    with pytest.raises(AssertionError) as caught:
        jobs.assert_enqueued(resize.using(queue="images"), "c.png")
    assert str(caught.value) == expected
    with pytest.raises(AssertionError, match=r"no resize\(width=200\) to be enqueued, got:"):
        jobs.refute_enqueued(resize, width=200)


@pytest.mark.parametrize(
    "options",
    [
        {"queue": "images"},
        {"priority": 5},
        {"delay": HOUR},
        {"delay": timedelta(hours=1)},
        {"expires": HOUR},
        {"max_attempts": 9},
        {"timeout": 5.0},
        {"unique": "a key"},
        {"tags": ["user:5"]},
        {"backoff": [1, 2]},
        {"discard_on": ValueError},
        {"queue": "images", "priority": 5},
    ],
    ids="-".join,
)
def test_options_are_compared_as_they_are_given_when_enqueueing(
    options: dict[str, Any], resize: Any, jobs: SpoolerJobs
) -> None:
    resize.enqueue("a.png")
    jobs.refute_enqueued(resize.using(**options))
    job = resize.using(**options).enqueue("a.png")
    assert jobs.assert_enqueued(resize.using(**options), path="a.png") == job
    jobs.run_pending("all")
    assert jobs.assert_enqueued(resize.using(**options), path="a.png") == job


def test_arguments_of_every_kind_are_compared_by_value(spooler: Spooler, jobs: SpoolerJobs) -> None:
    @spooler.task
    def work(when: datetime, *numbers: int, plain: Any = None, **others: str) -> None:
        return

    noon = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)
    work.enqueue(noon, 1, 2, plain=[1, {"a": None}], name="x")
    jobs.assert_enqueued(work, noon, 1, 2, plain=(1, {"a": None}), name="x")
    jobs.assert_enqueued(work, noon.astimezone(timezone(timedelta(hours=5))))
    jobs.assert_enqueued(work, plain=[1, {"a": None}])
    jobs.refute_enqueued(work, name="y")
    jobs.refute_enqueued(work, noon, 1)
    jobs.refute_enqueued(work, plain=object())


def test_arguments_that_the_task_does_not_take_are_refused(resize: Any, jobs: SpoolerJobs) -> None:
    said = (
        "cannot look for resize: got an unexpected keyword argument 'colour'; it takes (path: str, "
        "width: int = 300, *, queue: str = '', at: str = '')"
    )
    for look in (jobs.assert_enqueued, jobs.refute_enqueued):
        with pytest.raises(TypeError) as caught:
            look(resize, colour="red")
        assert str(caught.value) == said
        with pytest.raises(TypeError, match=r"; options go to task\.using\(delay=…\)$"):
            look(resize, delay=5)


def test_a_value_that_no_job_could_carry_is_refused_and_not_just_not_found(
    spooler: Spooler, jobs: SpoolerJobs
) -> None:
    @spooler.task(name="digest")
    def digest(day: date, readers: list[str] | None = None) -> None:
        return

    job = digest.enqueue(date(2030, 1, 1), ["ada"])
    for look in (jobs.assert_enqueued, jobs.refute_enqueued):
        with pytest.raises(TypeError, match=r"cannot look for digest: expected day .* pass date"):
            look(digest, day="2030-01-01")
    jobs.refute_enqueued(digest, readers=["bob"])
    jobs.refute_enqueued(digest, readers=[ANY, ANY])
    assert jobs.assert_enqueued(digest, day=ANY, readers=[ANY]) == job


def test_a_text_does_not_mean_a_date_within_a_list(spooler: Spooler, jobs: SpoolerJobs) -> None:
    @spooler.task
    def report(days: list[date], notes: dict[str, date]) -> None:
        return

    report.enqueue([date(2030, 1, 1)], {"a": date(2030, 1, 1)})
    jobs.refute_enqueued(report, days=["2030-01-01"])
    jobs.refute_enqueued(report, notes={"a": "2030-01-01"})
    jobs.assert_enqueued(report, days=(date(2030, 1, 1),))


def test_only_tasks_can_be_looked_for(resize: Any, jobs: SpoolerJobs) -> None:
    for task in ("resize", resize.function):
        for use in (jobs.assert_enqueued, jobs.refute_enqueued, jobs.all_enqueued, jobs.perform):
            with pytest.raises(OptionError, match=r"the task to be one that @spooler\.task"):
                use(task)  # type: ignore[operator]


def test_a_job_that_has_run_was_enqueued_until_all_is_cleared(
    resize: Any, jobs: SpoolerJobs
) -> None:
    job = resize.enqueue("a.png")
    jobs.run_pending()
    waits = resize.using(delay=HOUR).enqueue("b.png")
    assert jobs.all_enqueued() == jobs.all_enqueued(resize) == [job, waits]
    jobs.clear()
    assert jobs.all_enqueued() == []
    jobs.refute_enqueued(resize)
    assert jobs.run_pending("all") == []


def test_a_job_enqueued_by_another_process_is_found_too(resize: Any, jobs: SpoolerJobs) -> None:
    def enqueue() -> None:
        resize.using(priority=5).enqueue("a.png")

    assert in_child(enqueue) == 0
    for _ in range(2):
        job = jobs.assert_enqueued(resize.using(priority=5), "a.png")
        jobs.run_pending()
    assert job.state == "succeeded"


# One job alone.


def test_perform_runs_one_job_through_the_codec_and_leaves_no_trace(
    spooler: Spooler, jobs: SpoolerJobs
) -> None:
    @spooler.task(queue="mail", unique="one at a time")
    def describe(when: datetime) -> tuple[str, str]:
        return type(when).__name__, current_app.name

    waits = describe.enqueue(datetime(2030, 1, 1, tzinfo=timezone.utc))
    assert jobs.perform(describe, datetime(2031, 1, 1, tzinfo=timezone.utc)) == [
        "datetime",
        "tested",
    ]
    assert jobs.all_enqueued() == [waits]
    assert waits.state == "queued"
    with pytest.raises(TypeError):
        jobs.perform(describe, object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error", [ValueError("no"), Retry(delay=5), Discard("never"), SystemExit(3)]
)
def test_perform_raises_what_the_task_raises(
    error: BaseException, spooler: Spooler, jobs: SpoolerJobs
) -> None:
    @spooler.task
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        jobs.perform(fail)
    assert caught.value is error
    assert jobs.all_enqueued() == []


def test_perform_says_why_nothing_ran(spooler: Spooler, jobs: SpoolerJobs) -> None:
    @spooler.task(queue="mail")
    def send() -> None:
        return

    operations.pause(spooler.engine, "mail")
    with pytest.raises(AssertionError, match="did not run: it is queued: is its queue paused"):
        jobs.perform(send)


# What else tasks are made of.


def test_a_step_that_is_done_is_not_run_again_by_the_next_attempt(
    spooler: Spooler, jobs: SpoolerJobs
) -> None:
    paid: list[int] = []

    def pay(amount: int) -> int:
        paid.append(amount)
        return amount * 2

    @spooler.task(backoff=[HOUR])
    def order(amount: int) -> int:
        double = current_job.step("pay", pay, amount)
        if current_job.attempt == 1:
            raise ConnectionError("the shop is closed")
        return double

    job = order.enqueue(5)
    jobs.run_pending("all", expected=ConnectionError)
    assert (job.result, paid) == (10, [5])
    with pytest.raises(ConnectionError):
        jobs.perform(order, 7)
    assert paid == [5, 7]


def test_async_tasks_run_too(spooler: Spooler, jobs: SpoolerJobs) -> None:
    @spooler.task
    async def slowly(number: int) -> int:
        await asyncio.sleep(0)
        if number < 0:
            raise ValueError("below zero")
        return number

    job = slowly.enqueue(5)
    assert jobs.run_pending() == [job]
    assert (job.result, jobs.perform(slowly, 6)) == (5, 6)
    slowly.enqueue(-1)
    with pytest.raises(TaskFailed, match="ValueError: below zero"):
        jobs.run_pending()


def test_progress_is_kept(spooler: Spooler, jobs: SpoolerJobs) -> None:
    @spooler.task
    def work() -> None:
        current_job.progress(2, total=5)

    job = work.enqueue()
    jobs.run_pending()
    assert job.progress == {"done": 2, "total": 5, "note": None}


def test_what_waits_for_a_commit_is_enqueued_by_it(spooler: Spooler, new_app: App) -> None:
    @spooler.task
    def work(word: str) -> None:
        return

    app = new_app(SQLALCHEMY_DATABASE_URI="sqlite://")
    database = SQLAlchemy(app)
    with app.app_context(), spooler_jobs(app) as jobs:
        for word, end in (("lost", database.session.rollback), ("kept", database.session.commit)):
            database.session.execute(text("SELECT 1"))
            work.enqueue_after_commit(word)
            jobs.refute_enqueued(work)
            end()
        jobs.assert_enqueued(work, "kept")
        assert len(jobs.all_enqueued()) == 1
        database.engine.dispose()


def test_the_command_line_sees_the_jobs_of_the_test(
    spooler: Spooler, app: Flask, jobs: SpoolerJobs
) -> None:
    @spooler.task(name="shown")
    def shown() -> None:
        return

    job = shown.enqueue()
    listed = app.test_cli_runner().invoke(spooler_cli, ["list", "--json"])
    assert job.id in listed.output
    assert spooler.get(job.id) == job


# Whose spool it is.


def test_the_directory_of_the_configuration_is_never_touched(
    spooler: Spooler, new_app: App, tmp_path: Path
) -> None:
    @spooler.task
    def work() -> None:
        return

    app = new_app()
    app.testing = True  # after init_app, as most test suites do it
    with app.app_context():
        job = work.enqueue()
        assert spooler.get(job.id).state == "queued"
        with spooler_jobs(app) as jobs:
            assert jobs.all_enqueued() == []
            work.enqueue()
            jobs.run_pending()
        assert job.state == "queued"
    assert not (tmp_path / "production").exists()


def test_an_app_that_is_not_tested_uses_the_directory_of_its_configuration(
    spooler: Spooler, new_app: App, tmp_path: Path
) -> None:
    @spooler.task
    def work() -> None:
        return

    app = new_app()
    assert directory(app) == tmp_path / "production"
    app.testing = True
    assert directory(app) != tmp_path / "production"
    app.testing = False
    assert directory(app) == tmp_path / "production"


def test_a_tested_app_uses_a_directory_that_was_given_among_temporary_files(
    new_app: App, tmp_path: Path
) -> None:
    assert directory(new_app(TESTING=True)) != tmp_path / "production"
    given = tmp_path / "temporary" / "spool"
    app = Flask("given")
    app.config.update(TESTING=True, SPOOLER_DIRECTORY=given)
    spooler = Spooler(app)
    assert directory(app) == given
    spooler.task(lambda: None, name="work").enqueue()
    with spooler_jobs(app) as jobs:
        assert jobs.all_enqueued() == []
    assert len(spooler.engine.ledger.find()) == 1


def test_inside_uwsgi_an_app_uses_the_directory_of_its_configuration(
    new_app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(TESTING=True)
    monkeypatch.setattr(_uwsgi, "inside", lambda: True)
    assert directory(app) == tmp_path / "production"


def test_a_private_spool_ends_with_its_test_and_not_with_a_child_of_it(
    spooler: Spooler, app: Flask
) -> None:
    with spooler_jobs(app):
        spool = spooler.engine.spool
        assert isinstance(spool, PrivateSpool)
        spool.prepare()
        assert (in_child(spool.close), spool.root.is_dir()) == (0, True)
    assert not spool.root.parent.exists()


def test_a_spool_that_an_app_got_by_itself_ends_with_the_process() -> None:
    program = """
from flask import Flask
from flask_spooler import Spooler
app = Flask("tested")
app.testing = True
app.test_client()
spooler = Spooler(app)
work = spooler.task(name="work")(lambda: None)
print(work.enqueue().state, spooler.engine.spool.root, spooler.engine.spool.root.is_dir())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    state, root, was_there = done.stdout.split()
    assert (state, was_there, done.stderr) == ("queued", "True", "")
    assert not Path(root).parent.exists()


def test_after_its_test_a_private_spool_takes_no_job(spooler: Spooler, app: Flask) -> None:
    @spooler.task
    def work() -> None:
        return

    with spooler_jobs(app):
        engine = spooler.engine
        mine = directory(app)
    with pytest.raises(EnqueueError, match="its test is over"):
        engine.submit(work.job((), {}, 0.0))
    assert not mine.parent.exists()


def test_two_tests_never_see_each_others_jobs(spooler: Spooler, app: Flask) -> None:
    @spooler.task
    def work() -> None:
        return

    with spooler_jobs(app) as outer:
        first = work.enqueue()
        with spooler_jobs(app) as inner:
            second = work.enqueue()
            assert inner.all_enqueued() == [second]
        assert outer.all_enqueued() == outer.run_pending() == [first]


def test_several_apps_have_jobs_of_their_own(spooler: Spooler, new_app: App) -> None:
    @spooler.task
    def where() -> str:
        return str(current_app.config["PLACE"])

    here, there = new_app(PLACE="here"), new_app(PLACE="there")
    with spooler_jobs(here) as mine, spooler_jobs(there) as others:
        with here.app_context():
            job = where.enqueue()
        other = where.enqueue()  # no context: for the app that was taken in hand last
        assert (mine.run_pending(), others.run_pending()) == ([job], [other])
        assert (job.result, other.result) == ("here", "there")


def test_a_new_app_for_each_test_needs_no_app_context_to_enqueue(
    spooler: Spooler, new_app: App
) -> None:
    @spooler.task
    def work() -> None:
        return

    for _ in range(3):
        with spooler_jobs(new_app()) as jobs:
            job = work.enqueue()
            assert jobs.run_pending() == [job]


def test_many_tests_leave_no_descriptor_open(spooler: Spooler, app: Flask) -> None:
    @spooler.task
    def work() -> None:
        return

    def one_test() -> int:
        with spooler_jobs(app) as jobs:
            work.enqueue()
            jobs.run_pending()
        return len(os.listdir("/proc/self/fd"))

    assert one_test() == [one_test() for _ in range(5)][-1]


def test_apps_that_are_gone_leave_nothing_behind(new_app: App, spooler: Spooler) -> None:
    @spooler.task
    def work() -> None:
        return

    def one_test() -> Path:
        app = new_app(TESTING=True)
        with app.app_context():
            work.enqueue()
            return directory(app)

    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    spools = [one_test() for _ in range(10)]
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) - before < 10
    assert [spool for spool in spools if spool.exists()] == []


def test_tasks_of_a_blueprint_go_to_the_app_in_hand(new_app: App) -> None:
    tasks = Tasks("mail")

    @tasks.task
    def send() -> None:
        return

    for _ in range(3):
        app, spooler = Flask("factory"), Spooler()
        spooler.init_app(app)
        spooler.register(tasks)
        with spooler_jobs(app) as jobs:
            job = send.enqueue()
            assert jobs.assert_enqueued(send) == job
            assert jobs.run_pending() == [job]


def test_an_app_without_a_spooler_is_told_what_to_do() -> None:
    told = pytest.raises(AppWithoutSpooler, match=r"call spooler\.init_app\(app\)")
    with told, spooler_jobs(Flask("bare")):
        raise AssertionError("there is nothing to test")


def test_to_wait_for_what_nobody_runs_is_an_error_at_once(
    spooler: Spooler, new_app: App, jobs: SpoolerJobs
) -> None:
    @spooler.task
    def work() -> None:
        return

    job = work.enqueue()
    with pytest.raises(WaitForNobody, match=r"is queued.*run_pending\(\) before wait\(\)"):
        job.wait(timeout=60)
    jobs.run_pending()
    assert job.wait() == "succeeded"


def test_eager_jobs_run_on_enqueue_and_their_failures_can_be_looked_at(
    spooler: Spooler, new_app: App
) -> None:
    @spooler.task(backoff=[HOUR])
    def fail_once() -> str:
        if current_job.attempt == 1:
            raise OSError("down")
        return "worked"

    with spooler_jobs(new_app(SPOOLER_EAGER=True)) as jobs:
        job = fail_once.enqueue()
        assert job.state == "retrying"
        assert jobs.run_pending(until=HOUR) == [job]
        assert job.result == "worked"


@pytest.mark.parametrize(
    ("options", "attempts"),
    [({}, 2), ({"discard_on": JobTimeout}, 1), ({"retry_on": ValueError}, 2)],
    ids=["by default", "discarded", "whatever is retried"],
)
def test_a_timeout_is_tried_again_unless_it_is_to_be_discarded(
    spooler: Spooler, jobs: SpoolerJobs, options: dict[str, Any], attempts: int
) -> None:
    @spooler.task(timeout=0.05, max_attempts=2, backoff=[HOUR], **options)
    def slow() -> None:
        while True:
            time.sleep(0.01)

    job = slow.enqueue()
    jobs.run_pending("all", expected=JobTimeout)
    assert (job.state, job.attempt) == ("dead", attempts)
    assert [each["outcome"] for each in job.as_dict()["attempts"]] == ["timed_out"] * attempts
