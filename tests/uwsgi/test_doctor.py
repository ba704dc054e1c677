"""The doctor beside real servers: silent on a right one, and not on those with a mistake."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from server import HERE, ROOT, Server, wait_until

from flask_spooler.doctor.ini import LOOKED_AT, read_ini
from flask_spooler.doctor.note import JOBS, ServerNote

Start = Callable[..., Server]

REFERENCE = (ROOT / "uwsgi.ini").read_text().replace("chdir = %d", f"chdir = {ROOT}")

OF_THE_DISK = {"file system", "room", "inodes"}
"""What depends on where the tests run, and not on the server."""


def without(start: str) -> str:
    """The reference server's ini without the lines that begin so."""
    kept = [line for line in REFERENCE.splitlines() if not line.startswith(start)]
    assert len(kept) < len(REFERENCE.splitlines())
    return "\n".join(kept)


def start_with(start_server: Start, tmp_path: Path, text: str, **settings: Any) -> Server:
    """Start a server with this ini, and wait until it has noted how it was started."""
    file = tmp_path / "planted.ini"
    file.write_text(text)
    server = start_server(ini=str(file), **settings)
    noted(server)
    return server


def noted(server: Server, name: str = JOBS, *, whole: bool = True) -> ServerNote:
    """Wait until the server has noted its start, and what its spoolers know."""
    file = server.directory / name

    def note() -> ServerNote | None:
        if not file.exists():
            return None
        found = msgspec.json.decode(file.read_bytes(), type=ServerNote)
        return found if found.is_complete or not whole else None

    return wait_until(note)


def examined(server: Server) -> dict[str, dict[str, Any]]:
    """What the doctor says is not right, by name."""
    return not_right(server.flask("spooler", "doctor", "--json", check=False).stdout)


def not_right(output: str) -> dict[str, dict[str, Any]]:
    """What stands in the doctor's JSON, but for the disk under the test."""
    return {
        finding["name"]: finding
        for finding in json.loads(output)
        if not finding["ok"] and finding["name"] not in OF_THE_DISK
    }


def test_the_doctor_is_silent_on_the_reference_server(start_server: Start) -> None:
    server = start_server(spooler_import="app")
    noted(server)
    for words in ((), ("--ini", "uwsgi.ini")):
        done = server.python("-m", "flask", "--app", "app", "spooler", "doctor", *words)
        lines = [line for line in done.stdout.splitlines() if line and not line.startswith(" ")]
        assert all(any(name in line for name in OF_THE_DISK) for line in lines), done.stdout
        assert done.stderr == ""


def test_the_doctor_is_silent_on_a_server_whose_tasks_only_its_spoolers_import(
    server: Server,
) -> None:
    noted(server)
    assert examined(server) == {}


def test_a_server_with_nothing_wrong_says_nothing_at_its_start(server: Server) -> None:
    noted(server)
    server.succeeded(server.get("/uwsgi_spool?duration=0").json["id"])
    assert "doctor: " not in server.log


PLANTED = {
    "not strict": (without("strict"), "strict"),
    "no threads": (without("enable-threads"), "threads"),
    "SIGTERM reloads": (without("hook-master-start = unix_signal:15"), "graceful stop"),
    "no housekeeper": (without("mule"), "housekeeper"),
    "a mule that does something else": (
        REFERENCE.replace("mule = flask_spooler.housekeeper:run", "mule = signal:pause"),
        "housekeeper",
    ),
    "the default frequency": (without("spooler-frequency"), "frequency"),
    "a busy loop": (REFERENCE.replace("frequency = 1", "frequency = 0.5"), "frequency"),
    "no order": (without("spooler-ordered"), "order"),
    "a housekeeper with a typing error": (
        REFERENCE.replace("housekeeper:run", "housekeper:run"),
        "housekeeper",
    ),
    "the pool's size in a placeholder": (
        f"{REFERENCE}\nset-placeholder = pool=4\nspooler-processes = %(pool)\n",
        "pool",
    ),
    "a module that spoolers cannot import": (
        f"{REFERENCE}\nspooler-import = no_such_module\n",
        "spooler import",
    ),
    "no web worker": (without("http-socket"), "web worker"),
    "a socket for everybody": (
        f"{REFERENCE}\nsocket = %(socket)\nchmod-socket = 666\n",
        "sockets",
    ),
}
"""Each with the finding that must come of it."""


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that everybody on this machine may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_mistake_in_a_running_server_is_found_and_logged_at_its_start(
    tmp_path: Path, open_to_all: Path, mistake: str
) -> None:
    text, name = PLANTED[mistake]
    text = text.replace("%(socket)", str(open_to_all / "a.sock"))
    file = tmp_path / "planted.ini"
    file.write_text(text)
    server = Server(directory=tmp_path / "spool", log_file=tmp_path / "log", ini=str(file))
    try:
        server.start(wait=False)
        lives = "typing error" not in mistake  # a mule that ends at once says so every second
        noted(server, whole=lives)
        found = examined(server)
        assert list(found) == [name]
        assert found[name]["grade"] == "wrong"
        assert found[name]["fix"]
        problem = f"doctor: {name}: {found[name]['problem']}"
        server.seen(problem if lives else "No module named")
    finally:
        server.kill()


def test_a_running_server_and_its_ini_are_read_alike(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
    read = read_ini(ROOT / "uwsgi.ini", server.variables)
    note = noted(server)
    assert note.all_options
    expected = {name: read.all(name) for name, _ in read.pairs if name in LOOKED_AT}
    expected["spooler-import"].append("jobs")
    assert {name: values(note, name) for name in expected} == expected


def values(note: ServerNote, name: str) -> list[str]:
    return [value for option, value in note.options if option == name]


def test_a_server_that_runs_older_code_is_found_until_it_is_reloaded(
    start_server: Start, tmp_path: Path
) -> None:
    code = tmp_path / "late.py"
    code.write_text("from jobs import app, spooler\n")
    server = start_server(spooler_import="late", environment={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    noted(server)
    assert late(server) == {}
    code.write_text(f"{code.read_text()}\n@spooler.task\ndef fresh() -> None: ...\n")
    found = late(server)
    assert list(found) == ["tasks"]
    assert "late.fresh" in found["tasks"]["problem"]
    before = noted(server).boot
    server.send(signal.SIGHUP)
    wait_until(lambda: noted(server).boot != before and not late(server))


def late(server: Server) -> dict[str, Any]:
    """What the doctor says of the app in ``late.py``."""
    path = [*server.environment["PYTHONPATH"].split(":"), str(HERE)]
    words = ["--app", "late:app", "spooler", "doctor", "--json"]
    program = f"import sys; sys.path[:0] = {path}; from flask.cli import cli; cli.main({words})"
    return not_right(server.python("-c", program, check=False).stdout)


def test_a_server_that_has_ended_is_found(start_server: Start) -> None:
    server = start_server()
    noted(server)
    server.stop()
    assert list(examined(server)) == ["server"]
    server.start()
    wait_until(lambda: not examined(server))


def test_a_server_without_a_master_is_found_in_its_ini(start_server: Start, tmp_path: Path) -> None:
    server = start_server()
    file = tmp_path / "planted.ini"
    file.write_text(REFERENCE.replace("master = true", "master = false"))
    done = server.flask("spooler", "doctor", "--ini", str(file), check=False)
    assert done.returncode == 1
    assert "fix: set master = true" in done.stdout


def test_what_is_wrong_is_logged_once_a_boot(start_server: Start, tmp_path: Path) -> None:
    file = tmp_path / "planted.ini"
    file.write_text(without("spooler-frequency"))
    server = start_server(ini=str(file))
    server.seen("doctor: frequency")
    (mule,) = server.pids("mule")
    mark = len(server.log)
    os.kill(mule, signal.SIGKILL)
    wait_until(lambda: server.pids("mule") not in ([], [mule]))
    server.succeeded(server.get("/uwsgi_spool?duration=0&delay=0.5").json["id"])
    assert "doctor: " not in server.log[mark:]
    server.send(signal.SIGHUP)
    server.seen("doctor: frequency", times=2, timeout=60)


def test_another_key_than_the_servers_is_found(start_server: Start) -> None:
    server = start_server(environment={"SPOOLER_KEY": "the key that the server signs with"})
    noted(server)
    assert examined(server) == {}
    server.environment["SPOOLER_KEY"] = "the key that the shell signs with"
    assert list(examined(server)) == ["key"]


def test_a_server_with_two_spooler_lines_starts(start_server: Start, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    file = tmp_path / "planted.ini"
    file.write_text(f"{REFERENCE}\nspooler = {tmp_path / 'other'}\n")
    server = start_server(ini=str(file))
    server.succeeded(server.get("/uwsgi_spool?duration=0").json["id"])


def test_a_server_whose_spoolers_scan_another_directory_does_not_start(tmp_path: Path) -> None:
    server = Server(directory=tmp_path / "spool", log_file=tmp_path / "log")
    server.environment["FLASK_SPOOLER_DIRECTORY"] = str(server.directory)
    server.ini = str(tmp_path / "planted.ini")
    elsewhere = REFERENCE.replace("spooler = %(spool)", f"spooler = {tmp_path / 'elsewhere'}")
    Path(server.ini).write_text(elsewhere)
    try:
        server.start(wait=False)
        server.seen(f"that this server's spoolers scan ({tmp_path / 'elsewhere'})")
    finally:
        server.kill()


def test_a_server_without_spoolers_enqueues_for_another_and_says_what_is_missing(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_with(start_server, tmp_path, without("spooler = "), processes=1)
    job_id = server.get("/uwsgi_spool?duration=0").json["id"]
    found = examined(server)
    assert list(found) == ["pool"]
    server.seen(f"doctor: pool: {found['pool']['problem']}")
    assert "respawn" not in server.log, "its mule lives"
    other = start_server()  # beside it, on the same spool
    other.succeeded(job_id)
