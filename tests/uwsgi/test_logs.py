"""What jobs print and log on a real server: kept with the job they belong to, seen as it comes."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jobs
import pytest
from server import HERE, ROOT, UWSGI, Server, client, ended, wait_until

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
        wait_until(lambda: lines_of(state.engine.ledger, job.id), timeout=30)
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
        wait_until(lambda: lines_of(state.engine.ledger, job.id), timeout=30)
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


def test_following_a_job_from_a_shell_shows_all_of_it_and_how_it_ended(
    server: Server, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    go.touch()
    with client(jobs.spooler, server.directory):
        worked = jobs.say_and_wait.enqueue(str(go), "hello")
        failed = jobs.say_and_wait.enqueue(str(go), "hello", "fail")
        assert ended(failed)["state"] == "dead"
        watched = server.flask("spooler", "watch", worked.id)
        assert "\nhello\nafter the wait\n[succeeded] jobs.say_and_wait" in watched.stdout
        watched = server.flask("spooler", "watch", failed.id, check=False)
        assert watched.returncode == 1
        assert "ValueError: it failed" in watched.stdout
        shown = server.flask("spooler", "show", failed.id, "--log").stdout
        assert shown.count("hello\nafter the wait\n") == 2


def on_a_terminal(
    server: Server, words: list[str], act: Callable[[str, int], bool] = lambda shown, pid: True
) -> tuple[int, str]:
    """Run a command on a terminal until it ends; `act` gets what is shown until it is true."""
    ours, theirs = pty.openpty()
    shown, done = b"", False
    with subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "jobs:app", "spooler", *words],
        cwd=ROOT,
        env={**server.variables, "PYTHONPATH": f"{HERE}:{ROOT}", "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            while data := os.read(ours, 65_536):
                shown += data
                done = done or act(shown.decode(errors="replace"), process.pid)
        except OSError:  # how a terminal ends whose other side is closed
            os.close(ours)
        except BaseException:  # of pytest's timeout: nobody else would end it, and all would wait
            process.kill()
            raise
        return process.wait(30), shown.decode(errors="replace")


def test_on_a_terminal_a_job_is_drawn_in_colour_with_its_log_above(
    server: Server, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    go.touch()
    with client(jobs.spooler, server.directory):
        job = jobs.say_and_wait.enqueue(str(go), "\x1b[31mred\x1b[0m \x1b]0;title\x07 hello")
        assert ended(job)["state"] == "succeeded"
    status, shown = on_a_terminal(server, ["watch", job.id])
    assert status == 0
    assert "\x1b[31mred" in shown
    assert "\x1b]0;" not in shown
    assert "\x1b[32msucceeded" in shown


def test_on_a_terminal_all_jobs_are_drawn_until_control_c(server: Server, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with client(jobs.spooler, server.directory):
        job = jobs.say_and_wait.enqueue(str(go), "hello")

        def interrupt(shown: str, pid: int) -> bool:
            if job.id not in shown:
                return False
            os.kill(pid, signal.SIGINT)
            return True

        status, shown = on_a_terminal(server, ["watch"], interrupt)
        go.touch()
        assert ended(job)["state"] == "succeeded"
    assert status == 0
    assert "RUNNING" in shown
    assert shown.rstrip().endswith("\x1b[?1049l")  # the screen is given back as it was


def test_a_shell_is_offered_tasks_by_its_own_way_of_asking(server: Server) -> None:
    asked = subprocess.run(
        [str(UWSGI.with_name("flask"))],
        cwd=ROOT,
        env={
            **server.variables,
            "PYTHONPATH": f"{HERE}:{ROOT}",
            "_FLASK_COMPLETE": "bash_complete",
            "COMP_WORDS": "flask --app jobs:app spooler enqueue jobs.say",
            "COMP_CWORD": "5",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert asked.stdout == "plain,jobs.say_and_wait\n"
