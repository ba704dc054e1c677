"""What Prometheus is told: every figure against what was done to the spool."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from flask import Flask
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flask_spooler import Spooler, _uwsgi, operations
from flask_spooler._uwsgi import Process
from flask_spooler.endings import BOUNDS, HISTORY
from flask_spooler.engine import SpoolEngine
from flask_spooler.errors import ExtraMissing, LedgerError, NotInitialised
from flask_spooler.housekeeper import TICK, Housekeeper
from flask_spooler.job import FINAL, STATES
from flask_spooler.ledger import Ledger, figures
from flask_spooler.metrics import MOST_FILES, SpoolCollector, exposition
from flask_spooler.record import Change
from flask_spooler.spool import CORRUPT, DONE, PREFIX, WRITING
from tests.helpers import NOW, make_job, settle
from tests.world import World, new_world, one_process_pool

LISTED = {
    "jobs_enqueued_total": {"queue", "task"},
    "jobs_finished_total": {"queue", "task", "outcome"},
    "jobs_run_duration_seconds_bucket": {"queue", "task", "le"},
    "jobs_wait_duration_seconds_bucket": {"queue", "task", "le"},
    "jobs_count": {"queue", "state"},
    "jobs_queue_latency_seconds": {"queue"},
    "jobs_workers": {"state"},
    "jobs_worker_respawns_total": set(),
    "jobs_last_success_timestamp_seconds": {"task"},
    "jobs_spool_files": {"place"},
    "jobs_spool_free_bytes": set(),
    "jobs_corrupt_files_total": set(),
    "jobs_paused": {"queue"},
    "jobs_info": {"version", "uwsgi", "sqlite"},
}
ME = Process(os.getpid(), _uwsgi.process(os.getpid()).started)
GONE = Process(ME.pid, 1)


class Scrape:
    """One scrape, read as Prometheus reads it."""

    def __init__(self, text: str) -> None:
        self.samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def __call__(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of a name that have these labels."""
        fitting = [s for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        assert fitting, f"no {name} with {labels}"
        return sum(sample.value for sample in fitting)

    def values(self, name: str, label: str) -> dict[str, float]:
        return {s.labels[label]: s.value for s in self.samples if s.name == name}


def scrape(app: Flask) -> Scrape:
    body, content_type = exposition(app)
    assert content_type.startswith("text/plain; version=")
    return Scrape(body.decode())


def scrape_at(app: Flask, now: float) -> Scrape:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SpoolCollector(app.extensions["spooler"], lambda: now))
    return Scrape(generate_latest(registry).decode())


@pytest.fixture
def engine(app: Flask) -> SpoolEngine:
    found: SpoolEngine = app.extensions["spooler"].engine
    found.prepare()
    return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    one_process_pool(monkeypatch)
    with new_world(tmp_path / "world") as world:
        yield world


def of(world: World) -> Scrape:
    return scrape(world.state.desk.worker.app)


def attempt(
    engine: SpoolEngine, outcome: str = "succeeded", *, waited: float = 0.0, ran: float = 0.0,
    ended_at: float = NOW, **changes: object
) -> str:  # fmt: skip
    """Let a job have one attempt that ended like this."""
    job = make_job(**changes, due_at=ended_at - ran - waited)
    state = "succeeded" if outcome == "succeeded" else "dead"
    with engine.ledger.transaction() as rows:
        rows.insert(job, "queued", None)
        rows.start(job.id, "window", ended_at - ran, ME, "boot")
        settle(rows, job.id, 1, Change(outcome=outcome, state=state, due_at=0, ended_at=ended_at))
    return job.id


def test_every_metric_that_is_promised_is_there_with_its_labels_and_no_other(
    app: Flask, engine: SpoolEngine
) -> None:
    attempt(engine)
    found: dict[str, set[str]] = {}
    for sample in scrape(app).samples:
        found.setdefault(sample.name, set()).update(sample.labels)
    sums = {"jobs_run_duration_seconds", "jobs_wait_duration_seconds"}
    rest = {f"{name}_{part}": {"queue", "task"} for name in sums for part in ("sum", "count")}
    assert found == {**LISTED, **rest}


def test_an_empty_spool_answers_too(app: Flask) -> None:
    assert scrape(app)("jobs_spool_files") == 0


def test_what_jobs_have_gone_through_adds_up(world: World) -> None:
    world.enqueue("ok", "ok", "retry", "fail")
    world.enqueue("later", delay=60)
    world.recover()
    told = of(world)
    assert told("jobs_enqueued_total", queue="default", task="note") == 5
    counted = told.values("jobs_count", "state")
    assert counted == dict.fromkeys(STATES, 0) | {"succeeded": 3, "dead": 1, "scheduled": 1}
    # ok and ok once, retry fails once and succeeds once, fail fails twice.
    assert told.values("jobs_finished_total", "outcome") == {"succeeded": 3, "failed": 3}
    assert told("jobs_run_duration_seconds_count") == 6
    assert told("jobs_wait_duration_seconds_count") == 6
    assert told.values("jobs_spool_files", "place") == {
        "window": 0, "waiting": 1, "taken": 0, "tmp": 0, "dead": 1, "done": 0,
        "corrupt": 0,
    }  # fmt: skip


def test_counters_do_not_fall_when_jobs_are_deleted(world: World) -> None:
    world.enqueue("ok", "fail")
    world.recover()
    before = of(world)
    purged = operations.purge(world.state.engine, time.time() + 1, 10, FINAL)
    assert purged == 2
    after = of(world)
    counters = [name for name in LISTED if name.endswith("_total")]
    assert {name: after(name) for name in counters} == {name: before(name) for name in counters}
    assert after("jobs_enqueued_total") == 2
    assert after("jobs_count") == 0
    assert after("jobs_last_success_timestamp_seconds") == before(
        "jobs_last_success_timestamp_seconds"
    )
    world.enqueue("ok")
    assert of(world)("jobs_enqueued_total") == 3


def test_a_persons_retry_is_no_new_job(world: World) -> None:
    world.enqueue("fail")
    world.recover()
    (record,) = world.state.engine.ledger.find()
    operations.revive(world.state.engine, record.id)
    assert of(world)("jobs_enqueued_total") == 1


def test_durations_stand_in_the_buckets_of_their_classes(app: Flask, engine: SpoolEngine) -> None:
    attempt(engine, waited=0.2, ran=3.0)
    attempt(engine, waited=0.2, ran=4.0, outcome="failed")
    attempt(engine, waited=9_000.0, ran=0.0)
    told = scrape(app)
    assert told("jobs_run_duration_seconds_bucket", le="0.001") == 1
    assert told("jobs_run_duration_seconds_bucket", le="2.5") == 1
    assert told("jobs_run_duration_seconds_bucket", le="5.0") == 3
    assert told("jobs_run_duration_seconds_sum") == pytest.approx(7.0)
    assert told("jobs_wait_duration_seconds_bucket", le="0.1") == 0
    assert told("jobs_wait_duration_seconds_bucket", le="0.25") == 2
    assert told("jobs_wait_duration_seconds_bucket", le="7200.0") == 2
    assert told("jobs_wait_duration_seconds_bucket", le="+Inf") == 3
    assert told("jobs_wait_duration_seconds_sum") == pytest.approx(9_000.4)
    bounds = told.values("jobs_run_duration_seconds_bucket", "le")
    assert list(bounds) == [*map(str, BOUNDS), "+Inf"]


def test_queues_and_tasks_are_counted_apart(app: Flask, engine: SpoolEngine) -> None:
    for queue, task in [("a", "one"), ("a", "two"), ("b", "one"), ("a", "one")]:
        attempt(engine, queue=queue, task=task)
    told = scrape(app)
    assert told("jobs_enqueued_total", queue="a", task="one") == 2
    assert told("jobs_finished_total", queue="b", task="one", outcome="succeeded") == 1
    assert told("jobs_run_duration_seconds_count", queue="a", task="two") == 1
    assert told("jobs_finished_total", task="one") == 3


def test_the_last_success_of_a_task_is_exact_and_failures_do_not_touch_it(
    app: Flask, engine: SpoolEngine
) -> None:
    attempt(engine, ended_at=NOW + 7.25, ran=3.0)
    attempt(engine, ended_at=NOW + 6.0, ran=3.0)  # written down late
    attempt(engine, ended_at=NOW + 5.0, queue="other")
    attempt(engine, ended_at=NOW + 60.0, outcome="failed")
    attempt(engine, ended_at=NOW + 60.0, outcome="failed", task="never")
    assert scrape(app).values("jobs_last_success_timestamp_seconds", "task") == {
        "tests.work": NOW + 7.25
    }


def test_the_latency_of_a_queue_is_the_age_of_its_oldest_due_job(
    app: Flask, engine: SpoolEngine
) -> None:
    with engine.ledger.transaction() as rows:
        rows.insert(make_job(due_at=NOW - 30), "queued", None)
        rows.insert(make_job(due_at=NOW - 20, priority=9), "queued", None)
        rows.insert(make_job(due_at=NOW - 5, queue="window"), "queued", "name")
        rows.insert(make_job(due_at=NOW + 5, queue="later"), "scheduled", None)
    told = scrape_at(app, NOW).values("jobs_queue_latency_seconds", "queue")
    assert told == {"default": 30, "window": 5, "later": 0}


def test_a_due_job_that_nobody_makes_queued_counts_as_waiting(
    app: Flask, engine: SpoolEngine
) -> None:
    with engine.ledger.transaction() as rows:
        rows.insert(make_job(due_at=NOW), "scheduled", None)
    assert scrape_at(app, NOW + 90)("jobs_queue_latency_seconds", queue="default") == 90


def test_a_paused_queue_says_so_even_before_its_first_job(app: Flask, engine: SpoolEngine) -> None:
    attempt(engine)
    operations.pause(engine, "empty")
    told = scrape(app)
    assert told.values("jobs_paused", "queue") == {"default": 0, "empty": 1}
    operations.pause(engine, "empty", False)
    assert scrape(app).values("jobs_paused", "queue") == {"default": 0}


def test_a_spooler_is_busy_while_it_lives_and_runs_a_job(app: Flask, engine: SpoolEngine) -> None:
    running, crashed = make_job(), make_job()
    with engine.ledger.transaction() as rows:
        rows.register(str(_uwsgi.boot()), NOW, 4)
        rows.register("999999999.1.0", NOW, 50)  # a server that is gone
        for job, process in ((running, ME), (crashed, GONE)):
            rows.insert(job, "queued", f"window of {job.id}")
            rows.start(job.id, f"window of {job.id}", NOW, process, "boot")
    assert scrape(app).values("jobs_workers", "state") == {"busy": 1, "idle": 3}


def test_spoolers_that_died_at_a_job_are_counted(app: Flask, engine: SpoolEngine) -> None:
    for outcome in ("crashed", "succeeded", "crashed", "interrupted"):
        attempt(engine, outcome)
    assert scrape(app)("jobs_worker_respawns_total") == 2


def test_files_that_were_put_aside_are_counted_for_ever(app: Flask, engine: SpoolEngine) -> None:
    spool = engine.spool
    for number in range(3):
        (spool.root / f"{PREFIX}{number}").write_bytes(b"?")
        assert spool.quarantine.put(f"{PREFIX}{number}")
    assert spool.quarantine.put(f"{PREFIX}nobody") is None
    (spool.root / DONE / "unreadable").write_bytes(b"?")
    spool.quarantine.put_from(DONE, "unreadable")
    told = scrape(app)
    assert told("jobs_corrupt_files_total") == told("jobs_spool_files", place="corrupt") == 4
    for file in (spool.root / CORRUPT).iterdir():
        file.unlink()
    told = scrape(app)
    assert told("jobs_corrupt_files_total") == 4
    assert told("jobs_spool_files", place="corrupt") == 0


def test_a_place_with_too_many_files_is_not_counted_to_its_end(
    app: Flask, engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_spooler.metrics.MOST_FILES", 3)
    for number in range(5):
        (engine.spool.root / WRITING / str(number)).touch()
    assert MOST_FILES > 3
    assert scrape(app)("jobs_spool_files", place="tmp") == 3


def test_free_room_is_that_of_the_spools_file_system(app: Flask, engine: SpoolEngine) -> None:
    found = os.statvfs(engine.spool.root)
    assert scrape(app)("jobs_spool_free_bytes") == pytest.approx(
        found.f_bavail * found.f_frsize, rel=0.1
    )


def test_the_versions_are_told(app: Flask) -> None:
    (info,) = (sample for sample in scrape(app).samples if sample.name == "jobs_info")
    assert info.labels["sqlite"] == apsw.sqlite_lib_version()
    assert info.labels["version"]
    assert info.labels["uwsgi"] == ""  # these tests run without


def test_names_of_queues_and_tasks_may_hold_anything(app: Flask, engine: SpoolEngine) -> None:
    queue, task = 'a "quoted"\nline\\', "täsk {x} = 1"
    attempt(engine, queue=queue, task=task)
    assert scrape(app)("jobs_finished_total", queue=queue, task=task) == 1


def test_without_its_package_the_error_says_what_to_install(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'Flask-Spooler\[metrics\]'"):
        exposition(app)


def test_an_app_without_the_extension_is_told_so() -> None:
    with pytest.raises(NotInitialised):
        exposition(Flask("bare"))


def test_a_ledger_that_cannot_be_read_is_an_error_and_not_an_idle_spool(
    app: Flask, engine: SpoolEngine
) -> None:
    engine.ledger.path.write_bytes(b"no database at all. " * 100)
    with pytest.raises(LedgerError):
        exposition(app)


def test_the_numbers_of_one_scrape_are_of_one_moment(
    app: Flask, engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt(engine)
    other = Ledger(engine.ledger.path)
    read = engine.ledger.oldest_queued

    def read_while_another_process_writes() -> dict[str, float]:
        found = read()
        with other.transaction() as rows:
            rows.insert(make_job(), "queued", None)
        return found

    monkeypatch.setattr(engine.ledger, "oldest_queued", read_while_another_process_writes)
    assert scrape(app)("jobs_enqueued_total") == 1
    assert scrape(app)("jobs_enqueued_total") == 2


MILLION = """
INSERT INTO jobs (id, task, queue, priority, state, enqueued_at, due_at, finished_at, max_attempts,
                  attempt, kwargs_size)
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999999)
SELECT printf('%029d', i), 'tasks.t' || (i % 20), 'q' || (i % 4), i % 5,
       CASE i % 10 WHEN 0 THEN 'queued' WHEN 1 THEN 'scheduled' WHEN 2 THEN 'dead'
       ELSE 'succeeded' END,
       1.8e9, 1.8e9 + i, CASE WHEN i % 10 > 1 THEN 1.8e9 + i END, 5, 1, 2 FROM n
"""
ENDINGS = """
INSERT INTO totals
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 3999)
SELECT 'q' || (i % 4), 'tasks.t' || (i % 20), CASE i % 3 WHEN 0 THEN 'failed' ELSE 'succeeded' END,
       i % 19, i / 19 % 19, 250, 1, 1, 1, 1.8e9 FROM n
"""


def seconds_of(app: Flask) -> float:
    started = time.perf_counter()
    exposition(app)
    return time.perf_counter() - started


def steps_of(ledger: Ledger) -> int:
    """How many instructions SQLite's machine needs for the figures of one scrape."""
    seen = 0

    def count() -> bool:
        nonlocal seen
        seen += 100
        return False

    connection = ledger._connection.get(1.0)
    connection.set_progress_handler(count, 100)
    ledger.figures(NOW)
    connection.set_progress_handler(None)
    return seen


def test_a_scrape_costs_little_at_a_million_rows(tmp_path: Path) -> None:
    app = Flask("large")  # on the disk: memory may have no room for it
    app.config.update(SPOOLER_DIRECTORY=tmp_path / "spool", SPOOLER_DURABILITY="process")
    Spooler(app)
    engine: SpoolEngine = app.extensions["spooler"].engine
    exposition(app)
    connection = apsw.Connection(str(engine.ledger.path))
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(MILLION)
    connection.execute(ENDINGS)
    connection.close()
    steps = steps_of(engine.ledger)
    best = min(seconds_of(app) for _ in range(7))
    print(f"one scrape at 1,000,000 rows: {best * 1000:.1f} ms, {steps:,} steps of SQLite")
    told = scrape(app)
    assert told("jobs_enqueued_total") == told("jobs_count") == 1_000_000
    assert told("jobs_finished_total") == 1_000_000
    # A dozen or so for each of the 4,000 totals; a walk through the jobs would take millions.
    assert steps < 150_000
    assert best < 0.1
    engine.ledger.path.unlink()  # 200 MB that pytest would keep for a while


def test_old_minutes_are_forgotten_a_step_a_tick_and_the_totals_stay(world: World) -> None:
    engine = world.state.engine
    keeper = Housekeeper(world.spooler, engine, grace=1, retention=1e9)
    minutes = (0, 1, 2, HISTORY - 1, HISTORY, HISTORY + 1)
    for minute in minutes:
        for outcome in ("succeeded", "failed"):
            attempt(engine, outcome, ended_at=NOW + 60 * minute, ran=0.5)
    before = engine.ledger.figures(NOW).ended
    connection = apsw.Connection(str(engine.ledger.path))

    def kept() -> list[int]:
        found = connection.execute("SELECT DISTINCT minute FROM endings ORDER BY minute")
        return [minute - int(NOW // 60) for (minute,) in found]

    now = NOW + 60 * (HISTORY + 2)
    for tick, expected in enumerate([minutes[1:], minutes[2:], minutes[2:]]):
        keeper.round(now + tick * TICK)
        assert kept() == list(expected)
    keeper.round(now + 59)
    assert kept() == list(minutes[2:])
    keeper.round(now + 60)
    assert kept() == list(minutes[3:])
    connection.close()
    assert engine.ledger.figures(NOW).ended == before
    assert sum(each.number for each in before) == 2 * len(minutes)


def test_a_ledger_of_version_1_is_brought_to_the_same_figures(
    app: Flask, engine: SpoolEngine
) -> None:
    old = apsw.Connection(str(engine.ledger.path))
    old.execute(Path(__file__).with_name("ledger_1.sql").read_text())
    for number in range(5):
        state = "dead" if number else "queued"
        old.execute(
            "INSERT INTO jobs (id, task, queue, priority, state, enqueued_at, due_at,"
            " max_attempts, kwargs_size) VALUES (?, 'work', 'old', 0, ?, ?, ?, 5, 2)",
            (f"{number:029d}", state, NOW, NOW),
        )
    old.close()
    assert scrape(app)("jobs_enqueued_total", queue="old", task="work") == 5
    with engine.ledger.transaction() as rows:
        rows.delete(f"{4:029d}")
    attempt(engine, queue="old", task="work")
    told = scrape(app)
    assert told("jobs_enqueued_total", queue="old", task="work") == 6
    assert told("jobs_count", queue="old") == 5
    assert told("jobs_finished_total", queue="old") == 1
    assert engine.ledger.counts()["old"] == dict.fromkeys(STATES, 0) | {
        "queued": 1, "dead": 3, "succeeded": 1,
    }  # fmt: skip


def test_only_so_many_overdue_jobs_are_looked_at(app: Flask, engine: SpoolEngine) -> None:
    with engine.ledger.transaction() as rows:
        for number in range(figures.MOST_OVERDUE + 1):
            rows.insert(make_job(due_at=NOW + number), "scheduled", None)
        rows.insert(make_job(due_at=NOW + 10_000, queue="young"), "scheduled", None)
    told = scrape_at(app, NOW + 20_000).values("jobs_queue_latency_seconds", "queue")
    assert told == {"default": 20_000, "young": 0}


def test_the_collector_can_stand_beside_an_apps_own_metrics(
    app: Flask, spooler: Spooler, engine: SpoolEngine
) -> None:
    registry = CollectorRegistry()
    registry.register(SpoolCollector(app.extensions["spooler"], time.time))
    attempt(engine)
    assert b"jobs_enqueued_total" in generate_latest(registry)
