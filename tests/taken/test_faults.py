"""Faults around a job that a spooler has taken: they cost that job's time, and no other job."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw
import msgspec
import pytest

from flask_spooler import SPOOL_RETRY, _uwsgi, failpoints, operations
from flask_spooler.housekeeper import Housekeeper
from flask_spooler.ledger import Ledger
from flask_spooler.spool import CORRUPT, DONE, WAITING, Spool
from tests.helpers import files, known, wait_until
from tests.taken.test_taken import (
    hand_over,
    in_spooler,
    outcomes,
    queued,
    rewrite,
    said,
    sign_with_another_key,
    states,
    task,
    waiting_job,
)
from tests.world import World


@pytest.fixture
def world(world: World) -> World:
    """One whose ledger is not waited for."""
    world.state.engine.ledger.patience = 0.05
    return world


@contextmanager
def disk_fails_at(point: str, hit: int = 1) -> Iterator[None]:
    """Let the disk fail once, when a failpoint is reached for the n-th time."""
    left = hit

    def fail(reached: str) -> None:
        nonlocal left
        left -= reached == point
        if reached == point and left == 0:
            raise OSError(errno.EIO, "Input/output error")

    failpoints.armed = fail
    try:
        yield
        assert left <= 0, f"{point} was never reached for the n-th time"
    finally:
        failpoints.armed = None


@contextmanager
def ledger_locked_when(ledger: Ledger, reached: Callable[[str], bool]) -> Iterator[None]:
    """Let another program lock the ledger from when a failpoint is reached on, until the end."""
    somebody = apsw.Connection(str(ledger.path))

    def lock(point: str) -> None:
        if reached(point) and not somebody.in_transaction:
            somebody.execute("BEGIN IMMEDIATE")

    failpoints.armed = lock
    try:
        yield
    finally:
        failpoints.armed = None
        somebody.close()


@contextmanager
def living_on_after(act: Callable[[], object]) -> Iterator[None]:
    """Do it in another process, which is there with all it holds until the body is over."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            os._exit(1)
    assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("word", "point", "state"),
    [
        ("ok", "finish.unlink", "succeeded"),
        ("retry", "demote.rename", "retrying"),
        ("fail", "bury.rename", "dead"),
    ],
)
def test_a_file_that_cannot_be_put_away_leaves_no_job_running_that_nobody_runs(
    world: World, word: str, point: str, state: str
) -> None:
    ids = queued(world, word, "b", "c", max_attempts=1 if word == "fail" else 2)
    with disk_fails_at(point):
        hand_over(world)
    assert said(world) == [word, "b", "c"], "the next one had been started when it failed"
    assert states(world, ids) == [state, "succeeded", "succeeded"]
    world.recover()
    assert said(world) == [word, "b", "c", *(["retry"] if word == "retry" else [])]
    last = "dead" if word == "fail" else "succeeded"
    assert states(world, ids) == [last, "succeeded", "succeeded"]
    assert files(world.state.engine) == ([f"dead/{ids[0]}"] if word == "fail" else [])


def test_a_taken_file_that_cannot_be_put_away_puts_off_no_other_job(
    world: World, ledger: Ledger
) -> None:
    again, *others = queued(world, "retry", "b", "c")
    with disk_fails_at("finish.unlink"):
        hand_over(world)
    record = known(ledger, again)
    assert (record.state, record.error_type) == ("retrying", "RuntimeError")
    assert record.due_at <= time.time(), "its own backoff is none"
    assert states(world, others) == ["succeeded"] * 2
    world.recover()
    assert files(world.state.engine) == []


@pytest.mark.parametrize(("word", "point"), [("ok", "finish.unlink"), ("retry", "demote.rename")])
def test_a_taken_file_that_cannot_be_put_away_is_held_open_by_nobody(
    world: World, spool: Spool, word: str, point: str
) -> None:
    queued(world, word, word)
    with disk_fails_at(point, hit=2):
        hand_over(world)
    opened = {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}
    assert not [path for path in opened if path.startswith(f"{spool.root}/taken/")]


def its_process_ends(world: World, ledger: Ledger) -> None:
    """Let the ledger be locked from when a taken file is read on, until its taker has ended."""

    def run() -> None:
        with ledger_locked_when(ledger, lambda point: point == "taken.open"):
            hand_over(world)

    assert in_spooler(world, run) == 1


def test_an_unreadable_taken_file_costs_its_process_and_is_dead_where_the_ledger_is_locked(
    world: World, spool: Spool, ledger: Ledger, one_boot: None
) -> None:
    before, bad, after = queued(world, "before", "bad", "after")
    sign_with_another_key(world, bad)
    its_process_ends(world, ledger)
    assert states(world, [before, bad, after]) == ["succeeded", "running", "queued"]
    world.recover()
    keeper = Housekeeper(world.spooler, world.state.engine, grace=1, retention=86_400)
    keeper.round(time.time() + 60)
    assert states(world, [before, bad, after]) == ["succeeded", "dead", "succeeded"]
    assert said(world) == ["before", "after"]
    (kept,) = spool.names(CORRUPT)
    assert files(world.state.engine) == [f"corrupt/{kept}"]
    assert known(ledger, bad).error_type == "Unreadable"
    assert [attempt.outcome for attempt in ledger.attempts(bad)] == ["crashed"]


def test_a_taken_file_of_a_newer_format_costs_its_process_and_no_job_where_the_ledger_is_locked(
    world: World, ledger: Ledger, one_boot: None
) -> None:
    before, newer, after = queued(world, "before", "newer", "after")
    rewrite(world, newer, msgspec.structs.replace(waiting_job(world, newer), format=2))
    its_process_ends(world, ledger)
    world.recover()
    assert said(world) == ["before", "after"]
    assert states(world, [before, after]) == ["succeeded", "succeeded"]
    (kept,) = files(world.state.engine)
    assert kept.endswith(newer), "it waits for code that knows it, and is not put into quarantine"
    assert states(world, [newer]) == ["retrying"], "and nobody shows it as running"


def its_end_is_kept(world: World, ledger: Ledger) -> Callable[[], None]:
    """Run the first file, and the one that is taken then: its end finds the ledger locked."""

    def run() -> None:
        with ledger_locked_when(ledger, lambda _: said(world) == ["before", "retry"]):
            assert hand_over(world) == SPOOL_RETRY

    return run


def test_a_taken_file_whose_end_is_kept_in_done_is_locked_by_nobody_afterwards(
    world: World, spool: Spool, ledger: Ledger
) -> None:
    _, kept = queued(world, "before", "retry")
    with living_on_after(its_end_is_kept(world, ledger)):
        assert spool.has(DONE, kept)
        with (spool.root / DONE / kept).open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_job_whose_end_was_kept_in_done_can_be_taken_by_another_spooler_for_its_next_attempt(
    world: World, spool: Spool, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, kept = queued(world, "before", "retry")
    with living_on_after(its_end_is_kept(world, ledger)):
        with monkeypatch.context() as nobody_idle:
            nobody_idle.setattr(_uwsgi, "spooler_pids", lambda: [])
            keeper = Housekeeper(world.spooler, world.state.engine, grace=1, retention=86_400)
            keeper.round(time.time())
            keeper.round(time.time())
        assert states(world, [kept]) == ["queued"]
        assert spool.has(WAITING, kept)
        queued(world, "first", priority=10)
        taker = os.fork()
        if taker == 0:
            in_spooler(world)
            os._exit(0)
        try:
            wait_until(lambda: states(world, [kept]) == ["succeeded"], 5)
        finally:
            os.kill(taker, signal.SIGKILL)
            os.waitpid(taker, 0)
    assert said(world) == ["before", "retry", "first", "retry"]
    assert outcomes(world, kept) == ["failed", "succeeded"]


def test_a_job_that_was_cancelled_before_its_time_waits_for_it_again_when_it_is_retried(
    world: World,
) -> None:
    (scheduled,) = queued(world, "ok", delay=3600)
    operations.cancel(world.state.engine, scheduled)
    queued(world, "before")
    operations.revive(world.state.engine, scheduled)
    hand_over(world)
    world.recover()
    assert states(world, [scheduled]) == ["scheduled"]
    assert said(world) == ["before"]


def test_a_retried_job_whose_next_attempt_was_far_off_can_be_taken(world: World) -> None:
    (failed,) = queued(world, "retry", backoff=[3600.0])
    hand_over(world)
    operations.cancel(world.state.engine, failed)
    queued(world, "before")
    operations.revive(world.state.engine, failed)
    hand_over(world)
    assert said(world) == ["retry", "before", "retry"]
    assert states(world, [failed]) == ["succeeded"]


@pytest.mark.parametrize("point", ["finish.unlink", "taken.open"])
def test_a_reload_between_two_jobs_of_a_row_is_no_crash_of_the_second(
    world: World, one_boot: None, point: str
) -> None:
    """The second is started by the commit that ends the first, and not yet begun."""
    first, second = queued(world, "first", "second", max_attempts=1)

    def reload(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGKILL)

    def is_reloaded() -> None:
        failpoints.armed = reload
        hand_over(world)

    assert in_spooler(world, is_reloaded) == -signal.SIGKILL
    assert states(world, [first, second]) == ["succeeded", "running"]
    world.recover()
    assert outcomes(world, second) == ["interrupted", "succeeded"]
    assert said(world) == ["first", "second"]


def test_a_taken_file_that_holds_another_job_is_kept_and_not_run_under_a_wrong_name(
    world: World, spool: Spool, ledger: Ledger
) -> None:
    before, swapped, last = queued(world, "before", "swapped", "last")
    waiting = spool.root / WAITING
    (waiting / swapped).write_bytes((waiting / last).read_bytes())
    hand_over(world)
    world.recover()
    assert said(world) == ["before", "last"], "the last one ran once, under its own name"
    assert states(world, [before, swapped, last]) == ["succeeded", "dead", "succeeded"]
    assert known(ledger, swapped).error_type == "Unreadable"
    (kept,) = spool.names(CORRUPT)
    assert files(world.state.engine) == [f"corrupt/{kept}"]


def test_who_waits_behind_an_expired_job_is_let_in_when_that_is_put_away(
    world: World, spool: Spool, ledger: Ledger
) -> None:
    def waits() -> None:
        wait_until(lambda: time.time() > known(ledger, late).expires_at)

    task(world, waits)
    (late,) = queued(world, "late", expires=0.05)
    (behind,) = queued(world, "behind")
    hand_over(world)
    assert [file.job_id for file in spool.window()] == [late], "it expired before its turn"
    hand_over(world)
    assert states(world, [late, behind]) == ["expired", "queued"]
    assert [file.job_id for file in spool.window()] == [behind]
