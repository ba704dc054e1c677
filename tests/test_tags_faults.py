"""Tags and the upgrade that brings them, where others write, write oddly, or write a lot."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_spooler import Spooler, operations
from flask_spooler.cli import spooler_cli
from flask_spooler.engine import SpoolEngine
from flask_spooler.ledger.connection import Connection
from flask_spooler.ledger.search import Search
from tests.helpers import known, make_job, wait_until

HOME = {"Sec-Fetch-Site": "same-origin"}
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


@pytest.fixture
def browser(memory: Path, spooler: Spooler) -> Iterator[FlaskClient]:
    app = Flask("tests")
    app.config.update(
        SPOOLER_DIRECTORY=memory / "spool",
        SPOOLER_DURABILITY="process",
        SPOOLER_DASHBOARD_TOKEN="the token of the tests",
    )
    spooler.init_app(app)
    client = app.test_client()
    client.get("/spooler/?token=the+token+of+the+tests")
    with app.app_context():
        yield client


def test_an_action_on_all_jobs_of_a_tag_touches_no_other_when_the_last_of_them_is_gone(
    browser: FlaskClient, spooler: Spooler
) -> None:
    """The text is understood as a tag when the question is asked, and nobody has it later."""

    @spooler.task(name="work")
    def work(text: str) -> None: ...

    mentions = work.enqueue("about the import")
    tagged = work.using(tags=["import"]).enqueue("")
    form = {"action": "cancel", "scope": "all", "q": "import"}
    asked = browser.post("/spooler/jobs/many", data=form, headers=HOME).text
    assert "Cancel 1 job?" in asked
    tagged.cancel()
    operations.delete(spooler.engine, tagged.id)
    hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', asked)
    browser.post("/spooler/jobs/many", data=dict(hidden), headers=HOME)
    assert mentions.state == "queued"


@pytest.mark.parametrize(
    "tag", ['say "hi"', "100%_\\", "'; --", '{"a": [1]}', "<b>&amp;", "ü€😀", "a,b", "a+b c#d?e=f"]
)
def test_a_tag_of_any_characters_is_found_by_every_door(
    browser: FlaskClient, spooler: Spooler, tag: str
) -> None:
    work = spooler.task(lambda: None, name="work")
    other, job = work.using(tags=["other"]).enqueue(), work.using(tags=[tag]).enqueue()
    bearer = {"Authorization": "Bearer the token of the tests"}
    for name in ("tag", "q"):
        page = browser.get("/spooler/jobs", query_string={name: tag}).text
        assert (job.id in page, other.id in page) == (True, False)
        found = browser.get("/spooler/api/jobs", query_string={name: tag}, headers=bearer).json
        assert [(each["id"], each["tags"]) for each in found["jobs"]] == [(job.id, [tag])]
    shown = browser.get(f"/spooler/jobs/{job.id}").text
    links = re.findall(r'href="(/spooler/jobs\?tag=[^"]*)"', shown)
    assert job.id in browser.get(html.unescape(links[0])).text
    printed = browser.application.test_cli_runner().invoke(spooler_cli, ["list", "--tag", tag])
    assert (job.id in printed.output, other.id in printed.output) == (True, False)


def test_a_tag_that_nobody_bears_is_no_empty_spool(browser: FlaskClient, spooler: Spooler) -> None:
    spooler.task(lambda: None, name="work").enqueue()
    runner = browser.application.test_cli_runner()
    printed = runner.invoke(spooler_cli, ["list", "--tag", "nobody's"])
    assert printed.output == "No jobs fit.\n"
