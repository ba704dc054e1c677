"""A world whose jobs are run in this process, as a spooler takes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_spooler import _uwsgi
from flask_spooler.ledger import Ledger
from flask_spooler.spool import Spool
from tests.world import World, new_world, one_process_pool


@pytest.fixture
def world(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    one_process_pool(monkeypatch)
    with new_world(memory / "world", SPOOLER_DURABILITY="process") as world:
        monkeypatch.setattr("flask_spooler.dispatch.desks", [world.state.desk])
        yield world


@pytest.fixture
def spool(world: World) -> Spool:
    return world.state.engine.spool


@pytest.fixture
def ledger(world: World) -> Ledger:
    return world.state.engine.ledger


@pytest.fixture
def one_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all processes belong to one server, so that the end of one is a crash."""
    boot = _uwsgi.boot()
    monkeypatch.setattr(_uwsgi, "boot", lambda: boot)
    monkeypatch.setattr(_uwsgi, "_boot_name", lambda pid: str(boot))
