"""A spool with everybody who works on it in one process: for crashes at exact places.

uWSGI's part, handing over ready files and unlinking after SPOOL_OK, is played by `run_ready`; the
same kills against the real server are in tests/witness.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask

from flask_spooler import SPOOL_OK, Spooler, _uwsgi, current_job, failpoints
from flask_spooler.housekeeper import Housekeeper
from flask_spooler.job import parse_file
from flask_spooler.spool import DONE
from flask_spooler.state import AppState


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
def new_world(path: Path, *, exist_ok: bool = False, **config: object) -> Iterator[World]:
    """A spool of its own below `path`, and everybody who works on it; `config` for its app."""
    path.mkdir(exist_ok=exist_ok)
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
    app.config.update(config)
    spooler.init_app(app)
    with app.app_context():
        state = app.extensions["spooler"]
        state.engine.prepare()
        yield World(spooler, state, out)


def one_process_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process pass for a pool of one spooler."""
    monkeypatch.setattr(_uwsgi, "spooler_pids", lambda: [os.getpid()])
    monkeypatch.setattr(_uwsgi, "wake", lambda pids: None)


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
