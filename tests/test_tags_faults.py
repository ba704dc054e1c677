"""Tags and the upgrade that brings them, where others write, write oddly, or write a lot."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import apsw
import pytest

from flask_spooler.engine import SpoolEngine
from flask_spooler.ledger.connection import Connection
from flask_spooler.ledger.search import Search
from tests.helpers import known, make_job, wait_until

OLD_ROW = (
    "INSERT INTO jobs (id, task, queue, priority, state, enqueued_at, due_at, max_attempts,"
    " kwargs_size) VALUES (?, 'work', 'old', 0, 'queued', 1, 1, 5, 2)"
)


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_ledger_is_upgraded_while_a_process_with_older_code_goes_on_writing(
    engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    engine.prepare()
    old = apsw.Connection(str(engine.ledger.path))
    old.pragma("journal_mode", "wal")
    old.execute(Path(__file__).with_name(f"ledger_{version}.sql").read_text())
    before, after = "0" * 29, "1" * 29
    waits = threading.Event()
    wait_for_lock = Connection._wait_for_lock

    def note(connection: Connection, tries: int) -> bool:
        waits.set()
        return wait_for_lock(connection, tries)

    monkeypatch.setattr(Connection, "_wait_for_lock", note)
    old.execute("BEGIN IMMEDIATE")
    old.execute(OLD_ROW, (before,))
    found: list[str] = []
    upgrade = threading.Thread(target=lambda: found.append(known(engine.ledger, before).state))
    upgrade.start()
    wait_until(lambda: waits.is_set() or not upgrade.is_alive())
    old.execute("COMMIT")
    upgrade.join()
    assert found == ["queued"]
    old.execute(OLD_ROW, (after,))
    old.close()
    new = engine.submit(make_job(tags=("new",), queue="old", task="work"))
    assert [record.id for record in engine.ledger.find()] == [new, after, before]
    assert Search(engine.ledger).tally() == [("old", "work", "queued", 3)]


@pytest.mark.parametrize("state", [None, "dead"])
def test_the_newest_jobs_of_a_tag_are_listed_along_its_index(
    engine: SpoolEngine, state: str | None
) -> None:
    """As the command line does: with a million jobs of the tag, all of them were sorted before."""
    engine.submit(make_job(tags=("many",)))
    asked: list[tuple[str, Any]] = []
    connection = engine.ledger._connection.get(1.0)
    connection.exec_trace = lambda cursor, sql, values: asked.append((sql, values)) or True
    engine.ledger.find(tag="many", state=state)
    connection.exec_trace = None
    ((sql, values),) = asked
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert plan == [
        "SEARCH tags USING PRIMARY KEY (tag=?)",
        "SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)",
    ]
