"""A unique key while processes die, power goes, and its holder is on the move."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flask_spooler import EnqueueError, _uwsgi, failpoints
from flask_spooler.engine import SpoolEngine
from flask_spooler.spool import Spool
from tests.helpers import KEY, known, make_job
from tests.test_power_cuts import say
from tests.world import World, in_a_child, killed_at, new_world, one_process_pool, points


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> None:
    one_process_pool(monkeypatch)
    monkeypatch.setattr(_uwsgi, "lives_on", lambda boot: True)


@pytest.fixture
def world(memory: Path) -> Iterator[World]:
    with new_world(memory / "world") as made:
        yield made


def scheduled(world: World) -> None:
    world.enqueue("old", unique="one", delay=60)


def queued(world: World) -> None:
    world.enqueue("first")
    world.enqueue("old", unique="one")


def replace(world: World) -> None:
    world.enqueue("new", unique="one", on_duplicate="replace")


def runs(world: World) -> Counter[str]:
    lines = world.out.read_text().splitlines() if world.out.exists() else []
    return Counter(line.split()[1] for line in lines)


def unfinished(world: World) -> int:
    return sum(record.finished_at is None for record in world.state.engine.ledger.find())


@pytest.mark.parametrize("set_up", [scheduled, queued], ids=["scheduled", "queued"])
def test_an_enqueue_that_replaces_killed_at_any_point_leaves_one_of_the_two(
    memory: Path, set_up: Callable[[World], None]
) -> None:
    with new_world(memory / "survey") as world:
        set_up(world)
        passed = points(world, replace)
    assert {"publish.rename", "ledger.commit", "bury_waiting.rename"} <= set(passed)
    for hit, name in enumerate(passed):
        with new_world(memory / str(hit)) as world:
            in_a_child(functools.partial(set_up, world))
            enqueued = len(world.all_acked())
            killed_at(world, replace, hit)
            has_returned = len(world.all_acked()) > enqueued
            world.recover()
            done = runs(world)
            assert done["old"] + done["new"] + unfinished(world) == 1, name
            assert done["new"] or not has_returned, name


def test_a_replacement_that_a_power_cut_takes_out_of_the_ledger_is_made_again(
    world: World,
) -> None:
    """The rows are as before the enqueue; the files are where it has moved them."""
    scheduled(world)
    replace(world)
    old, new = world.all_acked()
    say(
        world,
        f"DELETE FROM jobs WHERE id = '{new}'; UPDATE jobs SET state = 'scheduled',"
        f" finished_at = NULL, error_type = NULL WHERE id = '{old}'",
    )
    world.recover()
    assert runs(world) == {"new": 1}
    assert known(world.state.engine.ledger, old).error_type == "Replaced"


def test_a_job_found_without_a_row_replaces_no_job_that_is_newer_or_when_it_was_known(
    engine: SpoolEngine,
) -> None:
    oldest = make_job(unique="one")
    older, newer = (make_job(unique="one", on_duplicate="replace") for _ in range(2))
    with engine.ledger.transaction() as rows:
        rows.insert(newer, "queued", None)
        assert rows.insert(older, "queued", None)
    assert known(engine.ledger, older.id).unique_key is None
    assert known(engine.ledger, newer.id).state == "queued"
    with engine.ledger.transaction() as rows:
        rows.close(newer.id, "cancelled", 1.0, None)
        rows.insert(oldest, "queued", None)
        assert not rows.insert(newer, "queued", None)
        assert rows.insert(make_job(unique="one", on_duplicate="replace"), "dead", None)
    assert known(engine.ledger, oldest.id).state == "queued"


def test_a_job_can_be_replaced_at_every_moment_of_a_failing_attempt(memory: Path) -> None:
    """Another process enqueues at each failpoint; where the ledger is locked it is refused."""

    def fail(world: World) -> None:
        world.enqueue("retry", unique="one")

    def run(world: World) -> None:
        world.run_ready()

    with new_world(memory / "survey") as world:
        fail(world)
        passed = points(world, run)
    replaced = 0
    for hit in range(len(passed)):
        with new_world(memory / str(hit)) as world:
            fail(world)
            (old,) = world.all_acked()
            failpoints.armed = functools.partial(enqueue_at, world, iter(range(hit)))
            try:
                world.run_ready()
            finally:
                failpoints.armed = None
            if len(world.all_acked()) == 1:
                replace(world)
            else:
                replaced += 1
            world.recover()
            assert runs(world)["new"] == 1, passed[hit]
            assert runs(world)["retry"] <= 1, passed[hit]
            assert known(world.state.engine.ledger, old).state == "cancelled", passed[hit]
            assert unfinished(world) == 0
    assert replaced >= 3


def enqueue_at(world: World, left: Iterator[int], name: str) -> None:
    if next(left, None) is None:
        failpoints.armed = None
        in_a_child(functools.partial(try_to_replace, world))


def try_to_replace(world: World) -> None:
    world.state.engine.ledger.patience = 0.01
    try:
        replace(world)
    except EnqueueError:
        return


def test_nobody_is_given_the_id_of_a_job_that_is_taken_back_a_moment_later(tmp_path: Path) -> None:
    """Another process enqueues where the first one's last sync fails."""
    answer = tmp_path / "answer"

    def ask() -> None:
        other = SpoolEngine(Spool(tmp_path / "synced", sync=True), key=KEY)
        other.ledger.patience = 0.01
        try:
            answer.write_text(other.submit(make_job(unique="one")))
        except EnqueueError:
            answer.write_text("refused")

    def fail(point: str) -> None:
        if point == "publish.fsync_directory":
            failpoints.armed = None
            in_a_child(ask)
            raise OSError(28, "No space left on device")

    engine = SpoolEngine(Spool(tmp_path / "synced", sync=True), key=KEY)
    engine.prepare()
    failpoints.armed = fail
    try:
        with pytest.raises(EnqueueError):
            engine.submit(make_job(unique="one"))
    finally:
        failpoints.armed = None
    given = answer.read_text()
    assert given == "refused" or engine.ledger.state(given) is not None
