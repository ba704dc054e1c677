"""Steps: each is done once in the life of a job, whatever ends the attempts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import IntEnum
from math import nan
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import apsw
import pytest

from flask_spooler import OptionError, _uwsgi, current_job, failpoints
from flask_spooler.current import CurrentJob, running
from flask_spooler.errors import LedgerError, StepChanged, StepError
from flask_spooler.ledger import Ledger
from flask_spooler.record import Step
from flask_spooler.steps import Steps
from tests.conftest import FailAt
from tests.helpers import files, in_child, known, make_job
from tests.world import World, new_world, one_process_pool

STEPS = 10


class Kept:
    """A ledger of one job's steps, which can fail."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.works = True
        self.reads = 0

    def read(self) -> list[Step]:
        self.reads += 1
        return list(self.steps)

    def write(self, steps: list[Step]) -> bool:
        if self.works:
            self.steps += steps
        return self.works


@pytest.fixture
def kept() -> Kept:
    return Kept()


def attempt(kept: Kept, number: int = 1, longest: int = 1000) -> CurrentJob:
    steps = Steps(number, longest, kept.read, kept.write, time.time)
    return CurrentJob(make_job(), number, lambda job_id, progress: True, steps)


def test_a_finished_step_is_not_called_again_and_gives_what_it_gave(kept: Kept) -> None:
    calls: list[int] = []

    def add(one: int, *, two: int) -> dict[str, int]:
        calls.append(one)
        return {"sum": one + two}

    assert attempt(kept).step("add", add, 1, two=2) == {"sum": 3}
    assert attempt(kept, 2).step("add", add, 5, two=5) == {"sum": 3}
    assert calls == [1]
    assert [(step.name, step.attempt, step.result) for step in kept.steps] == [
        ("add", 1, b'{"sum":3}')
    ]


@dataclass
class Point:
    x: int
    price: Decimal


class Level(IntEnum):
    LOW = 1


def annotated(hint: Any, result: object) -> Callable[[], Any]:
    def function() -> Any:
        return result

    function.__annotations__ = {} if hint is None else {"return": hint}
    return function


@pytest.mark.parametrize(
    ("hint", "result"),
    [
        (Decimal, Decimal("1.50")),
        (tuple[int, Decimal], (1, Decimal("2"))),
        (list[date], [date(2026, 1, 2)]),
        (Point, Point(1, Decimal("2.0"))),
        (UUID | None, UUID(int=5)),
        (UUID | None, None),
        ("dict[int, bytes]", {5: b"x"}),
        (None, {"a": [1, 2.5, "x", None, True]}),
    ],
    ids=repr,
)
def test_every_attempt_gets_what_the_step_returned(kept: Kept, hint: Any, result: object) -> None:
    function = annotated(hint, result)
    seen = [attempt(kept, number).step("make", function) for number in (1, 2)]
    assert seen == [result] * 2
    assert {type(each) for each in seen} == {type(result)}


def test_a_class_that_is_called_gives_its_objects_back(kept: Kept) -> None:
    seen = [attempt(kept, number).step("point", Point, 1, Decimal(2)) for number in (1, 2)]
    assert seen == [Point(1, Decimal(2))] * 2


@pytest.mark.parametrize(
    ("result", "plain"),
    [((1, (2,)), [1, [2]]), (Level.LOW, 1), (Counter("a"), {"a": 1})],
    ids=repr,
)
def test_without_an_annotation_tuples_and_subclasses_come_back_as_what_json_has(
    kept: Kept, result: object, plain: object
) -> None:
    seen = [attempt(kept, number).step("make", annotated(None, result)) for number in (1, 2)]
    assert seen == [plain] * 2
    assert {type(each) for each in seen} == {type(plain)}


@pytest.mark.parametrize(
    ("hint", "result", "said"),
    [
        (None, Decimal("1.5"), "a Decimal, Decimal('1.5'), which would come back as a str, '1.5'"),
        (None, {1}, "a set, {1}, which would come back as a list, [1]"),
        (None, {1: 2}, "a dict, {1: 2}, which would come back as a dict, {'1': 2}"),
        (None, {"at": date(2026, 1, 2)}, "which would come back as a dict"),
        (None, {"a": nan}, "and JSON has no nan"),
        (int, "5", "a str, '5', which is not int"),
        (Decimal, 5, "an int, 5, which would come back as a Decimal"),
    ],
    ids=repr,
)
def test_what_would_come_back_as_another_type_is_refused(
    kept: Kept, hint: Any, result: object, said: str
) -> None:
    with pytest.raises(StepError) as refused:
        attempt(kept).step("make", annotated(hint, result))
    assert said in str(refused.value)
    is_bare = hint is None and "nan" not in said
    assert ("annotate what its function returns" in str(refused.value)) == is_bare


def test_a_function_that_returns_another_type_by_now_is_told_so(kept: Kept) -> None:
    attempt(kept).step("make", annotated(str, "old"))
    with pytest.raises(StepChanged, match=r"'make' has run in an earlier attempt.*is no int"):
        attempt(kept, 2).step("make", annotated(int, 5))


def test_an_annotation_that_says_nothing_of_use_changes_nothing(kept: Kept) -> None:
    current = attempt(kept)
    for hint in (Any, "OnlyForTypeCheckers", TypeVar("T")):
        assert current.step(str(hint), annotated(hint, [5])) == [5]


def test_a_step_that_returns_nothing_is_finished_too(kept: Kept) -> None:
    calls: list[int] = []
    for number in (1, 2):
        attempt(kept, number).step("note", calls.append, number)
    assert calls == [1]


def test_one_name_stands_for_one_step(kept: Kept) -> None:
    current = attempt(kept)
    current.step("mail", str)
    with pytest.raises(OptionError, match=r"no other step.*f'mail \{address\}'.*'mail'"):
        current.step("mail", str)
    assert len(kept.steps) == 1


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", 5, None], ids=repr)
def test_a_name_is_a_short_printable_text(kept: Kept, name: Any) -> None:
    with pytest.raises(OptionError, match="1 to 200 printable"):
        attempt(kept).step(name, str)


def test_a_step_that_raises_is_not_finished_and_can_be_tried_again_at_once(kept: Kept) -> None:
    results = iter([ValueError("no"), "yes"])

    def unsteady() -> str:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    current = attempt(kept)
    with pytest.raises(ValueError, match="no"):
        current.step("unsteady", unsteady)
    assert current.step("unsteady", unsteady) == "yes"


@pytest.mark.parametrize("result", [object(), {1, object()}, "x" * 1000, nan], ids=type)
def test_what_cannot_be_remembered_is_an_error_that_names_the_step(kept: Kept, result: Any) -> None:
    with pytest.raises(StepError, match=r"'make' has run and returned (an? |1,002)"):
        attempt(kept).step("make", lambda: result)
    assert kept.steps == []


def test_steps_of_coroutine_functions_are_awaited_and_remembered(kept: Kept) -> None:
    calls: list[int] = []

    async def fetch(number: int) -> int:
        await asyncio.sleep(0)
        calls.append(number)
        if number < 0:
            raise ValueError(number)
        return number

    async def task(current: CurrentJob) -> int:
        with pytest.raises(ValueError, match="-1"):
            await current.step("fetch", fetch, -1)
        return await current.step("fetch", fetch, 7)

    assert asyncio.run(task(attempt(kept))) == 7

    async def later(current: CurrentJob) -> int:
        return await current.step("fetch", fetch, 8)

    assert asyncio.run(later(attempt(kept, 2))) == 7
    assert calls == [-1, 7]


def test_a_step_that_could_not_be_written_goes_on_and_is_written_with_the_next(kept: Kept) -> None:
    current = attempt(kept)
    kept.works = False
    assert current.step("one", int) == 0
    assert kept.steps == []
    kept.works = True
    current.step("two", int)
    assert [step.name for step in kept.steps] == ["one", "two"]
    assert current.steps is not None
    assert current.steps.unwritten == []


def test_a_job_without_steps_never_asks_for_them(kept: Kept) -> None:
    current = attempt(kept)
    assert kept.reads == 0
    current.step("one", int)
    current.step("two", int)
    assert kept.reads == 1


def test_a_task_called_without_a_job_calls_its_steps(kept: Kept) -> None:
    nobody = CurrentJob(make_job(), 1, None)
    with running(nobody):
        assert [current_job.step("same", int, number) for number in (1, 2)] == [1, 2]


def test_a_step_without_a_job_returns_what_it_would_in_one() -> None:
    async def pair() -> tuple[int, int]:
        return 1, 2

    with running(CurrentJob(make_job(), 1, None)):
        assert current_job.step("date", date, 2026, 1, 2) == date(2026, 1, 2)
        assert current_job.step("list", lambda: (1, 2)) == [1, 2]
        assert asyncio.run(current_job.step("pair", pair)) == (1, 2)
        with pytest.raises(StepError, match="'make' has run and returned an object"):
            current_job.step("make", object)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    one_process_pool(monkeypatch)
    with new_world(tmp_path / "world") as made:
        yield made


def effect(world: World, step: int) -> None:
    descriptor = os.open(world.out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"%d\n" % step)
    os.close(descriptor)


def effects(world: World) -> Counter[int]:
    return Counter(int(line) for line in world.out.read_text().split())


def ten_steps(world: World, die: Callable[[str, int], None]) -> Any:
    """A task of ten steps, each of which has an effect; `die` is told where it is."""

    @world.spooler.task(name="ten", max_attempts=STEPS + 5)
    def ten() -> list[int]:
        done = []
        for number in range(STEPS):

            def step(number: int = number) -> int:
                effect(world, number)
                die("inside", number)
                return number

            done.append(current_job.step(f"step {number}", step))
            die("after", number)
        return done

    return ten


@pytest.mark.parametrize("server_lives", [True, False], ids=["process", "server"])
@pytest.mark.parametrize(("where", "twice"), [("after", 0), ("inside", STEPS)])
def test_a_task_of_ten_steps_that_is_killed_at_each_of_them_does_each_once(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str, twice: int, server_lives: bool
) -> None:
    """Killed after each step in turn: once. Killed inside each: that step, and no other, twice.

    Three crashes in a row would end it, and so would ten ends of the server: steps are between.
    """
    monkeypatch.setattr(_uwsgi, "lives_on", lambda boot: server_lives)
    mark = world.out.with_name("killed")

    def die(there: str, number: int) -> None:
        killed = mark.read_text().split() if mark.exists() else []
        if there == where and str(number) not in killed:
            mark.write_text(" ".join([*killed, str(number)]))
            os.kill(os.getpid(), signal.SIGKILL)

    job = ten_steps(world, die).enqueue()
    for _ in range(STEPS):
        assert in_child(world.run_ready) == -signal.SIGKILL
        for file in world.state.engine.spool.window():
            os.utime(world.state.engine.spool.root / file.name, (0, 0))
    world.recover()
    assert job.state == "succeeded"
    assert job.result == list(range(STEPS))
    assert job.attempt == STEPS + 1
    assert effects(world) == dict.fromkeys(range(STEPS), 2 if twice else 1)
    steps = world.state.engine.ledger.steps(job.id)
    assert [step.name for step in steps] == [f"step {number}" for number in range(STEPS)]
    assert [step.attempt for step in steps] == [number + 1 + bool(twice) for number in range(STEPS)]


def test_steps_that_the_ledger_cannot_take_are_written_with_the_end_of_the_attempt(
    world: World,
) -> None:
    """The ledger is locked from the first step on, until the task ends."""
    ledger = world.state.engine.ledger
    ledger.patience = 0.01
    locks: list[apsw.Connection] = []

    def stumble(there: str, number: int) -> None:
        if current_job.attempt == 1 and (there, number) == ("inside", 0):
            locks.append(apsw.Connection(str(ledger.path)))
            locks[0].execute("BEGIN IMMEDIATE")
        if current_job.attempt == 1 and (there, number) == ("after", 4):
            locks.pop().close()
            raise RuntimeError("in the middle")

    job = ten_steps(world, stumble).using(backoff=[0.0]).enqueue()
    world.run_ready()
    assert [step.name for step in ledger.steps(job.id)] == [f"step {n}" for n in range(5)]
    world.recover()
    assert job.state == "succeeded"
    assert set(effects(world).values()) == {1}


def test_a_ledger_that_cannot_say_what_is_done_costs_the_job_no_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Ledger.steps

    def away(ledger: Ledger, job_id: str) -> list[Step]:
        if current_job.attempt == 1:
            raise LedgerError(str(ledger.path), OSError("disk I/O error"))
        return read(ledger, job_id)

    job = ten_steps(world, lambda there, number: None).using(max_attempts=1).enqueue()
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "steps", away)
        world.run_ready()
    assert [attempt.outcome for attempt in world.state.engine.ledger.attempts(job.id)] == [
        "interrupted"
    ]
    world.recover()
    assert job.state == "succeeded"
    assert set(effects(world).values()) == {1}


def test_a_person_who_retries_a_dead_job_lets_it_go_on_where_it_stopped(world: World) -> None:
    broken = True

    def stumble(there: str, number: int) -> None:
        if broken and (there, number) == ("inside", 3):
            raise RuntimeError("broken")

    job = ten_steps(world, stumble).using(max_attempts=1).enqueue()
    world.run_ready()
    assert job.state == "dead"
    broken = False
    job.retry()
    world.recover()
    assert job.state == "succeeded"
    assert effects(world) == {number: 2 if number == 3 else 1 for number in range(STEPS)}


def test_a_job_whose_step_cannot_be_remembered_is_dead_and_not_run_again(world: World) -> None:
    @world.spooler.task
    def work() -> None:
        current_job.step("make", object)

    job = work.enqueue()
    world.recover()
    assert (job.state, job.attempt) == ("dead", 1)
    assert job.error is not None
    assert job.error["type"] == "StepError"


def test_the_steps_are_shown_and_go_with_the_job(world: World) -> None:
    job = ten_steps(world, lambda there, number: None).enqueue()
    world.run_ready()
    shown = job.as_dict()["steps"]
    assert [step["name"] for step in shown] == [f"step {number}" for number in range(STEPS)]
    assert all(0 <= step["seconds"] < 5 and step["attempt"] == 1 for step in shown)
    assert all(abs(step["finished_at"] - time.time()) < 60 for step in shown)
    with world.state.engine.ledger.transaction() as rows:
        rows.delete(job.id)
    assert world.state.engine.ledger.steps(job.id) == []


def test_a_step_is_on_the_disk_before_the_next_one_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a spool that syncs: the commits of steps, and no others, are made with FULL."""
    one_process_pool(monkeypatch)
    modes: list[int] = []
    with new_world(tmp_path / "synced", SPOOLER_DURABILITY="power") as world:
        ledger = world.state.engine.ledger

        def look(point: str) -> None:
            if point == "ledger.commit":
                modes.append(ledger._connection.get(1.0).pragma("synchronous"))

        ten_steps(world, lambda there, number: None).enqueue()
        monkeypatch.setattr(failpoints, "armed", look)
        world.run_ready()
    normal, full = 1, 2
    assert modes[0] == modes[-1] == normal
    assert Counter(modes)[full] == STEPS


def test_a_failing_disk_under_a_step_costs_nothing_but_the_memory_of_it(
    world: World, fail_at: FailAt
) -> None:
    def stumble(there: str, number: int) -> None:
        if current_job.attempt == 1 and (there, number) == ("inside", 1):
            fail_at("ledger.commit", apsw.FullError("full"))
        if current_job.attempt == 1 and (there, number) == ("after", 1):
            failpoints.armed = None

    job = ten_steps(world, stumble).enqueue()
    world.run_ready()
    assert job.state == "succeeded"
    assert [step.name for step in world.state.engine.ledger.steps(job.id)] == [
        f"step {number}" for number in (0, *range(1, STEPS))
    ]
    assert known(world.state.engine.ledger, job.id).attempt == 1
    assert files(world.state.engine) == []


async def fetch() -> int:
    return 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("a", 1), "to be the function itself, as in step('a', load, 5) and not load(5), got: 1"),
        (("a",), "a name and a function, as in step('a', load), got: ('a',)"),
        ((fetch,), "a name and a function, as in step('load', load), got: (<function fetch"),
        ((), "a name and a function, as in step('load', load), got: ()"),
    ],
    ids=["result", "name", "function", "nothing"],
)
@pytest.mark.parametrize("is_enqueued", [True, False], ids=["enqueued", "called"])
def test_a_step_without_a_function_to_call_says_how_to_give_it(
    kept: Kept, given: tuple[Any, ...], said: str, is_enqueued: bool
) -> None:
    job = attempt(kept) if is_enqueued else CurrentJob(make_job(), 1, None)
    with pytest.raises(OptionError) as refused:
        job.step(*given)
    assert said in str(refused.value)
    assert job.step("a", len, "abc") == 3


def test_a_coroutine_in_place_of_its_function_is_refused_and_closed(kept: Kept) -> None:
    coroutine: Any = fetch()
    with pytest.raises(OptionError, match="to be the function itself"):
        attempt(kept).step("a", coroutine)
    assert coroutine.cr_frame is None
