"""Files and ledger after a crash between any two steps: every one of them, one after the other.

Each scenario is run once to see which failpoints it passes, and then once for each of them in a
forked child that is killed there. After that the housekeeper and a worker get the spool as the
crash left it. uWSGI's part, handing over ready files and unlinking after SPOOL_OK, is played by
`World.run_ready`; the same kills against the real server are in tests/witness.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_spooler import operations
from flask_spooler.job import FINAL
from flask_spooler.spool import WRITING
from tests.world import World, in_a_child, killed_at, new_world, one_process_pool, points

Scenario = tuple[Callable[[World], None], Callable[[World], None]]


def nothing(world: World) -> None:
    """Set nothing up."""


def one(word: str, **options: object) -> Callable[[World], None]:
    return lambda world: world.enqueue(word, **options)


def dead(world: World) -> None:
    world.enqueue("fail", max_attempts=1)
    world.run_ready()


def cancel(world: World) -> None:
    operations.cancel(world.state.engine, world.all_acked()[0])


def revive(world: World) -> None:
    operations.revive(world.state.engine, world.all_acked()[0])


def cancelled_early(world: World) -> None:
    world.enqueue("ok", delay=60)
    cancel(world)


def delete(world: World) -> None:
    operations.delete(world.state.engine, world.all_acked()[0])


def crowd(world: World) -> None:
    world.enqueue(*"abcdef")


SCENARIOS: dict[str, Scenario] = {
    "enqueue into the window": (nothing, one("ok")),
    "enqueue for later": (nothing, one("ok", delay=0.01)),
    "enqueue many": (nothing, crowd),
    "run and succeed": (one("ok"), lambda world: world.run_ready() and None),
    "run and retry": (one("retry"), lambda world: world.run_ready() and None),
    "run and die": (one("fail", max_attempts=1), lambda world: world.run_ready() and None),
    "run and promote": (crowd, lambda world: world.run_ready() and None),
    "cancel a waiting job": (one("ok", delay=60), cancel),
    "cancel a job in the window": (one("ok"), cancel),
    "retry a dead job": (dead, revive),
    "retry a job cancelled before its time": (cancelled_early, revive),
    "delete a dead job": (dead, delete),
    "keep house": (one("ok", delay=0.001), World.recover),
}


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return SCENARIOS[request.param]


def test_after_a_kill_at_any_failpoint_nothing_is_lost_and_all_agree(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_process_pool(monkeypatch)
    set_up, step = scenario
    with new_world(tmp_path / "survey") as world:
        set_up(world)
        passed = points(world, step)
    assert passed, "a scenario without failpoints tests nothing"
    for hit, name in enumerate(passed):
        with new_world(tmp_path / str(hit)) as world:
            in_a_child(functools.partial(set_up, world))
            killed_at(world, step, hit)
            world.recover()
            check(world, step, f"{name} (failpoint {hit})")


def check(world: World, step: Callable[[World], None], where: str) -> None:
    """Every acknowledged job has ended, no run was invented, and nothing is left over."""
    ledger, spool = world.state.engine.ledger, world.state.engine.spool
    records = {record.id: record for record in ledger.find(limit=100)}
    for job_id in world.all_acked():
        if job_id not in records:
            assert step is delete, f"{job_id} is lost after {where}"
            continue
    for record in records.values():
        assert record.error_type != "FileLost", f"a file was lost after {where}"
        if record.state == "scheduled" and record.due_at > time.time():
            # A promoter that misses the file of a revived job looks for it among the dead.
            places = ["waiting", "dead"] if step is revive else ["waiting"]
            found = [spool.remove(place, record.id) for place in places]
            assert sum(found) == 1, f"its file is gone after {where}"
            continue
        assert record.state in FINAL, f"{record.state} after {where}"
        if step is not delete:
            assert (record.state == "succeeded") != spool.has("dead", record.id), where
    lines = world.out.read_text().splitlines() if world.out.exists() else []
    runs = Counter(line.split()[0] for line in lines)
    for job_id, count in runs.items():
        assert job_id in records or spool_empty(world), f"a run of nobody after {where}"
        attempts = ledger.attempts(job_id)
        explained = 1 + sum(a.outcome != "succeeded" for a in attempts)
        assert count <= explained, f"{count} runs, {explained} explained, after {where}"
    counts = spool.counts()
    assert counts["window"] == counts["waiting"] == counts["done"] == counts["corrupt"] == 0, where
    assert set(spool.names(WRITING)) <= abandoned(world), where


def abandoned(world: World) -> set[str]:
    """What the killed enqueue may leave in tmp/, until it is old: nobody was promised it."""
    return {name for name in world.state.engine.spool.names(WRITING)
            if name not in world.all_acked()}  # fmt: skip


def spool_empty(world: World) -> bool:
    counts = world.state.engine.spool.counts()
    return not any(counts[place] for place in ("window", "waiting", "dead", "done"))
