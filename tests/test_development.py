"""`flask run --debug` runs jobs in a child process, and everything else leaves that alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from flask import Flask
from flask.cli import ScriptInfo, run_command

from flask_spooler import Spooler, development
from flask_spooler.development.child import keep_order_in_forks
from flask_spooler.development.seat import keeping
from tests.flask_run import RUNS, FlaskRun, flask_runs_in
from tests.helpers import in_child, wait_until
from tests.uwsgi.server import outcomes

StartFlask = Callable[..., FlaskRun]

GUIDE = Path(__file__).parents[1] / "docs" / "development.md"


@pytest.fixture
def start_flask(tmp_path: Path) -> Iterator[StartFlask]:
    """Start development servers with `start_flask("--debug", …)`, the options of `flask run`."""
    with flask_runs_in(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def flask_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskRun]:
    """One development server for all tests that only ask it for work."""
    with flask_runs_in(tmp_path_factory.mktemp("flask-run")) as start:
        server = start("--debug")
        server.runs()
        yield server


def test_a_job_runs_in_a_child_process_and_both_say_so(flask_run: FlaskRun) -> None:
    job_id = flask_run.enqueue("add", 1, 2)
    assert flask_run.ended(job_id)["result"] == 3
    (child,) = flask_run.children()
    assert f"{RUNS} {child} of the development server" in flask_run.log
    flask_run.seen(f"adding 1 and 2 in {child}")
    flask_run.seen(f"job {job_id} succeeded: app.add")


def test_what_a_task_prints_is_kept_with_the_job_too(flask_run: FlaskRun) -> None:
    job_id = flask_run.enqueue("add", 3, 4)
    flask_run.ended(job_id)
    shown = flask_run.beside("spooler", "show", job_id, "--log")
    assert "adding 3 and 4" in shown


def test_a_scheduled_job_starts_on_time(flask_run: FlaskRun) -> None:
    job = flask_run.ended(flask_run.enqueue("add", 5, 6, delay=1.3))
    assert 0 <= job["started_at"] - job["due_at"] < 0.3


def test_many_jobs_run_one_after_the_other(flask_run: FlaskRun) -> None:
    ids = [flask_run.enqueue("add", number, number) for number in range(20)]
    assert [flask_run.ended(each)["result"] for each in ids] == [2 * n for n in range(20)]


def test_a_running_job_can_be_cancelled(flask_run: FlaskRun) -> None:
    job_id = flask_run.enqueue("wait", 60)
    flask_run.starts(job_id)
    flask_run.post(f"/jobs/{job_id}/cancel")
    assert flask_run.ended(job_id, timeout=30)["state"] == "cancelled"


def test_the_traceback_of_a_failure_stands_in_the_terminal(flask_run: FlaskRun) -> None:
    job = flask_run.ended(flask_run.enqueue("divide", 0))
    assert (job["state"], outcomes(job)) == ("dead", ["failed", "failed"])
    wait_until(lambda: flask_run.log.count("return 1 / by") == 2)


def test_the_soft_limit_interrupts_a_task(flask_run: FlaskRun) -> None:
    assert outcomes(flask_run.ended(flask_run.enqueue("limited"))) == ["timed_out"]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_is_charged_and_the_child_process_comes_back(
    flask_run: FlaskRun, number: signal.Signals
) -> None:
    (before,) = flask_run.children()
    job = flask_run.ended(flask_run.enqueue("crash", int(number)))
    assert (job["state"], outcomes(job)) == ("succeeded", ["crashed", "succeeded"])
    flask_run.seen(f"child process {before} died ({number.name}), another one is started")
    assert before not in flask_run.children()


def test_the_hard_limit_ends_a_task_and_shows_where_it_stood(flask_run: FlaskRun) -> None:
    job = flask_run.ended(flask_run.enqueue("stuck"))
    assert (job["state"], outcomes(job)) == ("dead", ["timed_out"])
    assert re.search(r"app\.py\", line \d+ in stuck", flask_run.log)


def test_a_task_does_not_take_its_process_for_the_one_that_serves(flask_run: FlaskRun) -> None:
    assert flask_run.ended(flask_run.enqueue("told_by_the_reloader"))["result"] == []


def test_what_a_task_leaves_running_does_not_keep_the_spool(flask_run: FlaskRun) -> None:
    job = flask_run.ended(flask_run.enqueue("leave_a_child"))
    left = int(flask_run.log.rpartition("left ")[2].split()[0])
    os.kill(left, signal.SIGKILL)  # it lived until now
    assert outcomes(job) == ["crashed", "succeeded"]


def test_the_doctor_knows_a_development_server(flask_run: FlaskRun) -> None:
    said = " ".join(flask_run.beside("spooler", "doctor").split())
    assert f"development server {flask_run.serving()} runs the jobs, one at a time" in said
    assert "container" not in said


def test_a_breakpoint_in_a_task_stops_in_the_terminal_of_the_server(
    start_flask: StartFlask,
) -> None:
    stdin, keyboard = os.pipe()
    with open(stdin, "rb"), open(keyboard, "wb", buffering=0) as typed:
        server = start_flask("--debug", stdin=stdin)
        job_id = server.enqueue("look")
        server.seen("(Pdb)", timeout=60)
        typed.write(b"found = 42\ncontinue\n")
        assert server.ended(job_id)["result"] == 42


def test_a_task_that_forks_waits_for_the_housekeeper_and_its_child_for_nobody() -> None:
    def forks() -> None:
        rounds: list[str] = []

        def end_of_round() -> None:
            rounds.append("done")
            keeping.release()

        def in_the_child() -> None:
            assert rounds == ["done"]
            assert keeping.acquire(blocking=False)

        keep_order_in_forks([])
        keeping.acquire()
        threading.Timer(0.2, end_of_round).start()
        assert in_child(in_the_child) == 0
        assert keeping.acquire(blocking=False)

    assert in_child(forks) == 0


def test_without_the_reloader_jobs_run_as_well(start_flask: StartFlask) -> None:
    server = start_flask("--debug", "--no-reload")
    assert server.ended(server.enqueue("add", 1, 2))["result"] == 3
    assert server.process is not None
    assert server.serving() == server.process.pid


def test_a_change_of_the_code_interrupts_a_job_and_it_runs_again(start_flask: StartFlask) -> None:
    server = start_flask("--debug")
    job_id = server.enqueue("wait", 60)
    server.starts(job_id)
    server.change()
    job = server.ended(job_id)
    assert outcomes(job) == ["interrupted", "succeeded"]
    assert job["result"] == 2


def test_two_quick_reloads_leave_one_child_process(start_flask: StartFlask) -> None:
    server = start_flask("--debug")
    server.runs()
    server.change()
    server.seen("Debugger is active", times=2)

    def reloads_again() -> bool:
        server.change()
        return server.log.count("Restarting with") > 2

    wait_until(reloads_again, every=0.2)
    assert server.ended(server.enqueue("add", 1, 2))["result"] == 3
    assert len(server.children()) == 1


def test_code_that_cannot_be_loaded_starts_no_child_until_it_is_mended(
    start_flask: StartFlask,
) -> None:
    server = start_flask("--debug")
    server.runs()
    server.change("raise RuntimeError('half written')\n")
    server.seen("the child process could not load the app", timeout=60)
    assert "RuntimeError: half written" in server.log
    wait_until(lambda: not server.children())
    server.change()
    server.runs(times=2)
    assert "died" not in server.log


@pytest.mark.parametrize(
    ("options", "who", "number"),
    [
        (["--debug"], "all", signal.SIGINT),
        (["--debug"], "first", signal.SIGTERM),
        (["--debug"], "serving", signal.SIGKILL),
        (["--debug", "--no-reload"], "all", signal.SIGINT),
        (["--debug", "--no-reload"], "first", signal.SIGTERM),
        (["--debug", "--no-reload"], "first", signal.SIGKILL),
    ],
    ids=lambda value: "" if isinstance(value, list) else str(getattr(value, "name", value)),
)
def test_however_the_server_ends_its_child_ends_with_it(
    start_flask: StartFlask, options: list[str], who: str, number: signal.Signals
) -> None:
    server = start_flask(*options)
    server.starts(server.enqueue("wait", 60))
    assert server.process is not None
    if who == "all":
        server.send_to_all(number)
    else:
        os.kill(server.process.pid if who == "first" else server.serving(), number)
    server.wait_for_end()
    assert "another one is started" not in server.log


def test_the_job_of_a_stopped_server_runs_again_in_the_next_one(start_flask: StartFlask) -> None:
    server = start_flask("--debug", "--no-reload")
    job_id = server.enqueue("wait", 60)
    server.starts(job_id)
    server.stop(signal.SIGINT)
    again = start_flask("--debug", "--no-reload")
    assert outcomes(again.ended(job_id)) == ["interrupted", "succeeded"]


def test_a_second_development_server_waits_for_the_first(start_flask: StartFlask) -> None:
    first = start_flask("--debug", "--no-reload")
    first.runs()
    second = start_flask("--debug", "--no-reload")
    second.seen("another process runs the jobs of", timeout=60)
    first.stop(signal.SIGINT)
    second.runs()
    assert second.ended(second.enqueue("add", 1, 2))["result"] == 3


def test_without_debug_jobs_wait_and_the_log_says_so(start_flask: StartFlask) -> None:
    server = start_flask()
    assert "Spooler: jobs wait for uWSGI; flask run --debug would run them" in server.log
    assert server.job(server.enqueue("add", 1, 2))["state"] == "queued"
    assert server.children() == []


def test_the_lines_that_the_guide_shows_are_those_of_the_server(
    start_flask: StartFlask, tmp_path: Path
) -> None:
    code, *lines = re.findall(r"```(?:python|text)\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (tmp_path / "app.py").write_text(code)
    server = start_flask("--debug")
    job_id = server.post("/greetings/Ada").text.strip()
    server.seen(f"job {job_id} succeeded", timeout=60)
    said = re.sub(r"process \d+|job \w+|in [\d.]+ s", "…", server.log)
    for line in re.sub(r"process \d+|job \w+|in [\d.]+ s", "…", "".join(lines)).splitlines():
        assert f"{line}\n" in said


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What each child process would be told that is started."""
    told: list[list[str]] = []
    monkeypatch.setattr(development, "_keep_a_child", told.append)
    monkeypatch.setattr(development, "_is_decided", False)
    monkeypatch.delenv("WERKZEUG_RUN_MAIN", raising=False)
    monkeypatch.setenv("FLASK_DEBUG", "1")
    return told


def make_app(directory: Path, **config: Any) -> Flask:
    app = Flask("shop")
    app.config.update(SPOOLER_DIRECTORY=directory / "spool", **config)
    Spooler(app)
    return app


def as_command(info: ScriptInfo, name: str = "run", **params: Any) -> click.Context:
    context = click.Context(run_command, info_name=name, obj=info)
    context.params = params
    return context


def settled() -> None:
    """Let threads that were started come to their end."""
    for thread in threading.enumerate():
        if thread.name == "jobs":
            thread.join(30)


def create_shop() -> Flask:
    raise AssertionError("only its name is asked for")


@pytest.mark.parametrize(
    ("info", "told"),
    [
        (ScriptInfo("shop:create_app('x')"), ["shop:create_app('x')"]),
        (ScriptInfo(), []),
        (ScriptInfo(create_app=create_shop), [f"{__name__}:create_shop"]),
    ],
    ids=["named", "found", "factory"],
)
def test_the_child_is_told_where_the_app_is(
    tmp_path: Path, starts: list[list[str]], info: ScriptInfo, told: list[str]
) -> None:
    with as_command(info, reload=False):
        make_app(tmp_path)
    settled()
    assert starts == [told]


def test_the_reloader_itself_starts_none_and_the_server_it_starts_does(
    tmp_path: Path, starts: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_command(ScriptInfo("shop")):
        make_app(tmp_path)
        assert starts == []
        monkeypatch.setenv("WERKZEUG_RUN_MAIN", "true")
        make_app(tmp_path)
    settled()
    assert starts == [["shop"]]


def test_several_apps_of_one_server_have_one_child(tmp_path: Path, starts: list[list[str]]) -> None:
    with as_command(ScriptInfo("shop"), reload=False):
        make_app(tmp_path / "first")
        make_app(tmp_path / "second")
    settled()
    assert starts == [["shop"]]


@pytest.mark.parametrize("config", [{"TESTING": True}, {"SPOOLER_EAGER": True}], ids=str)
def test_tests_start_none(tmp_path: Path, starts: list[list[str]], config: dict[str, Any]) -> None:
    with as_command(ScriptInfo("shop"), reload=False):
        make_app(tmp_path, **config)
    settled()
    assert starts == []


@pytest.mark.parametrize("debug", ["1", "0"])
def test_a_server_of_an_app_that_is_being_tested_says_that_no_job_runs(
    tmp_path: Path,
    starts: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    debug: str,
) -> None:
    monkeypatch.setenv("FLASK_DEBUG", debug)
    with as_command(ScriptInfo("shop"), reload=False):
        make_app(tmp_path, TESTING=True)
        make_app(tmp_path, TESTING=True)
    settled()
    assert starts == []
    said = capsys.readouterr().err
    assert said == f" * Spooler: {development.BEING_TESTED}\n"


@pytest.mark.parametrize("name", ["shell", "routes", "spooler"])
def test_other_commands_start_none(tmp_path: Path, starts: list[list[str]], name: str) -> None:
    with as_command(ScriptInfo("shop"), name):
        make_app(tmp_path)
    settled()
    assert starts == []


def test_app_run_says_what_runs_jobs(
    tmp_path: Path,
    starts: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WERKZEUG_RUN_MAIN", "true")
    make_app(tmp_path)
    settled()
    assert starts == []
    said = capsys.readouterr().err
    assert said == (
        " * Spooler: jobs wait for uWSGI; flask run --debug would run them, app.run() does not\n"
    )


def test_a_factory_that_nobody_can_import_is_told(
    tmp_path: Path, starts: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with as_command(ScriptInfo(create_app=lambda: Flask("shop")), reload=False):
        make_app(tmp_path)
    settled()
    assert starts == []
    assert "the app's factory cannot be imported" in capsys.readouterr().err


def run_child(directory: Path, code: str, parent: int) -> subprocess.CompletedProcess[str]:
    (directory / "shop.py").write_text(code)
    return subprocess.run(
        [sys.executable, "-m", "flask_spooler.development", str(parent), "shop"],
        cwd=directory,
        env={**os.environ, "SPOOLER_DIRECTORY": str(directory / "spool")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


APP_IN_TESTS = """
from flask import Flask
from flask_spooler import Spooler
app = Flask(__name__)
Spooler(app)
app.testing = True
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (APP_IN_TESTS, "no job runs: TESTING is on; leave it out of the app's configuration"),
        ("from flask import Flask\napp = Flask(__name__)\n", ""),
        ("", "no job runs, the child process has not found the app: Failed to find Flask"),
    ],
    ids=["in-tests", "without-jobs", "no-app"],
)
def test_a_child_with_nothing_to_run_gives_up(tmp_path: Path, code: str, said: str) -> None:
    done = run_child(tmp_path, code, os.getpid())
    assert done.returncode == development.GIVEN_UP
    assert said in done.stderr
    assert bool(done.stderr) == bool(said)


def test_a_child_that_gives_up_has_no_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    watching = threading.Thread(target=development._keep_a_child, args=[[]], daemon=True)
    watching.start()
    watching.join(30)
    assert not watching.is_alive()
    assert capfd.readouterr().err.count("has not found the app") == 1


def test_a_child_whose_parent_is_gone_already_ends_before_it_loads_the_app(tmp_path: Path) -> None:
    done = run_child(tmp_path, "raise RuntimeError\n", parent=1)
    assert (done.returncode, done.stderr) == (0, "")


def test_of_two_apps_on_one_spool_the_last_one_runs_the_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(development, "seats", {})
    make_app(tmp_path)
    last = make_app(tmp_path)
    other = make_app(tmp_path / "other")
    assert development.seats is not None
    assert [seat.app for seat in development.seats.values()] == [last, other]
