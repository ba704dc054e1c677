"""`flask spooler …` on an app, in this process: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from flask_spooler import Spooler, Task
from flask_spooler._uwsgi import Process, boot, process
from flask_spooler.cli import spooler_cli
from flask_spooler.engine import SpoolEngine
from flask_spooler.record import Change, ErrorInfo
from tests.helpers import next_jobs, settle

Run = Callable[..., Result]
GONE = Process(0, 0)


@pytest.fixture
def work(spooler: Spooler) -> Task[..., Any]:
    @spooler.task(name="work")
    def work(path: str = "a", width: int = 1, rest: Any = None) -> None: ...

    return work


@pytest.fixture
def engine(app: Flask, work: Task[..., Any]) -> SpoolEngine:
    found: SpoolEngine = app.extensions["spooler"].engine
    found.prepare()
    return found


@pytest.fixture
def run(app: Flask, engine: SpoolEngine) -> Run:
    runner = app.test_cli_runner()
    return lambda *words: runner.invoke(spooler_cli, list(words))


def done(result: Result) -> str:
    """The output of a command that succeeded, without the final newline."""
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout.rstrip("\n")


def refused(result: Result, status: int) -> str:
    """What a command said that was refused: one error, no traceback, nothing else."""
    assert result.exit_code == status, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Error: " in result.stderr
    assert "Traceback" not in result.output
    return result.stderr


def ids(engine: SpoolEngine, **filters: Any) -> list[str]:
    return [record.id for record in engine.ledger.find(**filters)]


def end(engine: SpoolEngine, job_id: str, state: str = "dead") -> None:
    with engine.ledger.transaction() as rows:
        rows.close(job_id, state, time.time(), ErrorInfo("ValueError", "it\nbroke"))
    engine.spool.bury_waiting(job_id)


def start(engine: SpoolEngine, job_id: str, by: Process) -> None:
    with engine.ledger.transaction() as rows:
        rows.start(job_id, "window", time.time(), by, str(boot()))


def test_enqueue_prints_the_id_of_the_new_job(run: Run, engine: SpoolEngine) -> None:
    assert done(run("enqueue", "work")) == ids(engine)[0]


def test_enqueue_as_json_prints_id_and_state(run: Run, engine: SpoolEngine) -> None:
    found = json.loads(done(run("enqueue", "work", "--json")))
    assert found == {"id": ids(engine)[0], "state": "queued"}
    found = json.loads(done(run("enqueue", "work", "--delay", "60", "--json")))
    assert found["state"] == "scheduled"


def test_arguments_are_json_where_that_fits_the_annotation_and_text_otherwise(
    run: Run, engine: SpoolEngine
) -> None:
    done(run("enqueue", "work", "path=5", "width=5", 'rest={"a": [1, null]}'))
    done(run("enqueue", "work", "path=a=b", "rest=not json"))
    kwargs = [json.loads(record.kwargs or b"") for record in engine.ledger.find()]
    assert kwargs == [
        {"path": "a=b", "rest": "not json"},
        {"path": "5", "width": 5, "rest": {"a": [1, None]}},
    ]


def test_options_of_enqueue_reach_the_job(run: Run, engine: SpoolEngine) -> None:
    done(run("enqueue", "work", "--queue", "mail", "--priority", "-7", "--at", "4000000000"))
    (record,) = engine.ledger.find()
    assert (record.queue, record.priority, record.due_at) == ("mail", -7, 4e9)
    assert record.state == "scheduled"


def test_tags_are_given_beside_those_of_the_task_listed_and_shown(
    run: Run, engine: SpoolEngine, spooler: Spooler
) -> None:
    spooler.task(name="tagged", tags=["its own"])(lambda: None)
    job_id = done(run("enqueue", "tagged", "--tag", "user:5", "--tag", "x"))
    done(run("enqueue", "work", "path=a"))
    assert ids(engine, tag="user:5") == [job_id]
    listed = json.loads(done(run("list", "--tag", "user:5", "--json")))
    assert [(job["id"], job["tags"]) for job in listed] == [(job_id, ["its own", "user:5", "x"])]
    assert "its own, user:5, x" in done(run("show", job_id))
    assert "1 to 100 printable" in refused(run("enqueue", "work", "--tag", ""), 2)


def test_texts_become_what_the_annotations_say(run: Run, spooler: Spooler) -> None:
    @spooler.task(name="report")
    def report(day: date, /, until: datetime, raw: bytes = b"") -> None: ...

    done(run("enqueue", "report", "until=2030-01-31T12:00:00Z", "raw=text", "day=2030-01-02"))
    shown = json.loads(done(run("list", "--task", "report", "--json")))[0]["kwargs"]
    assert shown == {"day": "2030-01-02", "until": "2030-01-31T12:00:00Z", "raw": "dGV4dA=="}
    said = refused(run("enqueue", "report", "day=soon", "until=2030-01-31"), 2)
    assert "expected day to be a date, got: 'soon'" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["path"], "KEY=VALUE"),
        (["--priority", "101"], "-100 to 100"),
        (["--priority", "high"], "integer"),
        (["--queue", "a/b"], "queue"),
        (["--queue", "../x"], "queue"),
        (["--delay", "-1"], "--delay"),
        (["--delay", "nan"], "--delay"),
        (["--delay", "soon"], "--delay"),
        (["--at", "2030-01-01T00:00:00"], "time zone"),
        (["--at", "tomorrow"], "ISO 8601"),
        (["--at", "4000000000", "--delay", "5"], "one at a time"),
        (["--nothing"], "No such option"),
    ],
)
def test_a_wrong_call_of_enqueue_exits_with_2_and_enqueues_nothing(
    run: Run, engine: SpoolEngine, words: list[str], said: str
) -> None:
    assert said in refused(run("enqueue", "work", *words), 2)
    assert ids(engine) == []


def test_enqueueing_an_unknown_task_exits_with_1_and_names_the_known_ones(
    run: Run, engine: SpoolEngine
) -> None:
    said = refused(run("enqueue", "wrok"), 1)
    assert "no task is named 'wrok'; known tasks: work" in said


@pytest.mark.parametrize(
    ("argument", "said"),
    [("width=wide", "expected width to be an int, got: 'wide'"), ("height=3", "'height'")],
)
def test_arguments_that_do_not_fit_exit_with_2_and_name_task_and_argument(
    run: Run, engine: SpoolEngine, argument: str, said: str
) -> None:
    answer = refused(run("enqueue", "work", argument), 2)
    assert "cannot enqueue work" in answer
    assert said in answer
    assert ids(engine) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["enqueue", "work", "width=1", "width=2"], "width once, got it again: 'width=2'"),
        (["enqueue", "work", "--queue", "a", "--queue", "b"], "--queue once, got it 2 times"),
        (["list", "--state", "dead", "--state", "queued"], "--state once, got it 2 times"),
        (["purge", "--older-than", "7d", "--older-than", "1s"], "--older-than once"),
    ],
    ids=["argument", "enqueue", "list", "purge"],
)
def test_what_is_given_twice_is_refused_and_not_lost(
    run: Run, engine: SpoolEngine, words: list[str], said: str
) -> None:
    assert said in refused(run(*words), 2)
    assert ids(engine) == []


@pytest.mark.parametrize("older_than", ["7", "7.5", "d", "7y", "-7d", "nand"])
def test_a_purge_wants_a_length_of_time_with_its_unit(
    run: Run, engine: SpoolEngine, older_than: str
) -> None:
    job_id = done(run("enqueue", "work"))
    end(engine, job_id)
    said = refused(run("purge", "--older-than", older_than), 2)
    assert f"a length of time such as 7d, 12h or 90s, got: {older_than!r}" in said
    assert ids(engine) == [job_id]


def test_a_purge_deletes_what_ended_longer_ago_dead_jobs_included(
    run: Run, engine: SpoolEngine
) -> None:
    job_id = done(run("enqueue", "work"))
    end(engine, job_id)
    assert done(run("purge", "--older-than", "1h")) == "0 job(s) deleted."
    assert ids(engine) == [job_id]
    assert done(run("purge", "--older-than", "0")) == "1 job(s) deleted."
    assert ids(engine) == []


def test_a_list_of_no_jobs_says_so(run: Run) -> None:
    assert done(run("list")) == "No jobs."
    assert done(run("list", "--state", "dead")) == "No jobs fit."
    assert json.loads(done(run("list", "--json"))) == []


def test_list_shows_the_newest_job_first_and_filters(run: Run, engine: SpoolEngine) -> None:
    first, mail = done(run("enqueue", "work")), done(run("enqueue", "work", "--queue", "mail"))
    end(engine, first)
    shown = done(run("list"))
    assert shown.index(mail) < shown.index(first)
    assert "ValueError: it" in shown
    assert "broke" not in shown
    assert [each["id"] for each in json.loads(done(run("list", "--json")))] == [mail, first]
    for words, wanted in (
        (["--state", "dead"], [first]),
        (["--queue", "mail"], [mail]),
        (["--task", "work"], [mail, first]),
        (["--task", "other"], []),
    ):
        found = json.loads(done(run("list", "--json", *words)))
        assert [each["id"] for each in found] == wanted


def test_a_list_that_was_cut_says_so_on_stderr(run: Run, engine: SpoolEngine) -> None:
    for _ in range(3):
        done(run("enqueue", "work"))
    result = run("list", "--limit", "2")
    assert result.exit_code == 0
    assert "newest 2" in result.stderr
    assert "newest 2" not in result.stdout
    assert len(json.loads(run("list", "--limit", "2", "--json").stdout)) == 2


@pytest.mark.parametrize("words", [["--state", "lost"], ["--limit", "0"], ["--limit", "many"]])
def test_a_wrong_call_of_list_exits_with_2(run: Run, words: list[str]) -> None:
    refused(run("list", *words), 2)


def test_show_tells_everything_of_one_job(run: Run, engine: SpoolEngine) -> None:
    job_id = done(run("enqueue", "work", "path=x.png", "--queue", "mail"))
    error = ErrorInfo("ValueError", "it broke", 'File "x.py", line 1')
    start(engine, job_id, GONE)
    with engine.ledger.transaction() as rows:
        now = time.time()
        change = Change(outcome="failed", state="retrying", due_at=now, ended_at=now, error=error)
        settle(rows, job_id, 1, change)
    page = done(run("show", job_id))
    for text in (job_id, "work", "retrying", "mail", '"x.png"', "(at most 5", "it broke", "line 1"):
        assert text in page
    shown = json.loads(done(run("show", job_id, "--json")))
    assert shown["kwargs"] == {"path": "x.png"}
    assert shown["attempts"][0]["error"]["message"] == "it broke"
    assert shown["error"]["traceback"] == 'File "x.py", line 1'


@pytest.mark.parametrize("job_id", ["nobody", "../ledger.db", "x" * 5000, "\0"])
def test_showing_an_unknown_job_exits_with_1(run: Run, job_id: str) -> None:
    assert "no job has the id" in refused(run("show", job_id), 1)
    refused(run("cancel", job_id), 1)
    refused(run("retry", job_id), 1)


def test_stats_count_jobs_by_queue_and_files_by_place(run: Run, engine: SpoolEngine) -> None:
    assert done(run("stats")) == "No jobs yet."
    job_id = done(run("enqueue", "work"))
    done(run("enqueue", "work", "--queue", "mail"))
    end(engine, job_id)
    found = json.loads(done(run("stats", "--json")))
    assert found["queues"]["default"]["dead"] == 1
    assert found["queues"]["mail"]["queued"] == 1
    assert (found["files"]["dead"], found["files"]["waiting"]) == (1, 1)
    assert 0 <= found["oldest_queued_seconds"] < 60
    page = done(run("stats"))
    assert "mail" in page
    assert "DEAD" in page


def test_cancel_ends_waiting_jobs(run: Run, engine: SpoolEngine) -> None:
    jobs = [done(run("enqueue", "work")) for _ in range(2)]
    assert done(run("cancel", *jobs)) == "\n".join(f"{each}  cancelled" for each in jobs)
    assert set(ids(engine, state="cancelled")) == set(jobs)


def test_cancel_says_of_a_running_job_that_it_is_being_stopped(
    run: Run, engine: SpoolEngine
) -> None:
    job_id = done(run("enqueue", "work"))
    start(engine, job_id, GONE)
    assert done(run("cancel", job_id)) == f"{job_id}  being stopped"


def test_one_refused_job_keeps_no_other_from_being_cancelled(run: Run, engine: SpoolEngine) -> None:
    job_id, ended = done(run("enqueue", "work")), done(run("enqueue", "work"))
    end(engine, ended)
    result = run("cancel", ended, "nobody", job_id, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["done"] == {job_id: "cancelled"}
    assert set(found["refused"]) == {ended, "nobody"}
    assert "must be unfinished" in found["refused"][ended]


def test_retry_runs_ended_jobs_again_by_id_or_by_state(run: Run, engine: SpoolEngine) -> None:
    jobs = [done(run("enqueue", "work")) for _ in range(4)]
    for job_id, state in zip(jobs, ("dead", "dead", "cancelled", "expired"), strict=True):
        end(engine, job_id, state)
    assert done(run("retry", jobs[2])) == f"{jobs[2]}  queued"
    found = json.loads(done(run("retry", "--state", "dead", "--json")))
    assert found == {"done": {jobs[1]: "queued", jobs[0]: "queued"}, "refused": {}}
    assert set(ids(engine, state="queued")) == set(jobs[:3])
    assert set(engine.spool.names("waiting")) == set(jobs[:3])
    assert ids(engine, state="dead") == []


def test_retry_says_of_a_job_that_was_cancelled_before_its_time_that_it_is_scheduled(
    run: Run,
) -> None:
    job_id = done(run("enqueue", "work", "--delay", "3600"))
    done(run("cancel", job_id))
    assert done(run("retry", job_id)) == f"{job_id}  scheduled"


def test_retrying_a_job_that_waits_exits_with_1_and_says_why(run: Run) -> None:
    job_id = done(run("enqueue", "work"))
    assert "it is queued, and must be dead" in refused(run("retry", job_id), 1)


@pytest.mark.parametrize("words", [[], ["some-id", "--state", "dead"], ["--state", "queued"]])
def test_a_wrong_call_of_retry_exits_with_2(run: Run, words: list[str]) -> None:
    refused(run("retry", *words), 2)


def test_retrying_all_of_a_state_in_which_no_job_is_says_so(run: Run) -> None:
    assert done(run("retry", "--state", "dead")) == "No job is dead."
    assert json.loads(done(run("retry", "--state", "dead", "--json"))) == {
        "done": {},
        "refused": {},
    }


def test_cancel_without_an_id_exits_with_2(run: Run) -> None:
    refused(run("cancel"), 2)


def test_a_paused_queue_holds_its_jobs_until_it_is_resumed(run: Run, engine: SpoolEngine) -> None:
    job_id = done(run("enqueue", "work", "--queue", "mail"))
    assert "mail is paused" in done(run("pause", "mail"))
    with engine.ledger.transaction() as rows:
        assert next_jobs(rows, 5) == []
        assert not rows.holds("default", str(boot()), time.time())
    assert "mail goes on" in done(run("resume", "mail"))
    with engine.ledger.transaction() as rows:
        assert next_jobs(rows, 5) == [job_id]


@pytest.mark.parametrize("word", ["pause", "resume"])
def test_a_queue_that_nobody_has_named_yet_is_held_with_a_note(
    run: Run, engine: SpoolEngine, spooler: Spooler, word: str
) -> None:
    """It may be misspelt; or its first job comes later, and is to wait then."""
    spooler.task(name="send", queue="mail")(lambda: None)
    done(run("enqueue", "work", "--queue", "bulk"))
    answer = run(word, "maill")
    assert answer.exit_code == 0
    note = (
        "no job, task or setting has named the queue 'maill' so far, but these: bulk, default, mail"
    )
    assert note in answer.stderr
    assert run(word, "maill", "--json").stderr == "", "a machine is told nothing between the lines"
    for name in ("mail", "bulk", "default"):
        assert run(word, name).stderr == ""
    assert engine.ledger.paused() == (
        ["bulk", "default", "mail", "maill"] if word == "pause" else []
    )


@pytest.mark.parametrize("word", ["pause", "resume"])
def test_what_can_be_no_queue_is_refused(run: Run, engine: SpoolEngine, word: str) -> None:
    assert "no '/' or leading '.', got: 'a/b'" in refused(run(word, "a/b"), 2)
    assert engine.ledger.paused() == []


def test_drain_says_how_many_servers_start_no_more_jobs(run: Run, engine: SpoolEngine) -> None:
    with engine.ledger.transaction() as rows:
        rows.register(str(boot()), time.time(), 4)
    found = json.loads(done(run("drain", "--timeout", "60", "--json")))
    assert found == {"draining": True, "servers": 1, "running": 0}
    assert engine.ledger.is_draining(str(boot()), time.time())
    assert json.loads(done(run("drain", "--cancel", "--json"))) == {"draining": False}
    assert not engine.ledger.is_draining(str(boot()), time.time())


def test_a_drain_that_jobs_outlast_exits_with_1(run: Run, engine: SpoolEngine) -> None:
    job_id = done(run("enqueue", "work"))
    start(engine, job_id, process(os.getpid()))
    result = run("drain", "--timeout", "0.05", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["running"] == 1


def test_a_drain_with_a_wrong_timeout_exits_with_2(run: Run) -> None:
    assert "--timeout" in refused(run("drain", "--timeout", "long"), 2)


def test_a_broken_ledger_exits_with_1_and_names_the_file(run: Run, engine: SpoolEngine) -> None:
    engine.spool.ledger.write_bytes(b"a letter, not a database. " * 200)
    for words in (["list"], ["stats"], ["show", "0" * 29], ["enqueue", "work"]):
        assert "ledger.db" in refused(run(*words), 1)


def test_an_app_without_a_spooler_exits_with_1_and_says_what_to_do() -> None:
    result = Flask("bare").test_cli_runner().invoke(spooler_cli, ["list"])
    assert "init_app" in refused(result, 1)


def test_output_that_is_no_terminal_has_no_colours_and_no_cut_ids(
    run: Run, engine: SpoolEngine
) -> None:
    job_id = done(run("enqueue", "work"))
    for words in (["list"], ["show", job_id], ["stats"]):
        assert "\x1b" not in done(run(*words))
    assert job_id in done(run("list"))


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["list", "--json"],
        ["show", "0" * 29],
        ["show", "0" * 29, "--log"],
        ["watch", "--once"],
        ["stats"],
        ["cancel", "0" * 29],
        ["retry", "0" * 29],
        ["retry", "--state", "dead"],
        ["delete", "0" * 29],
        ["purge", "--older-than", "7d"],
    ],
    ids=" ".join,
)
def test_where_there_is_no_spool_a_look_says_so_and_makes_none(
    app: Flask, memory: Path, words: list[str]
) -> None:
    for there in (False, True):
        if there:  # made by somebody, but never a spool
            (memory / "spool").mkdir()
        said = refused(app.test_cli_runner().invoke(spooler_cli, words), 1)
        assert f"there is no spool at {memory / 'spool'}" in said
        assert "SPOOLER_DIRECTORY" in said
    assert list((memory / "spool").iterdir()) == []


def test_an_id_that_is_no_utf8_is_an_unknown_job(run: Run) -> None:
    refused(run("show", "\udcff"), 1)


def test_names_are_shown_as_they_are(run: Run, app: Flask, spooler: Spooler) -> None:
    @spooler.task(name="odd[/b]name", queue="[bold]")
    def odd() -> None: ...

    with app.app_context():
        odd.enqueue()
    shown = done(run("list"))
    assert "odd[/b]name" in shown
    assert "[bold]" in shown


TESTED = """
from flask import Flask
from flask_spooler import Spooler
app = Flask("tested")
app.config["SPOOLER_DIRECTORY"] = "/var/lib/shop/spool"
spooler = Spooler(app)
app.testing = True
spooler.task(name="work")(lambda: None)
"""


@pytest.mark.parametrize(
    "words",
    [["enqueue", "work"], ["list"], ["stats"], ["watch"], ["pause"], ["resume"], ["drain"]],
    ids=lambda words: words[0],
)
def test_outside_of_tests_a_command_on_an_app_that_is_being_tested_is_refused(
    tmp_path: Path, words: list[str]
) -> None:
    done = beside(tmp_path, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: TESTING is on, so this app has a spool of its own")
    assert "leave TESTING out" in done.stderr
    assert "/var/lib/shop/spool" in done.stderr


@pytest.mark.parametrize(
    ("before", "said"),
    [("", 1), ("import pytest\n", 0), ("app.test_client()\n", 0)],
    ids=["a script", "pytest", "a test client"],
)
def test_a_script_that_enqueues_for_an_app_that_is_being_tested_is_warned_once(
    before: str, said: int
) -> None:
    enqueue = "work = spooler.tasks['work']\nwith app.app_context(): work.enqueue(), work.enqueue()"
    words = [sys.executable, "-c", f"{TESTED}\n{before}{enqueue}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("TESTING is on, so jobs go to a spool that ends with") == said
    assert done.stderr.count("/var/lib/shop/spool") == said


def test_the_doctor_of_an_app_that_is_being_tested_says_just_that(tmp_path: Path) -> None:
    done = beside(tmp_path, "doctor", "--json")
    found = [finding for finding in json.loads(done.stdout) if not finding["ok"]]
    assert [finding["name"] for finding in found] == ["testing"]
    assert "TESTING is on" in found[0]["problem"]
    assert done.returncode == 1


def test_in_a_test_the_commands_work_on_the_spool_of_the_test(
    spooler: Spooler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Flask("tested")
    monkeypatch.setattr("flask_spooler.config._is_passing", lambda directory: False)
    app.config.update(TESTING=True, SPOOLER_DIRECTORY=tmp_path / "production")
    spooler.init_app(app)
    spooler.task(name="work")(lambda: None)
    job_id = done(app.test_cli_runner().invoke(spooler_cli, ["enqueue", "work"]))
    assert job_id in done(app.test_cli_runner().invoke(spooler_cli, ["list"]))
    assert not (tmp_path / "production").exists()


def beside(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on an app whose TESTING was left on, in a process that is no test."""
    (directory / "tested.py").write_text(TESTED)
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "tested", "spooler", *words],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
