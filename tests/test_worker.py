"""One attempt in this process: what the worker answers, and where the file is afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from flask_spooler import SPOOL_OK, SPOOL_RETRY, _uwsgi, operations
from flask_spooler.dispatch import desks, dispatch
from flask_spooler.job import Job, encode_packet, new_id, parse_file
from flask_spooler.spool import CORRUPT, DONE, PREFIX, WAITING
from tests.world import World, new_world, one_process_pool


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    one_process_pool(monkeypatch)
    with new_world(tmp_path / "world") as world:
        monkeypatch.setattr("flask_spooler.dispatch.desks", [*desks, world.state.desk])
        yield world


def hand_over(world: World, name: str) -> int:
    """Give one file of the window to the process's spooler callable, as uWSGI does."""
    data = (world.state.engine.spool.root / name).read_bytes()
    return dispatch(parse_file(data) | {"spooler_task_name": os.fsencode(name)})


def only_file(world: World) -> str:
    (file,) = world.state.engine.spool.window()
    return file.name


def mtime(world: World, name: str) -> float:
    return (world.state.engine.spool.root / name).stat().st_mtime


def say(world: World, sql: str, *values: object) -> None:
    connection = apsw.Connection(str(world.state.engine.spool.ledger))
    connection.execute(sql, values)
    connection.close()


def ran(world: World) -> bool:
    return world.out.exists()


def test_a_success_is_answered_with_ok_and_everything_else_with_retry(world: World) -> None:
    answers = {}
    for word, options in {"ok": {}, "retry": {}, "fail": {"max_attempts": 1}}.items():
        world.enqueue(word, **options)
        answers[word] = hand_over(world, only_file(world))
        for file in world.state.engine.spool.window():
            (world.state.engine.spool.root / file.name).unlink()
    assert answers == {"ok": SPOOL_OK, "retry": SPOOL_RETRY, "fail": SPOOL_RETRY}
    assert all(type(answer) is int for answer in answers.values())


def test_a_run_whose_process_lives_on_without_its_lock_is_not_doubled(world: World) -> None:
    world.enqueue("ok")
    name = only_file(world)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        identity = _uwsgi.process(other.pid)
        say(
            world,
            "UPDATE jobs SET state = 'running', attempt = 1, charged = 1, started_at = 1,"
            " pid = ?, pid_started = ?, boot = ?",
            identity.pid,
            identity.started,
            str(_uwsgi.boot()),
        )
        before = time.time()
        assert hand_over(world, name) == SPOOL_RETRY
        assert not ran(world)
        assert mtime(world, name) >= before + 1.5
        other.communicate(b"\n")
    assert hand_over(world, name) == SPOOL_OK
    outcomes = [a.outcome for a in world.state.engine.ledger.attempts(world.all_acked()[0])]
    assert outcomes == ["crashed", "succeeded"]


def test_a_file_found_early_in_the_window_goes_back_to_wait(world: World) -> None:
    world.enqueue("ok", delay=3600)
    (job_id,) = world.all_acked()
    spool = world.state.engine.spool
    name = spool.window_name(job_id)
    assert spool.promote(job_id, name)
    assert hand_over(world, name) == SPOOL_RETRY
    assert not ran(world)
    assert spool.has(WAITING, job_id)
    assert world.state.engine.ledger.state(job_id) == "scheduled"


def test_a_file_of_another_key_goes_to_quarantine(world: World) -> None:
    job = world.spooler.tasks["note"].job(("foreign",), {}, time.time())
    name = f"{PREFIX}{time.time_ns()}_{job.id}"
    data = encode_packet(job, b"the key of somebody else")
    (world.state.engine.spool.root / name).write_bytes(data)
    assert hand_over(world, name) == SPOOL_RETRY
    assert not ran(world)
    assert [kept.endswith(name) for kept in world.state.engine.spool.names(CORRUPT)] == [True]


def test_a_job_of_a_newer_format_is_kept_and_put_off(world: World) -> None:
    job = Job(
        id=new_id(),
        task="note",
        kwargs=msgspec.Raw(b'{"word": "new"}'),
        enqueued_at=time.time(),
        due_at=time.time(),
        format=2,
    )
    name = f"{PREFIX}{time.time_ns()}_{job.id}"
    data = encode_packet(job, world.state.engine.key)
    (world.state.engine.spool.root / name).write_bytes(data)
    assert hand_over(world, name) == SPOOL_RETRY
    assert not ran(world)
    assert mtime(world, name) > time.time() + 20  # it has no row yet, so it is only leased


def test_a_cancel_that_comes_when_the_task_is_just_over_is_honoured(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enqueue("retry")
    (job_id,) = world.all_acked()
    worker = world.state.desk.worker
    settle = worker.settle

    def cancelled_before(*args: object) -> object:
        operations.cancel(world.state.engine, job_id)
        return settle(*args)

    monkeypatch.setattr(worker, "settle", cancelled_before)
    monkeypatch.setattr(_uwsgi, "abort", lambda process: None)
    assert hand_over(world, only_file(world)) == SPOOL_RETRY
    world.recover()
    assert world.state.engine.ledger.state(job_id) == "cancelled"
    assert len(world.out.read_text().splitlines()) == 1


def test_another_jobs_file_that_cannot_be_moved_costs_no_outcome(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enqueue("ok")
    name = only_file(world)

    def broken(*rows: object) -> list[int]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.state.engine.window, "fill", broken)
    assert hand_over(world, name) == SPOOL_OK
    assert world.state.engine.ledger.state(world.all_acked()[0]) == "succeeded"


def test_a_disk_without_room_for_the_outcome_costs_the_outcome_and_no_second_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.state.engine.ledger.patience = 0.05
    world.enqueue("ok")
    (job_id,) = world.all_acked()

    def full(point: str) -> None:
        if ran(world) and point in ("ledger.commit", "write.write"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("flask_spooler.failpoints.armed", full)
    assert hand_over(world, only_file(world)) == SPOOL_RETRY
    monkeypatch.setattr("flask_spooler.failpoints.armed", None)
    world.recover()
    record = world.state.engine.ledger.record(job_id)
    assert record is not None
    assert (record.state, record.error_type) == ("dead", "OutcomeLost")
    assert len(world.out.read_text().splitlines()) == 1


def test_a_job_waits_while_the_ledger_cannot_be_written(world: World) -> None:
    world.state.engine.ledger.patience = 0.05
    world.enqueue("ok")
    name = only_file(world)
    somebody = apsw.Connection(str(world.state.engine.spool.ledger))
    somebody.execute("BEGIN IMMEDIATE")
    assert hand_over(world, name) == SPOOL_RETRY
    assert not ran(world)
    assert mtime(world, name) > time.time() + 1
    somebody.execute("ROLLBACK")
    assert hand_over(world, name) == SPOOL_OK
    assert ran(world)


def test_a_run_whose_end_cannot_be_written_is_kept_in_done_and_not_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.state.engine.ledger.patience = 0.05
    world.enqueue("ok")
    somebody = apsw.Connection(str(world.state.engine.spool.ledger))

    def lock(point: str) -> None:
        if point == "ledger.begin" and ran(world) and not somebody.in_transaction:
            somebody.execute("BEGIN IMMEDIATE")

    monkeypatch.setattr("flask_spooler.failpoints.armed", lock)
    assert hand_over(world, only_file(world)) == SPOOL_RETRY
    monkeypatch.setattr("flask_spooler.failpoints.armed", None)
    (job_id,) = world.all_acked()
    assert world.state.engine.spool.has(DONE, job_id)
    somebody.execute("ROLLBACK")
    world.recover()
    assert world.state.engine.ledger.state(job_id) == "succeeded"
    assert len(world.out.read_text().splitlines()) == 1
    assert not any(world.state.engine.spool.counts().values())


def test_a_fault_of_our_own_keeps_the_job_and_answers_retry(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enqueue("ok")
    name = only_file(world)
    worker = type(world.state.desk.worker)

    def broken(*args: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(worker, "start", broken)
    assert hand_over(world, name) == SPOOL_RETRY
    (job_id,) = world.all_acked()
    record = world.state.engine.ledger.record(job_id)
    assert record is not None
    assert (record.state, record.error_type) == ("scheduled", "RuntimeError")
    assert record.due_at > time.time() + 20
    assert world.state.engine.spool.has(WAITING, job_id)


def test_a_bad_file_under_the_name_of_a_waiting_job_does_that_job_no_harm(world: World) -> None:
    world.enqueue("ok", delay=3600)
    (job_id,) = world.all_acked()
    name = world.state.engine.spool.window_name(job_id)
    data = encode_packet(
        world.spooler.tasks["note"].job(("foreign",), {}, time.time()), b"another key of a spool"
    )
    (world.state.engine.spool.root / name).write_bytes(data)
    assert hand_over(world, name) == SPOOL_RETRY
    assert world.state.engine.ledger.state(job_id) == "scheduled"
    assert world.state.engine.spool.has(WAITING, job_id)


def test_a_job_whose_file_became_unreadable_is_dead_and_names_where_it_is_kept(
    world: World,
) -> None:
    world.enqueue("ok")
    (job_id,) = world.all_acked()
    name = only_file(world)
    path = world.state.engine.spool.root / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert hand_over(world, name) == SPOOL_RETRY
    record = world.state.engine.ledger.record(job_id)
    assert record is not None
    assert (record.state, record.error_type) == ("dead", "Unreadable")
    assert "corrupt/" in str(record.error_message)
    assert not ran(world)
