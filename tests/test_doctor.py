"""The doctor without a server: each check finds its mistake and is silent on what is right."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result
from flask import Flask

from flask_spooler import Spooler, _uwsgi, doctor
from flask_spooler.cli import spooler_cli
from flask_spooler.config import Config
from flask_spooler.doctor import (
    Finding,
    application,
    at_start,
    directory,
    examine,
    names,
    server,
    starter,
)
from flask_spooler.doctor.ini import Options, Unreadable, read_command_line, read_ini
from flask_spooler.doctor.look import Facts, look
from flask_spooler.doctor.note import JOBS, WEB, ServerNote, library_version
from flask_spooler.doctor.starter import examine_first, examine_unit, unit_of
from flask_spooler.engine import SpoolEngine
from flask_spooler.job import QUEUED
from flask_spooler.spool import PLACES, Spool, fingerprint
from flask_spooler.spool.inspection import entries
from flask_spooler.spool.notes import Notes
from tests.helpers import make_job

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = (ROOT / "uwsgi.ini").read_text()
RUNS = server.Running(
    pool=10,
    workers=2,
    descriptors=4096,
    socket_modes={},
    failed_imports={},
    has_housekeeper=True,
    age=3600.0,
)


def problems(found: list[Finding]) -> dict[str, str]:
    """What is not right, by name, with its grade."""
    assert all(finding.fix for finding in found if not finding.ok)
    assert not any(finding.fix for finding in found if finding.ok)
    return {finding.name: finding.grade for finding in found if not finding.ok}


def ini(directory: Path, text: str) -> Path:
    file = directory / "uwsgi.ini"
    file.write_text(text)
    return file


def without(text: str, start: str) -> str:
    """The ini without the lines that begin so."""
    kept = [line for line in text.splitlines() if not line.startswith(start)]
    assert len(kept) < len(text.splitlines())
    return "\n".join(kept)


SHOP = """
[uwsgi]
chdir = {directory}
module = shop:app
spooler-import = shop_jobs.mail
mule = flask_spooler.housekeeper:run
set-placeholder = spoolers=4
processes = %(spoolers)
spooler-quiet = true
s = :8080
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A directory with an app, as an ini may name it."""
    (tmp_path / "shop_jobs").mkdir()
    (tmp_path / "shop_jobs" / "mail.py").write_text("raise AssertionError('nothing is imported')\n")
    (tmp_path / "shop.py").write_text("app = object()\nraise AssertionError('nor this')\n")
    return tmp_path


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("shop:app", "shpo:app", "no such module for uWSGI to import: module = shpo:app"),
        ("shop:app", "shop:ap", "nothing of that name in it: module = shop:ap"),
        ("shop:app", "shop", "nothing of that name in it: module = shop"),
        ("shop_jobs.mail", "tsaks", "no such module for uWSGI to import: spooler-import = tsaks"),
        ("shop_jobs.mail", "shop_jobs.mali", "spooler-import = shop_jobs.mali"),
        ("housekeeper:run", "housekeper:run", "mule = flask_spooler.housekeper:run"),
        ("spooler-quiet", "spooler-quite", "no such option: spooler-quite (for spooler-quiet)"),
        ("{directory}", "/nowhere", "module = shop:app, spooler-import = shop_jobs.mail"),
    ],
    ids=lambda text: text[:24],
)
def test_a_name_in_an_ini_that_leads_nowhere_is_found(
    shop: Path, before: str, after: str, told: str
) -> None:
    assert before in SHOP
    text = SHOP.replace(before, after).replace("{directory}", str(shop))
    (found,) = named(ini(shop, text))
    assert told in found.problem
    assert found.grade == "wrong"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("chdir = {directory}", ""),
        ("chdir = {directory}", "chdir = /\npythonpath = {directory}"),
        ("shop:app", "shop:app.wsgi_app"),
        ("shop:app", "shop\ncallable = app"),
        ("shop:app", "flask:Flask()"),
        ("shop:app", "%(unknown)"),
        ("shop_jobs.mail", "shop_jobs/mail.py"),
        ("spooler-quiet", "option-of-a-plugin"),
        ("shop:app", "elsewhere:app\nhome = /opt/another"),
    ],
)
def test_nothing_is_said_of_names_in_an_ini_that_are_right_or_cannot_be_told(
    shop: Path, before: str, after: str
) -> None:
    assert before in SHOP
    text = SHOP.replace(before, after) if before else SHOP
    assert named(ini(shop, text.replace("{directory}", str(shop)))) == []


@pytest.mark.parametrize(
    "source",
    [
        "from flask import *",
        "def __getattr__(name): ...",
        "globals()['app'] = 1",
        "x = ",
        "app: int",
    ],
)
def test_a_module_that_may_have_the_name_is_taken_for_right(shop: Path, source: str) -> None:
    (shop / "shop.py").write_text(source)
    assert named(ini(shop, SHOP.replace("{directory}", str(shop)))) == []


def test_without_a_uwsgi_to_ask_no_option_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert {"s", "socket", "spooler-quiet"} <= names.known_options()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert names.known_options() == frozenset()
    command = tmp_path / "uwsgi"
    command.write_text("no program\n")
    assert names.known_options() == frozenset(), "it cannot be run"
    options = Options((("spooler-quite", "true"),))
    assert problems(list(names.examine_options(options, names.known_options()))) == {}


def named(file: Path) -> list[Finding]:
    """What is not right with what an ini names."""
    options = read_ini(file, {})
    found = [
        *names.examine_options(options, names.known_options()),
        *names.examine_modules(options, file),
    ]
    return [finding for finding in found if not finding.ok]


# --- the ini file -----------------------------------------------------------------------------


def test_an_ini_is_read_as_uwsgi_reads_it(tmp_path: Path) -> None:
    (tmp_path / "more.ini").write_text("[uwsgi]\nmule = a\n[other]\nmule = b\n")
    options = read_ini(
        ini(
            tmp_path,
            """
            # comment
            ; comment
            before = the section
            [uwsgi]
            master
            chdir=%d
            socket = $(RUN)/%n.sock
            if-env = PORT
            set-placeholder = port=%(_)
            end-if
            set-placeholder = port=8080
            if-not-env = PORT
            http = never
            endif
            if-env = KIND=live
            processes = 4
            end-if
            if-env = KIND=test
            processes = 1
            end-if
            if-opt = master=true
            threads = 2
            end-if
            if-exists = /proc/self
            mule = %(_)
            end-if
            if-not-exists = /proc/self
            mule = no
            end-if
            http-socket = :%(port)
            spooler-processes = %(port)
            ini = more.ini
            ini = more.ini:other
            """,
        ),
        {"PORT": "99", "RUN": "/run", "KIND": "live"},
    )
    assert [pair for pair in options.pairs if pair[0] != "port"] == [
        ("master", "true"),
        ("chdir", f"{tmp_path}/"),
        ("socket", "/run/uwsgi.sock"),
        ("processes", "4"),
        ("threads", "2"),
        ("mule", "/proc/self"),
        ("http-socket", ":99"),
        ("spooler-processes", "%(port)"),
        ("mule", "a"),
        ("mule", "b"),
    ]


@pytest.mark.parametrize("logic", ["for = 1 2", "if-hostname = x", "if-plugin = python"])
def test_logic_that_the_reader_does_not_know_is_refused(tmp_path: Path, logic: str) -> None:
    file = ini(tmp_path, f"[uwsgi]\n{logic}\nmaster = true\n")
    with pytest.raises(Unreadable, match="cannot be followed"):
        read_ini(file, {})


def test_a_file_that_includes_itself_is_refused(tmp_path: Path) -> None:
    file = ini(tmp_path, "[uwsgi]\nini = %p\n")
    with pytest.raises(Unreadable, match="included by itself"):
        read_ini(file, {})


def test_a_command_line_is_read_with_its_files(tmp_path: Path) -> None:
    ini(tmp_path, "[uwsgi]\nspooler = %(spool)\nset-placeholder = spool=late\n")
    words = ["uwsgi", "--set-placeholder", "spool=early", "--ini", "uwsgi.ini"]
    words += ["--mule=a", "--master", "--http-socket", ":1"]
    found = read_command_line(words, str(tmp_path), {})
    assert found.all("spooler") == ["early"]
    assert found.all("mule", "master", "http-socket") == ["a", "true", ":1"]


# --- the server -------------------------------------------------------------------------------


def server_of(tmp_path: Path, text: str, running: server.Running | None = None) -> server.Server:
    return server.Server(read_ini(ini(tmp_path, text), {}), running)


@pytest.mark.parametrize("running", [None, RUNS], ids=["not running", "running"])
def test_the_reference_server_is_right(tmp_path: Path, running: server.Running | None) -> None:
    assert problems(server.examine_server(server_of(tmp_path, REFERENCE, running))) == {}


PLANTED: dict[str, tuple[Callable[[str], str], dict[str, str]]] = {
    "no master": (
        lambda text: text.replace("master = true", "master = false"),
        {"master": "wrong"},
    ),
    "not strict": (lambda text: without(text, "strict"), {"strict": "wrong"}),
    "starts without its app": (
        lambda text: without(text, "need-app"),
        {"need-app": "worth knowing"},
    ),
    "no threads": (lambda text: without(text, "enable-threads"), {"threads": "wrong"}),
    "several interpreters": (
        lambda text: without(text, "single-interpreter") + "\nmount = /a=a\nmount = /b=b\n",
        {"interpreter": "wrong"},
    ),
    "perhaps several interpreters": (
        lambda text: without(text, "single-interpreter"),
        {"interpreter": "worth knowing"},
    ),
    "half of what a fork needs": (
        lambda text: f"{text}\npy-call-osafterfork = true\n",
        {"fork hooks": "wrong"} if sys.version_info >= (3, 13) else {},
    ),
    "fork hooks that mules die of": (
        lambda text: f"{text}\npy-call-uwsgi-fork-hooks = true\n",
        {"fork hooks": "wrong"},
    ),
    "SIGTERM reloads": (
        lambda text: without(text, "hook-master-start = unix_signal:15"),
        {"graceful stop": "wrong"},
    ),
    "SIGTERM kills": (
        lambda text: without(text, "hook-master-start") + "\ndie-on-term = true\n",
        {"graceful stop": "wrong", "ctrl-c": "worth knowing"},
    ),
    "Ctrl-C kills": (
        lambda text: without(text, "hook-accepting"),
        {"ctrl-c": "worth knowing"},
    ),
    "no web worker": (lambda text: without(text, "http-socket"), {"web worker": "wrong"}),
    "no spooler": (lambda text: without(text, "spooler = "), {"pool": "wrong"}),
    "the pool's size is a placeholder": (
        lambda text: text.replace("spooler-processes = 10", "spooler-processes = %(port)"),
        {"pool": "wrong"},
    ),
    "lazy apps": (lambda text: f"{text}\nlazy-apps = true\n", {"spooler import": "wrong"}),
    "no order": (lambda text: without(text, "spooler-ordered"), {"order": "wrong"}),
    "the default frequency": (
        lambda text: without(text, "spooler-frequency"),
        {"frequency": "wrong"},
    ),
    "a busy loop": (
        lambda text: text.replace("frequency = 1", "frequency = 0.5"),
        {"frequency": "wrong"},
    ),
    "no housekeeper": (lambda text: without(text, "mule"), {"housekeeper": "wrong"}),
    "another mule": (
        lambda text: text.replace("mule = flask_spooler.housekeeper:run", "mule = mine:run"),
        {"housekeeper": "worth knowing"},
    ),
    "a socket for everybody here": (
        lambda text: f"{text}\nsocket = /run/a.sock\nchmod-socket = 666\n",
        {"sockets": "wrong"},
    ),
    "a socket for everybody out there": (
        lambda text: f"{text}\nsocket = :3031\n",
        {"sockets": "wrong"},
    ),
    "a housekeeper without a pool": (
        lambda text: text.replace("\nspooler = ", "\nspooler-external = "),
        {"housekeeper": "wrong"},
    ),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_each_mistake_in_an_ini_is_found_and_nothing_else(tmp_path: Path, mistake: str) -> None:
    plant, expected = PLANTED[mistake]
    assert problems(server.examine_server(server_of(tmp_path, plant(REFERENCE)))) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"pool": 1}, {"pool": "wrong"}),
        ({"workers": 0}, {"web worker": "wrong"}),
        ({"failed_imports": {"typo": "ImportError: no"}}, {"spooler import": "wrong"}),
        ({"has_housekeeper": False}, {"housekeeper": "wrong"}),
        ({"has_housekeeper": False, "age": 5.0}, {}),
        ({"descriptors": 2**30}, {}),
    ],
    ids=["pool", "workers", "imports", "housekeeper", "housekeeper starts", "max-fd set"],
)
def test_what_only_a_running_server_shows_is_found(
    tmp_path: Path, change: dict[str, Any], expected: dict[str, str]
) -> None:
    running = replace(RUNS, **change)
    assert problems(server.examine_server(server_of(tmp_path, REFERENCE, running))) == expected


def test_gigabytes_of_descriptors_are_found(tmp_path: Path) -> None:
    running = replace(RUNS, descriptors=2**30)
    found = server.examine_server(server_of(tmp_path, without(REFERENCE, "max-fd"), running))
    assert problems(found) == {"descriptors": "wrong"}


def test_the_mode_of_a_socket_counts_more_than_what_was_asked_for(tmp_path: Path) -> None:
    text = f"{REFERENCE}\nsocket = a.sock\nchmod-socket = 666\n"
    running = replace(RUNS, socket_modes={"a.sock": 0o660})
    assert problems(server.examine_server(server_of(tmp_path, text, running))) == {}


def test_a_socket_on_this_machine_is_too_open_where_packets_can_run_code(tmp_path: Path) -> None:
    text = f"{REFERENCE}\nsocket = 127.0.0.1:3031\n"
    found = server_of(tmp_path, text)
    assert problems(server.examine_server(found)) == {}
    found = replace(found, runs_foreign_packets=True)
    assert problems(server.examine_server(found)) == {"sockets": "wrong"}


def test_hooks_that_cannot_be_told_are_not_missed() -> None:
    last = (("hook-master-start", "unix_signal:3 gracefully_kill_them_all"),)
    for complete, expected in ((False, True), (True, False)):
        found = server.examine_server(server.Server(Options(last, complete)))
        (stop,) = [finding for finding in found if finding.name == "graceful stop"]
        assert stop.ok is expected


# --- the unit ---------------------------------------------------------------------------------

UNIT = {"KillMode": "mixed", "KillSignal": "15", "TimeoutStopUSec": "1min 30s", "MainPID": "1"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {}),
        ({"KillMode": "control-group"}, {"systemd": "wrong"}),
        ({"KillSignal": "2"}, {"systemd signal": "wrong"}),
        ({"TimeoutStopUSec": "30s"}, {"systemd timeout": "wrong"}),
        ({"TimeoutStopUSec": "infinity"}, {}),
    ],
    ids=["right", "mode", "signal", "timeout", "no limit"],
)
def test_each_mistake_in_a_unit_is_found(change: dict[str, str], expected: dict[str, str]) -> None:
    assert problems(list(examine_unit(UNIT | change, grace=30))) == expected


def test_a_server_without_a_unit_is_right() -> None:
    assert list(examine_unit({}, grace=30)) == []


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("MainPID=4999977\nKillMode=mixed\n", {"MainPID": "4999977", "KillMode": "mixed"}),
        ("MainPID=78\nKillMode=mixed\n", {}),
        ("", {}),
    ],
    ids=["its unit", "a unit that it only lies in", "nothing"],
)
def test_a_unit_is_that_of_the_server_when_it_is_its_main_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, found: dict[str, str]
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\nprintf '{said}'\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(starter, "unit_name", lambda cgroup: "shop.service")
    assert unit_of(4_999_977) == {}, "no such process"
    monkeypatch.setattr(Path, "read_text", lambda path: "0::/system.slice/shop.service")
    assert unit_of(4_999_977) == found


@pytest.mark.parametrize(
    ("master", "parent", "first", "expected"),
    [
        (7, 1, "sh", {"process 1": "worth knowing"}),
        (1, 0, "uwsgi", {}),
        (7, 1, "tini", {}),
        (7, 6, "bash", {}),
        (7, 0, "", {}),
    ],
    ids=["shell", "itself", "init", "behind another", "hidden"],
)
def test_a_shell_that_keeps_the_stop_to_itself_is_found(
    master: int, parent: int, first: str, expected: dict[str, str]
) -> None:
    assert problems(list(examine_first(master, parent, first))) == expected


# --- the directory ----------------------------------------------------------------------------

WANTED = directory.Wanted(server_user=os.geteuid())


@pytest.fixture
def facts(engine: SpoolEngine) -> Facts:
    """What a look at a prepared spool shows, as if it lay on a disk with room."""
    assert engine.key
    return replace(look(engine.spool), file_system="ext4", free_bytes=2**40, free_files=10**6)


def test_a_prepared_spool_is_right(facts: Facts) -> None:
    assert problems(directory.examine_directory(facts, WANTED)) == {}
    assert facts.failed_test == ""
    assert set(facts.devices) == {".", *PLACES}


def test_a_look_leaves_nothing_behind(spool: Spool) -> None:
    before = entries(spool.root), spool.counts()
    look(spool)
    assert [entry.name for entry in before[0]] == [entry.name for entry in entries(spool.root)]
    assert before[1] == spool.counts()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"mode": 0o755}, {"mode": "wrong"}),
        ({"owner": 12345}, {"owner": "wrong", "owner of files": "wrong"}),
        ({"file_system": "nfs4"}, {"file system": "wrong"}),
        ({"file_system": "fuse.sshfs"}, {"file system": "wrong"}),
        ({"file_system": "vfat"}, {"file system": "wrong"}),
        ({"file_system": "tmpfs"}, {"file system": "worth knowing"}),
        ({"file_system": "overlay"}, {"file system": "worth knowing"}),
        ({"file_system": ""}, {}),
        ({"devices": {".": 1, "waiting": 2}}, {"one file system": "wrong"}),
        ({"failed_test": "lock: No locks available"}, {"self-test": "wrong"}),
        ({"free_bytes": 2**20}, {"room": "wrong"}),
        ({"free_bytes": 2**29, "total_bytes": 2**40}, {"room": "worth knowing"}),
        ({"free_bytes": 2**29, "total_bytes": 2**30}, {}),
        ({"free_files": 5, "total_files": 10**6}, {"inodes": "wrong"}),
        ({"free_files": 0, "total_files": 0}, {}),
        ({"clock_skew": -60.0}, {"clock of the files": "wrong"}),
        ({"corrupt": 2}, {"corrupt files": "worth knowing"}),
    ],
    ids=lambda value: ", ".join(value) or "right",
)
def test_each_mistake_of_a_directory_is_found(
    facts: Facts, change: dict[str, Any], expected: dict[str, str]
) -> None:
    wanted = replace(WANTED, server_user=os.geteuid() or 1) if "owner" in change else WANTED
    assert problems(directory.examine_directory(replace(facts, **change), wanted)) == expected


def test_memory_will_do_where_a_power_cut_may_cost_jobs(facts: Facts) -> None:
    wanted = replace(WANTED, survives_power_cuts=False)
    in_memory = replace(facts, file_system="tmpfs")
    assert problems(directory.examine_directory(in_memory, wanted)) == {}


def look_again(spool: Spool, facts: Facts) -> dict[str, str]:
    """What is wrong with the spool as it is now, but for the disk that it lies on."""
    room = {"file_system": "ext4", "free_bytes": 2**40, "free_files": 10**6}
    return problems(directory.examine_directory(replace(look(spool), **room), WANTED))


def test_what_others_may_read_is_found(spool: Spool, facts: Facts) -> None:
    assert spool.key.read_or_make()
    spool.key.path.chmod(0o644)
    assert look_again(spool, facts) == {"mode": "wrong"}


@pytest.mark.parametrize("name", ["notes.txt", "7/", "job.py"])
def test_foreign_files_are_found(spool: Spool, facts: Facts, name: str) -> None:
    stranger = spool.root / name
    if name.endswith("/"):
        stranger.mkdir()
    else:
        stranger.touch()
    assert look_again(spool, facts) == {"foreign files": "worth knowing"}


def test_a_directory_of_others_is_to_be_left_to_them(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    tmp_path.chmod(0o755)
    found = directory.examine_directory(look(Spool(tmp_path)), WANTED)
    fixes = {finding.name: finding.fix for finding in found if finding.fix}
    for name in ("mode", "foreign files"):
        assert "of its own in SPOOLER_DIRECTORY" in fixes[name]
    assert not any("chmod" in fix or "move" in fix for fix in fixes.values())


@pytest.mark.parametrize("name", [".gitkeep", "lost+found", "ledger.db-wal", "uwsgi_spoolfile_on_"])
def test_what_belongs_there_or_comes_and_goes_is_right(
    spool: Spool, facts: Facts, name: str
) -> None:
    (spool.root / name).touch(0o600)
    assert look_again(spool, facts) == {}


@pytest.mark.parametrize(("size", "opted_in"), [(0, True), (100, False)], ids=["cut", "unsigned"])
def test_files_that_nobody_will_ever_take_are_found(
    spool: Spool, facts: Facts, size: int, opted_in: bool
) -> None:
    stuck = spool.root / "uwsgi_spoolfile_on_host_1_1_1_1"
    stuck.write_bytes(b"x" * size)
    os.utime(stuck, (1, 1))
    wanted = replace(WANTED, runs_foreign_packets=opted_in)
    found = directory.examine_directory(replace(look(spool), file_system="ext4"), wanted)
    assert "stuck files" in problems(found)


def test_a_ledger_that_was_set_aside_is_found(spool: Spool, facts: Facts) -> None:
    (spool.root / "ledger.db.unusable-1").touch(0o600)
    assert look_again(spool, facts) == {"damaged ledger": "worth knowing"}


def test_a_disk_that_fails_is_found(
    spool: Spool, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    assert look(spool).failed_test == "sync: Input/output error"


def test_locks_that_lock_nobody_out_are_found(
    spool: Spool, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.fcntl", lambda *arguments: b"")
    assert look(spool).failed_test == "a lock locks nobody out"


# --- the app ----------------------------------------------------------------------------------

NOTE = ServerNote(
    boot=str(_uwsgi.boot()),
    at=time.time(),
    version="1.0",
    uwsgi="2.0.31",
    key="",
    python="3.11",
    directory="/",
    options=list(read_ini(ROOT / "uwsgi.ini", {}).pairs),
    all_options=True,
    tasks=["a", "b"],
    is_complete=True,
    pool=10,
    workers=2,
    user=os.geteuid(),
    descriptors=4096,
)


@pytest.mark.parametrize(
    ("registered", "version", "expected"),
    [
        (["a"], "1.0", {}),
        (["a", "b", "c"], "1.0", {"tasks": "wrong"}),
        ([], "1.0", {"tasks": "worth knowing"}),
        (["a"], "1.1", {"version": "worth knowing"}),
        (["a"], "", {}),
    ],
    ids=["right", "unknown task", "no tasks", "other version", "unknown version"],
)
def test_tasks_that_spoolers_do_not_know_are_found(
    registered: list[str], version: str, expected: dict[str, str]
) -> None:
    assert problems(list(application.examine_tasks(registered, NOTE, version))) == expected


@pytest.mark.parametrize(
    ("given", "kept", "noted", "mine", "expected"),
    [
        (None, None, None, "x", {}),
        (None, b"k" * 64, "x", "x", {}),
        (b"0123456789abcdef", None, "x", "x", {}),
        (b"0123456789abcdef", b"k" * 64, "y", "x", {"key": "wrong"}),
        (b"aaaaaaaaaaaaaaaa", None, "x", "x", {"key": "wrong"}),
    ],
    ids=["none yet", "own", "given", "another than the server's", "guessable"],
)
def test_a_key_that_will_not_do_is_found(
    given: bytes | None,
    kept: bytes | None,
    noted: str | None,
    mine: str,
    expected: dict[str, str],
) -> None:
    assert problems(list(application.examine_key(given, kept, noted, mine))) == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("3.51.3", {}),
        ("3.54.1", {}),
        ("4.0", {}),
        ("3.50.7", {}),
        ("3.44.6", {}),
        ("3.51.2", {"sqlite": "wrong"}),
        ("3.50.6", {"sqlite": "wrong"}),
        ("3.45.1", {"sqlite": "wrong"}),
        ("3.7.0", {"sqlite": "wrong"}),
    ],
)
def test_a_sqlite_that_damages_ledgers_is_found(version: str, expected: dict[str, str]) -> None:
    assert problems(list(application.examine_sqlite(version))) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {}),
        ({"dashboard_token": "0123456789abcdef"}, {}),
        ({"dashboard_access": lambda request: "view"}, {}),
        ({"dashboard_token": "secret"}, {"dashboard": "wrong"}),
        (
            {
                "dashboard_token": "0123456789abcdef",
                "dashboard_read_token": "0123456789abcdef",
            },
            {"dashboard": "wrong"},
        ),
    ],
    ids=["closed", "token", "callback", "short", "the same twice"],
)
def test_a_dashboard_that_is_too_open_is_found(
    settings: dict[str, Any], expected: dict[str, str]
) -> None:
    config = Config(directory=Path("/"), **settings)
    assert problems(list(application.examine_dashboard(config))) == expected


def test_a_clock_that_was_set_back_is_found() -> None:
    assert problems(list(application.examine_newest(1_000.0, now=999.0))) == {}
    assert problems(list(application.examine_newest(1_000.0, now=900.0))) == {"clock": "wrong"}
    assert problems(list(application.examine_newest(None, now=900.0))) == {}


# --- all of it, and the command ---------------------------------------------------------------

Run = Callable[..., Result]


@pytest.fixture
def state(app: Flask, spooler: Spooler, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An app whose spool a server works off: this process stands for it."""

    @spooler.task(name="a")
    def a() -> None: ...

    found = app.extensions["spooler"]
    found.engine.prepare()
    serve(found.engine.spool)
    monkeypatch.setattr(Spool, "has_housekeeper", lambda spool: True)
    monkeypatch.setattr(directory, "SCARCE_BYTES", 0)
    return found


def serve(spool: Spool, name: str = JOBS, **changes: Any) -> None:
    facts = {"version": library_version(), "key": fingerprint(spool.key.read_or_make()), **changes}
    note = msgspec.structs.replace(NOTE, **facts)
    spool.notes.write(name, msgspec.json.encode(note))


@pytest.fixture
def run(app: Flask, state: Any) -> Run:
    runner = app.test_cli_runner()
    return lambda *words: runner.invoke(spooler_cli, ["doctor", *words])


def test_the_doctor_is_silent_on_a_right_setup(run: Run) -> None:
    result = run()
    assert (result.exit_code, result.output) == (0, "")


def test_what_is_right_is_shown_on_request(run: Run) -> None:
    result = run("--all")
    assert result.exit_code == 0
    assert "spoolers know all 1 task(s) of the app" in result.output


def test_something_wrong_is_shown_with_its_fix_and_exits_with_1(run: Run, state: Any) -> None:
    state.engine.spool.root.chmod(0o755)
    result = run()
    assert result.exit_code == 1
    assert result.output.startswith("wrong  mode  others may look")
    assert "fix: chmod -R go= " in result.output
    assert state.engine.spool.root.stat().st_mode & 0o777 == 0o755, "looking mends nothing"


def test_something_worth_knowing_is_shown_and_exits_with_0(run: Run, state: Any) -> None:
    (state.engine.spool.root / "notes.txt").touch()
    result = run()
    assert result.exit_code == 0
    assert result.output.startswith("worth knowing  foreign files")


def test_machines_get_every_finding(run: Run, app: Flask) -> None:
    found = json.loads(run("--json").output)
    assert {finding["grade"] for finding in found} == {"right"}
    # What is free on the disk changes between two looks.
    again = [finding.as_dict() for finding in examine(app)]
    assert [each["name"] for each in found] == [each["name"] for each in again]
    assert found[0] == again[0]
    assert set(found[0]) == {"name", "ok", "grade", "problem", "fix"}


def test_an_ini_is_examined_instead_of_the_server(
    run: Run, state: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLER_DIRECTORY", str(state.engine.spool.root))
    assert run("--ini", str(ini(tmp_path, REFERENCE))).output == ""
    result = run("--ini", str(ini(tmp_path, without(REFERENCE, "spooler-frequency"))))
    assert result.exit_code == 1
    assert "waits up to 30 s" in result.output


def test_an_ini_for_another_spool_is_found(run: Run, tmp_path: Path) -> None:
    result = run("--ini", str(ini(tmp_path, REFERENCE)))
    assert result.exit_code == 1
    assert f"spoolers scan {tmp_path}/my_spools" in result.output


def test_an_ini_that_cannot_be_followed_is_worth_knowing(run: Run, tmp_path: Path) -> None:
    result = run("--ini", str(ini(tmp_path, "[uwsgi]\nfor = 1 2\nmule = a\nendfor\n")))
    assert result.exit_code == 0
    assert "cannot be followed here" in result.output


def test_an_ini_that_is_not_there_is_a_wrong_call(run: Run) -> None:
    result = run("--ini", "/nowhere/uwsgi.ini")
    assert result.exit_code == 2
    assert "/nowhere/uwsgi.ini cannot be read" in result.stderr


def found_in(app: Flask) -> dict[str, str]:
    return problems(examine(app))


def test_a_server_that_is_gone_is_found(
    app: Flask, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(state.engine.spool, boot="1.1.0")
    assert found_in(app) == {"server": "worth knowing"}, "it runs where we cannot see it"
    monkeypatch.setattr(Spool, "has_housekeeper", lambda spool: False)
    assert found_in(app) == {"server": "wrong"}


@pytest.mark.parametrize("note", [b"", b"{}", b'{"boot": 5}'])
def test_a_note_that_cannot_be_read_is_no_note(app: Flask, state: Any, note: bytes) -> None:
    state.engine.spool.notes.write(JOBS, note)
    assert found_in(app) == {"server": "worth knowing"}


def test_a_spool_that_was_never_used_is_found_and_not_made(tmp_path: Path) -> None:
    app = Flask("fresh")
    app.config.update(SPOOLER_DIRECTORY=tmp_path / "fresh")
    Spooler(app)
    assert found_in(app) == {"spool": "wrong"}
    assert not (tmp_path / "fresh").exists()


def test_a_task_that_the_server_does_not_know_is_found(
    app: Flask, state: Any, spooler: Spooler
) -> None:
    @spooler.task(name="fresh")
    def fresh() -> None: ...

    assert found_in(app) == {"tasks": "wrong"}


def test_jobs_that_wait_for_a_task_nobody_knows_are_found(app: Flask, state: Any) -> None:
    now = time.time()
    with state.engine.ledger.transaction() as rows:
        for task in ("app.view.<locals>.inner", "app.view.<locals>.inner", "gone", "a"):
            rows.insert(make_job(task=task, enqueued_at=now), QUEUED, None)
        ended = make_job(task="older", enqueued_at=now)
        rows.insert(ended, QUEUED, None)
        rows.close(ended.id, "cancelled", time.time(), None)
    assert found_in(app) == {"unknown tasks": "wrong"}
    (found,) = [each for each in examine(app) if each.name == "unknown tasks"]
    assert found.problem.startswith("3 job(s)")
    assert found.problem.endswith(": app.view.<locals>.inner, gone")
    serve(state.engine.spool, tasks=[*NOTE.tasks, "app.view.<locals>.inner", "gone"])
    assert found_in(app) == {}, "a spooler knows them"


def test_a_mistake_of_the_instance_that_only_enqueues_is_found(app: Flask, state: Any) -> None:
    options = [
        ("spooler-external" if name == "spooler" else name, value)
        for name, value in NOTE.options
        if not name.startswith(("mule", "strict"))
    ]
    serve(state.engine.spool, WEB, options=options, pool=0)
    assert found_in(app) == {"web: strict": "wrong"}
    serve(state.engine.spool, WEB, options=options, pool=0, boot="1.1.0")
    assert found_in(app) == {}, "it does not run any more"


def test_a_ledger_that_cannot_be_read_is_found(app: Flask, state: Any) -> None:
    state.engine.spool.ledger.write_bytes(b"no database at all, but long enough to be read" * 100)
    state.engine.spool.ledger.chmod(0o600)
    assert found_in(app) == {"ledger": "wrong"}


def test_a_job_from_the_future_is_found(app: Flask, state: Any) -> None:
    with state.engine.ledger.transaction() as rows:
        rows.insert(make_job(task="a", enqueued_at=time.time() + 3600), QUEUED, None)
    assert found_in(app) == {"clock": "wrong"}


def test_a_key_file_that_was_cut_is_found(app: Flask, state: Any) -> None:
    state.engine.spool.key.path.write_bytes(b"short")
    assert found_in(app) == {"key": "wrong"}


def test_a_wheel_of_uwsgi_that_a_reload_would_not_start_again_is_found(tmp_path: Path) -> None:
    script, python = tmp_path / "uwsgi", tmp_path / "bin" / "python3"
    script.write_text("print(flush=True); input()")
    python.parent.mkdir()
    python.symlink_to(sys.executable)

    def seen(*words: Any) -> Path | None:
        pipe = subprocess.PIPE
        with subprocess.Popen([*words], stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            found = starter.wheel_of(process.pid)
            process.communicate("\n")
        return found

    assert seen(python, script) is None, "there is no virtual environment"
    (tmp_path / "pyvenv.cfg").touch()
    assert seen(python, script) == python
    assert seen(python, "-c", "print(flush=True); input()") is None
    assert starter.wheel_of(-1) is None
    (found,) = starter.examine_reload(python, None)
    assert (found.name, found.grade) == ("reload", "wrong")
    assert f"--binary-path {python}" in found.fix
    assert list(starter.examine_reload(python, str(python))) == []
    assert list(starter.examine_reload(None, None)) == []


def test_the_housekeepers_lock_tells_whether_it_is_home(spool: Spool) -> None:
    assert not spool.has_housekeeper()
    with open(spool.housekeeper_lock, "wb") as lock:
        assert not spool.has_housekeeper()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert spool.has_housekeeper()


def test_a_job_that_runs_where_it_is_enqueued_is_worth_knowing(
    memory: Path, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Flask("eager")
    app.config.update(
        SPOOLER_DIRECTORY=state.engine.spool.root,
        SPOOLER_EAGER=True,
        SPOOLER_DURABILITY="process",
    )
    Spooler(app).task(name="a")(lambda: None)
    assert found_in(app) == {"eager": "worth knowing"}


def test_a_setting_under_a_name_that_nobody_reads_is_found(
    app: Flask, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLER_QUEUES", '["urgent"]')
    monkeypatch.setenv("SPOOLER_DASHBOARD_TOKEN", "a secret that stays one")
    (found,) = [each for each in examine(app) if not each.ok]
    assert (found.name, found.grade) == ("environment", "wrong")
    assert "SPOOLER_DASHBOARD_TOKEN, SPOOLER_QUEUES" in found.problem
    assert "FLASK_SPOOLER_DASHBOARD_TOKEN, FLASK_SPOOLER_QUEUES" in found.fix
    assert "secret" not in found.problem + found.fix


@pytest.mark.parametrize(
    ("environment", "values"),
    [
        ({"SPOOLER_DIRECTORY": "a", "SPOOLER_PROCESSES": "1", "SPOOLER_KEY": "k" * 16}, {}),
        ({"SPOOLER_QUEUES": "[]"}, {"SPOOLER_QUEUES": []}),
        ({"SPOOLER_QUEUES": "[]", "FLASK_SPOOLER_QUEUES": "[]"}, {}),
        ({"SPOOLER_HOME": "of another program"}, {}),
    ],
    ids=["short names", "read by the app", "the long name too", "not a setting"],
)
def test_a_setting_that_is_read_or_is_none_is_no_finding(
    environment: dict[str, str], values: dict[str, Any]
) -> None:
    assert problems(list(application.examine_environment(environment, values))) == {}


def test_a_user_who_may_not_look_is_told_to_be_another(
    app: Flask, state: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(root: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("flask_spooler.doctor.look.entries", hidden)
    (finding,) = [finding for finding in examine(app) if not finding.ok]
    assert finding.grade == "wrong"
    assert finding.fix == "run this as the user that owns the spool, or as root"


# --- what a server says at its start ------------------------------------------------------------


@pytest.fixture
def started(
    app: Flask, state: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[..., list[str]]:
    """Let this process be a server's that starts with these options; return what it logs."""

    def start(**options: str) -> list[str]:
        plain = {name: value for name, value in NOTE.options if name != "hook-master-start"}
        hook = "unix_signal:15 gracefully_kill_them_all"
        given = {**plain, "hook-master-start": hook, **options}
        monkeypatch.setattr(_uwsgi, "on_fork", lambda function: None)
        monkeypatch.setattr(_uwsgi, "options", lambda: given)
        monkeypatch.setattr(_uwsgi, "workers", lambda: 2)
        monkeypatch.setattr(_uwsgi, "spooler_pids", lambda: [os.getpid()] * 10)
        state.engine.spool.notes.write(JOBS, b"{}")
        doctor.take_part(app)
        at_start._report(app)
        lines = [record.message for record in caplog.records]
        caplog.clear()
        return lines

    return start


def test_a_right_server_logs_nothing_at_its_start(started: Callable[..., list[str]]) -> None:
    assert started() == []


def test_a_server_logs_what_is_wrong_and_not_what_is_worth_knowing(
    started: Callable[..., list[str]],
) -> None:
    (line,) = started(**{"spooler-frequency": "30", "single-interpreter": "false"})
    problem = "a job whose wake-up gets lost waits up to 30 s (spooler-frequency)"
    assert line == f"doctor: frequency: {problem}: set spooler-frequency = 1"


def test_a_housekeeper_that_takes_its_time_to_start_is_not_missed(
    started: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([False] * 5)
    monkeypatch.setattr(Spool, "has_housekeeper", lambda spool: next(looks, True))
    monkeypatch.setattr(at_start, "PATIENCE", 0)
    monkeypatch.setattr(at_start, "LOOK", 0)
    assert started() == []
    assert next(looks, "all taken") == "all taken"


def test_a_housekeeper_that_does_not_start_at_all_is_missed(
    started: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spool, "has_housekeeper", lambda spool: False)
    monkeypatch.setattr(server, "STARTS", 0.2)
    (line,) = started()
    assert line.startswith("doctor: housekeeper: the housekeeper does not run")


def test_nobody_waits_for_the_housekeeper_of_a_server_without_spoolers() -> None:
    told = ("mule", server.HOUSEKEEPER)
    assert server.expects_housekeeper(Options((("spooler", "/srv/spool"), told)))
    assert not server.expects_housekeeper(Options((told,)))


def test_a_server_looks_at_itself_once_a_boot(
    app: Flask, started: Callable[..., list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    assert len(started(**{"spooler-frequency": "30"})) == 1
    doctor.take_part(app)
    at_start._report(app)
    assert caplog.records == []


def test_a_doctor_who_fails_says_so_and_harms_nobody(
    app: Flask,
    state: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_uwsgi, "on_fork", lambda function: None)
    monkeypatch.setattr(Notes, "write", broken)
    monkeypatch.setattr(at_start, "examine_app", broken)
    (state.engine.spool.root / JOBS).unlink()
    doctor.take_part(app)
    at_start._report(app)
    first, second = (record.message for record in caplog.records)
    assert first.startswith("the server cannot note its start: ")
    assert second.startswith("flask spooler doctor failed: ")
