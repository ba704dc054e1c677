"""The ledger may fail; no job is lost by it and none runs twice."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import apsw
import jobs
import pytest
from jobs import notes
from server import Server, client, ended, outcomes, wait_until

Start = Callable[..., Server]

HELD = 60.0


@pytest.mark.timeout(240)
def test_with_the_ledger_locked_for_a_minute_each_of_200_jobs_still_runs_once(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=4, environment={"FLASK_SPOOLER_GRACE": "5"})
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process") as state:
        many = jobs.hold.enqueue_many([(str(out), 0.2)] * 200)
        wait_until(lambda: len(notes(out)) > 20)
        somebody = apsw.Connection(str(state.engine.spool.ledger))
        somebody.set_busy_timeout(5000)
        somebody.execute("BEGIN IMMEDIATE")
        locked = time.monotonic()
        # Jobs that ended while it was locked are kept in done/, their outcomes beside them.
        wait_until(lambda: list((server.directory / "done").iterdir()), 30)
        assert server.get("/uwsgi_spool?duration=0").status == 503
        wait_until(lambda: time.monotonic() - locked > HELD, HELD + 5)
        somebody.execute("COMMIT")
        somebody.close()
        for job in many:
            shown = ended(job, 60)
            assert shown["state"] == "succeeded"
            assert outcomes(shown) == ["succeeded"]
        wait_until(lambda: not list((server.directory / "done").iterdir()))
    starts = Counter(line[2] for line in notes(out) if line[0] == "start")
    assert set(starts.values()) == {1}
    assert len(starts) == 200


def test_a_ledger_deleted_while_the_server_runs_costs_no_job_and_no_second_run(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=2)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process") as state:
        many = jobs.hold.enqueue_many([(str(out), 0.3)] * 30)
        later = jobs.write.using(delay=4).enqueue(str(out))
        wait_until(lambda: len(notes(out)) > 4)
        os.unlink(state.engine.spool.ledger)
        wait_until(lambda: sum(line[0] == "end" for line in notes(out)) == 30, 60)
        assert ended(later)["state"] == "succeeded"
        assert ended(many[-1])["state"] == "succeeded"
    starts = Counter(line[2] for line in notes(out) if line[0] == "start")
    assert starts == Counter(job.id for job in many)
    assert server.log.count("the ledger was replaced") == 1


def test_a_damaged_ledger_is_kept_aside_and_begun_anew_without_losing_a_job(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=2)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory) as state:
        later = jobs.write.using(delay=3).enqueue(str(out))
        server.stop()
        state.engine.spool.ledger.write_bytes(b"this is not a database at all" * 1000)
        for ending in ("-wal", "-shm"):
            Path(f"{state.engine.spool.ledger}{ending}").unlink(missing_ok=True)
        server.start()
        wait_until(lambda: notes(out), 30)
        assert ended(later)["state"] == "succeeded"
    assert list(server.directory.glob("ledger.db.unusable-*"))
    assert "begins anew" in server.log
    assert len(notes(out)) == 1


def test_a_ledger_of_a_newer_version_is_left_alone_and_jobs_wait(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=2)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory) as state:
        job = jobs.write.using(delay=1).enqueue(str(out))
        server.stop()
        connection = apsw.Connection(str(state.engine.spool.ledger))
        known = connection.pragma("user_version")
        connection.pragma("user_version", 99)
        server.start()
        wait_until(lambda: "schema 99" in server.log)
        answer = server.get("/uwsgi_spool?duration=0")
        assert answer.status == 503
        assert not notes(out)
        connection.pragma("user_version", known)
        connection.close()
        assert ended(job)["state"] == "succeeded"
