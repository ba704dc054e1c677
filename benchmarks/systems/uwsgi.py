"""The systems that live in a uWSGI server: two web workers, and four spoolers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import ClassVar, Final

from ..processes import ROOT
from . import BIN, Guarantees, System

PRODUCER: Final = "benchmarks.producer"

BARE_INI: Final = """\
[uwsgi]
strict = true
chdir = {root}
master = true
need-app = true
module = {producer}:app
http-socket = 127.0.0.1:{port}
buffer-size = 32768
processes = 2
enable-threads = true
single-interpreter = true
spooler-processes = {processes}
spooler = {spool}
spooler-import = {producer}
spooler-frequency = 1
spooler-quiet = true
hook-master-start = unix_signal:15 gracefully_kill_them_all
no-orphans = true
vacuum = true
max-fd = 4096
disable-logging = true
"""


class OnUwsgi(System):
    """A system whose producer and consumers are one uWSGI server."""

    @property
    def spool(self) -> Path:
        return self.directory / "spool"

    def ini(self) -> str:
        """Return the text of the server's configuration."""
        return BARE_INI.format(
            root=ROOT,
            producer=PRODUCER,
            port=self.port,
            processes=self.processes,
            spool=self.spool,
        )

    def prepare(self) -> None:
        self.spool.mkdir(exist_ok=True)
        config = self.directory / "uwsgi.ini"
        config.write_text(self.ini())
        server = self.start("server", str(BIN / "uwsgi"), "--ini", str(config))
        self.wait_for_producer(server)
        self.hold()

    def hold(self) -> None:
        """Let nothing be consumed: the spoolers are stopped by signal until `consume`."""
        self._signal_spoolers(signal.SIGSTOP)

    def consume(self) -> None:
        self._signal_spoolers(signal.SIGCONT)

    def finished(self) -> int:
        """Count what was sent and lies no more in the spool: there is no other record."""
        left = sum(name.startswith("uwsgi_spoolfile") for name in os.listdir(self.spool))
        return sum(1 for moment in self.marks.sent if moment) - left

    def _signal_spoolers(self, number: int) -> None:
        for pid in self.call("spooler_pids"):
            os.kill(pid, number)


class BareSpooler(OnUwsgi):
    """uWSGI's spooler and nothing else."""

    name: ClassVar = "bare uWSGI spooler"
    app: ClassVar = "bare"
    distribution: ClassVar = "uWSGI"
    guarantees: ClassVar = Guarantees(
        leaves_queue="after the run",
        worker_killed="run again",
        power_cut="lost, or half a file",
        status="none",
        poison="run for ever",
        signed="no",
        context="no",
    )


class UwsgiTasks(OnUwsgi):
    """The uwsgi-tasks library."""

    name: ClassVar = "uwsgi-tasks"
    app: ClassVar = "uwsgi_tasks_app"
    distribution: ClassVar = "uwsgi-tasks"
    guarantees: ClassVar = Guarantees(
        leaves_queue="after the run",
        worker_killed="run again",
        power_cut="lost, or half a file",
        status="none",
        poison="run for ever",
        signed="no, pickled",
        context="no",
    )


class Spooler(OnUwsgi):
    """Flask-Spooler, under the `uwsgi.ini` that it ships."""

    name: ClassVar = "Flask-Spooler"
    app: ClassVar = "spooler"
    distribution: ClassVar = "Flask-Spooler"
    guarantees: ClassVar = Guarantees(
        leaves_queue="when its final state is committed",
        worker_killed="run again, counted",
        power_cut="kept with `power`",
        status="state, result, attempts",
        poison="dead after three",
        signed="HMAC, JSON",
        context="yes",
        log="yes",
    )

    @property
    def environment(self) -> dict[str, str]:
        return {
            **super().environment,
            "PORT": str(self.port),
            "SPOOLER_DIRECTORY": str(self.spool),
            "SPOOLER_PROCESSES": str(self.processes),
            "FLASK_SPOOLER_DURABILITY": self.options.get("durability", "process"),
            **({"BENCH_PICKUPS": "1"} if "pickups" in self.options else {}),
        }

    def ini(self) -> str:
        """Return `uwsgi.ini` with the two lines changed that name the app."""
        text = (ROOT / "uwsgi.ini").read_text()
        for shipped, ours in (
            ("\nchdir = %d\n", f"\nchdir = {ROOT}\n"),
            ("\nmodule = app:app\n", f"\nmodule = {PRODUCER}:app\n"),
            ("\nspooler-import = app\n", f"\nspooler-import = {PRODUCER}\n"),
        ):
            assert shipped in text, shipped
            text = text.replace(shipped, ours)
        return f"{text}disable-logging = true\n"

    def hold(self) -> None:
        self.call("pause", paused=True)

    def consume(self) -> None:
        self.call("pause", paused=False)

    def finished(self) -> int:
        return int(self.call("counts").get("succeeded", 0))
