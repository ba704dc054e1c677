"""A unique key: one unfinished job of a task holds it, whoever asks, and what a second one does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from flask_spooler import DuplicateJob, Spooler, current_job, operations
from flask_spooler._uwsgi import Process
from flask_spooler.engine import SpoolEngine
from flask_spooler.errors import EnqueueError, JobStateError, OptionError
from flask_spooler.signals import job_enqueued
from flask_spooler.spool import Spool
from tests.conftest import FailAt
from tests.helpers import KEY, NOW, files, known, make_job
from tests.world import World, new_world, one_process_pool

NOBODY = Process(0, 0)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    one_process_pool(monkeypatch)
    with new_world(tmp_path / "world") as made:
        yield made


def test_refuse_raises_and_names_the_job_that_holds_the_key(engine: SpoolEngine) -> None:
    first = engine.submit(make_job(unique="report"))
    with pytest.raises(DuplicateJob, match=f"{first}.*'report'") as refused:
        engine.submit(make_job(unique="report", on_duplicate="refuse"))
    assert refused.value.job_id == first
    assert files(engine) == [f"waiting/{first}"]


def test_one_refused_job_among_many_keeps_all_of_them_out(engine: SpoolEngine) -> None:
    jobs = [make_job(), make_job(unique="one"), make_job(unique="one", on_duplicate="refuse")]
    with pytest.raises(DuplicateJob):
        engine.submit_many(jobs)
    assert files(engine) == []
    assert engine.ledger.find() == []


@pytest.mark.parametrize("due", [NOW, NOW + 60], ids=["queued", "scheduled"])
def test_replace_takes_the_place_of_a_job_that_waits(engine: SpoolEngine, due: float) -> None:
    first = engine.submit(make_job(unique="report", due_at=due))
    second = engine.submit(make_job(unique="report", on_duplicate="replace", due_at=NOW + 30))
    assert second != first
    replaced = known(engine.ledger, first)
    assert (replaced.state, replaced.error_type) == ("cancelled", "Replaced")
    assert second in (replaced.error_message or "")
    assert files(engine) == [f"dead/{first}", f"waiting/{second}"]
    assert engine.submit(make_job(unique="report")) == second


def test_of_many_that_replace_each_other_the_last_one_stays(engine: SpoolEngine) -> None:
    jobs = [make_job(unique="one", on_duplicate="replace") for _ in range(3)]
    assert engine.submit_many(jobs) == [job.id for job in jobs]
    states = [known(engine.ledger, job.id).state for job in jobs]
    assert states == ["cancelled", "cancelled", "queued"]
    assert engine.submit(make_job(unique="one")) == jobs[2].id


def test_a_job_that_is_replaced_in_the_window_is_put_away_without_a_run(world: World) -> None:
    world.enqueue("first", unique="one")
    (in_window,) = world.state.engine.spool.window()
    world.enqueue("second", unique="one", on_duplicate="replace")
    world.recover()
    assert [line.split()[1] for line in world.out.read_text().splitlines()] == ["second"]
    assert known(world.state.engine.ledger, in_window.job_id).state == "cancelled"
    assert f"dead/{in_window.job_id}" in files(world.state.engine)


@pytest.mark.parametrize(("word", "state"), [("fine", "succeeded"), ("retry", "cancelled")])
def test_a_running_job_that_is_replaced_ends_and_is_not_tried_again(
    world: World, word: str, state: str
) -> None:
    """The word is what the running job does: it succeeds, or its first attempt fails."""
    begun: list[str] = []

    @world.spooler.task(name="outer", max_attempts=3, backoff=[0.0], unique="outer")
    def outer(word: str) -> None:
        again = world.spooler.tasks["outer"].using(on_duplicate="replace", delay=60)
        begun.append(again.enqueue(word).id)
        if word == "retry":
            raise RuntimeError(word)

    first = outer.enqueue(word)
    world.run_ready()
    assert first.state == state
    failed = [("failed", "retry")] if word == "retry" else []
    attempts = [(each["outcome"], each["error"]) for each in first.as_dict()["attempts"]]
    assert [(outcome, error["message"]) for outcome, error in attempts if error] == failed
    assert (first.error and first.error["message"]) == (failed[0][1] if failed else None)
    assert known(world.state.engine.ledger, begun[0]).state == "scheduled"
    assert outer.enqueue(word).id == begun[0]
    world.recover()
    assert len(begun) == 1


def test_a_running_job_that_is_replaced_and_fails_for_the_last_time_is_dead(world: World) -> None:
    @world.spooler.task(name="outer", max_attempts=1, unique="outer")
    def outer() -> None:
        world.spooler.tasks["outer"].using(on_duplicate="replace", delay=60).enqueue()
        raise RuntimeError("while it was replaced")

    first = outer.enqueue()
    world.run_ready()
    assert first.state == "dead"


def test_a_replaced_job_that_ran_gets_its_key_back_only_when_it_is_free(world: World) -> None:
    @world.spooler.task(name="outer", max_attempts=3, backoff=[0.0], unique="outer")
    def outer() -> None:
        if current_job.attempt == 1:
            world.spooler.tasks["outer"].using(on_duplicate="replace", delay=60).enqueue()
            raise RuntimeError("while it was replaced")

    first = outer.enqueue()
    world.run_ready()
    second = outer.enqueue()
    assert (first.state, second.state) == ("cancelled", "scheduled")
    with pytest.raises(JobStateError, match=second.id):
        first.retry()
    second.cancel()
    first.retry()
    assert outer.enqueue() == first


def test_a_policy_for_duplicates_needs_a_key(app: Flask, spooler: Spooler) -> None:
    @spooler.task(on_duplicate="replace")  # for those jobs that are given a key
    def work() -> None: ...

    assert work.enqueue().state == "queued"
    with pytest.raises(OptionError, match="on_duplicate to be given together with a unique key"):
        work.using(on_duplicate="refuse").enqueue()
    assert work.using(unique="one").enqueue().state == "queued"


def test_a_cancel_still_stops_a_running_job_that_was_replaced(world: World) -> None:
    ledger = world.state.engine.ledger
    running = world.state.engine.submit(make_job(unique="one", due_at=NOW + 60))
    with ledger.transaction() as rows:
        rows.start(running, "window", NOW, NOBODY, "boot")
        rows.replace(running, "another", NOW)
    assert not ledger.is_cancel_asked(running)
    assert operations.cancel(world.state.engine, running) == "running"
    assert ledger.is_cancel_asked(running)
    with ledger.transaction() as rows:
        rows.replace(running, "another", NOW)
    assert ledger.is_cancel_asked(running)


@pytest.mark.parametrize("point", ["publish.rename", "publish.fsync_directory", "ledger.commit"])
def test_a_replacement_that_fails_leaves_the_job_that_was_there(
    tmp_path: Path, fail_at: FailAt, point: str
) -> None:
    engine = SpoolEngine(Spool(tmp_path / "synced", sync=True), key=KEY)
    first = engine.submit(make_job(unique="report", due_at=NOW + 60))
    fail_at(point, OSError(28, "No space left on device"))
    with pytest.raises(EnqueueError):
        engine.submit(make_job(unique="report", on_duplicate="replace"))
    assert known(engine.ledger, first).state == "scheduled"
    assert files(engine) == [f"waiting/{first}"]
    assert len(engine.ledger.find()) == 1


def test_an_enqueue_that_returns_an_existing_job_announces_nothing(
    app: Flask, spooler: Spooler
) -> None:
    @spooler.task(unique="one")
    def work() -> None: ...

    seen: list[str] = []

    def note(sender: Flask, job_id: str, **facts: object) -> None:
        seen.append(job_id)

    with job_enqueued.connected_to(note, app):
        first = work.enqueue()
        assert work.enqueue() == first
        assert [job.id for job in work.enqueue_many([(), ()])] == [first.id, first.id]
    assert seen == [first.id]


def test_the_holder_of_a_key_is_found_until_its_job_has_ended(app: Flask, spooler: Spooler) -> None:
    @spooler.task
    def work(number: int) -> None: ...

    @spooler.task
    def other() -> None: ...

    job = work.using(unique="one").enqueue(1)
    assert work.holder_of("one") == job
    assert work.holder_of("two") is None
    assert other.holder_of("one") is None, "a key belongs to a task"
    job.cancel()
    assert work.holder_of("one") is None


def test_the_holder_of_what_is_no_key_is_asked_for_in_vain(spooler: Spooler) -> None:
    work = spooler.task(lambda: None, name="work")
    with pytest.raises(OptionError, match=r"expected unique to be .*, got: 5"):
        work.holder_of(5)  # type: ignore[arg-type]


def test_several_jobs_with_one_key_that_refuse_each_other_are_not_enqueued(
    app: Flask, spooler: Spooler
) -> None:
    work = spooler.task(lambda: None, name="work").using(unique="one", on_duplicate="refuse")
    with pytest.raises(OptionError, match="'return' or 'replace' for several jobs with one unique"):
        work.enqueue_many([(), ()])
    assert spooler.engine.ledger.find() == []
    (job,) = work.enqueue_many([()])
    with pytest.raises(DuplicateJob, match=job.id):
        work.enqueue_many([()])


ENQUEUER = """
import sys, threading
from flask import Flask
from flask_spooler import Spooler
from flask_spooler.errors import DuplicateJob

app, spooler = Flask("enqueuer"), Spooler()
app.config["SPOOLER_DIRECTORY"] = sys.argv[1]
spooler.init_app(app)
task = spooler.task(lambda: None, name="work").using(unique="one", on_duplicate=sys.argv[2])
together = threading.Barrier(16)
said = []

def enqueue():
    together.wait()
    try:
        said.append(task.enqueue().id)
    except DuplicateJob as error:
        said.append("refused " + error.job_id)

threads = [threading.Thread(target=enqueue) for _ in range(16)]
print("ready", flush=True)
sys.stdin.readline()
for thread in threads: thread.start()
for thread in threads: thread.join()
print("\\n".join(said))
"""


@pytest.mark.parametrize("policy", ["return", "refuse", "replace"])
def test_64_threads_in_4_processes_enqueue_one_unique_job(memory: Path, policy: str) -> None:
    root = memory / "spool"
    command = [sys.executable, "-c", ENQUEUER, str(root), policy]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [line for each in processes for line in each.communicate(timeout=60)[0].split("\n")]
    answers = [line for line in said if line]
    engine = SpoolEngine(Spool(root, sync=False))
    unfinished = [row.id for row in engine.ledger.find(limit=100) if row.finished_at is None]
    assert len(answers) == 64
    assert len(unfinished) == 1
    enqueued = {line for line in answers if not line.startswith("refused")}
    assert len(enqueued) == (64 if policy == "replace" else 1)
    assert unfinished[0] in enqueued
    if policy == "refuse":
        assert answers.count(f"refused {unfinished[0]}") == 63
    assert f"waiting/{unfinished[0]}" in files(engine)
    assert [row.state for row in engine.ledger.find(limit=100)].count("cancelled") == (
        63 if policy == "replace" else 0
    )
