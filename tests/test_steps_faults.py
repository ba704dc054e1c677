"""What could make a step run twice, or be forgotten, short of a kill inside it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import apsw
import pytest
from werkzeug.local import LocalProxy

from flask_spooler import OptionError, Retry, _uwsgi, current_job, failpoints, operations
from flask_spooler.current import CurrentJob
from flask_spooler.errors import StepError
from flask_spooler.record import Step
from flask_spooler.spool import DONE
from flask_spooler.steps import Steps
from tests.helpers import files, in_child, known
from tests.test_steps import Kept, attempt, effect, effects, ten_steps
from tests.world import World, killed_at, new_world, one_process_pool, points


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    one_process_pool(monkeypatch)
    monkeypatch.setattr(_uwsgi, "lives_on", lambda boot: True)
    with new_world(tmp_path / "world", SPOOLER_MAX_CRASHES=20) as made:
        yield made


def steps_of(world: World, job_id: str) -> list[str]:
    return [step.name for step in world.state.engine.ledger.steps(job_id)]


def test_a_timeout_between_a_step_and_its_commit_waits_for_the_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is what a step asks between its function and its commit; there time is up."""
    engine = world.state.engine
    told = engine.clock

    def clock() -> float:
        if effects_so_far(world) == 1:
            monkeypatch.setattr(engine, "clock", told)
            signal.raise_signal(signal.SIGALRM)
        return told()

    @world.spooler.task(name="work", timeout=60, backoff=[0.0])
    def work() -> None:
        monkeypatch.setattr(current_job.steps, "_clock", clock)
        current_job.step("one", effect, world, 1)

    job = work.enqueue()
    world.run_ready()
    assert job.as_dict()["attempts"][0]["outcome"] == "timed_out"
    world.recover()
    assert job.state == "succeeded"
    assert effects(world) == {1: 1}


def effects_so_far(world: World) -> int:
    return len(world.out.read_text().split()) if world.out.exists() else 0


def test_a_step_killed_at_any_point_of_its_commit_runs_again_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_process_pool(monkeypatch)
    monkeypatch.setattr(_uwsgi, "lives_on", lambda boot: True)

    def run(world: World) -> None:
        world.run_ready()

    with new_world(tmp_path / "survey") as world:
        three_steps(world).enqueue()
        passed = points(world, run)
    assert passed.count("ledger.commit") >= 5
    for hit, name in enumerate(passed):
        with new_world(tmp_path / str(hit)) as world:
            job = three_steps(world).enqueue()
            killed_at(world, run, hit)
            finished = steps_of(world, job.id)
            world.recover()
            assert job.state == "succeeded", name
            done = effects(world)
            assert set(done) == {0, 1, 2}, name
            twice = [number for number in done if done[number] == 2]
            assert all(f"step {number}" not in finished for number in twice), name
            assert len(twice) <= 1, name


def three_steps(world: World) -> Any:
    @world.spooler.task(name="three", max_attempts=5)
    def three() -> None:
        for number in range(3):
            current_job.step(f"step {number}", effect, world, number)

    return three


def test_two_threads_cannot_run_the_step_of_one_name(kept: Kept) -> None:
    """Both ask before either knows what is finished."""
    together = threading.Barrier(2)
    read = kept.read

    def slow_read() -> list[Step]:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.2)
        return read()

    kept.read = slow_read  # type: ignore[method-assign]
    current = attempt(kept)
    said: list[object] = []

    def ask() -> None:
        try:
            said.append(current.step("one", int))
        except OptionError as error:
            said.append(type(error))

    in_threads(ask, ask)
    assert sorted(said, key=repr) == [0, OptionError]


def test_steps_that_two_threads_finish_at_once_are_both_written(kept: Kept) -> None:
    """One has said what it did when the other one's commit ends."""
    current = attempt(kept)
    first_writes, second_came, first_ended = (threading.Event() for _ in range(3))
    write = kept.write

    class Gate(list[Step]):
        def append(self, step: Step) -> None:
            super().append(step)
            if step.name == "second":
                second_came.set()
                first_ended.wait(5)

    def slow_write(steps: list[Step]) -> bool:
        written = list(steps)
        if [step.name for step in written] == ["first"]:
            first_writes.set()
            second_came.wait(0.2)
        return write(written)

    steps = Steps(1, 1000, kept.read, slow_write, lambda: 0.0)
    steps.unwritten = Gate()
    current.steps = steps

    def first() -> None:
        current.step("first", int)
        first_ended.set()

    def second() -> None:
        first_writes.wait(5)
        current.step("second", int)

    in_threads(first, second)
    assert {step.name for step in kept.steps} == {"first", "second"}


def in_threads(*functions: Callable[[], object]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_ledger_deleted_between_steps_forgets_none_that_this_attempt_knows(world: World) -> None:
    def stumble(there: str, number: int) -> None:
        if current_job.attempt == 1 and (there, number) == ("inside", 4):
            for path in world.state.engine.spool.root.glob("ledger.db*"):
                path.unlink()
        if current_job.attempt == 1 and (there, number) == ("after", 6):
            raise RuntimeError("in the middle")

    job = ten_steps(world, stumble).using(backoff=[0.0]).enqueue()
    world.run_ready()
    assert steps_of(world, job.id) == [f"step {number}" for number in range(7)]
    world.recover()
    assert job.state == "succeeded"
    assert set(effects(world).values()) == {1}


@pytest.mark.parametrize("fails", ["full", "corrupt"])
def test_steps_kept_in_done_are_remembered_by_the_attempt_that_comes_later(
    world: World, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """The ledger fails from the second step on, until after the end of the attempt."""
    errors = {"full": apsw.FullError("full"), "corrupt": apsw.CorruptError("malformed")}

    def fail(point: str) -> None:
        if point == "ledger.commit":
            raise errors[fails]

    def stumble(there: str, number: int) -> None:
        if current_job.attempt == 1 and (there, number) == ("after", 0):
            monkeypatch.setattr(failpoints, "armed", fail)
        if current_job.attempt == 1 and (there, number) == ("after", 4):
            raise RuntimeError("in the middle")

    job = ten_steps(world, stumble).using(backoff=[0.0]).enqueue()
    world.run_ready()
    assert world.state.engine.spool.names(DONE)
    monkeypatch.setattr(failpoints, "armed", None)
    world.recover()
    assert job.state == "succeeded"
    assert set(effects(world).values()) == {1}


@pytest.mark.parametrize(
    ("fails", "error", "state"), [(True, "OutcomeLost", "dead"), (False, None, "succeeded")]
)
def test_a_job_with_no_room_for_its_steps_is_never_run_without_them(
    world: World, monkeypatch: pytest.MonkeyPatch, fails: bool, error: str | None, state: str
) -> None:
    """The ledger fails and the disk takes a few bytes only: the outcome alone would fit."""
    spool = world.state.engine.spool
    set_done = spool.set_done

    def little_room(window: str, job_id: str, outcome: bytes | None) -> None:
        if outcome is not None and len(outcome) > 1000:
            raise OSError(28, "No space left on device")
        set_done(window, job_id, outcome)

    def fail(point: str) -> None:
        if point == "ledger.commit":
            raise apsw.FullError("full")

    @world.spooler.task(name="work", backoff=[0.0])
    def work() -> None:
        monkeypatch.setattr(failpoints, "armed", fail)
        current_job.step("one", lambda: effect(world, 1) or "x" * 2000)
        if fails:
            raise RuntimeError("after it")

    monkeypatch.setattr(spool, "set_done", little_room)
    job = work.enqueue()
    world.run_ready()
    monkeypatch.setattr(failpoints, "armed", None)
    world.recover()
    assert (job.state, effects(world)) == (state, {1: 1})
    assert (job.error or {"type": None})["type"] == error


def test_whatever_a_task_makes_of_a_step_that_is_lost_the_job_is_not_tried_again(
    world: World,
) -> None:
    """As a task group does, which raises an error of its own."""

    @world.spooler.task(name="work", backoff=[0.0])
    def work() -> None:
        try:
            current_job.step("one", lambda: effect(world, 1) or object())
        except StepError as error:
            raise RuntimeError("in a group") from error

    job = work.enqueue()
    world.recover()
    assert (job.state, effects(world)) == ("dead", {1: 1})


class Fetch:
    """Can be called as a coroutine function is, and is none."""

    async def __call__(self, value: int) -> int:
        await asyncio.sleep(0)
        return value

    async def method(self, value: int) -> int:
        return await self(value)


@pytest.mark.parametrize(
    "function",
    [Fetch(), functools.partial(Fetch()), Fetch().method, functools.partial(Fetch().method),
     LocalProxy(lambda: Fetch().method)],
    ids=["object", "partial", "method", "partial of a method", "proxy"],
)  # fmt: skip
def test_what_is_called_as_a_coroutine_function_is_awaited_in_every_attempt(
    kept: Kept, function: Any
) -> None:
    async def task(current: CurrentJob, value: int) -> int:
        return int(await current.step("fetch", function, value))

    assert asyncio.run(task(attempt(kept), 1)) == 1
    assert asyncio.run(task(attempt(kept, 2), 2)) == 1


def test_an_async_task_can_be_a_step(world: World, kept: Kept) -> None:
    fetch = world.spooler.task(Fetch().method, name="fetch")

    async def task(current: CurrentJob) -> int:
        return int(await current.step("fetch", fetch, 3))  # type: ignore[arg-type]

    assert [asyncio.run(task(attempt(kept, number))) for number in (1, 2)] == [3, 3]


def lazy() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("function", [lambda: Fetch()(1), lazy], ids=["lambda", "generator"])
def test_a_step_that_has_only_promised_its_work_is_not_finished(kept: Kept, function: Any) -> None:
    current = attempt(kept)
    with pytest.raises(OptionError, match="coroutine function by itself, not in a lambda"):
        current.step("fetch", function)
    assert kept.steps == []
    assert current.step("fetch", int) == 0


def test_two_steps_awaited_together_are_both_remembered_and_a_cancelled_one_is_not(
    kept: Kept,
) -> None:
    runs: list[str] = []

    async def quick() -> str:
        runs.append("quick")
        return "quick"

    async def endless() -> str:
        runs.append("endless")
        await asyncio.Event().wait()
        return "never"

    async def task(current: CurrentJob) -> None:
        both = asyncio.gather(current.step("quick", quick), current.step("endless", endless))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(both, 0.01)

    for number in (1, 2):
        asyncio.run(task(attempt(kept, number)))
    assert runs == ["quick", "endless", "endless"]
    assert [step.name for step in kept.steps] == ["quick"]


def test_an_async_task_whose_time_is_up_keeps_the_step_that_had_finished(world: World) -> None:
    async def quick() -> None:
        effect(world, 1)

    async def slow() -> None:
        effect(world, 2)
        if current_job.attempt == 1:
            await asyncio.Event().wait()

    @world.spooler.task(name="work", timeout=0.2, backoff=[0.0])
    async def work() -> None:
        await asyncio.gather(current_job.step("quick", quick), current_job.step("slow", slow))

    job = work.enqueue()
    world.run_ready()
    assert (job.state, steps_of(world, job.id)) == ("retrying", ["quick"])
    world.recover()
    assert (job.state, effects(world)) == ("succeeded", {1: 1, 2: 2})


def test_a_step_inside_a_step_is_done_once_though_the_outer_one_is_not(kept: Kept) -> None:
    runs: list[str] = []

    def outer(current: CurrentJob, fails: bool) -> str:
        inner = current.step("inner", lambda: runs.append("inner") or "inner")
        if fails:
            raise RuntimeError("between")
        return f"outer of {inner}"

    current = attempt(kept)
    with pytest.raises(RuntimeError):
        current.step("outer", outer, current, True)
    again = attempt(kept, 2)
    assert again.step("outer", outer, again, False) == "outer of inner"
    assert runs == ["inner"]


def test_the_child_that_a_step_forks_does_not_go_on_with_the_task(world: World) -> None:
    """Nor does it write down the step, whose end is the parent's to tell."""

    @world.spooler.task(name="work")
    def work() -> None:
        child = current_job.step("fork", os.fork)
        current_job.step("after", effect, world, 1)
        os.waitpid(child, 0)

    job = work.enqueue()
    assert in_child(world.run_ready) == 0
    assert (job.state, effects(world)) == ("succeeded", {1: 1})


class Name(str, Enum):
    ONE = "one"


@pytest.mark.parametrize("name", [LocalProxy(lambda: "one"), Name.ONE], ids=["proxy", "enum"])
def test_the_name_of_a_step_may_come_from_a_proxy_or_an_enum(world: World, name: Any) -> None:
    @world.spooler.task(name="work", backoff=[0.0])
    def work() -> None:
        current_job.step(name, effect, world, 1)
        if current_job.attempt == 1:
            raise Retry(delay=0)

    job = work.enqueue()
    world.recover()
    assert (job.state, effects(world)) == ("succeeded", {1: 1})
    assert steps_of(world, job.id) == ["one"]


def test_a_step_that_met_a_locked_ledger_leaves_the_commits_of_others_as_cheap_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_process_pool(monkeypatch)
    with new_world(tmp_path / "synced", SPOOLER_DURABILITY="power") as world:
        ledger = world.state.engine.ledger
        ledger.patience = 0.01

        @world.spooler.task(name="work")
        def work() -> int:
            lock = apsw.Connection(str(ledger.path))
            lock.execute("BEGIN IMMEDIATE")
            current_job.step("one", int)
            lock.close()
            return int(ledger._connection.get(1.0).pragma("synchronous"))

        job = work.enqueue()
        world.run_ready()
        normal = 1
        assert job.result == normal
        assert steps_of(world, job.id) == ["one"]


def test_the_steps_of_a_job_are_forgotten_with_it_and_not_before(world: World) -> None:
    job = three_steps(world).using(max_attempts=1).enqueue()
    world.run_ready()
    assert len(steps_of(world, job.id)) == 3
    job_id = job.id
    assert known(world.state.engine.ledger, job_id).state == "succeeded"
    operations.purge(world.state.engine, 2**40, 10)
    assert steps_of(world, job_id) == []
    assert files(world.state.engine) == []
