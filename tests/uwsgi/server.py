"""A real server for a test: its own port, its own spool, ended by its own process id.

`Server` is uWSGI's, and what the other servers of these tests are made of. `launch`, `run`,
`wait_until` and `gone_at_the_end` are the one way to start a process, to ask one, to wait and to
leave nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from flask import Flask

from flask_spooler import JobHandle, Spooler
from flask_spooler.state import AppState

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
UWSGI = Path(sys.executable).with_name("uwsgi")

WHEEL = ("--binary-path", sys.executable) if UWSGI.read_bytes()[:2] == b"#!" else ()
"""pyuwsgi's command is a script, and a reload would leave the virtual environment."""

STANDING = (
    "ledger.db", "key", "wake", "housekeeper", "quarantined", "machine",
    "server.json", "web.json", "try-",
)  # fmt: skip
"""What lies in a spool directory beside the files of jobs."""

T = TypeVar("T")


def wait_until(true: Callable[[], T], timeout: float = 30.0, every: float = 0.01) -> T:
    """Return the first true value of `true`, or fail after `timeout` seconds.

    Half a minute: a disk that others write to has kept a server of these tests from its start for
    eleven seconds.
    """
    give_up = time.monotonic() + timeout
    while not (value := true()):
        if time.monotonic() > give_up:
            raise AssertionError(f"not true within {timeout} s: {value!r}")
        time.sleep(every)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def launch(
    words: Sequence[str],
    log_file: Path,
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a process at the head of a session of its own, which writes into a file."""
    with log_file.open("ab") as log:
        return subprocess.Popen(
            words,
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def run(
    words: Sequence[str], *, cwd: Path, env: Mapping[str, str], check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return what it printed."""
    return subprocess.run(
        words, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=check
    )


@dataclass
class Answer:
    """What the server answered to one request, where redirects led."""

    status: int
    headers: dict[str, str]
    body: bytes
    address: str

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Server:
    """One uWSGI server, which may be started and stopped several times on the same spool."""

    directory: Path
    log_file: Path
    processes: int = 2
    environment: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    ini: str = "uwsgi.ini"
    spooler_import: str = "jobs"
    flask_app: str = "jobs"
    port: int = field(default_factory=free_port)
    stdin: int = subprocess.DEVNULL
    process: subprocess.Popen[bytes] | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The environment under which the server, or a command line beside it, runs."""
        return {
            **os.environ,
            "PATH": f"{UWSGI.parent}:{os.environ['PATH']}",
            "PORT": str(self.port),
            "SPOOLER_DIRECTORY": str(self.directory),
            "SPOOLER_PROCESSES": str(self.processes),
            "PYTHONUNBUFFERED": "1",
            **self.environment,
        }

    @property
    def command(self) -> list[str]:
        """What starts the server."""
        return [
            str(UWSGI),
            "--ini",
            self.ini,
            "--pythonpath",
            str(HERE),
            "--spooler-import",
            self.spooler_import,
            "--disable-logging",  # of requests: one line for each look at a job
            *WHEEL,
            *self.options,
        ]

    @property
    def home(self) -> Path:
        """Where the server is started, and commands beside it."""
        return ROOT

    def start(self, *, wait: bool = True) -> None:
        """Start the server and wait until it answers, unless it is not expected to."""
        before = len(self.log) if self.log_file.exists() else 0
        self.process = launch(
            self.command, self.log_file, cwd=self.home, env=self.variables, stdin=self.stdin
        )
        if wait:
            wait_until(self.answers, timeout=60)
            wait_until(lambda: self._hears_signals(self.log[before:]), timeout=60)

    @staticmethod
    def _hears_signals(log: str) -> bool:
        """Whether all web workers are ready, which they say where the ini has hooks for that.

        One answers before the others are. A stop that comes to one of those is lost for good: uWSGI
        forgets it when the worker begins.
        """
        said = re.findall(r'running "[^"]*" \(accepting\)', log)
        return len(said) >= len(set(said)) * log.count("spawned uWSGI worker")

    def answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the server ended at its start:\n{self.log}")
        try:
            return self.get("/jobs/nobody").status in (404, 503)
        except OSError:
            return False

    def send(self, number: int) -> None:
        """Send a signal to the master."""
        assert self.process is not None
        self.process.send_signal(number)

    def send_to_all(self, number: int) -> None:
        """Send a signal to every process of this server, as a terminal or systemd does."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 90) -> None:
        """Signal the master and wait until it is gone."""
        self.send(number)
        self.wait_for_end(timeout)

    def wait_for_end(self, timeout: float = 90) -> None:
        """Wait until a server that was asked to end is gone, with all its processes."""
        assert self.process is not None
        self.process.wait(timeout)
        wait_until(lambda: not self.living())

    def kill(self) -> None:
        """Kill everything of this server with SIGKILL, as a power cut would end it."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not self.living())

    def living(self) -> list[int]:
        """The processes of this server that still run, orphans included."""
        assert self.process is not None
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid and fields[0] != "Z":
                    found.append(int(entry.name))
        return found

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def last_words(self) -> str:
        """The end of the log, for a test that has failed."""
        return self.log[-8_000:]

    def seen(self, text: str, times: int = 1, after: int = 0, timeout: float = 30) -> float:
        """Wait until the log says `text` that often behind place `after`; return the time."""
        wait_until(lambda: self.log[after:].count(text) >= times, timeout)
        return time.time()

    def files(self) -> list[str]:
        """The files of all jobs in all places, foreign ones and unfinished ones included."""
        found = (path for path in self.directory.rglob("*") if path.is_file())
        return sorted(
            str(path.relative_to(self.directory))
            for path in found
            if not path.name.startswith(STANDING)
        )

    def rows(self) -> list[dict[str, Any]]:
        """All jobs that the ledger knows, the newest first, as the command line lists them."""
        listed = self.flask("spooler", "list", "--json", "--limit", "10000").stdout
        found: list[dict[str, Any]] = json.loads(listed)
        return found

    def cpu_seconds(self) -> float:
        """The processor time that the living processes of this server have used."""
        ticks = 0
        for pid in self.living():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def get(
        self, path: str, method: str = "GET", body: bytes | None = None, kind: str = ""
    ) -> Answer:
        """Send one request, with a body of this content type; an error is an answer like any."""
        base = f"http://127.0.0.1:{self.port}"
        request = urllib.request.Request(urllib.parse.urljoin(base, path), body, method=method)
        if kind:
            request.add_header("Content-Type", kind)
        try:
            answer = urllib.request.urlopen(request, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            address = answer.geturl().removeprefix(base)
            return Answer(answer.status, dict(answer.headers), answer.read(), address)

    def post(self, path: str, body: bytes | None = None, kind: str = "") -> Answer:
        return self.get(path, method="POST", body=body, kind=kind)

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as the server shows it."""
        answer = self.get(f"/jobs/{job_id}")
        assert answer.status == 200, answer
        shown: dict[str, Any] = answer.json
        return shown

    def succeeded(self, job_id: str, timeout: float = 60) -> dict[str, Any]:
        """Wait until the server shows the job as succeeded, and return it."""
        wait_until(lambda: self.job(job_id)["state"] == "succeeded", timeout)
        return self.job(job_id)

    def flask(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a ``flask`` command beside the server."""
        return self.python("-m", "flask", "--app", f"{self.flask_app}:app", *words, check=check)

    def python(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a plain Python process beside the server, with its settings."""
        variables = {**self.variables, "PYTHONPATH": f"{HERE}:{ROOT}"}
        return run([sys.executable, *words], cwd=self.home, env=variables, check=check)

    def pids(self, what: str) -> list[int]:
        """The processes that uWSGI said it spawned, of one kind, the living ones.

        Right after the start there may be none yet: the master says so after the fork, when the
        first worker may have answered, and mules come last.
        """
        words = {"spooler": "spawned the uWSGI spooler", "worker": "spawned uWSGI worker",
                 "mule": "spawned uWSGI mule"}[what]  # fmt: skip
        living = set(self.living())
        lines = [line for line in self.log.splitlines() if words in line]
        numbers = [int(line.split("pid")[1].strip(" :")
                       .split(",")[0].split(")")[0]) for line in lines]  # fmt: skip
        return [number for number in dict.fromkeys(numbers) if number in living]


@contextlib.contextmanager
def gone_at_the_end(servers: Iterable[Server]) -> Iterator[None]:
    """Kill at the end all servers that were added by then, and print what they said last.

    pytest shows that where the test has failed.
    """
    try:
        yield
    finally:
        for server in servers:
            server.kill()
            print(server.last_words)


@contextlib.contextmanager
def client(spooler: Spooler, directory: Path, **config: Any) -> Iterator[AppState]:
    """Let this process enqueue into a server's spool, as any other process could."""
    app = Flask("client")
    app.config.update(SPOOLER_DIRECTORY=directory, **config)
    spooler.init_app(app)
    with app.app_context():
        state: AppState = app.extensions["spooler"]
        yield state


def ended(job: JobHandle, timeout: float = 60) -> dict[str, Any]:
    """Wait for the end of a job and return it whole."""
    job.wait(timeout)
    return job.as_dict()


def outcomes(job: JobHandle | dict[str, Any]) -> list[str]:
    """How each attempt of a job has ended, as far as it has."""
    shown = job if isinstance(job, dict) else job.as_dict()
    return [attempt["outcome"] for attempt in shown["attempts"]]
