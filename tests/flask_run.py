"""A real `flask run` for a test: its own app in a file, its own port and spool."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tests.uwsgi.server import Server, gone_at_the_end, run, wait_until

APP = """
import json
import os
import signal
import time

from flask import Flask, request

from flask_spooler import JobNotFound, Spooler, current_job

spooler = Spooler()


@spooler.task
def add(a: int, b: int) -> int:
    print(f"adding {a} and {b} in {os.getpid()}")
    return a + b


@spooler.task
def wait(seconds: float) -> int:
    current_job.progress(1, total=2)
    time.sleep(seconds if current_job.attempt == 1 else 0)
    return current_job.attempt


@spooler.task(max_attempts=2, backoff=[0.1])
def divide(by: int) -> float:
    return 1 / by


@spooler.task(max_attempts=1, timeout=0.3)
def limited() -> None:
    time.sleep(60)


@spooler.task(max_attempts=1, hard_timeout=1)
def stuck() -> None:
    time.sleep(60)


@spooler.task
def crash(signal_number: int) -> int:
    if current_job.attempt == 1:
        os.kill(os.getpid(), signal_number)
    return current_job.attempt


@spooler.task
def told_by_the_reloader() -> list[str]:
    return [name for name in os.environ if name.startswith("WERKZEUG")]


@spooler.task
def look() -> int:
    found = 41
    breakpoint()
    return found


@spooler.task
def leave_a_child() -> int:
    if current_job.attempt == 1:
        if child := os.fork():
            print(f"left {child}")
            os._exit(1)
        time.sleep(60)
    return current_job.attempt


app = Flask(__name__)
spooler.init_app(app)


@app.post("/tasks/<name>")
def enqueue(name):
    options = request.args.to_dict()
    delay = {"delay": float(options["delay"])} if "delay" in options else {}
    return {"id": spooler.find_task(f"app.{name}").using(**delay).enqueue(*request.json).id}


@app.get("/jobs/<job_id>")
def job(job_id):
    return spooler.get(job_id).as_dict()


@app.post("/jobs/<job_id>/cancel")
def cancel(job_id):
    spooler.get(job_id).cancel()
    return {}


@app.errorhandler(JobNotFound)
def unknown(error):
    return {}, 404
"""

CHILD = "flask_spooler.development"
RUNS = "Spooler: jobs run in child process"


@dataclass
class FlaskRun(Server):
    """One development server; `options` are those of `flask run`."""

    changes: int = 0

    @property
    def app(self) -> Path:
        return self.directory.parent / "app.py"

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "flask", "run", "--port", str(self.port), *self.options]

    @property
    def home(self) -> Path:
        return self.app.parent

    @property
    def variables(self) -> dict[str, str]:
        return {**super().variables, "FLASK_SPOOLER_DURABILITY": "process"}

    @property
    def last_words(self) -> str:
        lines = [line for line in self.log.splitlines() if '"GET /jobs/' not in line]
        return "\n".join(lines[-100:])

    def start(self, *, wait: bool = True) -> None:
        if not self.app.exists():
            self.app.write_text(APP)
        super().start(wait=wait)

    def change(self, more: str = "") -> None:
        """Change the code, so that the reloader sees it whenever it has looked last.

        In one step: a server that starts at this moment must not read half a file.
        """
        self.changes += 1
        new = self.app.with_suffix(".new")
        new.write_text(APP + more)
        os.utime(new, (time.time() + self.changes,) * 2)
        new.replace(self.app)

    def runs(self, times: int = 1) -> None:
        """Wait until a child process has said that often that it runs jobs."""
        self.seen(RUNS, times, timeout=60)

    def enqueue(self, task: str, *arguments: Any, delay: float | None = None) -> str:
        query = "" if delay is None else f"?delay={delay}"
        body = json.dumps(arguments).encode()
        answer = self.post(f"/tasks/{task}{query}", body, "application/json")
        assert answer.status == 200, answer
        return str(answer.json["id"])

    def ended(self, job_id: str, timeout: float = 60) -> dict[str, Any]:
        """Wait for the end of a job and return it."""
        wait_until(lambda: self._now(job_id, "finished_at"), timeout, every=0.05)
        return self.job(job_id)

    def starts(self, job_id: str) -> dict[str, Any]:
        """Wait until a job runs, and its task with it."""
        wait_until(lambda: self._now(job_id, "progress"), timeout=60, every=0.05)
        return self.job(job_id)

    def _now(self, job_id: str, fact: str) -> Any:
        try:
            return self.job(job_id)[fact]
        except (OSError, HTTPException):  # a reload cuts off the requests under way
            return None

    def beside(self, *words: str) -> str:
        """Run a `flask` command beside the server and return what it prints."""
        command = [sys.executable, "-m", "flask", *words]
        return run(command, cwd=self.home, env=self.variables).stdout

    def children(self) -> list[int]:
        """The living processes that run jobs."""
        return [pid for pid in self.living() if CHILD in _words(pid)]

    def serving(self) -> int:
        """The process that answers requests: the parent of the one that runs jobs."""
        (child,) = self.children()
        return int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])


def _words(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []


@contextlib.contextmanager
def flask_runs_in(directory: Path) -> Iterator[Callable[..., FlaskRun]]:
    """Give a function that starts development servers; at the end all of them are gone."""
    servers: list[FlaskRun] = []

    def start(*options: str, wait: bool = True, **settings: Any) -> FlaskRun:
        settings.setdefault("directory", directory / "spool")
        log = directory / f"flask-run-{len(servers)}.log"
        server = FlaskRun(log_file=log, options=options, **settings)
        servers.append(server)
        server.start(wait=wait)
        return server

    with gone_at_the_end(servers):
        yield start
