"""One fixture for everything that needs a server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from server import Server


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers with `start_server(processes=…, environment=…, options=…)`.

    All of one test share a spool directory unless told otherwise; all are gone at its end.
    """
    servers: list[Server] = []

    def start(**settings: Any) -> Server:
        settings.setdefault("directory", tmp_path / "spool")
        settings["directory"].mkdir(exist_ok=True)
        server = Server(log_file=tmp_path / f"server-{len(servers)}.log", **settings)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()
