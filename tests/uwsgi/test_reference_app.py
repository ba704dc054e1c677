"""The five routes of the reference app: what they answer, and that the work is really done."""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from server import Answer, Server, wait_until
from standstill import Standstill

Start = Callable[..., Server]


def accepted(answer: Answer) -> Any:
    assert answer.status == 202, answer
    assert answer.headers["Content-Type"] == "application/json"
    return answer.json


def accepted_job(answer: Answer, state: str = "queued") -> str:
    """Check the whole answer of the spool route and return the job's id."""
    body = accepted(answer)
    job_id: str = body["id"]
    url = f"/jobs/{job_id}"
    assert body == {"started": True, "id": job_id, "state": state, "status_url": url}
    assert answer.headers["Location"] == url
    return job_id


def test_the_thread_route_names_its_thread_and_works_in_it(server: Server) -> None:
    mark = len(server.log)
    body = accepted(server.get("/?duration=1"))
    assert body == {"started": True, "thread_name": body["thread_name"]}
    assert body["thread_name"].startswith("Thread-")
    server.seen("Working in a thread... 1/1\n", after=mark)


def test_the_uwsgi_thread_route_works_in_a_thread_of_uwsgi(server: Server) -> None:
    mark = len(server.log)
    assert accepted(server.get("/uwsgi_thread?duration=1")) == {"started": True}
    server.seen("Working in a uwsgi thread... 1/1\n", after=mark)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_spool_route_works_in_the_spooler_and_tells_how_it_went(
    server: Server, method: str, standstill: Standstill
) -> None:
    mark = len(server.log)
    job_id = accepted_job(server.get("/uwsgi_spool?duration=1", method))
    job = server.succeeded(job_id)
    server.seen("Working in uwsgi spool... 1/1\n", after=mark)
    assert job["progress"] == {"done": 1, "total": 1, "note": None}
    assert 1.0 <= job["finished_at"] - job["started_at"] < 2.5 + standstill.seconds


def test_the_uwsgi_tasks_route_works_through_that_library(server: Server) -> None:
    mark = len(server.log)
    assert accepted(server.get("/uwsgi_tasks?duration=1")) == {"started": True}
    server.seen("Working in uwsgi-tasks, try 1 of at most 5\n", after=mark)
    server.seen("Working in uwsgi-tasks... 1/1\n", after=mark)


def test_the_notification_route_gives_its_object_to_the_background_thread(server: Server) -> None:
    mark = len(server.log)
    assert accepted(server.post("/task", b'{"to": "J\xc3\xb6rg", "n": 1}')) == {"success": "OK"}
    server.seen("Notification handled: {'to': 'Jörg', 'n': 1}\n", after=mark)


def test_without_a_duration_every_route_takes_five_seconds(start_server: Start) -> None:
    server = start_server(processes=2)
    for path in ("/", "/uwsgi_thread", "/uwsgi_spool", "/uwsgi_tasks"):
        accepted(server.get(path))
    for where in ("a thread", "a uwsgi thread", "uwsgi spool", "uwsgi-tasks"):
        server.seen(f"Working in {where}... 5/5\n")


def test_all_five_ways_work_at_once_in_one_server(
    start_server: Start, standstill: Standstill
) -> None:
    server = start_server(processes=2)
    began = time.monotonic()
    for path in ("/", "/uwsgi_thread", "/uwsgi_spool", "/uwsgi_tasks"):
        accepted(server.get(f"{path}?duration=3"))
    accepted(server.post("/task", b'{"n": 1}'))
    for where in ("a thread", "a uwsgi thread", "uwsgi spool", "uwsgi-tasks"):
        for i in (1, 2, 3):
            server.seen(f"Working in {where}... {i}/3\n")
    assert "Notification handled: {'n': 1}\n" in server.log
    assert time.monotonic() - began < 11 + standstill.seconds, "they worked one after the other"
    wait_until(lambda: server.files() == [])


def test_a_uwsgi_tasks_task_that_fails_twice_runs_three_times_at_its_own_pace(
    start_server: Start, standstill: Standstill
) -> None:
    server = start_server()
    assert accepted(server.get("/uwsgi_tasks?duration=0&fail=2")) == {"started": True}
    seen = [server.seen(f"Working in uwsgi-tasks, try {n} of at most 5\n") for n in (1, 2, 3)]
    # Two whole seconds, from a whole second to a whole second.
    for earlier, later in itertools.pairwise(seen):
        assert 1.0 <= later - earlier <= 4.0 + standstill.seconds
    server.seen("Working in uwsgi-tasks... 1/1\n")
    wait_until(lambda: server.files() == [])
    assert server.log.count("Working in uwsgi-tasks, try") == 3


def test_a_uwsgi_tasks_task_that_does_not_fail_runs_once(start_server: Start) -> None:
    server = start_server()
    accepted(server.get("/uwsgi_tasks?duration=0&fail=0"))
    server.seen("Working in uwsgi-tasks... 1/1\n")
    wait_until(lambda: server.files() == [])
    # Whoever comes later in the same spooler would have seen a second run before this.
    server.succeeded(accepted_job(server.get("/uwsgi_spool?duration=3")))
    assert server.log.count("Working in uwsgi-tasks, try") == 1


def test_a_fractional_duration_takes_that_long(server: Server, standstill: Standstill) -> None:
    job = server.succeeded(accepted_job(server.get("/uwsgi_spool?duration=0.3")))
    assert 0.3 <= job["finished_at"] - job["started_at"] < 0.95 + standstill.seconds
    assert job["progress"] == {"done": 1, "total": 1, "note": None}
    job = server.succeeded(accepted_job(server.get("/uwsgi_spool?duration=1.5")))
    assert 1.5 <= job["finished_at"] - job["started_at"] < 3.0 + standstill.seconds
    assert job["progress"] == {"done": 2, "total": 2, "note": None}


def test_a_delay_is_kept(server: Server) -> None:
    began = time.time()
    job = server.succeeded(accepted_job(server.get("/uwsgi_spool?duration=0&delay=1"), "scheduled"))
    assert job["due_at"] == pytest.approx(began + 1, abs=0.5)
    assert job["due_at"] <= job["started_at"] < job["due_at"] + 0.5


@pytest.mark.parametrize("zone", ["Z", "%2B02:00", "-05:30"])
def test_an_iso_time_with_a_zone_is_kept(server: Server, zone: str) -> None:
    hours = {"Z": 0.0, "%2B02:00": 2.0, "-05:30": -5.5}[zone]
    due = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=2)
    local = (due + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S")
    answer = server.get(f"/uwsgi_spool?duration=0&at={local}{zone}")
    job = server.succeeded(accepted_job(answer, "scheduled"))
    assert job["due_at"] == due.timestamp()
    assert job["due_at"] <= job["started_at"] < job["due_at"] + 0.5


def test_a_time_in_the_past_means_now(server: Server) -> None:
    server.succeeded(accepted_job(server.get("/uwsgi_spool?duration=0&at=0")))


def test_a_spool_that_cannot_be_written_is_a_503_and_works_again_when_mended(
    start_server: Start,
) -> None:
    server = start_server()
    wait_until((server.directory / "ledger.db").exists)  # which the mule makes, a moment later
    broken = server.directory / "tmp"
    aside = server.directory / "aside"
    broken.rename(aside)
    broken.touch()
    for query in ("duration=0", "duration=0&delay=1"):
        assert_unavailable(server.get(f"/uwsgi_spool?{query}"))
    assert server.files() == ["tmp"]
    assert server.rows() == []
    broken.unlink()
    aside.rename(broken)
    server.succeeded(accepted_job(server.get("/uwsgi_spool?duration=0")))
    assert len(server.rows()) == 1


@pytest.mark.parametrize("room", [0, 200, 4096])
def test_a_full_disk_is_a_503_that_leaves_nothing_half_written(
    start_server: Start, room: int
) -> None:
    """`room` bytes a file: none for the job, half the job, the job but not the ledger's page."""
    server = start_server(environment={"WEB_PROCESSES": "1"})
    with no_file_longer_than(room, wait_until(lambda: server.pids("worker"))):
        for query in ("duration=0", "duration=0&delay=1"):
            assert_unavailable(server.get(f"/uwsgi_spool?{query}"))
    assert server.files() == []
    assert server.rows() == []
    server.succeeded(accepted_job(server.get("/uwsgi_spool?duration=0")))
    assert len(server.rows()) == 1
    assert server.log.count("Working in uwsgi spool") == 1


def test_a_full_disk_is_a_503_for_the_uwsgi_tasks_route_too(start_server: Start) -> None:
    server = start_server(environment={"WEB_PROCESSES": "1"})
    with no_file_longer_than(0, wait_until(lambda: server.pids("worker"))):
        assert_unavailable(server.get("/uwsgi_tasks?duration=0"))
    assert server.files() == []
    accepted(server.get("/uwsgi_tasks?duration=0"))
    server.seen("Working in uwsgi-tasks... 1/1\n")


def assert_unavailable(answer: Answer) -> None:
    assert answer.status == 503, answer
    assert int(answer.headers["Retry-After"]) > 0
    message = answer.json["error"]["message"]
    assert answer.json == {"error": {"field": None, "message": message}}
    assert message


@contextmanager
def no_file_longer_than(size: int, pids: list[int]) -> Iterator[None]:
    """Let these processes write no file beyond `size` bytes, as on a full disk."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
    assert before
    try:
        for pid, (_, hard) in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
