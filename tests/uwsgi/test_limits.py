"""Timeouts, cancels, expiry, and what a task may leave behind in its process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import jobs
from jobs import notes
from server import ROOT, Server, client, ended, outcomes, wait_until
from standstill import Standstill

Start = Callable[..., Server]


def test_a_task_beyond_its_timeout_is_stopped_with_a_traceback(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server()
    with client(jobs.spooler, server.directory):
        job = ended(jobs.too_slow.enqueue(str(tmp_path / "out")))
    assert job["state"] == "dead"
    assert outcomes(job) == ["timed_out"]
    assert job["error"]["type"] == "JobTimeout"
    assert "0.5 s" in job["error"]["message"]
    assert "time.sleep(10)" in job["error"]["traceback"]
    assert 0.5 <= job["finished_at"] - job["started_at"] < 2 + standstill.seconds
    assert [line[0] for line in notes(tmp_path / "out")] == ["start"]


def test_a_task_that_hangs_in_c_is_killed_at_its_hard_timeout(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    with client(jobs.spooler, server.directory):
        task = jobs.hangs_in_c.using(hard_timeout=1, max_attempts=1)
        job = ended(task.enqueue(str(tmp_path / "out")))
    assert job["state"] == "dead"
    assert outcomes(job) == ["timed_out"]
    assert "hard timeout of 1 s" in job["error"]["message"]


def test_a_hard_timeout_ends_with_its_job(start_server: Start, tmp_path: Path) -> None:
    server = start_server(processes=1)
    with client(jobs.spooler, server.directory):
        ended(jobs.write.using(hard_timeout=1).enqueue(str(tmp_path / "out")))
        job = ended(jobs.hold.enqueue(str(tmp_path / "out"), 3))
    assert outcomes(job) == ["succeeded"]


def test_a_waiting_job_that_is_cancelled_never_runs_and_can_be_retried(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    with client(jobs.spooler, server.directory) as state:
        job = jobs.write.using(delay=0.5).enqueue(str(tmp_path / "out"))
        assert job.cancel() == "cancelled"
        assert state.engine.spool.has("dead", job.id)
        after = jobs.write.using(delay=0.8).enqueue(str(tmp_path / "after"))
        ended(after)
        assert job.state == "cancelled"
        assert not (tmp_path / "out").exists()
        job.retry()
        assert ended(job)["state"] == "succeeded"


def test_a_job_cancelled_while_in_the_window_never_runs(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1)
    (spooler,) = server.pids("spooler")
    with client(jobs.spooler, server.directory) as state:
        os.kill(spooler, signal.SIGSTOP)  # idle as far as anybody knows, so the job is let in
        try:
            job = jobs.write.enqueue(str(tmp_path / "out"))
            wait_until(lambda: job.id in state.engine.ledger.in_window())
            job.cancel()
        finally:
            os.kill(spooler, signal.SIGCONT)
        ended(jobs.write.enqueue(str(tmp_path / "after")))
        assert job.state == "cancelled"
        assert not (tmp_path / "out").exists()
        wait_until(lambda: not list(server.directory.glob("uwsgi_spoolfile_on_*")))


def test_a_running_job_is_aborted_from_any_process_even_if_it_swallows_exceptions(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server()
    with client(jobs.spooler, server.directory):
        job = jobs.swallows_everything.enqueue(str(tmp_path / "out"))
        wait_until(lambda: notes(tmp_path / "out"))
        cancelled = time.time()
        server.flask("spooler", "cancel", job.id)
        shown = ended(job)
    assert shown["state"] == "cancelled"
    assert outcomes(shown) == ["cancelled"]
    assert shown["finished_at"] - cancelled < 5 + standstill.seconds
    assert [line[0] for line in notes(tmp_path / "out")] == ["start"]


def test_a_job_that_waited_beyond_its_expiry_is_expired_and_not_run(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1)
    with client(jobs.spooler, server.directory):
        blocker = jobs.hold.enqueue(str(tmp_path / "blocker"), 1.5)
        wait_until(lambda: blocker.state == "running")
        late = [jobs.write.using(expires=0.5).enqueue(str(tmp_path / "out")) for _ in range(5)]
        for job in late:
            assert ended(job)["state"] == "expired"
    assert not (tmp_path / "out").exists()


def test_the_next_job_finds_its_process_as_the_first_one_did(start_server: Start) -> None:
    server = start_server(processes=1)
    with client(jobs.spooler, server.directory):
        before = ended(jobs.look_around.enqueue())["result"]
        ended(jobs.untidy.enqueue("x"))
        after = ended(jobs.look_around.enqueue())
    assert after["result"] == before
    assert before["directory"] == str(ROOT)
    assert before["port"] == str(server.port)
    assert after["state"] == "succeeded"
    # Waking and stopping still work in that process: its handlers are uWSGI's again.
    os.kill(before["pid"], 15)
    wait_until(lambda: before["pid"] not in server.living())
