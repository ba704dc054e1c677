"""Files and ledger after a crash between any two steps: every one of them, one after the other.

Each scenario is run once to see which failpoints it passes, and then once for each of them in a
forked child that is killed there. After that the housekeeper and a worker get the spool as the
crash left it. uWSGI's part, handing over ready files and unlinking after SPOOL_OK, is played by
`World.run_ready`; the same kills against the real server are in tests/witness.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask

from flask_spooler import SPOOL_OK, Spooler, _uwsgi, current_job, failpoints
from flask_spooler.extension import AppState
from flask_spooler.housekeeper import Housekeeper
from flask_spooler.job import FINAL, parse_file
from flask_spooler.spool import DONE, WRITING


@dataclass
class World:
    """A spool, and everybody who works on it."""

    spooler: Spooler
    state: AppState
    out: Path

    def enqueue(self, *words: str, **options: object) -> None:
        task = self.spooler.tasks["note"].using(**options)
        if len(words) == 1:
            self.ack(task.enqueue(*words).id)
            return
        for job in task.enqueue_many([(word,) for word in words]):
            self.ack(job.id)

    def ack(self, job_id: str) -> None:
        """Remember that the enqueue of this job returned, also when this process is killed."""
        descriptor = os.open(self.out.with_name("acked"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{job_id}\n".encode())
        os.close(descriptor)

    def all_acked(self) -> list[str]:
        file = self.out.with_name("acked")
        return file.read_text().split() if file.exists() else []

    def run_ready(self) -> int:
        """Hand each ready file of the window to the worker, as uWSGI's spoolers do."""
        handled = 0
        for file in self.state.engine.spool.window():
            path = self.state.engine.spool.root / file.name
            if file.mtime > time.time():
                continue
            packet = parse_file(path.read_bytes()) | {"spooler_task_name": os.fsencode(file.name)}
            answer = self.state.desk.worker.handle(packet)
            failpoints.reach("uwsgi.unlink")
            if answer == SPOOL_OK:
                path.unlink()
            handled += 1
        return handled

    def recover(self) -> None:
        """Let housekeeper and worker go on until nothing moves any more, leases left out."""
        keeper = Housekeeper(self.spooler, self.state.engine, grace=1, retention=86_400)
        for _ in range(12):
            for file in self.state.engine.spool.window():
                os.utime(self.state.engine.spool.root / file.name, (0, 0))
            for name in self.state.engine.spool.names(DONE):
                os.utime(self.state.engine.spool.root / DONE / name, (0, 0))
            keeper._tick_at = 0.0
            keeper.round(time.time())
            self.run_ready()


@contextmanager
def new_world(path: Path) -> Iterator[World]:
    """A spool of its own below `path`, and everybody who works on it."""
    path.mkdir()
    spooler = Spooler()
    out = path / "out"

    @spooler.task(name="note", max_attempts=2, backoff=[0.0])
    def note(word: str) -> None:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{current_job.id} {word}\n".encode())
        os.close(descriptor)
        if word == "fail" or (word == "retry" and current_job.attempt == 1):
            raise RuntimeError(word)

    app = Flask("crash-states")
    app.config.update(SPOOLER_DIRECTORY=path / "spool", SPOOLER_GRACE=0.0)
    spooler.init_app(app)
    with app.app_context():
        state = app.extensions["spooler"]
        state.engine.prepare()
        yield World(spooler, state, out)


Scenario = tuple[Callable[[World], None], Callable[[World], None]]


def nothing(world: World) -> None:
    """Set nothing up."""


def one(word: str, **options: object) -> Callable[[World], None]:
    return lambda world: world.enqueue(word, **options)


def dead(world: World) -> None:
    world.enqueue("fail", max_attempts=1)
    world.run_ready()


def cancel(world: World) -> None:
    world.state.engine.cancel(world.all_acked()[0])


def revive(world: World) -> None:
    world.state.engine.revive(world.all_acked()[0])


def delete(world: World) -> None:
    world.state.engine.delete(world.all_acked()[0])


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
    "delete a dead job": (dead, delete),
    "keep house": (one("ok", delay=0.001), World.recover),
}


def in_a_child(act: Callable[[], None]) -> None:
    """Run `act` in a forked child and wait for its end, however it ends."""
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    os.waitpid(child, 0)


def points(world: World, step: Callable[[World], None]) -> list[str]:
    """The failpoints that a step passes, in order."""
    seen: list[str] = []
    failpoints.armed = seen.append
    try:
        step(world)
    finally:
        failpoints.armed = None
    return seen


def killed_at(world: World, step: Callable[[World], None], hit: int) -> None:
    """Run a step in a child that is killed at its n-th failpoint."""
    left = iter(range(hit))

    def kill(name: str) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def act() -> None:
        failpoints.armed = kill
        step(world)

    in_a_child(act)


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return SCENARIOS[request.param]


def test_after_a_kill_at_any_failpoint_nothing_is_lost_and_all_agree(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_uwsgi, "spooler_pids", lambda: [os.getpid()])
    monkeypatch.setattr(_uwsgi, "wake", lambda pids: None)
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
            assert spool.has("waiting", record.id), f"its file is gone after {where}"
            spool.remove("waiting", record.id)
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
