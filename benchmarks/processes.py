"""Programs that the benchmark starts: each a session of its own, ended by its process ids.

Owns starting, looking at and ending them. Nothing is ended by name, and what a program has
started itself is found by its session, orphans included.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from .marks import wait_until

ROOT: Final = Path(__file__).resolve().parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """One running program with all processes of its session."""

    def __init__(self, words: list[str], log: Path, environment: Mapping[str, str] = {}) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                words,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raise `RuntimeError`, with the end of its log, if the program has ended by itself."""
        if self._process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self._process.args!r} ended at its start:\n{tail}")

    def living(self) -> list[int]:
        """Return the processes of this session that still run."""
        return [pid for pid, session in _sessions() if session == self.pid]

    def cpu_seconds(self) -> float:
        """Return the processor time of the living processes, all threads, to the nanosecond."""
        used = 0
        for pid in self.living():
            for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):
                    used += int(file.read_text().split()[0])
        return used / 1e9

    def pss(self) -> float:
        """Return the memory of all processes in MB (10^6 bytes), shared pages divided among them.

        Pages that are shared with the benchmark itself are the mapped marks, and count for both.
        """
        kilobytes = 0
        for pid in self.living():
            with contextlib.suppress(OSError):
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                line = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
                kilobytes += int(line.split()[1])
        return kilobytes * 1024 / 1e6

    def end(self, patience: float = 10.0) -> None:
        """Ask the program to end, and kill what is left of its session after `patience`."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        self.kill()

    def kill(self) -> None:
        """Kill everything of this session now."""
        for _ in range(3):  # a process may be forked while the list is read
            for pid in self.living():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        wait_until(lambda: not self.living(), 10)


def _sessions() -> Iterator[tuple[int, int]]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    yield int(entry), int(fields[3])
