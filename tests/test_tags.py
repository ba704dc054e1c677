"""Tags: given with task or job, found by everybody who lists jobs, and gone with the job."""

from __future__ import annotations

from pathlib import Path

import apsw
import msgspec
import pytest
from flask import Flask

from flask_spooler import OptionError, Spooler
from flask_spooler.engine import SpoolEngine
from flask_spooler.job import open_packet, parse_file
from flask_spooler.ledger import Ledger
from flask_spooler.ledger.search import Search
from flask_spooler.ledger.walks import MOST_COUNTED, Filter
from flask_spooler.record import without_secrets
from tests.helpers import known, make_job


@pytest.fixture
def engine(app: Flask) -> SpoolEngine:
    found: SpoolEngine = app.extensions["spooler"].engine
    return found


def tagged(engine: SpoolEngine, *tags: str, **changes: object) -> str:
    return engine.submit(make_job(tags=tags, **changes))


def rows_of(engine: SpoolEngine, table: str) -> int:
    connection = apsw.Connection(str(engine.ledger.path))
    number: int = connection.execute(f"SELECT count(*) FROM {table}").get
    connection.close()
    return number


def test_a_job_has_the_tags_of_its_task_or_those_given_instead(
    app: Flask, spooler: Spooler
) -> None:
    @spooler.task(tags=["mail", "import"])
    def work() -> None: ...

    assert work.enqueue().tags == ["import", "mail"]
    job = work.using(tags={"user:5"}).enqueue()
    assert job.tags == ["user:5"]
    assert job.as_dict()["tags"] == ["user:5"]
    assert work.using(tags=None).enqueue().tags == []


def test_the_job_file_bears_the_tags_and_a_lost_ledger_gets_them_back(
    engine: SpoolEngine,
) -> None:
    job_id = tagged(engine, "a", "b")
    job = open_packet(parse_file(engine.spool.read("waiting", job_id)), engine.key)
    assert job.tags == ("a", "b")
    engine.ledger.set_aside()
    with engine.ledger.transaction() as rows:
        rows.insert(job, "queued", None)
    assert [record.id for record in engine.ledger.find(tag="a")] == [job_id]


def test_lists_and_searches_find_exactly_the_jobs_with_a_tag(engine: SpoolEngine) -> None:
    first = tagged(engine, "user:5", "import", queue="mail")
    other = tagged(engine, "user:55", task="tests.other")
    both = tagged(engine, "user:5", "user:55")
    tagged(engine)
    ids = [record.id for record in engine.ledger.find(tag="user:5")]
    assert ids == [both, first]
    assert [record.id for record in engine.ledger.find(tag="user:5", queue="mail")] == [first]
    assert engine.ledger.find(tag="user") == []
    search = Search(engine.ledger)

    def page(**wanted: str) -> list[str]:
        return [job.id for job in search.page(Filter(**wanted)).jobs]

    assert page(tag="user:5") == [both, first]
    assert page(tag="user:55", task="tests.other") == [other]
    assert page(tag="nobody") == []
    assert page(tag="user:5", text="IMPORT") == [first]
    assert page(text="user:55") == [both, other]
    assert search.count(Filter(tag="user:5")) == 2
    assert search.count(Filter(tag="user:5", queue="mail")) is None
    assert (search.knows_tag("import"), search.knows_tag("impor")) == (True, False)


def test_pages_of_one_tag_go_on_where_the_last_one_ended(engine: SpoolEngine) -> None:
    tags = [("odd",) if number % 2 else () for number in range(20)]
    ids = engine.submit_many([make_job(tags=each) for each in tags])
    search, seen, before = Search(engine.ledger), [], None
    while True:
        page = search.page(Filter(tag="odd"), before=before, limit=3)
        seen += [job.id for job in page.jobs]
        before = page.next
        if before is None:
            break
    assert seen == list(reversed(ids[1::2]))


def test_a_tag_is_found_along_its_index_and_not_along_all_jobs(engine: SpoolEngine) -> None:
    tagged(engine, "one")
    search = Search(engine.ledger)
    plans: list[str] = []
    with engine.ledger._reading() as run:
        connection = engine.ledger._connection.get(1.0)
        connection.exec_trace = lambda cursor, sql, values: plans.append(sql) or True
        search.page(Filter(tag="one"))
        connection.exec_trace = None
        asked = [sql for sql in plans if "CROSS JOIN" in sql]
        assert asked
        for sql in asked:
            values = ("one",) + (1,) * (sql.count("?") - 1)
            plan = " ".join(row[3] for row in run(f"EXPLAIN QUERY PLAN {sql}", values))
            assert "SEARCH tags USING PRIMARY KEY (tag=? AND seq" in plan
            assert "SCAN" not in plan
            assert "TEMP B-TREE" not in plan


def test_many_jobs_of_a_tag_are_counted_up_to_a_limit(ledger: Ledger) -> None:
    with ledger.transaction() as rows:
        for _ in range(MOST_COUNTED + 1):
            rows.insert(make_job(tags=("many",)), "queued", None)
        rows.insert(make_job(tags=("few",)), "queued", None)
    assert Search(ledger).count(Filter(tag="many")) is None
    assert Search(ledger).count(Filter(tag="few")) == 1


def test_the_tags_go_with_the_job(engine: SpoolEngine) -> None:
    gone, stays = tagged(engine, "a", "b"), tagged(engine, "b")
    with engine.ledger.transaction() as rows:
        rows.delete(gone)
    assert rows_of(engine, "tags") == 1
    assert [record.id for record in engine.ledger.find(tag="b")] == [stays]


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_ledger_is_brought_here_and_takes_tags_and_steps(
    engine: SpoolEngine, version: int
) -> None:
    engine.prepare()
    old = apsw.Connection(str(engine.ledger.path))
    old.execute(Path(__file__).with_name(f"ledger_{version}.sql").read_text())
    old.execute(
        "INSERT INTO jobs (id, task, queue, priority, state, enqueued_at, due_at, max_attempts,"
        " kwargs_size) VALUES (?, 'work', 'old', 0, 'dead', 1, 1, 5, 2)",
        ("0" * 29,),
    )
    old.close()
    assert known(engine.ledger, "0" * 29).all_tags == []
    assert engine.ledger.steps("0" * 29) == []
    job_id = tagged(engine, "new")
    assert [record.id for record in engine.ledger.find(tag="new")] == [job_id]
    fresh = Ledger(engine.ledger.path.with_name("fresh.db"))
    assert fresh.find() == []
    assert shape(engine.ledger) == shape(fresh)


def shape(ledger: Ledger) -> dict[str, set[str]]:
    """The columns of each table, and the statements of everything else."""
    found: dict[str, set[str]] = {}
    with ledger._reading() as run:
        for kind, name, sql in run("SELECT type, name, sql FROM sqlite_schema").fetchall():
            columns = {row[1] for row in run(f"PRAGMA table_info({name})").fetchall()}
            found[name] = columns if kind == "table" else {sql or ""}
    return found


def test_the_handles_of_many_jobs_come_in_their_order_without_the_unknown(
    app: Flask, spooler: Spooler
) -> None:
    @spooler.task
    def work(number: int) -> None: ...

    jobs = work.enqueue_many([(number,) for number in range(50)])
    asked = [job.id for job in reversed(jobs)]
    found = spooler.get_many([*asked[:25], "0" * 29, "no id", "", 5, *asked[25:]])  # type: ignore[list-item]
    assert found == list(reversed(jobs))
    assert [job.state for job in found] == ["queued"] * 50
    assert spooler.get_many([]) == []
    with pytest.raises(OptionError, match=r"a list of ids; for one there is get\(\), got: 'no"):
        spooler.get_many("no id")


def test_tags_and_steps_are_not_for_whoever_holds_the_id(app: Flask, spooler: Spooler) -> None:
    shown = spooler.task(lambda: None, name="work").using(tags=["user:5"]).enqueue().as_dict()
    assert "user:5" in str(shown)
    assert "user:5" not in str(without_secrets(shown))
    assert msgspec.json.encode(shown)
