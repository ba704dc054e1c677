"""What a power cut can leave: the ledger forgets its last commits while moves of files stay."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from flask_spooler import operations
from flask_spooler.job import FINAL
from tests.world import World, new_world, one_process_pool


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> None:
    one_process_pool(monkeypatch)


def say(world: World, sql: str) -> None:
    """Change the ledger behind everybody's back."""
    connection = apsw.Connection(str(world.state.engine.spool.ledger))
    connection.execute(sql)
    connection.close()


def ran(world: World) -> int:
    return len(world.out.read_text().splitlines()) if world.out.exists() else 0


def test_a_job_whose_row_was_lost_runs(tmp_path: Path) -> None:
    with new_world(tmp_path / "world") as world:
        world.enqueue("ok")
        world.enqueue("ok", delay=0.001)
        say(world, "DELETE FROM jobs")
        world.recover()
        assert ran(world) == 2
        assert {r.state for r in world.state.engine.ledger.find()} == {"succeeded"}


def test_a_job_whose_end_was_lost_but_not_its_unlink_is_dead_and_not_run_again(
    tmp_path: Path,
) -> None:
    with new_world(tmp_path / "world") as world:
        world.enqueue("ok")
        world.run_ready()
        say(
            world,
            "UPDATE jobs SET state = 'running', finished_at = NULL, started_at = 0, due_at = 0,"
            " window = 'uwsgi_spoolfile_on_1_gone', pid = 999999, pid_started = 1, boot = '1.1.0'",
        )
        world.recover()
        job = world.state.engine.ledger.find()[0]
        assert (job.state, job.error_type) == ("dead", "FileLost")
        assert ran(world) == 1


def test_a_job_whose_end_and_unlink_were_lost_is_interrupted_and_runs_again(
    tmp_path: Path,
) -> None:
    with new_world(tmp_path / "world") as world:
        world.enqueue("ok")
        job_id = world.all_acked()[0]
        say(
            world,
            "UPDATE jobs SET state = 'running', attempt = 1, charged = 1, started_at = 1,"
            " pid = 999999, pid_started = 1, boot = '1.1.0'",
        )
        world.recover()
        outcomes = [a.outcome for a in world.state.engine.ledger.attempts(job_id)]
        assert outcomes == ["interrupted", "succeeded"]
        assert ran(world) == 1


def test_a_job_whose_retry_was_lost_is_queued_again(tmp_path: Path) -> None:
    with new_world(tmp_path / "world") as world:
        world.enqueue("retry")
        world.run_ready()
        say(
            world,
            "UPDATE jobs SET state = 'running', window = 'uwsgi_spoolfile_on_1_gone',"
            " started_at = 0, due_at = 0, pid = 999999, pid_started = 1, boot = '1.1.0'",
        )
        world.recover()
        assert world.state.engine.ledger.find()[0].state == "succeeded"
        assert ran(world) == 2


def test_a_dead_job_whose_row_was_lost_is_shown_as_dead_and_can_be_retried(
    tmp_path: Path,
) -> None:
    with new_world(tmp_path / "world") as world:
        world.enqueue("fail", max_attempts=1)
        world.run_ready()
        job_id = world.all_acked()[0]
        say(world, "DELETE FROM jobs")
        world.recover()
        job = world.state.engine.ledger.find()[0]
        assert (job.state, job.error_type) == ("dead", "HistoryLost")
        operations.revive(world.state.engine, job_id)
        world.recover()
        assert ran(world) == 2
        assert world.state.engine.ledger.find()[0].state in FINAL


@pytest.mark.parametrize("delay", [None, 0.001])
def test_a_refusal_that_was_killed_while_it_took_the_job_back_leaves_no_job(
    tmp_path: Path, delay: float | None
) -> None:
    with new_world(tmp_path / "world") as world:
        world.enqueue("ok", delay=delay)
        (job_id,) = world.all_acked()
        assert world.state.engine.spool.withdraw(job_id)
        say(world, "UPDATE jobs SET due_at = 0")
        world.recover()
        assert world.state.engine.ledger.record(job_id) is None
        assert ran(world) == 0
