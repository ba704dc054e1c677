"""What the witness writes down of a ledger is what stands in it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from flask_spooler._uwsgi import Process
from flask_spooler.engine import SpoolEngine
from flask_spooler.record import Change, Step
from tests.helpers import NOW, make_job, settle

from .clients import Watcher, acknowledge, intend, turn_away
from .facts import Hits, RowSeen
from .logs import Ack, Beside, Duplicate, History, Intent, Logs, read_history
from .payload import KEYS, any_wish
from .snapshot import rows, searched


def look(engine: SpoolEngine, directory: Path) -> list[tuple[str, str, str]]:
    Watcher(engine.ledger.path, Logs(directory).client).look()
    lines = read_history(directory).client
    return [(line.key, line.token, line.how) for line in lines if isinstance(line, Beside)]


def test_unfinished_jobs_of_one_key_are_written_down_with_how_they_have_it(
    engine: SpoolEngine, tmp_path: Path
) -> None:
    ran, without, alone = (
        make_job(kwargs={"token": token, "key": key}, unique=key, due_at=NOW + 60)
        for token, key in (("ran", "one"), ("without", "one"), ("alone", "two"))
    )
    newest = make_job(
        kwargs={"token": "newest", "key": "one"}, unique="one", on_duplicate="replace"
    )
    engine.submit_many([ran, alone])
    with engine.ledger.transaction() as work:
        work.start(ran.id, "window", NOW, Process(0, 0), "boot")
        work.insert(without, "queued", None)
    engine.submit(newest)
    assert look(engine, tmp_path) == [
        ("one", "ran", "replaced"),
        ("one", "without", "without"),
        ("one", "newest", "holds"),
    ]


def test_a_job_alone_with_its_key_is_nothing_to_write_down(
    engine: SpoolEngine, tmp_path: Path
) -> None:
    engine.submit(make_job(kwargs={"token": "a", "key": "one"}, unique="one"))
    engine.submit(make_job(kwargs={"token": "b", "key": ""}))
    engine.submit(make_job(kwargs={"token": "c", "key": ""}))
    assert look(engine, tmp_path) == []


def test_the_snapshot_has_keys_tags_steps_and_who_replaced_whom(engine: SpoolEngine) -> None:
    first = make_job(kwargs={"token": "a"}, unique="one", tags=("x", "y"))
    second = make_job(kwargs={"token": "b"}, unique="one", on_duplicate="replace")
    engine.submit(first)
    with engine.ledger.transaction() as work:
        work.step(first.id, Step("fetch", 1, NOW, 0.1, b'"f00d"'))
    engine.submit(second)
    assert rows(engine.ledger.path, History())[0] == RowSeen(
        "a",
        first.id,
        "cancelled",
        "Replaced",
        ended=NOW,
        key="one",
        by=second.id,
        tags=frozenset({"x", "y"}),
        steps={"fetch": (1, "f00d")},
    )
    assert searched(engine.ledger.path, ("x", "z")) == (
        Hits("the list", "x", frozenset({first.id})),
        Hits("the list", "z", frozenset()),
        Hits("the search", "x", frozenset({first.id})),
        Hits("the search", "z", frozenset()),
    )


def test_the_snapshot_has_the_attempt_that_succeeded_among_the_others(engine: SpoolEngine) -> None:
    job = make_job(kwargs={"token": "a"})
    engine.submit(job)
    again = Change(outcome="failed", state="retrying", due_at=NOW, ended_at=NOW + 2)
    done = Change(outcome="succeeded", state="succeeded", due_at=NOW, ended_at=NOW + 4)
    with engine.ledger.transaction() as work:
        for attempt, change in ((1, again), (2, done)):
            work.start(job.id, "window", change.ended_at - 1, Process(0, 0), "boot")
            assert settle(work, job.id, attempt, change)
    assert rows(engine.ledger.path, History()) == (
        RowSeen(
            "a",
            job.id,
            "succeeded",
            outcomes={1: "failed", 2: "succeeded"},
            ended=NOW + 4,
            starts={1: NOW + 1, 2: NOW + 3},
        ),
    )


@pytest.mark.parametrize("seed", range(3))
def test_what_was_wished_for_comes_back_from_the_clients_log(tmp_path: Path, seed: int) -> None:
    log, dice = Logs(tmp_path).client, random.Random(seed)
    wishes = [any_wish("test", dice) for _ in range(200)]
    for wish in wishes:
        intend(wish, log)
    intents = [line for line in read_history(tmp_path).client if isinstance(line, Intent)]
    wished = [(payload, wish.options) for wish in wishes for payload in wish.payloads]
    assert {intent.key for intent in intents} == {"", *KEYS}
    for intent, (payload, options) in zip(intents, wished, strict=True):
        assert (intent.token, intent.payload) == (payload.token, payload.hash)
        assert (intent.key, intent.steps) == (payload.key, payload.steps)
        assert intent.key == options.get("unique", "")
        assert intent.policy == options.get("on_duplicate", "return")
        assert intent.tags == frozenset(options.get("tags", ()))


def test_answers_come_back_from_the_clients_log(tmp_path: Path) -> None:
    log, wish = Logs(tmp_path).client, any_wish("test", random.Random(1))
    acknowledge(wish, [f"id-{n}" for n, _ in enumerate(wish.payloads)], log)
    turn_away(wish, "id-holder", log)
    kinds = [(type(line), line.id) for line in read_history(tmp_path).client if hasattr(line, "id")]
    assert kinds[0] == (Ack, "id-0")
    assert kinds[-1] == (Duplicate, "id-holder")
