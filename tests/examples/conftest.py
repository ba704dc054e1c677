"""The examples on a real server, visited over HTTP as a browser without scripts would."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

sys.path.insert(0, str(Path(__file__).parents[1] / "uwsgi"))

from server import ROOT, Server

from tests.uwsgi.conftest import servers_in


@dataclass
class Page:
    """What was shown, where redirects led."""

    status: int
    address: str
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Example:
    """One example, running."""

    server: Server
    data: Path

    def get(self, address: str) -> Page:
        return self._fetch(address)

    def submit(self, address: str, **fields: str) -> Page:
        return self._fetch(address, urllib.parse.urlencode(fields).encode())

    def upload(self, address: str, name: str, files: dict[str, bytes]) -> Page:
        """Submit files, named as the user's machine has them."""
        parts = [FileStorage(io.BytesIO(content), file) for file, content in files.items()]
        boundary, body = encode_multipart({name: parts})
        return self._fetch(address, body, f"multipart/form-data; boundary={boundary}")

    def flask(self, *words: str) -> str:
        """Run a ``flask`` command in the folder of the example."""
        done = subprocess.run(
            [sys.executable, "-m", "flask", *words],
            cwd=ROOT / Path(self.server.ini).parent,
            env=self.server.variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def _fetch(self, address: str, body: bytes | None = None, kind: str = "") -> Page:
        base = f"http://127.0.0.1:{self.server.port}"
        request = urllib.request.Request(urllib.parse.urljoin(base, address), data=body)
        if kind:
            request.add_header("Content-Type", kind)
        try:
            answer = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            shown = answer.geturl().removeprefix(base)
            return Page(answer.status, shown, dict(answer.headers), answer.read())


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
