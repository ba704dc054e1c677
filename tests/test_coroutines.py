"""``async def`` tasks: run through Flask, with everything that other tasks have."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, g

from flask_spooler import Discard, JobTimeout, Retry, Spooler, _uwsgi, current_job
from flask_spooler.coroutines import AsyncCall
from flask_spooler.eager import run_now
from flask_spooler.errors import ExtraMissing, NotATask
from flask_spooler.handle import JobHandle


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return Flask("async")


@pytest.fixture
def spooler(app: Flask, tmp_path: Path) -> Iterator[Spooler]:
    app.config.update(SPOOLER_DIRECTORY=tmp_path / "spool", SPOOLER_EAGER=True)
    spooler = Spooler(app)
    with app.app_context():
        yield spooler


def message(job: JobHandle) -> str:
    error = job.error
    assert error is not None
    return str(error["message"])


def test_a_coroutine_function_runs_in_the_app_context_and_returns_its_result(
    spooler: Spooler,
) -> None:
    @spooler.task
    async def add(a: int, b: int) -> list[Any]:
        await asyncio.sleep(0)
        g.seen = True
        return [a + b, current_app.name, current_job.id]

    job = add.enqueue(1, 2)
    assert job.result == [3, "async", job.id]


def test_progress_is_reported_out_of_a_coroutine_and_its_tasks(spooler: Spooler) -> None:
    @spooler.task
    async def work() -> None:
        async def part() -> None:
            current_job.progress(1, total=2, note="inner")

        await asyncio.gather(part())
        current_job.progress(2, total=2)

    assert work.enqueue().progress == {"done": 2.0, "total": 2.0, "note": None}


def test_a_coroutine_may_await_another_task_which_has_the_same_job(spooler: Spooler) -> None:
    @spooler.task
    async def inner() -> str:
        await asyncio.sleep(0)
        return current_job.id

    @spooler.task
    async def outer() -> str:
        return await inner()

    job = outer.enqueue()
    assert job.result == job.id


def test_a_coroutine_function_can_be_awaited_here_and_now(spooler: Spooler) -> None:
    @spooler.task
    async def work() -> int:
        current_job.progress(1)
        return current_job.attempt

    assert asyncio.run(work()) == 1


def test_a_finished_step_of_a_coroutine_is_remembered_by_its_next_attempt(
    app: Flask, spooler: Spooler
) -> None:
    ran: list[int] = []

    @spooler.task(backoff=[0.0])
    async def work() -> int:
        async def first() -> int:
            ran.append(current_job.attempt)
            return 7

        seven = await current_job.step("first", first)
        if current_job.attempt == 1:
            raise ValueError("not yet")
        return seven

    job = work.enqueue()
    assert job.state == "retrying"
    run_now(app.extensions["spooler"].desk, job.id)
    assert (job.state, job.result, ran) == ("succeeded", 7, [1])


@pytest.mark.parametrize(
    ("error", "state"),
    [(Retry(delay=60), "retrying"), (Discard("gone"), "dead"), (ValueError("no"), "retrying")],
    ids=["Retry", "Discard", "ValueError"],
)
def test_a_coroutine_ends_as_a_function_does(
    spooler: Spooler, error: Exception, state: str
) -> None:
    @spooler.task
    async def fail() -> None:
        await asyncio.sleep(0)
        raise error

    job = fail.enqueue()
    assert job.state == state
    if isinstance(error, ValueError):
        assert job.error is not None
        assert "raise error" in job.error["traceback"]


def test_a_coroutine_that_awaits_too_long_times_out_and_does_not_run_on(
    spooler: Spooler,
) -> None:
    seen: list[str] = []

    @spooler.task(timeout=0.2, max_attempts=1)
    async def slow() -> None:
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            seen.append("tidied up")
            raise

    started = time.monotonic()
    job = slow.enqueue()
    assert time.monotonic() - started < 10
    assert seen == ["cancelled", "tidied up"]
    assert job.as_dict()["attempts"][0]["outcome"] == "timed_out"
    assert job.error is not None
    assert job.error["type"] == "JobTimeout"
    assert "asyncio.sleep(20)" in job.error["traceback"]


def test_tasks_of_a_group_are_cancelled_with_their_job(spooler: Spooler) -> None:
    ended: list[int] = []

    @spooler.task(timeout=0.2, max_attempts=1)
    async def many() -> None:
        async def one(number: int) -> None:
            try:
                await asyncio.sleep(20)
            finally:
                ended.append(number)

        await asyncio.gather(*(one(number) for number in range(3)))

    assert many.enqueue().state == "dead"
    assert sorted(ended) == [0, 1, 2]


def test_a_coroutine_that_ends_before_its_timeout_succeeds(spooler: Spooler) -> None:
    @spooler.task(timeout=30)
    async def quick() -> str:
        return "done"

    assert quick.enqueue().result == "done"


def test_a_timeout_during_the_teardown_after_a_coroutine_is_raised_there(
    app: Flask, spooler: Spooler
) -> None:
    @app.teardown_appcontext
    def slow(error: BaseException | None) -> None:
        if current_job:
            time.sleep(20)

    @spooler.task(timeout=0.2, max_attempts=1)
    async def quick() -> None:
        return None

    started = time.monotonic()
    assert quick.enqueue().as_dict()["attempts"][0]["outcome"] == "timed_out"
    assert time.monotonic() - started < 10


def test_a_cancelled_coroutine_ends_cancelled(spooler: Spooler) -> None:
    @spooler.task
    async def cancels_itself() -> None:
        spooler.get(current_job.id).cancel()
        os.kill(os.getpid(), _uwsgi.ABORT)
        await asyncio.sleep(20)

    assert cancels_itself.enqueue().state == "cancelled"


def test_a_timeout_that_comes_before_the_coroutine_has_begun_is_not_lost(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise AssertionError("it ran on")

    def interrupted(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[[], Any]:
        def run() -> Any:
            call.interrupt(JobTimeout(1.0))
            return asyncio.run(function())

        return run

    call = AsyncCall(app, work)
    monkeypatch.setattr(app, "ensure_sync", interrupted)
    with pytest.raises(JobTimeout):
        call()


def test_an_async_task_runs_eagerly_within_a_running_loop(app: Flask, spooler: Spooler) -> None:
    @spooler.task
    async def work() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    @app.get("/")
    async def view() -> str:
        return work.enqueue().state

    assert app.test_client().get("/").text == "succeeded"


def test_without_asgiref_the_decorator_names_the_extra(
    spooler: Spooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r"async def task x.*'Flask-Spooler\[async\]'"):

        @spooler.task(name="x")
        async def work() -> None: ...


async def nothing() -> None: ...


async def numbers() -> AsyncIterator[int]:
    yield 1


def count() -> Iterator[int]:
    yield 1


class Later:
    def __await__(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (nothing, "a coroutine .make the task itself async def"),
        (Later, "a Later to be awaited"),
        (count, "a generator .loop over it"),
        (numbers, "an async_generator .loop over it"),
    ],
    ids=["coroutine", "awaitable", "generator", "async generator"],
)
def test_a_result_that_would_do_its_work_later_is_an_error_that_says_so(
    spooler: Spooler, result: Callable[[], Any], words: str
) -> None:
    @spooler.task(name="returns")
    def task() -> Any:
        return result()

    job = task.enqueue()
    assert job.state == "dead"
    assert message(job).startswith("returns returned a")
    assert pytest.raises(AssertionError, match=words).matches(AssertionError(message(job)))


def test_a_generator_function_is_refused_as_a_task(spooler: Spooler) -> None:
    for function in (count, numbers):
        with pytest.raises(NotATask, match="got: a generator; its body would never run"):
            spooler.task(function)


def test_the_app_decides_how_coroutines_are_run(tmp_path: Path) -> None:
    class Own(Flask):
        def async_to_sync(
            self, func: Callable[..., Coroutine[Any, Any, Any]]
        ) -> Callable[..., Any]:
            return lambda *args, **kwargs: asyncio.run(func(*args, **kwargs))

    app = Own("own")
    app.config.update(SPOOLER_DIRECTORY=tmp_path / "spool", SPOOLER_EAGER=True)
    spooler = Spooler(app)

    @spooler.task(timeout=0.2, max_attempts=1)
    async def slow(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return threading.current_thread().name

    with app.app_context():
        assert slow.enqueue(0).result == "MainThread"
        assert slow.enqueue(20).error["type"] == "JobTimeout"  # type: ignore[index]


def test_a_parameter_may_have_any_name(spooler: Spooler) -> None:
    @spooler.task
    def plain(self: int, app: int = 0, attempt: int = 0) -> int:
        return self + app + attempt

    @spooler.task
    async def awaited(self: int, args: int = 0, kwargs: int = 0) -> int:
        return self + args + kwargs

    assert plain.enqueue(self=1, app=2, attempt=3).result == 6
    assert awaited.enqueue(self=1, args=2, kwargs=3).result == 6
    assert plain(self=1, app=2) == 3
    assert asyncio.run(awaited(self=1, args=2)) == 3
