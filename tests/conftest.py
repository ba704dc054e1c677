"""Fixtures of the tests that need no server: a spool of one's own, an app, and failures."""

from __future__ import annotations

import functools
import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask
from hypothesis import settings

from flask_spooler import Spooler, failpoints
from flask_spooler.engine import SpoolEngine
from flask_spooler.ledger import Ledger
from flask_spooler.spool import Spool
from tests.helpers import KEY

if "mix_stderr" in inspect.signature(CliRunner.__init__).parameters:
    # Up to click 8.1 a runner tells the two streams apart only when it is asked to.
    CliRunner.__init__ = functools.partialmethod(CliRunner.__init__, mix_stderr=False)

settings.register_profile("flask_spooler", deadline=None, max_examples=100, database=None)
settings.load_profile("flask_spooler")

FailAt = Callable[[str, BaseException], None]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: nothing here has to survive a power cut."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="flask-spooler-", dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture
def spool(memory: Path) -> Spool:
    """A prepared spool that does not sync."""
    found = Spool(memory / "spool", sync=False)
    found.prepare()
    return found


@pytest.fixture
def engine(spool: Spool) -> SpoolEngine:
    return SpoolEngine(spool, key=KEY)


@pytest.fixture
def ledger(engine: SpoolEngine) -> Ledger:
    return engine.ledger


@pytest.fixture
def spooler() -> Spooler:
    return Spooler()


@pytest.fixture
def app(memory: Path, spooler: Spooler) -> Flask:
    """An app with a spool of its own, in which `spooler` is at home."""
    made = Flask("tests")
    made.config.update(SPOOLER_DIRECTORY=memory / "spool", SPOOLER_DURABILITY="process")
    spooler.init_app(made)
    return made


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> FailAt:
    """Raise an error at a failpoint: `fail_at("publish.rename", OSError(…))`."""

    def arm(point: str, error: BaseException) -> None:
        def armed(reached: str) -> None:
            if reached == point:
                raise error

        monkeypatch.setattr(failpoints, "armed", armed)

    return arm
