"""The fixtures for everything that needs a server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from server import Server, gone_at_the_end
from standstill import Standstill


@contextlib.contextmanager
def servers_in(directory: Path) -> Iterator[Callable[..., Server]]:
    """Give a function that starts servers below `directory`; at the end all of them are gone."""
    servers: list[Server] = []

    def start(**settings: Any) -> Server:
        settings.setdefault("directory", directory / "spool")
        settings["directory"].mkdir(exist_ok=True)
        server = Server(log_file=directory / f"server-{len(servers)}.log", **settings)
        servers.append(server)
        server.start()
        return server

    with gone_at_the_end(servers):
        yield start


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers with `start_server(processes=…, environment=…, options=…)`.

    All of one test share a spool directory unless told otherwise; all are gone at its end.
    """
    with servers_in(tmp_path) as start:
        yield start


@pytest.fixture
def standstill(tmp_path: Path) -> Iterator[Standstill]:
    """For how long the machine stood still while this test ran."""
    watch = Standstill(tmp_path / "standstill")
    watch.start()
    yield watch
    watch.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a file that only ask it for work."""
    with servers_in(tmp_path_factory.mktemp("server")) as start:
        yield start()
