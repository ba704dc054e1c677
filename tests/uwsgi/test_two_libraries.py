"""Other libraries that use the spooler of the same server: served where the app wants that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import jobs
import pytest
from jobs import notes
from server import HERE, Server, client, ended, wait_until

Start = Callable[..., Server]

FOREIGN = ("--module", "foreign_app:app")
WAYS = ("spool", "spool_with_arguments", "spoolraw", "uwsgi_tasks")


def spool(server: Server, way: str, path: Path, word: str) -> None:
    answer = server.get(f"/foreign/{way}?path={quote(str(path))}&word={word}")
    assert answer.json == {"spooled": way}


def in_corrupt(server: Server) -> list[str]:
    return [name for name in server.files() if name.startswith("corrupt/")]


def test_the_functions_of_other_libraries_run_beside_our_jobs(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(options=FOREIGN)
    out, ours = tmp_path / "out", tmp_path / "ours"
    with client(jobs.spooler, server.directory):
        for number in range(5):
            for way in WAYS:
                spool(server, way, out, f"{way}-{number}")
            job = ended(jobs.write.enqueue(str(ours)))
            assert job["state"] == "succeeded"
    wait_until(lambda: server.files() == [], timeout=60)
    ran = [tuple(line) for line in notes(out)]
    expected = {(way, f"{way}-{number}") for way in WAYS for number in range(5)}
    assert set(ran) == expected
    # The very first spoolraw asks to be run again, every other one runs once.
    assert len(ran) == len(expected) + 1
    assert len(notes(ours)) == 5


def test_a_function_of_another_library_that_raises_is_tried_again_without_haste(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1, options=FOREIGN)
    out, ours = tmp_path / "out", tmp_path / "ours"
    spool(server, "raises", out, "first")
    wait_until(lambda: notes(out))
    done = 0
    with client(jobs.spooler, server.directory):
        while len(notes(out)) < 3:
            assert ended(jobs.write.enqueue(str(ours)))["state"] == "succeeded"
            done += 1
    assert done > 10, "every job of ours brought a run of the failing one with it"
    assert len(notes(out)) == 3
    assert in_corrupt(server) == []


def test_a_packet_that_no_library_marks_is_put_aside_and_never_run(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(options=FOREIGN)
    spool(server, "bare", tmp_path / "out", "bare")
    wait_until(lambda: len(in_corrupt(server)) == 1)
    assert server.files() == in_corrupt(server)
    with client(jobs.spooler, server.directory):
        assert ended(jobs.write.enqueue(str(tmp_path / "ours")))["state"] == "succeeded"
    assert "is no job of this spool and was moved to corrupt/" in server.log
    assert notes(tmp_path / "out") == []


def test_an_app_that_has_not_opted_in_runs_no_foreign_packet_and_keeps_them_all(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(options=FOREIGN, environment={"FLASK_SPOOLER_FOREIGN_PACKETS": "[]"})
    out = tmp_path / "out"
    for way in (*WAYS, "raises", "bare"):
        spool(server, way, out, way)
    wait_until(lambda: len(in_corrupt(server)) == 6)
    assert server.files() == in_corrupt(server)
    with client(jobs.spooler, server.directory):
        assert ended(jobs.write.enqueue(str(tmp_path / "ours")))["state"] == "succeeded"
    assert notes(out) == []
    assert server.log.count("was moved to corrupt/") == 6


def test_an_app_that_has_opted_in_to_one_library_runs_only_its_packets(
    start_server: Start, tmp_path: Path
) -> None:
    environment = {"FLASK_SPOOLER_FOREIGN_PACKETS": '["uwsgi_tasks"]'}
    server = start_server(options=FOREIGN, environment=environment)
    for way in ("spool", "uwsgi_tasks"):
        spool(server, way, tmp_path / "out", way)
    wait_until(lambda: len(in_corrupt(server)) == 1 and server.files() == in_corrupt(server))
    assert notes(tmp_path / "out") == [["uwsgi_tasks", "uwsgi_tasks"]]


@pytest.mark.parametrize("module", ["uwsgidecorators", "uwsgi_tasks"])
def test_a_library_that_a_task_imports_does_not_take_the_spooler_away(
    start_server: Start, module: str
) -> None:
    server = late_server(start_server, "late_app")
    finished(server, enqueued(server, "late_app.imports", f"module={module}"))
    finished(server, enqueued(server, "late_app.works"))
    wait_until(lambda: server.files() == [])


def test_a_library_imported_after_our_app_was_set_up_does_not_take_the_spooler_away(
    start_server: Start,
) -> None:
    server = late_server(start_server, "late_import_app")
    for _ in range(3):
        finished(server, enqueued(server, "late_app.works"))
    wait_until(lambda: server.files() == [])


def late_server(start_server: Start, module: str) -> Server:
    """Start a server with one spooler for an app that is not the reference app."""
    return start_server(
        processes=1,
        ini=str(HERE / "late.ini"),
        spooler_import=module,
        options=("--module", f"{module}:app"),
    )


def flask(server: Server, *words: str) -> str:
    return server.python("-m", "flask", "--app", "late_app:app", "spooler", *words).stdout.strip()


def enqueued(server: Server, *words: str) -> str:
    return flask(server, "enqueue", *words)


def finished(server: Server, job_id: str) -> None:
    wait_until(lambda: "succeeded" in flask(server, "show", job_id))
