"""The housekeeper's rounds: due times, lost wake-ups, strays, retention, one at a time."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from flask_spooler import _uwsgi, housekeeper
from flask_spooler.housekeeper import TICK, Housekeeper
from flask_spooler.job import encode_packet
from tests.helpers import NOW, make_job, wait_until
from tests.world import World, new_world, one_process_pool


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    one_process_pool(monkeypatch)
    woken: list[int] = []
    monkeypatch.setattr(_uwsgi, "wake", woken.extend)
    return woken


@pytest.fixture
def world(tmp_path: Path, woken: list[int]) -> Iterator[World]:
    with new_world(tmp_path / "world") as world:
        yield world


@pytest.fixture
def keeper(world: World) -> Housekeeper:
    return Housekeeper(world.spooler, world.state.engine, grace=1, retention=100)


def settle_down(keeper: Housekeeper) -> None:
    """Let the first survey, which is urgent, come to its end."""
    while keeper.round(time.time()) == 0.0:
        continue


def test_the_next_round_is_at_the_next_due_time_and_at_most_a_tick_away(
    world: World, keeper: Housekeeper
) -> None:
    settle_down(keeper)
    assert keeper.round(time.time()) == TICK
    world.enqueue("ok", delay=0.5)
    assert 0.3 < keeper.round(time.time()) <= 0.5


def test_a_due_job_is_promoted_and_a_spooler_woken(
    world: World, keeper: Housekeeper, woken: list[int]
) -> None:
    world.enqueue("ok", delay=60)
    settle_down(keeper)
    assert woken == []
    keeper.round(time.time() + 61)
    assert woken[:1] == [os.getpid()]
    assert len(world.state.engine.spool.window()) == 1


def test_a_ready_file_that_nobody_took_is_signalled_once_more(
    world: World, keeper: Housekeeper, woken: list[int]
) -> None:
    world.enqueue("ok")
    settle_down(keeper)
    woken.clear()
    keeper.round(time.time() + 1.5)
    assert woken == [os.getpid()]


def test_no_more_spoolers_are_woken_than_there_are_ready_files(
    world: World, keeper: Housekeeper, woken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_uwsgi, "spooler_pids", lambda: [11, 12, 13, 14])
    world.enqueue("ok", delay=60)
    world.enqueue("ok", delay=60)
    settle_down(keeper)
    keeper.round(time.time() + 61)
    assert set(woken) == {11, 12}


def test_an_idle_round_takes_no_write_lock(
    world: World, keeper: Housekeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.enqueue("ok", delay=60)
    settle_down(keeper)
    seen: list[str] = []
    monkeypatch.setattr("flask_spooler.failpoints.armed", seen.append)
    keeper.round(time.time() + TICK / 2)
    assert "ledger.begin" not in seen


def test_finished_jobs_are_forgotten_after_their_retention_and_dead_ones_are_not(
    world: World, keeper: Housekeeper
) -> None:
    world.enqueue("ok")
    world.run_ready()
    world.enqueue("fail", max_attempts=1)
    world.run_ready()
    settle_down(keeper)
    assert len(world.state.engine.ledger.find()) == 2
    keeper.round(time.time() + 101)
    assert [record.state for record in world.state.engine.ledger.find()] == ["dead"]


def test_a_clock_that_was_set_back_is_worth_a_line(
    world: World, keeper: Housekeeper, caplog: pytest.LogCaptureFixture
) -> None:
    settle_down(keeper)
    with caplog.at_level(logging.ERROR):
        keeper.round(time.time() - 3600)
    assert "the clock was set back by 3600 s" in caplog.text


def test_there_is_one_housekeeper_a_spool(world: World, keeper: Housekeeper) -> None:
    child = os.fork()
    if child == 0:
        keeper.run()
    try:
        deadline = time.monotonic() + 10
        with world.state.engine.spool.housekeeper_lock.open("ab") as lock:
            while time.monotonic() < deadline:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    break
                fcntl.flock(lock, fcntl.LOCK_UN)
            else:
                pytest.fail("the housekeeper does not hold its lock")
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_a_second_server_on_the_same_spool_says_so_and_waits(
    world: World,
    keeper: Housekeeper,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(housekeeper, "HANDOVER", 0.1)
    path = world.state.engine.spool.housekeeper_lock
    with path.open("ab") as first, path.open("ab") as second:
        fcntl.flock(first, fcntl.LOCK_EX)
        waits = threading.Thread(target=keeper._wait_for, args=[second.fileno()])
        waits.start()
        wait_until(lambda: "another server works on this spool" in caplog.text)
        assert waits.is_alive()
        fcntl.flock(first, fcntl.LOCK_UN)
        waits.join(10)
        assert not waits.is_alive()


def test_a_spooler_of_another_instance_is_never_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    class External:
        """What uWSGI shows of a spooler that another instance runs: process id 0."""

        @staticmethod
        def spooler_pids() -> list[int]:
            return [0, 4242, 0]

    monkeypatch.setattr(_uwsgi, "module", lambda: External)
    assert _uwsgi.spooler_pids() == [4242]


def test_a_ledger_that_a_power_cut_damaged_is_set_aside_at_the_first_start_of_the_machine(
    world: World, keeper: Housekeeper, caplog: pytest.LogCaptureFixture
) -> None:
    keeper._spool.sync = False
    world.enqueue(*[f"word {number}" for number in range(200)], delay=60)
    keeper.check_ledger()
    assert "damaged" not in caplog.text
    ledger = world.state.engine.spool.ledger
    apsw.Connection(str(ledger)).execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(ledger.read_bytes())
    data[8192:40_960] = bytes(32_768)
    ledger.write_bytes(data)
    keeper.check_ledger()
    assert "damaged" not in caplog.text, "the machine has not been started since"
    (ledger.parent / "machine").write_text("another start")
    keeper.check_ledger()
    assert "damaged" in caplog.text
    settle_down(keeper)
    assert len(world.state.engine.ledger.find(limit=1000)) == 200


def test_a_mule_without_an_app_names_the_calls_that_are_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def end(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(housekeeper, "keepers", [])
    monkeypatch.setattr(_uwsgi, "has_pool", lambda: True)
    monkeypatch.setattr(time, "sleep", end)
    with pytest.raises(KeyboardInterrupt):
        housekeeper.run()
    assert "call spooler.init_app(app) in what module= names, not lazy-apps" in caplog.text


@pytest.mark.parametrize("place", ["waiting", "done"])
def test_a_file_of_a_later_version_without_a_row_waits_and_keeps_nobody_from_his_turn(
    world: World, keeper: Housekeeper, place: str
) -> None:
    engine = world.state.engine
    job_id = engine.submit(make_job(due_at=NOW * 2))
    newer = msgspec.structs.replace(engine.read_job("waiting", job_id), format=2)
    (engine.spool.root / "waiting" / job_id).unlink()
    path = engine.spool.root / place / job_id
    path.write_bytes(encode_packet(newer, engine.key))
    os.utime(path, (0, 0))
    engine.spool.ledger.unlink()
    world.enqueue("ok", delay=60)
    settle_down(keeper)
    keeper.round(time.time() + 61)
    assert len(engine.spool.window()) == 1
    assert path.exists()
