"""The examples on a real server, visited over HTTP as a browser without scripts would."""

from __future__ import annotations

import io
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from server import ROOT, Answer, Server, run
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from tests.uwsgi.conftest import servers_in


@dataclass
class Example:
    """One example, running."""

    server: Server
    data: Path

    def get(self, address: str) -> Answer:
        return self.server.get(address)

    def submit(self, address: str, **fields: str) -> Answer:
        return self.server.post(address, urllib.parse.urlencode(fields).encode())

    def upload(self, address: str, name: str, files: dict[str, bytes]) -> Answer:
        """Submit files, named as the user's machine has them."""
        parts = [FileStorage(io.BytesIO(content), file) for file, content in files.items()]
        boundary, body = encode_multipart({name: parts})
        return self.server.post(address, body, f"multipart/form-data; boundary={boundary}")

    def flask(self, *words: str) -> str:
        """Run a ``flask`` command in the folder of the example."""
        folder = ROOT / Path(self.server.ini).parent
        command = [sys.executable, "-m", "flask", *words]
        return run(command, cwd=folder, env=self.server.variables).stdout


@pytest.fixture
def start_example(tmp_path: Path) -> Iterator[Callable[..., Example]]:
    """Start an example with `start_example("mail", SMTP_PORT="8025")`: its settings by name.

    Its spool and its files lie in a directory of the test.
    """
    with servers_in(tmp_path) as servers:

        def start(name: str, **settings: str) -> Example:
            environment = {f"FLASK_{key}": value for key, value in settings.items()}
            environment["FLASK_DATA_DIRECTORY"] = str(tmp_path / "data")
            server = servers(
                ini=f"examples/{name}/uwsgi.ini",
                spooler_import="app",
                processes=3,
                environment=environment,
            )
            return Example(server, tmp_path / "data")

        yield start
