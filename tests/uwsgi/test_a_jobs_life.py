"""A job's way through a real server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import jobs
from jobs import notes
from server import Server, client, ended, wait_until

Start = Callable[..., Server]


def test_a_job_goes_from_queued_through_running_with_progress_to_succeeded(
    start_server: Start,
) -> None:
    server = start_server()
    answer = server.get("/uwsgi_spool?duration=3")
    assert answer.status == 202
    job_id = answer.json["id"]
    assert answer.json == {
        "started": True,
        "id": job_id,
        "state": "queued",
        "status_url": f"/jobs/{job_id}",
    }
    assert answer.headers["Location"] == f"/jobs/{job_id}"
    wait_until(lambda: server.job(job_id)["state"] == "running")
    wait_until(lambda: server.job(job_id)["progress"] == {"done": 2, "total": 3, "note": None})
    wait_until(lambda: server.job(job_id)["state"] == "succeeded")
    for i in (1, 2, 3):
        assert f"Working in uwsgi spool... {i}/3" in server.log
    assert not list(server.directory.glob("uwsgi_spoolfile_on_*"))


def test_a_job_that_fails_twice_and_then_works_shows_its_attempts(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory):
        job = ended(jobs.fail_times.enqueue(str(out), 2))
    assert job["state"] == "succeeded"
    assert job["result"] == "worked"
    assert [(a["number"], a["outcome"]) for a in job["attempts"]] == [
        (1, "failed"),
        (2, "failed"),
        (3, "succeeded"),
    ]
    assert [a["error"] and a["error"]["message"] for a in job["attempts"]] == [
        "failure number 1",
        "failure number 2",
        None,
    ]
    times = [float(line[1]) for line in notes(out)]
    assert len(times) == 3
    assert 0.3 <= times[1] - times[0] < 0.8
    assert 0.6 <= times[2] - times[1] < 1.1


def test_a_job_never_starts_before_its_time_and_soon_after(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    at = time.time() + 3
    job_id = server.get(f"/uwsgi_spool?duration=0&at={at}").json["id"]
    assert server.job(job_id)["state"] == "scheduled"
    job = wait_until(lambda: (j := server.job(job_id))["state"] == "succeeded" and j)
    assert at <= job["started_at"] < at + 0.2
