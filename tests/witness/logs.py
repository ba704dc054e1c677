"""Three append-only logs, one line one write: what was asked, what was run, what was killed.

Each line is a single `os.write` to an `O_APPEND` descriptor, so lines of many processes never mix
and a line is there whole or not at all, whatever is killed. Every line ends with its time.

==========  =======================================================  ==========================
log         line                                                     written
==========  =======================================================  ==========================
client.log  ``INTENT token payload due time``                        before the enqueue
            ``ACK token id time``                                    after it has returned an id
            ``REFUSED token time``                                   after it has failed
            ``FINAL token state time``                               when seen in the ledger
job.log     ``S token attempt pid server payload time``              first thing in the task
            ``E token attempt pid time``                             last thing in the task
            ``A token attempt pid time``                             before it asks to run again
killer.log  ``K pid signal what time``                               before the kill
==========  =======================================================  ==========================

Ids are made by the server, so what names a job here is a token that the client has chosen and
that travels in the job's arguments. `server` is the master's process id, which is also the id of
the session that all processes of one server share: a kill of it hits them all.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from flask_spooler._uwsgi import process


class Log:
    """One append-only file; its descriptor is opened at the first line and survives forks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def write(self, *words: object) -> None:
        """Append one line, its time at the end, in one write."""
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._descriptor = os.open(self.path, flags, 0o600)
        line = " ".join([*map(str, words), f"{time.time():.6f}"]) + "\n"
        written = os.write(self._descriptor, line.encode())
        assert written == len(line), "a line must be one write"


class Logs:
    """The three logs of one run, all in one directory."""

    def __init__(self, directory: Path) -> None:
        self.client = Log(directory / "client.log")
        self.job = Log(directory / "job.log")
        self.killer = Log(directory / "killer.log")


@dataclass(frozen=True)
class Intent:
    """A client is about to enqueue."""

    token: str
    payload: str
    due: float
    at: float


@dataclass(frozen=True)
class Ack:
    """An id was returned."""

    token: str
    id: str
    at: float


@dataclass(frozen=True)
class Refused:
    """The enqueue failed with an error, which promises that the job will not run."""

    token: str
    at: float


@dataclass(frozen=True)
class SeenFinal:
    """The ledger was seen to show a final state."""

    token: str
    state: str
    at: float


@dataclass(frozen=True)
class Started:
    """A run of the task has begun."""

    token: str
    attempt: int
    pid: int
    server: int
    payload: str
    at: float


@dataclass(frozen=True)
class Ended:
    """A run of the task is over; `asked_again` when it is about to ask for another one."""

    token: str
    attempt: int
    pid: int
    at: float
    asked_again: bool = False


@dataclass(frozen=True)
class Kill:
    """A signal is about to be sent: to one process, or to a server by its master's id."""

    pid: int
    signal: int
    what: str
    at: float


ClientLine = Intent | Ack | Refused | SeenFinal
JobLine = Started | Ended


@dataclass(frozen=True)
class History:
    """The three logs, each in the order of its lines."""

    client: tuple[ClientLine, ...] = ()
    job: tuple[JobLine, ...] = ()
    killer: tuple[Kill, ...] = ()


def identity(pid: int) -> int:
    """Return a number for a living process that no other process of the run ever has.

    Process ids are used again after 32,768 forks, of which a long run makes more: a kill would be
    taken for that of an earlier process. The start time, in front of the id, tells them apart.
    """
    return process(pid).started << 22 | pid


def read_history(directory: Path) -> History:
    """Read the three logs of a run; a log that nobody wrote is empty."""
    return History(
        tuple(parse_client(line) for line in _lines(directory / "client.log")),
        tuple(parse_job(line) for line in _lines(directory / "job.log")),
        tuple(parse_kill(line) for line in _lines(directory / "killer.log")),
    )


def parse_client(line: str) -> ClientLine:
    match line.split():
        case ["INTENT", token, payload, due, at]:
            return Intent(token, payload, float(due), float(at))
        case ["ACK", token, job_id, at]:
            return Ack(token, job_id, float(at))
        case ["REFUSED", token, at]:
            return Refused(token, float(at))
        case ["FINAL", token, state, at]:
            return SeenFinal(token, state, float(at))
    raise ValueError(f"no line of a client: {line!r}")


def parse_job(line: str) -> JobLine:
    match line.split():
        case ["S", token, attempt, pid, server, payload, at]:
            return Started(token, int(attempt), int(pid), int(server), payload, float(at))
        case ["E" | "A" as kind, token, attempt, pid, at]:
            return Ended(token, int(attempt), int(pid), float(at), asked_again=kind == "A")
    raise ValueError(f"no line of a job: {line!r}")


def parse_kill(line: str) -> Kill:
    match line.split():
        case ["K", pid, signal, what, at]:
            return Kill(int(pid), int(signal), what, float(at))
    raise ValueError(f"no line of a killer: {line!r}")


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
