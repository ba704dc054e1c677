"""Three append-only logs, one line one write: what was asked, what was run, what was killed.

Each line is a single `os.write` to an `O_APPEND` descriptor, so lines of many processes never mix
and a line is there whole or not at all, whatever is killed. Every line ends with its time.

==========  =======================================================  ==========================
log         line                                                     written
==========  =======================================================  ==========================
client.log  ``INTENT token payload due promise… time``               before the enqueue
            ``ACK token id time``                                    after it has returned an id
            ``REFUSED token time``                                   after it has failed
            ``DUPLICATE token id time``                              refused: that job has the key
            ``FINAL token state time``                               when seen in the ledger
            ``BESIDE look key token how time``                       for each of several unfinished
                                                                     jobs of one key, when seen so
job.log     ``S token attempt pid server payload time``              first thing in the task
            ``X token attempt pid step value time``                  within a step: its effect
            ``G token attempt pid step value written time``          what a step has returned
            ``E token attempt pid time``                             last thing in the task
            ``A token attempt pid time``                             before it asks to run again
killer.log  ``K pid signal what time``                               before the kill
            ``K 0 0 begin time``                                     when kills may begin
==========  =======================================================  ==========================

A promise is ``key=…``, ``policy=…``, ``steps=…``, or ``tag=…``, which may come several times.
`how` is ``holds``, ``replaced`` for a running job that has lost the key, or ``without``. `written`
is 1 where the ledger has the step and all before it, 0 where it could not take them yet.

Ids are made by the server, so what names a job here is a token that the client has chosen and
that travels in the job's arguments. `server` is the master's process id, which is also the id of
the session that all processes of one server share: a kill of it hits them all.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        line = f"{' '.join([*map(str, words), f'{time.time():.6f}'])}\n".encode()
        written = os.write(self._descriptor, line)
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
    key: str = ""
    policy: str = "return"
    steps: int = 0
    tags: frozenset[str] = frozenset()


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
class Duplicate:
    """The enqueue was refused, because the job `id` holds the key."""

    token: str
    id: str
    at: float


@dataclass(frozen=True)
class Beside:
    """One of several unfinished jobs of one key, all seen at one look at the ledger."""

    look: int
    key: str
    token: str
    how: str
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
class Effect:
    """A step has done what it is there for."""

    token: str
    attempt: int
    pid: int
    step: str
    value: str
    at: float


@dataclass(frozen=True)
class Got:
    """The task goes on with the result of a step, its own or a remembered one."""

    token: str
    attempt: int
    pid: int
    step: str
    value: str
    is_written: bool
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


ClientLine = Intent | Ack | Refused | Duplicate | Beside | SeenFinal
JobLine = Started | Effect | Got | Ended


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
        case ["INTENT", token, payload, due, *promises, at]:
            return Intent(token, payload, float(due), float(at), **_promised(promises))
        case ["ACK", token, job_id, at]:
            return Ack(token, job_id, float(at))
        case ["REFUSED", token, at]:
            return Refused(token, float(at))
        case ["DUPLICATE", token, job_id, at]:
            return Duplicate(token, job_id, float(at))
        case ["BESIDE", look, key, token, how, at]:
            return Beside(int(look), key, token, how, float(at))
        case ["FINAL", token, state, at]:
            return SeenFinal(token, state, float(at))
    raise ValueError(f"no line of a client: {line!r}")


def _promised(words: list[str]) -> dict[str, Any]:
    promised: dict[str, Any] = {"tags": frozenset(w[4:] for w in words if w.startswith("tag="))}
    for name, _, value in (word.partition("=") for word in words):
        match name:
            case "key" | "policy":
                promised[name] = value
            case "steps":
                promised[name] = int(value)
            case "tag":
                continue
            case _:
                raise ValueError(f"no promise of a client: {name!r}")
    return promised


def parse_job(line: str) -> JobLine:
    match line.split():
        case ["S", token, attempt, pid, server, payload, at]:
            return Started(token, int(attempt), int(pid), int(server), payload, float(at))
        case ["X", token, attempt, pid, step, value, at]:
            return Effect(token, int(attempt), int(pid), step, value, float(at))
        case ["G", token, attempt, pid, step, value, "0" | "1" as written, at]:
            numbers = int(attempt), int(pid)
            return Got(token, *numbers, step, value, written == "1", float(at))
        case ["E" | "A" as kind, token, attempt, pid, at]:
            return Ended(token, int(attempt), int(pid), float(at), asked_again=kind == "A")
    raise ValueError(f"no line of a job: {line!r}")


def parse_kill(line: str) -> Kill:
    match line.split():
        case ["K", pid, signal, what, at]:
            return Kill(int(pid), int(signal), what, float(at))
    raise ValueError(f"no line of a killer: {line!r}")


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []
