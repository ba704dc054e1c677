"""Is all well: each kind of trouble is named, and what is no trouble is not."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask

from flask_spooler import Spooler, _uwsgi, operations
from flask_spooler._uwsgi import Process
from flask_spooler.engine import SpoolEngine
from flask_spooler.errors import NotInitialised
from flask_spooler.health import HOUSEKEEPER, LEDGER, PATIENCE, POOL, SPOOL, STUCK, health
from flask_spooler.spool import DEAD, WAITING
from tests.helpers import make_job


@pytest.fixture
def engine(app: Flask) -> SpoolEngine:
    found: SpoolEngine = app.extensions["spooler"].engine
    found.prepare()
    return found


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """This process passes for the only spooler of a server."""
    pids = [os.getpid()]
    monkeypatch.setattr(_uwsgi, "has_pool", lambda: True)
    monkeypatch.setattr(_uwsgi, "spooler_pids", lambda: pids)
    return pids


@contextmanager
def keeping_house(engine: SpoolEngine) -> Iterator[None]:
    with open(engine.spool.housekeeper_lock, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def server(engine: SpoolEngine, pool: list[int]) -> Iterator[SpoolEngine]:
    """A server where all is well, seen from one of its processes."""
    with keeping_house(engine):
        yield engine


def wait_for(engine: SpoolEngine, seconds: float, **changes: object) -> None:
    """Let a job have been due for so long."""
    due = time.time() - seconds
    with engine.ledger.transaction() as rows:
        rows.insert(make_job(enqueued_at=due, **changes), "queued", None)


def run_one(engine: SpoolEngine, process: Process, **changes: object) -> None:
    job = make_job(**changes)
    with engine.ledger.transaction() as rows:
        rows.insert(job, "queued", "window")
        rows.start(job.id, "window", time.time(), process, "boot")


def test_all_is_well_where_nothing_is_wrong(app: Flask, server: SpoolEngine) -> None:
    wait_for(server, PATIENCE - 5)
    assert health(app) is None


def test_all_is_well_in_a_process_beside_the_server_and_with_a_spool_that_is_new(
    app: Flask,
) -> None:
    assert health(app) is None


def test_a_ledger_that_cannot_be_read_is_trouble(app: Flask, server: SpoolEngine) -> None:
    server.ledger.path.write_bytes(b"no database at all. " * 100)
    assert health(app) == LEDGER


@pytest.mark.parametrize("place", ["", WAITING, DEAD])
def test_a_directory_that_cannot_be_written_is_trouble(
    app: Flask, server: SpoolEngine, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = server.spool.root / place
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != refused and may(path, mode))
    assert health(app) == SPOOL


@pytest.mark.parametrize(
    "lacking",
    [{"f_bavail": 0}, {"f_favail": 0, "f_files": 9}, {"f_flag": os.ST_RDONLY}],
    ids=["no room", "no names", "read-only"],
)
def test_a_file_system_that_takes_no_more_is_trouble(
    app: Flask, server: SpoolEngine, monkeypatch: pytest.MonkeyPatch, lacking: dict[str, int]
) -> None:
    found = os.statvfs(server.spool.root)
    names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree",
             "f_favail", "f_flag", "f_namemax")  # fmt: skip
    facts = {name: getattr(found, name) for name in names} | lacking
    told = os.statvfs_result([facts[name] for name in names])
    monkeypatch.setattr(os, "statvfs", lambda path: told)
    assert health(app) == SPOOL


def test_a_file_system_without_a_limit_on_names_is_fine(
    app: Flask, server: SpoolEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.statvfs(server.spool.root)
    told = os.statvfs_result((*found[:5], 0, 0, 0, *found[8:]))
    monkeypatch.setattr(os, "statvfs", lambda path: told)
    assert health(app) is None


def test_a_spool_that_was_removed_is_trouble(app: Flask, server: SpoolEngine) -> None:
    assert health(app) is None
    (server.spool.root / WAITING).rmdir()
    assert health(app) == SPOOL


def test_a_server_without_a_housekeeper_is_trouble(
    app: Flask, engine: SpoolEngine, pool: list[int]
) -> None:
    assert health(app) == HOUSEKEEPER
    with keeping_house(engine):
        assert health(app) is None
    assert health(app) == HOUSEKEEPER


def test_asking_keeps_no_housekeeper_from_its_lock(
    app: Flask, engine: SpoolEngine, pool: list[int]
) -> None:
    assert health(app) == HOUSEKEEPER
    take = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'ab'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    subprocess.run(
        [sys.executable, "-c", take, str(engine.spool.housekeeper_lock)], check=True, timeout=30
    )


def test_a_pool_of_which_nobody_lives_is_trouble(
    app: Flask, server: SpoolEngine, pool: list[int]
) -> None:
    pool[:] = [2**22 + 1]  # above the largest process id
    assert health(app) == POOL
    pool.clear()
    assert health(app) == POOL


def test_a_job_that_waits_while_spoolers_are_idle_is_trouble(
    app: Flask, server: SpoolEngine
) -> None:
    wait_for(server, PATIENCE + 5)
    assert health(app) == STUCK


def test_a_scheduled_job_whose_time_is_long_over_is_trouble(
    app: Flask, server: SpoolEngine
) -> None:
    with server.ledger.transaction() as rows:
        job = make_job(enqueued_at=0.0, due_at=time.time() - PATIENCE - 5)
        rows.insert(job, "scheduled", None)
    assert health(app) == STUCK


def test_a_backlog_is_no_trouble_while_all_spoolers_work(app: Flask, server: SpoolEngine) -> None:
    wait_for(server, PATIENCE * 100)
    run_one(server, _uwsgi.process(os.getpid()))
    assert health(app) is None


def test_a_paused_queue_is_no_trouble(app: Flask, server: SpoolEngine) -> None:
    wait_for(server, PATIENCE + 5, queue="mail")
    operations.pause(server, "mail")
    assert health(app) is None
    operations.pause(server, "mail", False)
    assert health(app) == STUCK


def test_a_drain_is_no_trouble_until_it_ends(app: Flask, server: SpoolEngine) -> None:
    wait_for(server, PATIENCE + 5)
    with server.ledger.transaction() as rows:
        rows.drain(str(_uwsgi.boot()), time.time() + 60)
    assert health(app) is None
    with server.ledger.transaction() as rows:
        rows.drain(str(_uwsgi.boot()), time.time() - 1)
    assert health(app) == STUCK


def test_a_queue_at_its_limit_is_no_trouble(memory: Path, pool: list[int]) -> None:
    app = Flask("limited")
    app.config.update(
        SPOOLER_DIRECTORY=memory / "limited",
        SPOOLER_DURABILITY="process",
        SPOOLER_QUEUES=[{"name": "reports", "limit": 1}],
    )
    Spooler(app)
    engine: SpoolEngine = app.extensions["spooler"].engine
    engine.prepare()
    with keeping_house(engine):
        wait_for(engine, PATIENCE + 5, queue="reports")
        assert health(app) == STUCK
        run_one(engine, Process(1, 1), queue="reports")
        assert health(app) is None


def test_an_app_without_the_extension_is_told_so() -> None:
    with pytest.raises(NotInitialised):
        health(Flask("bare"))
