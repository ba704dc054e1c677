"""A reader who does what a page of the documentation says, block by block, in an empty folder.

What a fenced block is for is told by its language and its first line:

==========  =====================================================================================
python      with ``# app.py`` as its first line it is that file, or with ``# app.py, continued`` its
            end; with ``>>>`` a session whose answers are compared; else it is run, all of one page
            in one module
sh          pasted into a shell, whose environment lasts to the end of the page
console     each line after a ``$`` is run, and what follows it is compared with what it printed
output      is compared with what the ``sh`` block before it printed
ini, html   with ``; uwsgi.ini`` or ``<!-- a.html -->`` as the first line that file; always parsed
json, yaml  parsed
text        a picture in letters
==========  =====================================================================================

Ids, times, lengths of time and process numbers may differ in what is compared; ``…`` stands for
anything in a line, and on a line of its own for any lines, or none. An id that a later command
names is the one that stood there. A command that starts a server is left running, and ended by the
next one; 127.0.0.1:8080 and :5000 mean a free port. Python blocks have the `app` and the `spooler`
of the quickstart, whose jobs run in a thread of the test: so nothing here finds a page that hands
something from a job to its reader in a variable, which no other process would see.

``<!-- not run: why -->`` in front of a block leaves it at its syntax; such blocks are counted.
``<!-- check: … -->`` is Python that looks whether the page is right, and that no reader sees; it
alone has `wait_until`. ``<!-- copy uwsgi.ini from quickstart.md -->`` does what the text asks for
without repeating it.
"""

from __future__ import annotations

import configparser
import contextlib
import doctest
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from flask import Flask
from markdown_it import MarkdownIt
from server import free_port, launch, wait_until

from flask_spooler import Spooler
from flask_spooler.eager import run_next
from flask_spooler.state import AppState

LANGUAGES = ("python", "sh", "console", "output", "ini", "html", "json", "yaml", "text")
SERVES = re.compile(r"(uwsgi --ini |flask( --app \S+)? run\b)")
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->", re.DOTALL)
CHECK = re.compile(r"<!-- check:\n(.+?)-->", re.DOTALL)
COPY = re.compile(r"<!-- copy (\S+) from (\S+) -->")
FILE = re.compile(r"(?:#|;|<!--) ([\w./-]+\.\w+)(, continued)?(?: -->)?\n")
ID = re.compile(r"\b1[0-9a-v]{28}\b")
VARYING = [
    (ID, "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( UTC|Z)?"), "TIME"),
    (re.compile(r"\b\d+(\.\d+)? (ms|s)\b"), "SECONDS"),
    (re.compile(r"\bprocess \d+"), "process NUMBER"),
]
ANY_PORT = re.compile(r"127\.0\.0\.1:(8080|5000)")


@dataclass(frozen=True)
class Block:
    """One fenced block, or a hidden check."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None = None

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in their order."""
    not_run = None
    for token in MarkdownIt().parse(page.read_text()):
        line = (token.map or [0])[0] + 1
        if token.type == "html_block":
            marked = NOT_RUN.search(token.content)
            not_run = marked[1] if marked else None
            for check in CHECK.finditer(token.content):
                yield Block(page, line, "check", check[1])
            for copy in COPY.finditer(token.content):
                yield from (
                    block
                    for block in blocks(page.parent / copy[2])
                    if (named := FILE.match(block.text)) and named[1] == copy[1]
                )
        elif token.type == "fence":
            language = token.info.strip()
            if not language.startswith("{"):  # a directive of MyST
                yield Block(page, line, language, token.content, not_run)
            not_run = None


@dataclass
class Reader:
    """Somebody with an empty folder, a shell, a browser and a Python prompt."""

    notes: Path
    folder: Path
    patches: pytest.MonkeyPatch
    things: contextlib.ExitStack
    environment: dict[str, str] = field(default_factory=dict)
    programs: Path = Path(sys.executable).parent
    port: int = field(default_factory=free_port)
    patience: float = 60.0
    printed: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    server: subprocess.Popen[bytes] | None = None
    module: types.ModuleType | None = None

    def read(self, block: Block) -> None:
        """Do what one block says; raise `AssertionError` where it does not hold."""
        assert block.language in (*LANGUAGES, "check"), f"{block.place}: {block.language!r}"
        try:
            check_syntax(block)
            if block.not_run is None:
                self._follow(block)
        except Exception as error:
            raise AssertionError(f"{block.place}: {error}\n{self.log}") from error

    def _follow(self, block: Block) -> None:
        match block.language:
            case "python" | "ini" | "html" if named := FILE.match(block.text):
                self._save(named[1], block.text, goes_on=named[2] is not None)
            case "python" | "check" if not block.text.startswith(">>>"):
                self._run(block)
            case "python":
                self._session(block)
            case "sh":
                self.printed = self._shell(block.text)
            case "output":
                self._compare(block.text, self.printed)
            case "console":
                for command, expected in commands(block.text):
                    printed = self._shell(command)
                    if SERVES.match(command):
                        wait_until(lambda said=expected: says(self.log, said), timeout=60)
                    else:
                        self._compare(expected, printed)

    def _save(self, name: str, text: str, *, goes_on: bool) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if goes_on else "w") as file:
            file.write(self._local(text))

    def _compare(self, expected: str, printed: str) -> None:
        compare(expected, printed)
        shown, real = ID.findall(expected), ID.findall(printed)
        if len(shown) == len(real):
            self.ids.update(zip(shown, real, strict=True))

    def _local(self, text: str) -> str:
        """Return text of the page as it has to be here: with a free port, and the ids of jobs."""
        text = ANY_PORT.sub(f"127.0.0.1:{self.port}", text)
        return ID.sub(lambda found: self.ids.get(found[0], found[0]), text)

    def _run(self, block: Block) -> None:
        program = "\n" * block.line + block.text
        names = vars(self._python())
        # A reader has no such helper, so what they see must do without it.
        helpers = {"wait_until": wait_until} if block.language == "check" else {}
        names.update(helpers)
        try:
            exec(compile(program, str(block.page), "exec"), names)
        finally:
            for helper in helpers:
                del names[helper]

    def _session(self, block: Block) -> None:
        names = vars(self._python())
        text = block.text.replace("…", "...")
        test = doctest.DocTestParser().get_doctest(text, names, block.place, str(block.page), 0)
        test.globs = names
        shown: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
        runner.run(test, out=shown.append, clear_globs=False)
        assert runner.failures == 0, "".join(shown)

    def _python(self) -> types.ModuleType:
        if self.module is None:
            self.module = self.things.enter_context(a_shop(self.folder, self.patches))
        return self.module

    def _shell(self, text: str) -> str:
        """Run what is pasted into the shell; return what it printed."""
        text = self._local(text)
        before, serves, command = split_server(text)
        printed = self._bash(before) if before.strip() else ""
        if serves:
            self._serve(command)
        return printed

    def _bash(self, text: str) -> str:
        pasted = self.notes / "pasted.sh"
        pasted.write_text(
            f"set -ea\n{self._restored}\n{text}\nexport -p > {self._kept}\n"
            f"pwd > {self.notes}/folder\n"
        )
        done = subprocess.run(
            ["bash", str(pasted)],
            cwd=self.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.patience,
            check=False,
        )
        # A command may end with 1 to say something; what it says is compared.
        assert done.returncode in (0, 1), f"{text}\nended with {done.returncode}:\n{done.stdout}"
        if done.returncode == 0:
            self.folder = Path((self.notes / "folder").read_text().strip())
        return done.stdout

    @property
    def _kept(self) -> Path:
        return self.notes / "environment"

    @property
    def _restored(self) -> str:
        """What a shell reads first, to have the variables of the block before."""
        return f"[ ! -e {self._kept} ] || . {self._kept}"

    def _serve(self, command: str) -> None:
        self.stop()
        words = ["bash", "-c", f"{self._restored}\nexec {command}"]
        self.server = launch(words, self._log_file, cwd=self.folder, env=self.variables)
        wait_until(self._answers, timeout=60)

    def _answers(self) -> bool:
        assert self.server is not None
        assert self.server.poll() is None, "the server has ended"
        return self._is_taken()

    def _is_taken(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """End the server as Ctrl-C does, if there is one, and leave nothing of it."""
        if self.server is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.server.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.server.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()
        self.server = None
        # Processes of a killed server outlive its master by moments, and hold the port.
        wait_until(lambda: not self._is_taken())

    @property
    def variables(self) -> dict[str, str]:
        """The environment of somebody who has set nothing yet."""
        outer = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FLASK_", "SPOOLER_", "PYTEST_", "VIRTUAL_ENV"))
        }
        return {
            **outer,
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "FLASK_RUN_PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "120",
            **self.environment,
        }

    @property
    def log(self) -> str:
        """What the server said last, for a test that has failed."""
        there = self._log_file.exists()
        return self._log_file.read_text(errors="replace")[-2_000:] if there else ""

    @property
    def _log_file(self) -> Path:
        return self.notes / "server.log"


@contextlib.contextmanager
def a_reader(path: Path, **settings: Any) -> Iterator[Reader]:
    """A reader with an empty folder below `path`; nothing of theirs runs afterwards."""
    folder = path / "shop"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patches, contextlib.ExitStack() as things:
        patches.chdir(folder)
        reader = Reader(path, folder, patches, things, **settings)
        try:
            yield reader
        finally:
            reader.stop()


@contextlib.contextmanager
def a_shop(folder: Path, patches: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """The module in which the Python blocks of one page run, and a thread that runs its jobs."""
    module = types.ModuleType("shop")
    patches.setitem(sys.modules, "shop", module)
    app = Flask("shop")
    app.config.update(SPOOLER_DIRECTORY=folder / "my_spools", SPOOLER_DURABILITY="process")
    spooler = Spooler(app)
    vars(module).update(app=app, spooler=spooler)
    state: AppState = app.extensions["spooler"]
    state.engine.prepare()
    closing = threading.Event()

    def run_jobs() -> None:
        while not closing.is_set():
            if run_next(state.desk, time.time()) is None:
                closing.wait(0.005)

    thread = threading.Thread(target=run_jobs, daemon=True)
    thread.start()
    try:
        with app.app_context():
            yield module
    finally:
        closing.set()
        thread.join()


def check_syntax(block: Block) -> None:
    """Raise for a block that could not even be read by what it is for."""
    match block.language:
        case "python" | "check" if not block.text.startswith(">>>"):
            compile(block.text, block.place, "exec")
        case "sh" | "console":
            pasted = (
                block.text
                if block.language == "sh"
                else "\n".join(command for command, _ in commands(block.text))
            )
            subprocess.run(["bash", "-n"], input=pasted, text=True, check=True, timeout=60)
        case "ini":
            configparser.RawConfigParser(strict=False, allow_no_value=True).read_string(block.text)
        case "json":
            json.loads(block.text)
        case "yaml":
            list(yaml.safe_load_all(block.text))
        case "html":
            jinja2.Environment().parse(block.text)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block with what it is said to print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        while command.endswith("\\"):
            more, _, expected = expected.partition("\n")
            command += "\n" + more.removeprefix("> ")
        yield command, expected


def split_server(text: str) -> tuple[str, bool, str]:
    """Return what is done before a server starts, whether one does, and its command."""
    lines = text.splitlines(keepends=True)
    for place, line in enumerate(lines):
        if SERVES.match(line):
            assert not "".join(lines[place + 1 :]).strip(), "a server is the end of its block"
            return "".join(lines[:place]), True, shlex.join(shlex.split(line, comments=True))
    return text, False, ""


def compare(expected: str, printed: str) -> None:
    """Raise unless `printed` is as `expected`; of that nothing is compared where it is empty."""
    wanted, got = alike(expected), alike(printed)
    pattern = "".join(map(line_pattern, wanted))
    told = f"expected:\n{expected}\ngot:\n{printed}"
    assert not wanted or re.fullmatch(pattern, "".join(f"{line}\n" for line in got)), told


def says(log: str, expected: str) -> bool:
    """Tell whether a server has said each of these lines by now."""
    said = "".join(f"{line}\n" for line in alike(log))
    return all(re.search(line_pattern(line), said) for line in alike(expected))


def alike(text: str) -> list[str]:
    """Return lines in which everything that differs from run to run is written in one way."""
    for pattern, written in VARYING:
        text = pattern.sub(written, text)
    return [" ".join(line.split()) for line in text.strip().splitlines()]


def line_pattern(line: str) -> str:
    if line == "…":
        return r"(?:.*\n)*"
    return ".*".join(re.escape(part) for part in line.split("…")) + r"\n"
