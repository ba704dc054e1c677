"""A job's way through a real server."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
import pytest
from jobs import notes
from server import Server, client, ended, outcomes, wait_until
from standstill import Standstill

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
    start_server: Start, tmp_path: Path, standstill: Standstill
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
    assert 0.3 <= times[1] - times[0] < 0.8 + standstill.seconds
    assert 0.6 <= times[2] - times[1] < 1.1 + standstill.seconds


def test_a_job_never_starts_before_its_time_and_soon_after(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    at = time.time() + 3
    job_id = server.get(f"/uwsgi_spool?duration=0&at={at}").json["id"]
    assert server.job(job_id)["state"] == "scheduled"
    job = wait_until(lambda: (j := server.job(job_id))["state"] == "succeeded" and j)
    assert at <= job["started_at"] < at + 0.2


def test_a_job_that_always_fails_is_dead_after_its_attempts_and_says_why(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory):
        job = ended(jobs.always_fails.enqueue(str(out)))
    assert job["state"] == "dead"
    assert (job["attempt"], job["max_attempts"]) == (3, 3)
    assert outcomes(job) == ["failed"] * 3
    assert len(notes(out)) == 3
    wait_until(lambda: server.files() == [f"dead/{job['id']}"])
    shown = server.flask("spooler", "show", job["id"]).stdout
    assert "dead" in shown
    assert "ValueError: it never works" in shown
    assert "jobs.py" in shown, "the traceback is missing"


def test_a_dead_job_runs_again_when_a_person_asks_for_it(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory):
        handle = jobs.always_fails.enqueue(str(out))
        ended(handle)
        server.flask("spooler", "retry", handle.id)
        wait_until(lambda: len(notes(out)) == 6)
        job = ended(handle)
    assert job["state"] == "dead"
    assert [a["number"] for a in job["attempts"]] == [1, 2, 3, 4, 5, 6]
    wait_until(lambda: server.files() == [f"dead/{job['id']}"])


def test_a_job_that_raises_retry_runs_again_after_that_delay(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server()
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory):
        job = ended(jobs.asks_again.enqueue(str(out), 0.5))
    assert outcomes(job) == ["failed", "succeeded"]
    first, second = (float(line[1]) for line in notes(out))
    assert 0.5 <= second - first < 1.0 + standstill.seconds
    assert job["error"] is None


def test_a_job_that_returns_spool_retry_runs_again_and_spool_ok_ends_it(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server()
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory):
        job = ended(jobs.answers_retry.enqueue(str(out)))
    assert job["state"] == "succeeded"
    assert job["result"] is None
    assert outcomes(job) == ["failed", "succeeded"]
    first, second = (float(line[1]) for line in notes(out))
    assert 0.2 <= second - first < 1.0 + standstill.seconds


def test_a_job_that_discards_itself_is_dead_at_once_with_its_reason(start_server: Start) -> None:
    server = start_server()
    with client(jobs.spooler, server.directory):
        job = ended(jobs.discards.enqueue())
    assert job["state"] == "dead"
    assert outcomes(job) == ["failed"]
    assert job["error"]["type"] == "Discard"
    assert job["error"]["message"] == "no such customer"
    wait_until(lambda: server.files() == [f"dead/{job['id']}"])


def test_a_delay_below_a_second_is_kept_to_the_hundredth(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server()
    waited = []
    with client(jobs.spooler, server.directory):
        for _ in range(5):
            job = ended(jobs.write.using(delay=0.3).enqueue(str(tmp_path / "out")))
            assert job["due_at"] == pytest.approx(job["enqueued_at"] + 0.3, abs=1e-6)
            waited.append(job["started_at"] - job["enqueued_at"])
    assert min(waited) >= 0.3
    assert statistics.median(waited) < 0.5 + standstill.seconds


@pytest.mark.parametrize(
    "value", [None, 0, False, "", [], -1, -2, 1.5, "J\u00f6rg", {"a": [1, None]}, "x" * 70_000]
)
def test_the_result_of_a_job_is_what_its_task_returned(server: Server, value: Any) -> None:
    with client(jobs.spooler, server.directory):
        handle = jobs.echo.enqueue(value)
        job = ended(handle)
    assert job["state"] == "succeeded"
    assert job["result"] == value
    assert type(job["result"]) is type(value)
    assert len(job["attempts"]) == 1
    assert server.job(handle.id)["result"] == value


def test_any_python_process_can_enqueue(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = "import sys, jobs; print(jobs.write.enqueue(sys.argv[1], word='plain').id)"
    job_id = server.python("-c", code, str(out)).stdout.strip()
    assert server.succeeded(job_id)["result"] == "plain"
    assert [line[0] for line in notes(out)] == ["plain"]


def test_the_command_line_can_enqueue(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("spooler", "enqueue", "jobs.write", f"path={out}", "word=shell")
    job_id = server.flask(*words).stdout.strip()
    assert server.succeeded(job_id)["result"] == "shell"
    answer = json.loads(server.flask(*words, "--delay", "0.5", "--json").stdout)
    assert answer["state"] == "scheduled"
    job = server.succeeded(answer["id"])
    assert job["started_at"] >= job["enqueued_at"] + 0.5
    assert [line[0] for line in notes(out)] == ["shell", "shell"]


def test_the_command_line_refuses_what_it_cannot_enqueue(server: Server) -> None:
    before = len(server.rows())
    for words in (
        ("jobs.nothing",),
        ("jobs.write",),
        ("jobs.hold", "path=x", "seconds=long"),
        ("jobs.write", "path=x", "colour=red"),
        ("jobs.write", "path=x", "--delay", "-1"),
        ("jobs.write", "path=x", "--at", "2030-01-01T00:00:00"),
    ):
        refused = server.flask("spooler", "enqueue", *words, check=False)
        assert refused.returncode in (1, 2), words
        assert "Traceback" not in refused.stderr
        assert refused.stderr.strip()
    assert len(server.rows()) == before


def test_the_public_view_of_a_job_hides_its_arguments_and_tracebacks(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    with client(jobs.spooler, server.directory):
        handle = jobs.always_fails.enqueue(str(tmp_path / "secret-name"))
        whole = ended(handle)
    answer = server.get(f"/jobs/{handle.id}")
    assert "secret-name" not in answer.text
    assert "traceback" not in answer.text.lower()
    assert "kwargs" not in answer.text
    assert answer.json["error"] == {"type": "ValueError", "message": "it never works"}
    assert len(answer.json["attempts"]) == 3
    assert whole["kwargs"] == {"path": str(tmp_path / "secret-name")}
    assert "it never works" in whole["error"]["traceback"]


def test_the_public_view_has_exactly_the_promised_keys(server: Server) -> None:
    job = server.succeeded(server.get("/uwsgi_spool?duration=0").json["id"])
    promised = (
        "id task queue priority state attempt max_attempts result error progress"
        " enqueued_at due_at started_at finished_at attempts"
    )
    assert set(promised.split()) <= set(job)
    assert set(job) - set(promised.split()) <= {"expires_at"}
    assert set(job["attempts"][0]) == {"number", "outcome", "started_at", "finished_at", "error"}
    assert job["enqueued_at"] <= job["started_at"] <= job["finished_at"]
    assert isinstance(job["enqueued_at"], float)


def test_the_command_line_lists_and_counts_the_jobs_of_a_running_server(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1)
    with client(jobs.spooler, server.directory):
        done = jobs.write.enqueue(str(tmp_path / "out"))
        ended(done)
        running = jobs.hold_until.enqueue(str(tmp_path / "out"), str(tmp_path / "go"))
        wait_until(lambda: running.state == "running")
        queued = jobs.write.enqueue(str(tmp_path / "out"))
        later = jobs.write.using(delay=60, queue="mail").enqueue(str(tmp_path / "out"))
    listed = server.rows()
    assert [(job["id"], job["state"]) for job in listed] == [
        (later.id, "scheduled"),
        (queued.id, "queued"),
        (running.id, "running"),
        (done.id, "succeeded"),
    ]
    table = server.flask("spooler", "list").stdout
    assert all(job.id in table for job in (done, running, queued, later))
    only = server.flask("spooler", "list", "--state", "running", "--queue", "default").stdout
    assert running.id in only
    assert queued.id not in only
    counted = json.loads(server.flask("spooler", "stats", "--json").stdout)
    default, mail = counted["queues"]["default"], counted["queues"]["mail"]
    assert (default["queued"], default["running"], default["succeeded"]) == (1, 1, 1)
    assert mail["scheduled"] == 1
    assert "mail" in server.flask("spooler", "stats").stdout
    assert "succeeded" in server.flask("spooler", "show", done.id).stdout
    assert server.flask("spooler", "show", "nobody", check=False).returncode == 1
    (tmp_path / "go").touch()


def test_a_job_enqueued_while_no_server_runs_starts_with_the_next_one(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    server.kill()
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory):
        handles = [jobs.write.enqueue(str(out)) for _ in range(20)]
        server.start()
        assert {ended(handle)["state"] for handle in handles} == {"succeeded"}
    assert sorted(line[2] for line in notes(out)) == sorted(handle.id for handle in handles)
    wait_until(lambda: server.files() == [])
