"""Whose turn it is to write: a writer that dies or is stopped costs the others time at most."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw
import pytest

from flask_spooler import failpoints
from flask_spooler.errors import LedgerError
from flask_spooler.ledger import Ledger
from tests.helpers import in_child, known, make_job, wait_until

ENOUGH = 10.0


def add(ledger: Ledger) -> str:
    """Add one job in a transaction of its own, and return its id."""
    job = make_job()
    with ledger.transaction() as rows:
        assert rows.insert(job, "queued", None)
    return job.id


@contextmanager
def stopped(ledger: Ledger, point: str) -> Iterator[Callable[[], None]]:
    """Let another process write a job and be stopped at a failpoint; give what lets it go on."""

    def stop(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGSTOP)

    writer = os.fork()
    if writer == 0:
        ledger.state("nobody")
        failpoints.armed = stop
        with contextlib.suppress(LedgerError):
            add(ledger)
        os._exit(0)
    assert os.WIFSTOPPED(os.waitpid(writer, os.WUNTRACED)[1])

    def go_on() -> None:
        os.kill(writer, signal.SIGCONT)
        assert os.waitpid(writer, 0)[1] == 0
        ended.append(writer)

    ended: list[int] = []
    try:
        yield go_on
    finally:
        if not ended:
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)


@pytest.mark.parametrize("point", ["ledger.begin", "ledger.commit"])
def test_a_writer_that_is_killed_in_its_turn_holds_nobody_up(ledger: Ledger, point: str) -> None:
    add(ledger)

    def killed() -> None:
        failpoints.armed = lambda name: name == point and os.kill(os.getpid(), signal.SIGKILL)
        add(ledger)

    assert in_child(killed) == -signal.SIGKILL
    began = time.monotonic()
    add(ledger)
    assert time.monotonic() - began < ledger.patience / 2
    assert len(ledger.find()) == 2


def test_a_writer_that_is_killed_in_its_turn_holds_nobody_up_though_its_child_lives_on(
    ledger: Ledger,
) -> None:
    """As a daemon does that a task has started."""
    ending, end = os.pipe()

    def killed() -> None:
        add(ledger)
        if os.fork() == 0:
            os.close(end)
            os.read(ending, 1)
            os._exit(0)
        failpoints.armed = lambda name: (
            name == "ledger.commit" and os.kill(os.getpid(), signal.SIGKILL)
        )
        add(ledger)

    try:
        assert in_child(killed) == -signal.SIGKILL
        began = time.monotonic()
        add(ledger)
        assert time.monotonic() - began < ledger.patience / 2
        assert len(ledger.find()) == 2
    finally:
        os.close(end)
        os.close(ending)


def test_a_writer_that_is_stopped_within_its_transaction_makes_others_give_up_in_time(
    ledger: Ledger,
) -> None:
    before = add(ledger)
    ledger.patience = 0.3
    with stopped(ledger, "ledger.commit") as go_on:
        began = time.monotonic()
        with pytest.raises(LedgerError):
            add(ledger)
        assert time.monotonic() - began < ENOUGH
        assert known(ledger, before).state == "queued", "reading needs no turn"
        assert len(ledger.find()) == 1
        go_on()
    add(ledger)
    assert len(ledger.find()) == 3, "the stopped writer's job is there as well"


def test_the_patience_of_a_transaction_is_for_all_its_waits_together(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on only while somebody waits, first for the turn, then for SQLite."""
    add(ledger)
    ledger.patience = 5.0
    waited = 0.0

    def sleep(seconds: float) -> None:
        nonlocal waited
        waited += seconds

    clock = types.SimpleNamespace(monotonic=lambda: 1_000.0 + waited, sleep=sleep)
    with stopped(ledger, "ledger.commit"):
        monkeypatch.setattr("flask_spooler.ledger.connection.time", clock)
        with pytest.raises(LedgerError):
            add(ledger)
    assert 5.0 <= waited < 5.1


def test_a_ledger_that_is_deleted_while_its_writer_is_stopped_holds_nobody_up_for_ever(
    ledger: Ledger,
) -> None:
    add(ledger)
    ledger.patience = 0.3
    with stopped(ledger, "ledger.commit"):
        ledger.path.unlink()
        other = os.fork()
        if other == 0:
            try:
                add(ledger)
                os._exit(0)
            finally:
                os._exit(1)
        looking = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            wait_until(lambda: os.waitid(os.P_PID, other, looking), 5)
        finally:
            os.kill(other, signal.SIGKILL)
            status = os.waitpid(other, 0)[1]
        assert status == 0
        assert len(ledger.find()) == 1, "a new ledger has begun"


def test_a_writer_that_is_stopped_between_its_turn_and_its_lock_costs_others_time_only(
    ledger: Ledger,
) -> None:
    add(ledger)
    ledger.patience = 0.3
    with stopped(ledger, "ledger.begin") as go_on:
        began = time.monotonic()
        add(ledger)
        assert time.monotonic() - began < ENOUGH
        assert len(ledger.find()) == 2
        go_on()
    assert len(ledger.find()) == 3


def test_who_does_not_take_turns_is_waited_for_all_the_same(ledger: Ledger) -> None:
    """SQLite's own lock decides: another program may look into the ledger, and write."""
    add(ledger)
    ledger.patience = 0.3
    somebody = apsw.Connection(str(ledger.path))
    somebody.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError):
        add(ledger)
    somebody.execute("ROLLBACK")
    somebody.close()
    add(ledger)
    assert len(ledger.find()) == 2


def test_nobody_else_begins_to_write_while_a_transaction_is_open(ledger: Ledger) -> None:
    """Who takes no turns has only SQLite's lock to tell, and it is held from the beginning."""
    add(ledger)
    somebody = apsw.Connection(str(ledger.path))
    with ledger.transaction(), pytest.raises(apsw.BusyError):
        somebody.execute("BEGIN IMMEDIATE")
    somebody.execute("BEGIN IMMEDIATE")
    somebody.execute("ROLLBACK")
    somebody.close()


def test_after_a_failed_transaction_the_turn_is_free_for_all(ledger: Ledger) -> None:
    add(ledger)
    with pytest.raises(ZeroDivisionError), ledger.transaction():
        raise ZeroDivisionError
    began = time.monotonic()
    assert in_child(lambda: add(ledger)) == 0
    assert time.monotonic() - began < ledger.patience / 2
    assert len(ledger.find()) == 2


def test_a_transaction_is_never_divided_by_another_process(ledger: Ledger) -> None:
    """Four processes count one number up, each by reading it and writing it back."""
    job_id = add(ledger)

    def count() -> None:
        for _ in range(50):
            with ledger.transaction() as rows:
                found = rows._run("SELECT charged FROM jobs WHERE id = ?", (job_id,)).get
                rows._run("UPDATE jobs SET charged = ? WHERE id = ?", (found + 1, job_id))

    children = []
    for _ in range(4):
        children.append(os.fork())
        if children[-1] == 0:
            ledger.patience = 60
            count()
            os._exit(0)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    with ledger.transaction() as rows:
        assert rows.known(job_id).charged == 200
