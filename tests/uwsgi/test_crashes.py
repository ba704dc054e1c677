"""Processes that die: nothing that was accepted is lost, and nothing runs twice at once."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jobs
import pytest
from jobs import notes
from server import Server, client, ended, outcomes, wait_until
from standstill import Standstill

Start = Callable[..., Server]


def running_pid(out: Path, lines: int = 1) -> int:
    """Wait until a `hold` or `kill_itself` task has written that it runs; return its process."""
    return int(wait_until(lambda: len(found := notes(out)) >= lines and found)[-1][3])


def kill_process(pid: int, server: Server) -> float:
    """Kill one process of this server and wait until it is gone; return the time before."""
    assert pid in server.living()
    now = time.time()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in server.living())
    return now


def test_a_job_whose_spooler_is_killed_mid_run_is_tried_again(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server()
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory):
        handle = jobs.hold.enqueue(str(out), 1.5)
        first = running_pid(out)
        killed_at = kill_process(first, server)
        job = ended(handle)
    assert job["state"] == "succeeded"
    assert outcomes(job) == ["crashed", "succeeded"]
    assert str(first) in job["attempts"][0]["error"]["message"]
    start, again, end = notes(out)
    assert [line[0] for line in (start, again, end)] == ["start", "start", "end"]
    assert float(again[1]) > killed_at, "it ran twice at the same time"
    assert (again[3], again[4]) == (end[3], "2")
    assert float(again[1]) - killed_at < 5 + standstill.seconds, (
        "the master takes about a second to respawn"
    )
    wait_until(lambda: server.files() == [])


def test_a_job_is_never_run_by_two_spoolers_at_once_while_they_die_one_after_another(
    start_server: Start, tmp_path: Path
) -> None:
    """Eight jobs on four spoolers, six of which are killed on the way."""
    server = start_server(processes=4)
    out = tmp_path / "out"
    killed: dict[int, float] = {}
    with client(jobs.spooler, server.directory):
        handles = [jobs.hold.using(max_attempts=50).enqueue(str(out), 0.6) for _ in range(8)]
        while len(killed) < 6:
            begun = {int(line[3]) for line in notes(out)} - set(killed)
            victim = wait_until(lambda begun=begun: sorted(begun & set(server.living())) or True)
            if victim is not True:
                killed[victim[0]] = kill_process(victim[0], server)
        jobs_now = [ended(handle, 60) for handle in handles]
    for job in jobs_now:
        lines = [line for line in notes(out) if line[2] == job["id"]]
        spans = sorted(span_of(line, lines, killed) for line in lines if line[0] == "start")
        for (_, until), (since, _) in itertools.pairwise(spans):
            assert since >= until, f"two runs of {job['id']} at once: {lines}"


def span_of(
    start: list[str], lines: list[list[str]], killed: dict[int, float]
) -> tuple[float, float]:
    """From when to when this attempt ran: until its end, or until its process was killed."""
    ends = [float(line[1]) for line in lines if line[0] == "end" and line[4] == start[4]]
    return float(start[1]), min([*ends, killed.get(int(start[3]), float("inf"))])


def test_a_job_that_kills_itself_is_dead_after_three_runs_and_hinders_no_other(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server(processes=2)
    deadly, out = tmp_path / "deadly", tmp_path / "out"
    with client(jobs.spooler, server.directory):
        handle = jobs.kill_itself.enqueue(str(deadly))
        waits = []
        while handle.state != "dead":
            other = ended(jobs.write.enqueue(str(out)))
            assert other["state"] == "succeeded"
            waits.append(other["started_at"] - other["enqueued_at"])
            assert len(notes(deadly)) <= 3
        job = ended(handle)
    assert outcomes(job) == ["crashed"] * 3
    assert job["error"]["type"] == "ProcessDied"
    runs = [float(line[1]) for line in notes(deadly)]
    assert len(runs) == 3
    assert runs[1] - runs[0] < 5 + standstill.seconds, (
        "the first crash may have been an accident: at once again"
    )
    assert 1.9 < runs[2] - runs[1] < 8 + standstill.seconds, (
        "the second crash in a row must wait for its lease"
    )
    assert max(waits) < 2.0 + standstill.seconds
    assert len(waits) > 20
    wait_until(lambda: server.files() == [f"dead/{job['id']}"])
    assert "its process died" in server.flask("spooler", "show", job["id"]).stdout


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_job_that_ends_its_process_in_another_way_is_dead_too(
    start_server: Start, tmp_path: Path, number: int
) -> None:
    server = start_server(environment={"FLASK_SPOOLER_MAX_CRASHES": "1"})
    with client(jobs.spooler, server.directory):
        job = ended(jobs.kill_itself.enqueue(str(tmp_path / "deadly"), number))
        assert job["state"] == "dead"
        assert outcomes(job) == ["crashed"]
        assert len(notes(tmp_path / "deadly")) == 1
        assert ended(jobs.write.enqueue(str(tmp_path / "out")))["state"] == "succeeded"


def test_a_server_killed_under_load_keeps_every_job_that_it_has_accepted(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory):
        long = jobs.hold.enqueue(str(out), 3.0)
        running_pid(out)
        with asking(server, threads=4) as accepted:
            wait_until(lambda: len(accepted) > 300)
            server.kill()
        assert long.state == "running"
        server.start()
        job = ended(long, 30)
        assert outcomes(job) == ["interrupted", "succeeded"]
        assert [line[0] for line in notes(out)] == ["start", "start", "end"]
        for job_id in accepted:
            server.succeeded(job_id, timeout=60)
    assert len(set(accepted)) == len(accepted)
    # What its writer had not published when it was killed was promised to nobody.
    wait_until(lambda: all(name.startswith("tmp/") for name in server.files()))
    assert {row["state"] for row in server.rows()} == {"succeeded"}


@contextmanager
def asking(server: Server, threads: int) -> Iterator[list[str]]:
    """Ask for work in several threads until the server is gone; give the ids it has answered."""
    accepted: list[str] = []

    def ask() -> None:
        while True:
            try:
                answer = server.get("/uwsgi_spool?duration=0")
            except OSError:
                return
            assert answer.status == 202
            accepted.append(answer.json["id"])

    running = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield accepted
    finally:
        server.kill()
        for thread in running:
            thread.join()


@pytest.mark.parametrize("end", [Server.stop, Server.kill])
def test_a_restart_with_a_fresh_secret_key_loses_no_waiting_or_scheduled_job(
    start_server: Start, tmp_path: Path, end: Callable[[Server], None]
) -> None:
    server = start_server(processes=1, environment={"FLASK_SECRET_KEY": "one" * 20})
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory):
        running = jobs.hold.enqueue(str(out), 1.0)
        running_pid(out)
        queued = [server.get("/uwsgi_spool?duration=0").json["id"] for _ in range(10)]
        scheduled = [server.get("/uwsgi_spool?duration=0&delay=2").json["id"] for _ in range(10)]
        end(server)
        server.environment["FLASK_SECRET_KEY"] = "two" * 20
        server.start()
        for job_id in (running.id, *queued, *scheduled):
            server.succeeded(job_id)
    wait_until(lambda: server.files() == [])
    assert not list((server.directory / "corrupt").iterdir())


def test_a_killed_housekeeper_is_replaced_and_scheduled_jobs_still_start(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    (mule,) = wait_until(lambda: server.pids("mule"))  # spawned last: a worker answers before
    with client(jobs.spooler, server.directory):
        handle = jobs.write.using(delay=1.5).enqueue(str(tmp_path / "out"))
        kill_process(mule, server)
        job = ended(handle)
    assert job["due_at"] <= job["started_at"] < job["due_at"] + 3.0
