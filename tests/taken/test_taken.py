"""Jobs that a spooler takes by itself after another one: in one call, each as if it were alone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import io
import json
import os
import signal
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flask_spooler import SPOOL_OK, SPOOL_RETRY, _uwsgi, current_job, lifecycle, operations, upkeep
from flask_spooler.dispatch import dispatch
from flask_spooler.job import FINAL, encode_packet, open_packet, parse_file
from flask_spooler.ledger import Ledger
from flask_spooler.record import Record
from flask_spooler.spool import CORRUPT, DEAD, DONE, TAKEN, WAITING, Spool
from tests.helpers import files, in_child, known, wait_until
from tests.test_crash_states import check
from tests.world import World, killed_at, new_world, one_process_pool, points

BROKEN = OSError(errno.EIO, "Input/output error")


def queued(world: World, *words: str, **options: Any) -> list[str]:
    """Enqueue jobs of which the first stands in the window and the others wait; their ids."""
    before = len(world.all_acked())
    task = world.spooler.tasks["note"].using(**options)
    for job in task.enqueue_many([(word,) for word in words]):
        world.ack(job.id)
    return world.all_acked()[before:]


def task(world: World, function: Callable[..., Any], *args: Any, **options: Any) -> str:
    """Enqueue one job of a function that is made a task, behind those that wait; its id."""
    made = world.spooler.task(name=f"task-{len(world.spooler.tasks)}", **options)(function)
    job_id: str = made.enqueue(*args).id
    world.ack(job_id)
    return job_id


def say(world: World, text: str) -> None:
    """Leave a line among those of the tasks."""
    with world.out.open("a") as out:
        out.write(f"{current_job.id} {text}\n")


def said(world: World) -> list[str]:
    """What was said by tasks, in its order, without the ids."""
    lines = world.out.read_text().splitlines() if world.out.exists() else []
    return [line.partition(" ")[2] for line in lines]


def hand_over(world: World) -> int:
    """Give the first file of the window to the process's spooler callable, as uWSGI does."""
    spool = world.state.engine.spool
    name = spool.window()[0].name
    packet = parse_file((spool.root / name).read_bytes())
    answer = dispatch(packet | {"spooler_task_name": os.fsencode(name)})
    if answer == SPOOL_OK:
        (spool.root / name).unlink()
    return answer


def in_spooler(world: World, act: Callable[[], object] | None = None) -> int:
    """Do it in a process that treats itself as uWSGI's spoolers do; return how that ended."""

    def run() -> None:
        os.getppid = lambda: _uwsgi.boot().master.pid  # or it would end with a master long gone
        lifecycle._process = lifecycle.SpoolerProcess(os.getcwd())
        if act is None:
            hand_over(world)
        else:
            act()

    return in_child(run)


def records(world: World, ids: list[str]) -> list[Record]:
    return [known(world.state.engine.ledger, job_id) for job_id in ids]


def states(world: World, ids: list[str]) -> list[str]:
    return [record.state for record in records(world, ids)]


def outcomes(world: World, job_id: str) -> list[str]:
    return [attempt.outcome for attempt in world.state.engine.ledger.attempts(job_id)]


def test_one_call_works_a_backlog_off_in_its_order(world: World, spool: Spool) -> None:
    ids = queued(world, *"abcdef")
    assert hand_over(world) == SPOOL_RETRY, "uWSGI's own file is gone, and it must not miss it"
    assert said(world) == list("abcdef")
    assert states(world, ids) == ["succeeded"] * 6
    assert [record.attempt for record in records(world, ids)] == [1] * 6
    assert files(world.state.engine) == []


class Data:
    """Something large that a task has in hand."""


held: list[weakref.ref[Data]] = []


def fails() -> None:
    data = Data()
    held.append(weakref.ref(data))
    raise ValueError("with data in hand")


def times_out() -> None:
    data = Data()
    held.append(weakref.ref(data))
    time.sleep(20)


async def times_out_at_an_await() -> None:
    data = Data()
    held.append(weakref.ref(data))
    await asyncio.sleep(20)


async def fails_in_a_coroutine() -> None:
    fails()


async def fails_beside_another() -> None:
    await asyncio.gather(asyncio.sleep(0), fails_in_a_coroutine())


@pytest.mark.parametrize(
    "function",
    [fails, times_out, fails_in_a_coroutine, fails_beside_another, times_out_at_an_await],
)
def test_what_a_failed_job_had_in_hand_is_gone_when_the_next_one_runs(
    world: World, function: Callable[..., Any]
) -> None:
    """Its exception leads to everything in its frames: files, connections, large data."""

    def look() -> bool:
        return held.pop()() is None

    first = task(world, function, max_attempts=1, timeout=0.2)
    second = task(world, look)
    gc.disable()  # which would only sometimes come in time
    try:
        hand_over(world)
    finally:
        gc.enable()
    assert states(world, [first, second]) == ["dead", "succeeded"]
    assert known(world.state.engine.ledger, second).result == b"true"


def test_a_job_that_is_alone_is_answered_as_ever(world: World) -> None:
    queued(world, "a")
    assert hand_over(world) == SPOOL_OK
    assert files(world.state.engine) == []


def test_each_job_of_one_call_goes_where_its_own_end_belongs(world: World, spool: Spool) -> None:
    first, again, dead, last = queued(world, "ok", "retry", "fail", "ok", max_attempts=2)
    with world.state.engine.ledger.transaction() as rows:
        rows._run("UPDATE jobs SET max_attempts = 1 WHERE id = ?", (dead,))
    one = open_packet(parse_file(spool.read(WAITING, dead)), world.state.engine.key)
    rewrite(world, dead, msgspec.structs.replace(one, max_attempts=1))
    hand_over(world)
    assert states(world, [first, again, dead, last]) == [
        "succeeded", "retrying", "dead", "succeeded",
    ]  # fmt: skip
    assert files(world.state.engine) == [f"dead/{dead}", f"waiting/{again}"]
    world.recover()
    assert states(world, [again]) == ["succeeded"]
    assert said(world) == ["ok", "retry", "fail", "ok", "retry"]


def rewrite(world: World, job_id: str, job: object, key: bytes | None = None) -> None:
    """Put another signed job into a waiting file."""
    data = encode_packet(job, key or world.state.engine.key)  # type: ignore[arg-type]
    (world.state.engine.spool.root / WAITING / job_id).write_bytes(data)


def test_whose_turn_it_is_is_decided_anew_after_each_job(world: World) -> None:
    def enqueues_an_urgent_one() -> None:
        say(world, "usual")
        world.enqueue("urgent", priority=10)

    task(world, enqueues_an_urgent_one)
    queued(world, "behind", "last")
    hand_over(world)
    assert said(world) == ["usual", "urgent", "behind", "last"]


def test_a_spooler_returns_to_uwsgi_after_its_longest_stay(
    world: World, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_spooler.worker.LONGEST_STAY", 0.0)
    ids = queued(world, *"abc")
    assert hand_over(world) == SPOOL_OK
    assert said(world) == ["a"]
    assert [file.job_id for file in spool.window()] == [ids[1]]
    assert list(spool.names(TAKEN)) == []


def test_the_longest_stay_is_counted_over_all_jobs_of_a_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that each job puts forward by 0.4 of the one second."""
    started, moved = time.monotonic(), 0.0
    monkeypatch.setattr("flask_spooler.worker.time.monotonic", lambda: started + moved)

    def takes_time() -> None:
        nonlocal moved
        moved += 0.4
        say(world, "worked")

    made = world.spooler.task(name="takes time")(takes_time)
    made.enqueue_many([()] * 6)
    hand_over(world)
    assert said(world) == ["worked"] * 3


def test_a_spooler_returns_to_uwsgi_when_a_file_is_ready_in_the_window(
    world: World, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_uwsgi, "spooler_pids", lambda: [os.getpid(), 2**22 + 1])
    ids = queued(world, *"abc")
    assert [file.job_id for file in spool.window()] == ids[:2]
    assert hand_over(world) == SPOOL_OK
    assert said(world) == ["a"]
    assert [file.job_id for file in spool.window()] == ids[1:]


def test_jobs_of_a_paused_queue_are_not_gone_on_with(world: World) -> None:
    def pauses() -> None:
        say(world, "pauses")
        operations.pause(world.state.engine, "mail")

    task(world, pauses)
    (held,) = queued(world, "held", queue="mail", priority=5)
    (other,) = queued(world, "other")
    hand_over(world)
    assert said(world) == ["pauses", "other"]
    assert states(world, [held, other]) == ["queued", "succeeded"]


def test_a_drain_ends_the_going_on_with_the_job_in_hand(world: World) -> None:
    def drains() -> None:
        say(world, "drains")
        with world.state.engine.ledger.transaction() as rows:
            rows.drain(_uwsgi.boot_name(), time.time() + 60)

    queued(world, "before")
    task(world, drains)
    waiting = queued(world, "after")
    hand_over(world)
    assert said(world) == ["before", "drains"]
    assert states(world, waiting) == ["queued"]
    assert files(world.state.engine) == [f"waiting/{waiting[0]}"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_spooler_that_is_told_to_end_finishes_the_taken_job_and_goes_on_with_no_other(
    world: World, number: int
) -> None:
    def is_stopped() -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.05)
        say(world, "finished")

    queued(world, "before")
    stopped = task(world, is_stopped)
    waiting = queued(world, "after", "last")
    assert in_spooler(world, lambda: hand_over(world) and time.sleep(5)) == -signal.SIGALRM
    assert said(world) == ["before", "finished"]
    assert states(world, [stopped, *waiting]) == ["succeeded", "queued", "queued"]
    assert outcomes(world, stopped) == ["succeeded"]
    world.recover()
    assert said(world) == ["before", "finished", "after", "last"]


def test_a_taken_job_that_a_reload_kills_is_interrupted_and_not_charged(
    world: World, one_boot: None
) -> None:
    def is_reloaded() -> None:
        say(world, f"run {current_job.attempt}")
        if current_job.attempt == 1:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGKILL)

    queued(world, "before")
    reloaded = task(world, is_reloaded, max_attempts=1)
    assert in_spooler(world) == -signal.SIGKILL
    world.recover()
    assert outcomes(world, reloaded) == ["interrupted", "succeeded"]
    assert said(world) == ["before", "run 1", "run 2"]


def cut(world: World, job_id: str) -> None:
    path = world.state.engine.spool.root / WAITING / job_id
    path.write_bytes(path.read_bytes()[:-5])


def sign_with_another_key(world: World, job_id: str) -> None:
    rewrite(world, job_id, waiting_job(world, job_id), b"the key of somebody else")


def empty(world: World, job_id: str) -> None:
    (world.state.engine.spool.root / WAITING / job_id).write_bytes(b"")


def waiting_job(world: World, job_id: str) -> Any:
    data = world.state.engine.spool.read(WAITING, job_id)
    return open_packet(parse_file(data), world.state.engine.key)


@pytest.mark.parametrize("spoil", [cut, sign_with_another_key, empty])
def test_a_taken_file_that_is_not_ours_or_not_whole_is_dead_kept_and_never_run(
    world: World, spool: Spool, spoil: Callable[[World, str], None]
) -> None:
    before, bad, after = queued(world, "before", "bad", "after")
    spoil(world, bad)
    hand_over(world)
    record = known(world.state.engine.ledger, bad)
    assert (record.state, record.error_type) == ("dead", "Unreadable")
    (kept,) = spool.names(CORRUPT)
    assert f"corrupt/{kept}" in str(record.error_message)
    assert [file.job_id for file in spool.window()] == [after], "nobody is left without a turn"
    world.recover()
    assert states(world, [before, bad, after]) == ["succeeded", "dead", "succeeded"]
    assert said(world) == ["before", "after"]
    assert files(world.state.engine) == [f"corrupt/{kept}"]


def test_a_taken_file_of_a_newer_format_waits_without_a_charge(world: World, spool: Spool) -> None:
    before, newer, after = queued(world, "before", "newer", "after", max_attempts=1)
    rewrite(world, newer, msgspec.structs.replace(waiting_job(world, newer), format=2))
    hand_over(world)
    record = known(world.state.engine.ledger, newer)
    assert (record.state, record.error_type) == ("retrying", "NewerFormat")
    assert time.time() + 20 < record.due_at < time.time() + 40
    assert spool.has(WAITING, newer)
    with world.state.engine.ledger.transaction() as rows:
        assert rows.known(newer).charged == 0
    world.recover()
    assert said(world) == ["before", "after"]
    assert states(world, [before, after]) == ["succeeded", "succeeded"]


def test_a_file_that_is_gone_costs_its_own_job_and_no_other(world: World, spool: Spool) -> None:
    _, gone, _ = queued(world, "before", "gone", "after")
    spool.remove(WAITING, gone)
    hand_over(world)
    world.recover()
    assert said(world) == ["before", "after"]
    record = known(world.state.engine.ledger, gone)
    assert (record.state, record.error_type) == ("dead", "FileLost")


def test_a_task_that_this_code_does_not_know_holds_nobody_up(world: World) -> None:
    (before,) = queued(world, "before")
    unknown = task(world, lambda: None, max_attempts=1)
    (after,) = queued(world, "after")
    world.spooler.tasks.pop(known(world.state.engine.ledger, unknown).task)
    hand_over(world)
    world.recover()
    assert said(world) == ["before", "after"]
    record = known(world.state.engine.ledger, unknown)
    assert (record.state, record.error_type, record.attempt) == ("scheduled", "UnknownTask", 0)
    assert states(world, [before, after]) == ["succeeded", "succeeded"]


def test_a_job_that_expired_in_the_queue_is_not_taken(world: World) -> None:
    def waits() -> None:
        wait_until(lambda: time.time() > known(world.state.engine.ledger, late).expires_at)

    task(world, waits)
    (late,) = queued(world, "late", expires=0.05)
    (after,) = queued(world, "after")
    hand_over(world)
    world.recover()
    assert states(world, [late, after]) == ["expired", "succeeded"]
    assert said(world) == ["after"]


@pytest.mark.parametrize(
    ("point", "hit"),
    [("take.rename", 1), ("take.rename", 2), ("finish.unlink", 3), ("promote.rename", 1)],
)
def test_a_failing_disk_at_one_step_costs_no_outcome_and_no_job(
    world: World, monkeypatch: pytest.MonkeyPatch, point: str, hit: int
) -> None:
    """In a process that lives on, as a spooler does after such a failure."""
    ids = queued(world, *"abc")
    reached = Counter[str]()

    def armed(name: str) -> None:
        reached[name] += 1
        if name == point and reached[name] == hit:
            raise BROKEN

    monkeypatch.setattr("flask_spooler.failpoints.armed", armed)
    if point == "promote.rename":
        monkeypatch.setattr("flask_spooler.worker.LONGEST_STAY", 0.0)
    hand_over(world)
    world.recover()
    assert reached[point] >= hit
    assert sorted(said(world)) == list("abc")
    assert states(world, ids) == ["succeeded"] * 3
    assert files(world.state.engine) == []


@pytest.mark.parametrize("point", ["ledger.begin", "ledger.commit"])
def test_a_ledger_that_fails_once_at_the_end_of_a_job_costs_no_outcome_and_no_job(
    world: World, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    ids = queued(world, *"abc")
    monkeypatch.setattr(world.state.desk.worker, "grace", 5.0)
    failed: list[str] = []

    def armed(reached: str) -> None:
        if reached == point and said(world) == ["a", "b"] and not failed:
            failed.append(reached)
            raise BROKEN

    monkeypatch.setattr("flask_spooler.failpoints.armed", armed)
    hand_over(world)
    assert failed
    world.recover()
    assert said(world) == ["a", "b", "c"]
    assert states(world, ids) == ["succeeded"] * 3
    assert {tuple(outcomes(world, job_id)) for job_id in ids} == {("succeeded",)}
    assert files(world.state.engine) == []


def test_a_taken_file_that_the_disk_does_not_give_back_costs_its_process_and_no_job(
    world: World, monkeypatch: pytest.MonkeyPatch, one_boot: None
) -> None:
    ids = queued(world, *"abc")

    def armed(reached: str) -> None:
        if reached == "taken.open":
            raise BROKEN

    with monkeypatch.context() as patched:
        patched.setattr("flask_spooler.failpoints.armed", armed)
        assert in_spooler(world) == 1
    assert states(world, ids) == ["succeeded", "running", "queued"]
    world.recover()
    assert sorted(said(world)) == list("abc")
    assert outcomes(world, ids[1]) == ["crashed", "succeeded"]


def test_the_end_of_a_taken_job_that_the_ledger_refuses_is_kept_and_not_repeated(
    world: World, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, refused, after = queued(world, *"abc")

    def armed(reached: str) -> None:
        if reached == "ledger.begin" and said(world) == ["a", "b"]:
            raise BROKEN

    with monkeypatch.context() as patched:
        patched.setattr("flask_spooler.failpoints.armed", armed)
        assert hand_over(world) == SPOOL_RETRY
    assert spool.has(DONE, refused)
    world.recover()
    assert said(world) == ["a", "b", "c"]
    assert states(world, [refused, after]) == ["succeeded", "succeeded"]
    assert files(world.state.engine) == []


def forget_everything(ledger: Ledger) -> None:
    for ending in ("", "-wal", "-shm"):
        Path(f"{ledger.path}{ending}").unlink(missing_ok=True)


def test_the_end_of_a_taken_job_is_recorded_though_the_ledger_was_deleted_while_it_ran(
    world: World, ledger: Ledger
) -> None:
    def deletes() -> str:
        forget_everything(ledger)
        say(world, "deleted")
        return "its result"

    queued(world, "before")
    deleting = task(world, deletes)
    (after,) = queued(world, "after")
    hand_over(world)
    record = known(ledger, deleting)
    assert (record.state, record.attempt, record.result) == ("succeeded", 1, b'"its result"')
    world.recover()
    assert said(world) == ["before", "deleted", "after"]
    assert states(world, [after]) == ["succeeded"]
    assert files(world.state.engine) == []


def test_a_taken_job_without_a_row_is_left_alone_while_it_runs_and_found_after_its_death(
    world: World, spool: Spool, ledger: Ledger
) -> None:
    def hangs() -> None:
        say(world, f"hangs {os.getpid()}")
        if len(said(world)) == 2:
            time.sleep(30)

    queued(world, "before")
    hanging = task(world, hangs)
    spooler = os.fork()
    if spooler == 0:
        hand_over(world)
        os._exit(0)
    try:
        wait_until(lambda: len(said(world)) == 2)
        forget_everything(ledger)
        assert spool.is_locked(hanging)
        assert not upkeep.look_at_taken(world.state.engine, hanging, time.time() + 60)
        assert spool.has(TAKEN, hanging)
    finally:
        os.kill(spooler, signal.SIGKILL)
        os.waitpid(spooler, 0)
    assert not upkeep.look_at_taken(world.state.engine, hanging, time.time())
    assert spool.has(TAKEN, hanging), "it was taken just now, and may be about to be locked"
    assert not upkeep.look_at_taken(world.state.engine, hanging, time.time() + 60)
    assert spool.has(WAITING, hanging)
    world.recover()
    assert len(said(world)) == 3
    assert states(world, [hanging]) == ["succeeded"]


def test_a_taken_file_belongs_to_its_process_until_that_has_ended(
    world: World, spool: Spool, ledger: Ledger
) -> None:
    def is_looked_at() -> None:
        (name,) = spool.names(TAKEN)
        assert not upkeep.look_at_taken(world.state.engine, name, time.time() + 60)
        say(world, str(spool.has(TAKEN, name)))
        if current_job.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    queued(world, "before")
    looked_at = task(world, is_looked_at)
    assert in_spooler(world) == -signal.SIGKILL
    assert said(world) == ["before", "True"]
    assert upkeep.look_at_taken(world.state.engine, looked_at, time.time())
    (file,) = spool.window()
    assert file.job_id == looked_at
    assert ledger.in_window()[looked_at].window == file.name


def test_a_job_that_is_to_be_cancelled_is_not_taken(world: World) -> None:
    _, unwanted, _ = queued(world, "before", "unwanted", "after")
    with world.state.engine.ledger.transaction() as rows:
        rows.ask_cancel(unwanted)
    hand_over(world)
    world.recover()
    assert states(world, [unwanted]) == ["cancelled"]
    assert outcomes(world, unwanted) == [], "no attempt was begun"
    assert said(world) == ["before", "after"]


def test_a_process_that_dies_in_a_taken_job_is_a_crash_of_that_job_alone(
    world: World, one_boot: None
) -> None:
    def dies_once() -> None:
        say(world, f"run {current_job.attempt}")
        if current_job.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    (before,) = queued(world, "before")
    dying = task(world, dies_once)
    (after,) = queued(world, "after")
    assert in_spooler(world) == -signal.SIGKILL
    assert states(world, [before, dying, after]) == ["succeeded", "running", "queued"]
    assert files(world.state.engine) == [f"taken/{dying}", f"waiting/{after}"]
    world.recover()
    assert outcomes(world, dying) == ["crashed", "succeeded"]
    assert [outcomes(world, job_id) for job_id in (before, after)] == [["succeeded"]] * 2
    assert sorted(said(world)) == ["after", "before", "run 1", "run 2"]


def test_a_job_that_kills_its_process_is_dead_after_three_runs_the_first_of_them_taken(
    world: World, one_boot: None
) -> None:
    def dies() -> None:
        say(world, "run")
        os.kill(os.getpid(), signal.SIGKILL)

    queued(world, "before")
    dying = task(world, dies, max_attempts=9)
    after = queued(world, "after")
    assert in_spooler(world) == -signal.SIGKILL
    ends = [in_child(world.recover) for _ in range(3)]
    assert ends == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert outcomes(world, dying) == ["crashed"] * 3
    assert states(world, [dying, *after]) == ["dead", "succeeded"]
    assert Counter(said(world))["run"] == 3
    assert files(world.state.engine) == [f"dead/{dying}"]


def test_a_taken_job_whose_server_is_gone_was_interrupted(world: World) -> None:
    """Without `one_boot` each process here is a server of its own."""

    def dies_once() -> None:
        if current_job.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    queued(world, "before")
    dying = task(world, dies_once, max_attempts=1)
    assert in_spooler(world) == -signal.SIGKILL
    world.recover()
    assert outcomes(world, dying) == ["interrupted", "succeeded"]


FATES = ("ok", "retry", "fail", "ok", "retry", "last")


def test_after_a_kill_at_any_failpoint_of_a_row_of_jobs_nothing_is_lost_and_all_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_process_pool(monkeypatch)

    def step(world: World) -> None:
        world.run_ready()

    with new_world(tmp_path / "survey") as world:
        queued(world, *FATES)
        passed = points(world, step)
    assert {"take.rename", "taken.open", "finish.unlink", "demote.rename"} <= set(passed)
    assert passed.count("take.rename") == len(FATES) - 1
    for hit, name in enumerate(passed):
        with new_world(tmp_path / str(hit), SPOOLER_DURABILITY="process") as world:
            in_child(functools.partial(queued, world, *FATES))
            killed_at(world, step, hit)
            world.recover()
            check(world, step, f"{name} (failpoint {hit})")
            ended = Counter(states(world, world.all_acked()))
            assert ended == {"succeeded": 5, "dead": 1}, f"after {name} (failpoint {hit})"


def test_after_a_kill_while_a_lost_taken_job_is_brought_back_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_process_pool(monkeypatch)

    def set_up(world: World) -> None:
        """Two jobs, of which the second is killed while it is taken."""
        queued(world, "ok", "ok", "retry")
        monkeypatch.setattr(
            "flask_spooler.failpoints.armed",
            lambda name: name == "taken.open" and os.kill(os.getpid(), signal.SIGKILL),
        )
        world.run_ready()

    def bring_back(world: World) -> None:
        for _ in range(2):
            for job_id in list(world.state.engine.spool.names(TAKEN)):
                upkeep.look_at_taken(world.state.engine, job_id, time.time())
            world.run_ready()

    with new_world(tmp_path / "survey") as world:
        assert in_child(functools.partial(set_up, world)) == -signal.SIGKILL
        assert len(list(world.state.engine.spool.names(TAKEN))) == 1
        passed = points(world, bring_back)
    assert "give_back.rename" in passed
    for hit, name in enumerate(passed):
        with new_world(tmp_path / str(hit), SPOOLER_DURABILITY="process") as world:
            in_child(functools.partial(set_up, world))
            killed_at(world, bring_back, hit)
            world.recover()
            check(world, bring_back, f"{name} (failpoint {hit})")


def test_the_next_taken_job_finds_its_process_as_the_first_one_did(
    world: World, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEEN", "before")

    def look_around() -> dict[str, Any]:
        umask = os.umask(0)
        os.umask(umask)
        for number in (0, 1, 2):
            os.fstat(number)
        status = Path("/proc/self/status").read_text().splitlines()
        return {
            "directory": os.getcwd(),
            "umask": umask,
            "environment": [os.environ.get("SEEN"), "NEW" in os.environ],
            "streams": [sys.stdin is stdin, isinstance(sys.stdout, io.StringIO)],
            "handlers": [
                repr(signal.getsignal(number)).partition(" at ")[0]
                for number in (*lifecycle.ENDING, signal.SIGHUP, signal.SIGUSR2, signal.SIGALRM)
            ],
            "ignored": [line for line in status if line.startswith(("SigIgn", "SigCgt"))],
        }

    def untidy() -> None:
        os.chdir("/")
        os.umask(0o777)
        os.environ["SEEN"], os.environ["NEW"] = "after", "yes"
        for number in (*lifecycle.ENDING, signal.SIGHUP, signal.SIGUSR2, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)
        sys.stdin = sys.stdout = sys.stderr = io.StringIO()
        for number in (0, 1, 2):
            os.close(number)

    stdin = sys.stdin
    queued(world, "before")
    first = task(world, look_around)
    spoiler = task(world, untidy)
    second = task(world, look_around)
    last = queued(world, "after")
    assert in_spooler(world) == 0
    assert states(world, [first, spoiler, second, *last]) == ["succeeded"] * 4
    before, after = (json.loads(record.result or b"") for record in records(world, [first, second]))
    assert after == before
    assert before["environment"] == ["before", False]


def test_the_next_taken_job_can_still_be_stopped_after_one_that_ignored_all_signals(
    world: World,
) -> None:
    def ignores() -> None:
        for number in lifecycle.ENDING:
            signal.signal(number, signal.SIG_IGN)

    def is_stopped() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        say(world, "stopped")

    queued(world, "before")
    task(world, ignores)
    task(world, is_stopped)
    after = queued(world, "after")
    in_spooler(world)
    assert said(world) == ["before", "stopped"]
    assert states(world, after) == ["queued"]


def test_a_taken_job_that_closes_all_descriptors_ends_its_process_and_is_not_repeated(
    world: World, spool: Spool
) -> None:
    def closes() -> None:
        say(world, "closed")
        os.closerange(3, 10_000)

    queued(world, "before")
    closing = task(world, closes)
    after = queued(world, "after")
    assert in_spooler(world) == 1
    assert spool.has(DONE, closing)
    world.recover()
    assert said(world) == ["before", "closed", "after"]
    assert states(world, [closing, *after]) == ["succeeded", "succeeded"]


def test_a_taken_job_that_closes_its_own_lock_hinders_nobody(world: World) -> None:
    def closes() -> None:
        for number in map(int, os.listdir("/proc/self/fd")):
            with contextlib.suppress(OSError):
                if f"taken/{current_job.id}" in os.readlink(f"/proc/self/fd/{number}"):
                    os.close(number)
                    say(world, "closed")

    ids = [*queued(world, "before"), task(world, closes), *queued(world, "after")]
    assert in_spooler(world) == 0
    assert said(world) == ["before", "closed", "after"]
    assert states(world, ids) == ["succeeded"] * 3


def test_hundreds_of_taken_jobs_leave_no_descriptor_open(world: World) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    made = world.spooler.task(name="count")(count)
    jobs = [made.enqueue() for _ in range(60)]
    hand_over(world)
    world.recover()
    counted = [job.result for job in jobs]
    # Fewer there may be: what earlier tests have left is collected at any time.
    assert max(counted[1:]) == counted[1], counted


def test_a_running_taken_job_can_be_cancelled_and_the_next_one_runs(
    world: World, ledger: Ledger
) -> None:
    def hangs() -> None:
        say(world, "hangs")
        time.sleep(30)

    queued(world, "before")
    hanging = task(world, hangs)
    (after,) = queued(world, "after")
    spooler = os.fork()
    if spooler == 0:
        os._exit(in_spooler(world) != 0)
    wait_until(lambda: said(world)[1:] == ["hangs"])
    assert operations.cancel(world.state.engine, hanging) == "running"
    assert os.waitstatus_to_exitcode(os.waitpid(spooler, 0)[1]) == 0
    assert states(world, [hanging, after]) == ["cancelled", "succeeded"]
    assert outcomes(world, hanging) == ["cancelled"]
    assert said(world) == ["before", "hangs", "after"]
    assert files(world.state.engine) == [f"dead/{hanging}"]


def test_a_cancel_that_comes_between_the_taking_and_the_run_is_honoured(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cancelled, after = queued(world, "before", "cancelled", "after")

    def armed(reached: str) -> None:
        if reached == "taken.open" and not done:
            done.append(reached)
            assert operations.cancel(world.state.engine, cancelled) == "running"

    done: list[str] = []
    monkeypatch.setattr("flask_spooler.failpoints.armed", armed)
    assert in_spooler(world) == 0
    assert said(world) == ["before", "after"]
    assert states(world, [cancelled, after]) == ["cancelled", "succeeded"]


def test_a_cancel_meant_for_one_job_does_not_hit_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal only means look: here it comes when its job has ended."""
    ids = queued(world, *"abc")

    def armed(reached: str) -> None:
        if reached in ("finish.unlink", "taken.open"):
            os.kill(os.getpid(), _uwsgi.ABORT)

    monkeypatch.setattr("flask_spooler.failpoints.armed", armed)
    assert in_spooler(world) == 0
    assert states(world, ids) == ["succeeded"] * 3


def test_a_time_limit_holds_for_a_taken_job_and_ends_with_it(world: World) -> None:
    def too_slow() -> None:
        time.sleep(10)

    def slow_enough() -> None:
        time.sleep(0.3)

    queued(world, "before")
    late = task(world, too_slow, timeout=0.2, max_attempts=1)
    in_time = task(world, slow_enough, timeout=5)
    without = task(world, slow_enough)
    assert in_spooler(world) == 0
    assert states(world, [late, in_time, without]) == ["dead", "succeeded", "succeeded"]
    assert outcomes(world, late) == ["timed_out"]
    assert known(world.state.engine.ledger, late).error_type == "JobTimeout"


def test_a_taken_job_shows_its_own_progress_result_and_output(world: World, ledger: Ledger) -> None:
    def works(number: int) -> int:
        if number:
            current_job.progress(number, 10, f"number {number}")
        say(world, f"{current_job.id == ids[number]} {current_job.attempt}")
        return number

    made = world.spooler.task(name="works")(works)
    ids = [job.id for job in made.enqueue_many([(0,), (1,), (2,)])]
    ids_now = records(world, ids)
    assert [record.progress for record in ids_now] == [None] * 3
    hand_over(world)
    done = records(world, ids)
    assert said(world) == ["True 1"] * 3
    assert [record.result for record in done] == [b"0", b"1", b"2"]
    assert [record.progress for record in done] == [
        None,
        {"done": 1, "total": 10, "note": "number 1"},
        {"done": 2, "total": 10, "note": "number 2"},
    ]


def test_a_taken_task_that_forks_and_returns_twice_ends_once(world: World) -> None:
    def forks() -> int:
        say(world, "forks")
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        return child

    queued(world, "before")
    forking = task(world, forks)
    (after,) = queued(world, "after")
    assert in_spooler(world) == 0
    assert said(world) == ["before", "forks", "after"]
    assert states(world, [forking, after]) == ["succeeded", "succeeded"]
    assert known(world.state.engine.ledger, forking).result != b"0", "the child has answered"
    assert files(world.state.engine) == []


def test_a_child_that_a_taken_task_leaves_behind_holds_no_lock_of_it(
    world: World, spool: Spool
) -> None:
    def leaves_a_child() -> int:
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        if current_job.attempt == 1:
            (world.out.parent / "child").write_text(str(child))
            os.kill(os.getpid(), signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return 0

    queued(world, "before")
    leaving = task(world, leaves_a_child)
    assert in_spooler(world) == -signal.SIGKILL
    try:
        assert not spool.is_locked(leaving)
        assert states(world, [leaving]) == ["running"]
        world.recover()
        assert states(world, [leaving]) == ["succeeded"]
    finally:
        os.kill(int((world.out.parent / "child").read_text()), signal.SIGKILL)


def test_a_task_that_exits_its_process_in_a_taken_job_is_a_crash(
    world: World, one_boot: None
) -> None:
    queued(world, "before")
    exiting = task(world, lambda: current_job.attempt == 1 and os._exit(0))
    assert in_spooler(world) == 0
    world.recover()
    assert outcomes(world, exiting) == ["crashed", "succeeded"]


def test_what_tasks_raise_ends_their_own_job_and_not_the_row(world: World) -> None:
    def raises(kind: str) -> None:
        raise {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "memory": MemoryError()}[
            kind
        ]

    queued(world, "before")
    made = world.spooler.task(name="raises", max_attempts=1)(raises)
    ids = [made.enqueue(kind).id for kind in ("exit", "interrupt", "memory")]
    (after,) = queued(world, "after")
    assert in_spooler(world) == 0
    assert states(world, [*ids, after]) == ["dead", "dead", "dead", "succeeded"]
    assert set(states(world, ids)) <= FINAL
    assert files(world.state.engine) == sorted(f"{DEAD}/{job_id}" for job_id in ids)


def test_a_signature_is_checked_again_when_a_waiting_file_was_changed(world: World) -> None:
    _, changed = queued(world, "before", "changed")
    job = waiting_job(world, changed)
    other = msgspec.structs.replace(job, kwargs=msgspec.Raw(b'{"word": "evil"}'))
    data = encode_packet(job, world.state.engine.key).replace(bytes(job.kwargs), b"")
    path = world.state.engine.spool.root / WAITING / changed
    path.write_bytes(data + bytes(other.kwargs))
    hand_over(world)
    world.recover()
    assert said(world) == ["before"]
    assert states(world, [changed]) == ["dead"]
