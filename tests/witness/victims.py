"""The server under test, which process of it is which, and how each is killed.

A kill goes to a process by a descriptor of it (pidfd) after its session was compared with the
server's, so it can never hit a process that was not started here. Its line is logged before.
"""

from __future__ import annotations

import os
import re
import select
import signal
from pathlib import Path

from tests.uwsgi.server import ROOT, UWSGI, Server, free_port, wait_until

from .logs import Log, identity

APP = "tests.witness.witness_app"
PORTS_TRIED = 3

SETTLED = 1.0
"""Seconds after which a process of uWSGI has long set its signal handlers."""

SPAWNED = re.compile(
    r"spawned (?:the )?uWSGI (?P<role>spooler|worker|mule)\b.*?\bpid:? (?P<pid>\d+)", re.IGNORECASE
)


def derived_ini(directory: Path) -> Path:
    """Write the project's own ``uwsgi.ini`` with our app in it; every option but these stays."""
    text = (ROOT / "uwsgi.ini").read_text()
    for old, new in (
        ("chdir = %d", f"chdir = {ROOT}"),
        ("module = app:app", f"module = {APP}:app"),
        ("spooler-import = app", f"spooler-import = {APP}"),
    ):
        assert text.count(f"\n{old}\n") == 1, f"uwsgi.ini has not one line {old!r} any more"
        text = text.replace(f"\n{old}\n", f"\n{new}\n")
    made = directory / "witness.ini"
    made.write_text(f"{text}\nworker-reload-mercy = 5\ndisable-logging = true\n")
    return made


class WitnessServer(Server):
    """A server of the project whose app is the witness's, and whose processes can be told apart."""

    killer: Log
    _read_to = 0
    _roles: dict[int, str]

    @property
    def command(self) -> list[str]:
        """What starts the server, on an ini that is written for it."""
        ini = derived_ini(self.log_file.parent)
        return [str(UWSGI), "--ini", str(ini), *self.options]

    def start(self, *, wait: bool = True) -> None:
        """Start the server and wait until it answers; on another port where its own was taken.

        Ports of other tests' connections are as likely as any, and ours is free while we are dead.
        """
        for _ in range(PORTS_TRIED):
            try:
                self._roles = {}
                self._read_to = self.log_file.stat().st_size if self.log_file.exists() else 0
                super().start(wait=wait)
                return
            except AssertionError:
                if "Address already in use" not in self._fresh_log():
                    raise
                self.port = free_port()
        raise AssertionError(f"no free port found in {PORTS_TRIED} tries")

    def _fresh_log(self) -> str:
        with self.log_file.open("rb") as log:
            log.seek(self._read_to)
            return log.read().decode(errors="replace")

    @property
    def id(self) -> int:
        """The master's process id, by which the logs name this life of the server."""
        assert self.process is not None
        return self.process.pid

    def victims(self, role: str) -> list[int]:
        """The living processes of one role, as the server's log names them."""
        fresh = self._fresh_log()
        whole = fresh[: fresh.rfind("\n") + 1]
        self._read_to += len(whole.encode())
        for match in SPAWNED.finditer(whole):
            self._roles[int(match["pid"])] = match["role"].lower()
        living = set(self.living())
        return [pid for pid, known in self._roles.items() if known == role and pid in living]

    def kill_one(self, pid: int, what: str) -> bool:
        """Kill one process of this server; False when it was gone already."""
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        try:
            if session_of(pid) != self.id or select.select([process], [], [], 0)[0]:
                return False
            self.killer.write("K", identity(pid), int(signal.SIGKILL), what)
            signal.pidfd_send_signal(process, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            os.close(process)
        return True

    def kill_all(self) -> None:
        """Kill every process of this server at once, as a power cut would, and start it again."""
        self.killer.write("K", self.id, int(signal.SIGKILL), "server")
        self.kill()
        self.start()

    def kill_master(self) -> list[int]:
        """Kill the master alone and start the next server beside what is left of the last one.

        Returns the orphans that have not ended by themselves within ten seconds; they are killed.
        """
        last = self.id
        self.killer.write("K", last, int(signal.SIGKILL), "master")
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()
        self.port = free_port()
        self.start()
        try:
            wait_until(lambda: not session(last), timeout=10)
        except AssertionError:
            strays = session(last)
            os.killpg(last, signal.SIGKILL)
            return strays
        return []

    def reload(self) -> None:
        """Let the master reload in place; what runs then is interrupted."""
        self.killer.write("K", self.id, int(signal.SIGHUP), "reload")
        self.send(signal.SIGHUP)

    def stop_logged(self) -> list[int]:
        """Stop the server as an administrator would; return what is left of it, and kill that.

        Its processes are let come up before: a uWSGI master ignores SIGTERM while it starts, and
        waits for ever for a worker that was forked a moment ago and does not hear it yet.
        """
        wait_until(self.is_settled, timeout=30)
        self.killer.write("K", self.id, int(signal.SIGTERM), "stop")
        self.send(signal.SIGTERM)
        try:
            wait_until(self._is_gone, timeout=60)
        except AssertionError:
            strays = self.living()
            self.kill()
            return strays
        return []

    def _is_gone(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None and not self.living()

    def is_settled(self) -> bool:
        """Tell whether all processes are there, and none of them is new."""
        workers = int(self.environment["WEB_PROCESSES"])
        expected = {"spooler": self.processes, "worker": workers, "mule": 1}
        there = all(len(self.victims(role)) == count for role, count in expected.items())
        return there and min(age_of(pid) for pid in self.living()) > SETTLED

    def most_descriptors(self) -> int:
        """How many descriptors the process of this server has open that has the most."""
        counts = [0]
        for pid in self.living():
            try:
                counts.append(len(os.listdir(f"/proc/{pid}/fd")))
            except OSError:
                continue
        return max(counts)


def session_of(pid: int) -> int | None:
    """The session of a living process, None for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[3])


def age_of(pid: int) -> float:
    """How many seconds ago a process was started; 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def session(leader: int) -> list[int]:
    """The living processes of the session that `leader` has begun."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if session_of(pid) == leader]
