"""`flask spooler watch` and `show --log`: what they print, when they end, and with what status."""

from __future__ import annotations

import fcntl
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup

from flask_spooler import Spooler, Task, watch
from flask_spooler._uwsgi import boot, me
from flask_spooler.cli import spooler_cli
from flask_spooler.engine import SpoolEngine
from flask_spooler.record import Change, ErrorInfo, Output, Progress
from tests.helpers import settle

Run = Callable[..., Result]


@pytest.fixture
def work(spooler: Spooler) -> Task[..., Any]:
    @spooler.task(name="work", queue="lane")
    def work() -> None: ...

    return work


@pytest.fixture
def engine(app: Flask, work: Task[..., Any]) -> Iterator[SpoolEngine]:
    with app.app_context():
        found: SpoolEngine = app.extensions["spooler"].engine
        found.prepare()
        yield found


@pytest.fixture
def job(engine: SpoolEngine, work: Task[..., Any]) -> str:
    """A job that runs its first attempt."""
    job_id = work.enqueue().id
    with engine.ledger.transaction() as rows:
        rows.start(job_id, "window", time.time(), me(), str(boot()))
    return job_id


@pytest.fixture
def run(app: Flask, engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(watch, "EVERY", 0.05)
    monkeypatch.setattr(watch, "LOOK", 0.01)
    runner = app.test_cli_runner()
    return lambda *words: runner.invoke(spooler_cli, list(words))


def done(result: Result, status: int = 0) -> list[str]:
    assert result.exit_code == status, result.output
    return result.stdout.splitlines()


def say(engine: SpoolEngine, job_id: str, text: str, cut: int = 0) -> None:
    with engine.ledger.transaction() as rows:
        rows.log(job_id, Output(text, cut))


def report(engine: SpoolEngine, job_id: str, progress: Progress) -> None:
    with engine.ledger.transaction() as rows:
        rows.progress(job_id, progress)


def end(engine: SpoolEngine, job_id: str, state: str = "succeeded", text: str = "") -> None:
    now = time.time()
    outcome = "succeeded" if state == "succeeded" else "failed"
    error = None if state == "succeeded" else ErrorInfo("ValueError", "it broke\nbadly")
    facts: dict[str, Any] = {"outcome": outcome, "state": state, "error": error}
    facts["output"] = Output(text) if text else None
    with engine.ledger.transaction() as rows:
        assert settle(rows, job_id, 1, Change(due_at=now, ended_at=now, **facts))


@pytest.fixture
def between_looks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let one thing after the other happen, each between two looks."""

    def happen(*steps: Callable[[], None]) -> None:
        def beats(every: float, seconds: float | None) -> Iterator[None]:
            yield
            for step in steps:
                step()
                yield

        monkeypatch.setattr(watch, "_beats", beats)

    return happen


# The log.


def test_show_log_prints_what_a_job_has_written_and_nothing_else(
    run: Run, engine: SpoolEngine, job: str
) -> None:
    say(engine, job, "one\ntwo [b]\n")
    say(engine, job, "three")
    result = run("show", job, "--log")
    assert done(result) == ["one", "two [b]", "three"]
    assert result.stderr == ""


def test_show_log_says_on_stderr_that_there_is_none(run: Run, job: str) -> None:
    result = run("show", job, "--log")
    assert done(result) == []
    assert "nothing" in result.stderr


def test_show_log_says_how_much_is_cut(run: Run, engine: SpoolEngine, job: str) -> None:
    say(engine, job, "newest\n", cut=5_000)
    assert done(run("show", job, "--log")) == ["--- 5,000 bytes are cut ---", "newest"]


def test_show_log_as_json_is_the_text_as_it_is(run: Run, engine: SpoolEngine, job: str) -> None:
    say(engine, job, "\x1b[31mred\x1b[0m\r\n\x07é\n")
    (line,) = done(run("show", job, "--log", "--json"))
    assert json.loads(line) == {"id": job, "log": "\x1b[31mred\x1b[0m\r\n\x07é\n"}


def test_show_log_lets_nothing_through_that_steers_a_terminal(
    run: Run, engine: SpoolEngine, job: str
) -> None:
    say(
        engine,
        job,
        "\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m \x9b31m \x08 \x1b\n",
    )
    say(engine, job, "10%\r 20%\r 30%\r\n")
    found = done(run("show", job, "--log"))
    assert found[1] == " 30%"
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in found[0])


def test_show_log_keeps_long_lines_whole(run: Run, engine: SpoolEngine, job: str) -> None:
    say(engine, job, "x" * 5_000 + "\n")
    assert done(run("show", job, "--log")) == ["x" * 5_000]


def test_following_a_log_goes_on_until_the_job_has_ended(
    run: Run, engine: SpoolEngine, job: str, between_looks: Callable[..., None]
) -> None:
    between_looks(
        lambda: say(engine, job, "one\ntw"),
        lambda: say(engine, job, "o\n"),
        lambda: end(engine, job, "dead", "three\n"),
        lambda: pytest.fail("it should have ended"),
    )
    assert done(run("show", job, "--log", "--follow")) == ["one", "two", "three"]


def test_following_without_a_log_is_a_wrong_call(run: Run, job: str) -> None:
    assert "--log" in run("show", job, "--follow").stderr
    assert run("show", job, "--follow").exit_code == 2


def test_the_log_of_an_unknown_job_exits_with_1(run: Run) -> None:
    assert "no job has the id" in run("show", "nobody", "--log").stderr
    assert run("show", "nobody", "--log").exit_code == 1


# One job.


def test_watching_a_job_shows_its_states_its_progress_and_its_log(
    run: Run, engine: SpoolEngine, job: str, between_looks: Callable[..., None]
) -> None:
    between_looks(
        lambda: say(engine, job, "hello\n"),
        lambda: report(engine, job, Progress(1, 2, "half")),
        lambda: end(engine, job, text="goodbye\n"),
    )
    *lines, last = done(run("watch", job))
    assert lines == [
        "[running] work, attempt 1",
        "hello",
        "[running] work, attempt 1, 1 of 2, half",
        "goodbye",
    ]
    assert re.match(r"^\[succeeded\] work, attempt 1, \d+ ms, 1 of 2, half$", last)


@pytest.mark.parametrize(
    ("state", "status"), [("succeeded", 0), ("dead", 1), ("cancelled", 1), ("expired", 1)]
)
def test_watching_a_job_exits_with_0_only_when_it_has_succeeded(
    run: Run, engine: SpoolEngine, job: str, state: str, status: int
) -> None:
    end(engine, job, state)
    lines = done(run("watch", job), status)
    assert lines[-1].startswith(f"[{state}] work")
    assert ("ValueError: it broke" in lines[-1]) == (status == 1)


def test_watching_a_job_for_some_time_ends_then_and_tells_that_it_has_not_succeeded(
    run: Run, job: str
) -> None:
    since = time.monotonic()
    assert done(run("watch", job, "--for", "0.2"), 1)[0].startswith("[running]")
    assert 0.15 < time.monotonic() - since < 5
    assert len(done(run("watch", job, "--once"), 1)) == 1


def test_watching_a_job_as_json_gives_an_object_for_each_change(
    run: Run, engine: SpoolEngine, job: str, between_looks: Callable[..., None]
) -> None:
    between_looks(lambda: None, lambda: say(engine, job, "hello\n"), lambda: end(engine, job))
    found = [json.loads(line) for line in done(run("watch", job, "--json"))]
    assert [(each["state"], each["log"]) for each in found] == [
        ("running", ""),
        ("running", "hello\n"),
        ("succeeded", ""),
    ]
    assert {each["id"] for each in found} == {job}


def test_watching_an_unknown_job_exits_with_1(run: Run) -> None:
    result = run("watch", "nobody", "--once")
    assert result.exit_code == 1
    assert "no job has the id" in result.stderr


# All jobs.


def test_watching_without_a_terminal_prints_a_line_for_each_look(
    run: Run, engine: SpoolEngine, job: str, work: Task[..., Any]
) -> None:
    work.using(delay=60).enqueue()
    lines = done(run("watch", "--for", "0.3"))
    assert 3 <= len(lines) <= 8
    assert all(line.endswith("Z scheduled 1, running 1") for line in lines)


def test_watching_once_prints_one_line(run: Run) -> None:
    (line,) = done(run("watch", "--once"))
    assert line.endswith("no jobs yet")


def test_watching_as_json_gives_an_object_a_line(
    run: Run, engine: SpoolEngine, job: str, work: Task[..., Any]
) -> None:
    report(engine, job, Progress(1, 2))
    failed = work.enqueue().id
    with engine.ledger.transaction() as rows:
        rows.start(failed, "other window", time.time(), me(), str(boot()))
    end(engine, failed, "dead")
    found = [json.loads(line) for line in done(run("watch", "--for", "0.12", "--json"))]
    assert len(found) >= 2
    assert found[0]["queues"]["lane"]["running"] == 1
    (running,) = found[0]["running"]
    assert (running["id"], running["task"], running["attempt"]) == (job, "work", 1)
    assert running["progress"] == {"done": 1, "total": 2, "note": None}
    assert 0 <= running["seconds"] < 60
    (failure,) = found[0]["failures"]
    assert (failure["id"], failure["state"]) == (failed, "dead")
    assert failure["error"] == {"type": "ValueError", "message": "it broke\nbadly"}


@pytest.mark.parametrize("words", [["--for", "soon"], ["--for", "-1"], ["--often"]])
def test_a_wrong_call_of_watch_exits_with_2(run: Run, words: list[str]) -> None:
    assert run("watch", *words).exit_code == 2


def test_control_c_ends_the_view_of_all_jobs_quietly(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", interrupted)
    result = run("watch")
    assert len(done(result)) == 1
    said = result.stderr.splitlines()
    assert said == ["Watching all jobs until Ctrl-C; to watch one: watch ID", NOBODY]


# Nobody is there.

NOBODY = (
    "No server works on this spool: jobs wait until one is started."
    " What is wrong: flask spooler doctor"
)


def test_watching_says_that_no_server_works_on_the_spool_where_something_waits_for_one(
    run: Run, engine: SpoolEngine, work: Task[..., Any]
) -> None:
    job_id = work.enqueue().id
    assert run("watch", "--once").stderr == f"{NOBODY}\n"
    assert run("watch", job_id, "--once").stderr == f"{NOBODY}\n"
    with open(engine.spool.housekeeper_lock, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run("watch", job_id, "--once").stderr == ""
    with engine.ledger.transaction() as rows:
        rows.close(job_id, "cancelled", time.time(), None)
    assert run("watch", job_id, "--once").stderr == ""


# What a shell offers.


@pytest.fixture
def offered(app: Flask, engine: SpoolEngine) -> Callable[..., list[str]]:
    """What is offered for the last word of a command line."""

    def complete(*words: str) -> list[str]:
        group = FlaskGroup(create_app=lambda: app)
        group.add_command(spooler_cli)
        shell = ShellComplete(group, {}, "flask", "_FLASK_COMPLETE")
        return [item.value for item in shell.get_completions(["spooler", *words[:-1]], words[-1])]

    return complete


def test_a_shell_is_offered_the_names_of_tasks(
    offered: Callable[..., list[str]], spooler: Spooler
) -> None:
    spooler.task(name="walk")(lambda: None)
    assert offered("enqueue", "w") == ["walk", "work"]
    assert offered("list", "--task", "wo") == ["work"]
    assert offered("enqueue", "x") == []


def test_a_shell_is_offered_queues_and_states(
    offered: Callable[..., list[str]], engine: SpoolEngine, work: Task[..., Any]
) -> None:
    work.using(queue="mail").enqueue()
    assert offered("list", "--queue", "") == ["default", "lane", "mail"]
    assert offered("pause", "m") == ["mail"]
    assert offered("list", "--state", "d") == ["dead"]


def test_a_shell_is_offered_ids_of_jobs_to_which_a_command_can_be_done(
    offered: Callable[..., list[str]], engine: SpoolEngine, work: Task[..., Any], job: str
) -> None:
    waiting = work.enqueue().id
    assert offered("show", "") == [waiting, job]
    assert offered("watch", job[:12]) == [each for each in (waiting, job) if each[:12] == job[:12]]
    assert offered("cancel", "") == [waiting, job]
    assert offered("retry", "") == []
    end(engine, job, "dead")
    assert offered("retry", "") == [job]
    assert offered("delete", "") == [job]
    assert offered("delete", job, "") == []
    assert offered("cancel", "") == [waiting]


def test_a_shell_is_offered_nothing_where_the_app_or_the_ledger_is_broken(
    offered: Callable[..., list[str]], app: Flask, engine: SpoolEngine
) -> None:
    engine.spool.ledger.write_bytes(b"a letter, not a database. " * 200)
    assert offered("show", "") == []
    assert offered("list", "--queue", "d") == ["default"]
    app.extensions.clear()
    assert offered("enqueue", "") == []


def test_pressing_tab_where_there_is_no_spool_makes_none(app: Flask, memory: Path) -> None:
    group = FlaskGroup(create_app=lambda: app)
    group.add_command(spooler_cli)
    shell = ShellComplete(group, {}, "flask", "_FLASK_COMPLETE")
    assert shell.get_completions(["spooler", "show"], "") == []
    assert [item.value for item in shell.get_completions(["spooler", "pause"], "")] == ["default"]
    assert not (memory / "spool").exists()
