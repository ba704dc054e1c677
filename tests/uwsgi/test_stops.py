"""What a stop, a reload and the death of the master cost the jobs that run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import jobs
import pytest
from jobs import notes
from server import Server, client, ended, outcomes, wait_until
from standstill import Standstill

from flask_spooler import operations

Start = Callable[..., Server]


def running(path: Path, count: int = 1) -> None:
    wait_until(lambda: sum(line[0] == "start" for line in notes(path)) >= count)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_lets_running_jobs_finish_and_starts_no_others(
    start_server: Start, tmp_path: Path, number: int
) -> None:
    server = start_server(processes=2)
    with client(jobs.spooler, server.directory) as state:
        short, long = (jobs.hold.enqueue(str(tmp_path / "out"), s) for s in (1, 4))
        running(tmp_path / "out", 2)
        waiting = [jobs.write.enqueue(str(tmp_path / "late")) for _ in range(5)]
        server.stop(number)
        assert [short.state, long.state] == ["succeeded", "succeeded"]
        assert [job.state for job in waiting] == ["queued"] * 5
        assert not operations.running(state.engine)
    assert not (tmp_path / "late").exists()


def test_ctrl_c_in_a_terminal_lets_running_jobs_finish(start_server: Start, tmp_path: Path) -> None:
    server = start_server(processes=2)
    with client(jobs.spooler, server.directory):
        job = jobs.hold.enqueue(str(tmp_path / "out"), 2)
        running(tmp_path / "out")
        assert server.process is not None
        os.killpg(server.process.pid, signal.SIGINT)
        server.process.wait(60)
        assert job.state == "succeeded"
        assert job.as_dict()["attempts"][0]["outcome"] == "succeeded"


def test_a_stop_waits_no_longer_than_the_grace(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server(environment={"FLASK_SPOOLER_GRACE": "1"})
    with client(jobs.spooler, server.directory):
        job = jobs.hold.enqueue(str(tmp_path / "out"), 60)
        running(tmp_path / "out")
        asked = time.monotonic()
        server.stop()
        assert time.monotonic() - asked < 30 + standstill.seconds
        server.start()
        running(tmp_path / "out", 2)
        assert outcomes(job) == ["interrupted"]


def test_a_reload_interrupts_without_charge_and_runs_the_job_again_at_once(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server()
    with client(jobs.spooler, server.directory):
        job = jobs.hold.using(max_attempts=1).enqueue(str(tmp_path / "out"), 2)
        running(tmp_path / "out")
        reloaded = time.time()
        server.send(signal.SIGHUP)
        shown = ended(job)
    assert shown["state"] == "succeeded"
    assert outcomes(shown) == ["interrupted", "succeeded"]
    assert shown["started_at"] - reloaded < 8 + standstill.seconds


def test_a_drain_before_a_reload_interrupts_nothing(start_server: Start, tmp_path: Path) -> None:
    server = start_server()
    with client(jobs.spooler, server.directory):
        running_job = jobs.hold.enqueue(str(tmp_path / "out"), 2)
        running(tmp_path / "out")
        drained = server.flask("spooler", "drain", "--timeout", "20")
        assert "0 still run" in drained.stdout
        later = jobs.write.enqueue(str(tmp_path / "later"))
        assert running_job.state == "succeeded"
        assert later.state == "queued"
        server.send(signal.SIGHUP)
        assert ended(later)["attempts"] == [ended(later)["attempts"][0]]
        assert [*outcomes(running_job), *outcomes(later)] == ["succeeded", "succeeded"]


def test_a_drain_can_be_taken_back(start_server: Start, tmp_path: Path) -> None:
    server = start_server()
    with client(jobs.spooler, server.directory):
        server.flask("spooler", "drain")
        job = jobs.write.enqueue(str(tmp_path / "out"))
        server.flask("spooler", "drain", "--cancel")
        assert ended(job)["state"] == "succeeded"


def test_a_drain_with_a_job_that_does_not_end_says_so_and_ends_by_itself(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    with client(jobs.spooler, server.directory):
        jobs.hold.enqueue(str(tmp_path / "out"), 60)
        running(tmp_path / "out")
        drained = server.flask("spooler", "drain", "--timeout", "0.5", check=False)
        assert drained.returncode == 1
        assert "1 still run" in drained.stdout
        assert ended(jobs.write.enqueue(str(tmp_path / "later")))["state"] == "succeeded"


def test_the_orphans_of_a_killed_master_stop(start_server: Start, tmp_path: Path) -> None:
    server = start_server()
    with client(jobs.spooler, server.directory):
        job = jobs.hold.enqueue(str(tmp_path / "out"), 2)
        running(tmp_path / "out")
        server.send(signal.SIGKILL)
        assert server.process is not None
        server.process.wait()
        wait_until(lambda: not server.living())
        assert job.state == "succeeded"
