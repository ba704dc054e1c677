"""What jobs print and log on a real server: kept with the job they belong to, seen as it comes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import jobs
import pytest
from server import Server, client, ended, wait_until

from flask_spooler.ledger import Ledger

JOBS = 100
LINES = 200
NUMBERED = re.compile(r"line (\d+) (\S+)$", re.MULTILINE)


def text_of(ledger: Ledger, job_id: str) -> str:
    return "".join(text for _, text in ledger.log(job_id))


def lines_of(ledger: Ledger, job_id: str) -> list[str]:
    """A job's log without the lines that begin an attempt."""
    lines = text_of(ledger, job_id).splitlines()
    return [line for line in lines if not line.startswith("--- attempt ")]


@pytest.mark.timeout(240)
def test_of_a_hundred_jobs_at_once_each_has_all_its_own_lines_in_their_order(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server(processes=JOBS)
    with client(jobs.spooler, server.directory) as state:
        gate = str(tmp_path / "gate")
        talking = jobs.talk.enqueue_many([(gate, JOBS, LINES)] * JOBS)
        for job in talking:
            assert ended(job, 120)["state"] == "succeeded"
        logs = {job.id: text_of(state.engine.ledger, job.id) for job in talking}
    for job_id, text in logs.items():
        found = [(int(number), whose) for number, whose in NUMBERED.findall(text)]
        assert found == [(number, job_id) for number in range(LINES)]
        assert text.count("\n") == LINES + 1  # and the line that begins the attempt
    # uWSGI's log has what was printed; records at INFO are nothing that the app has asked for.
    printed = [(int(number), whose) for number, whose in NUMBERED.findall(server.log)]
    assert sorted(printed) == sorted(
        (number, job_id) for job_id in logs for number in range(LINES) if number % 4 != 1
    )


def test_a_line_is_seen_while_the_job_still_runs(server: Server, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with client(jobs.spooler, server.directory) as state:
        job = jobs.say_and_wait.enqueue(str(go), "a line before a long silence")
        wait_until(lambda: lines_of(state.engine.ledger, job.id), timeout=10)
        assert lines_of(state.engine.ledger, job.id) == ["a line before a long silence"]
        assert job.state == "running"
        assert "a line before a long silence\n" in server.log
        go.touch()
        assert ended(job)["state"] == "succeeded"
        assert lines_of(state.engine.ledger, job.id)[1:] == ["after the wait"]


def test_each_attempt_begins_with_a_line_that_names_it(server: Server, tmp_path: Path) -> None:
    with client(jobs.spooler, server.directory) as state:
        job = jobs.say_and_wait.enqueue(str(tmp_path), "hello", "fail")
        assert ended(job)["state"] == "dead"
        text = text_of(state.engine.ledger, job.id)
    lines = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, process \d+", "…", text).splitlines()
    assert lines == [
        "--- attempt 1, … ---",
        "hello",
        "after the wait",
        "--- attempt 2, … ---",
        "hello",
        "after the wait",
    ]


def test_what_was_seen_stays_when_the_process_is_killed(server: Server, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with client(jobs.spooler, server.directory) as state:
        job = jobs.say_and_wait.enqueue(str(go), "last words")
        wait_until(lambda: lines_of(state.engine.ledger, job.id), timeout=10)
        os.kill(job.record.pid or 0, signal.SIGKILL)
        go.touch()
        assert ended(job)["state"] == "succeeded"
        lines = lines_of(state.engine.ledger, job.id)
    assert lines == ["last words", "last words", "after the wait"]


def test_a_job_that_says_nothing_has_no_log(server: Server) -> None:
    with client(jobs.spooler, server.directory) as state:
        job = jobs.quick.enqueue()
        assert ended(job)["state"] == "succeeded"
        assert state.engine.ledger.log(job.id) == []
