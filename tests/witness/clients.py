"""Threads that enqueue over HTTP, and one that watches the ledger.

A client writes INTENT before its request and ACK after a 202, and nothing where the connection
broke: then it knows nothing. The watcher writes down each final state when it first sees it, and
tells the clients how many jobs are unfinished, so that they never run far ahead.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import apsw

from .logs import Log
from .payload import Wish

BACKLOG = 400
"""Unfinished jobs at which clients pause."""

LOOK = 0.25
TOKEN = "json_extract(CAST(kwargs AS TEXT), '$.token')"


def intend(wish: Wish, log: Log) -> None:
    for payload in wish.payloads:
        log.write("INTENT", payload.token, payload.hash, f"{payload.due:.6f}")


def acknowledge(wish: Wish, ids: list[str], log: Log) -> None:
    for payload, job_id in zip(wish.payloads, ids, strict=True):
        log.write("ACK", payload.token, job_id)


def refuse(wish: Wish, log: Log) -> None:
    for payload in wish.payloads:
        log.write("REFUSED", payload.token)


def submit(wish: Wish, port: int, log: Log) -> str:
    """Enqueue over HTTP what is wished for, and return what came of it."""
    body = json.dumps(asdict(wish))
    intend(wish, log)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request("POST", "/work", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException):
        return "broken"
    finally:
        connection.close()
    if answer.status == 202:
        acknowledge(wish, json.loads(text)["ids"], log)
    elif answer.status == 503:
        refuse(wish, log)
    return str(answer.status)


class Watcher:
    """Looks at the ledger now and then, and writes down each final state once."""

    def __init__(self, ledger: Path, log: Log) -> None:
        self.unfinished = 0
        self._ledger = ledger
        self._log = log
        self._seen: dict[str, str] = {}
        self._connection: apsw.Connection | None = None

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK):
            self.look()

    def look(self) -> int:
        """Look once; return how many jobs have not ended."""
        run = self._connected().execute
        columns = f"SELECT id, state, {TOKEN} FROM jobs"
        for job_id, state, token in run(f"{columns} WHERE finished_at IS NOT NULL").fetchall():
            if token is not None and self._seen.get(job_id) != state:
                self._seen[job_id] = state
                self._log.write("FINAL", token, state)
        self.unfinished = run("SELECT count(*) FROM jobs WHERE finished_at IS NULL").get
        return self.unfinished

    def _connected(self) -> apsw.Connection:
        if self._connection is None:
            flags = apsw.SQLITE_OPEN_READWRITE
            self._connection = apsw.Connection(str(self._ledger), flags=flags)
            self._connection.set_busy_timeout(10_000)
        return self._connection


class Crowd:
    """A few clients, each with its own dice, at a bounded pace."""

    def __init__(
        self,
        seed: str,
        wish: Callable[[str, random.Random], Wish],
        port: Callable[[], int],
        watcher: Watcher,
        log: Log,
        pause: float,
    ) -> None:
        self.answers: Counter[str] = Counter()
        self._seed, self._wish, self._port = seed, wish, port
        self._watcher, self._log, self._pause = watcher, log, pause

    def run(self, number: int, stop: threading.Event) -> None:
        dice = random.Random(f"{self._seed}-client-{number}")
        while not stop.wait(dice.expovariate(1 / self._pause)):
            if self._watcher.unfinished < BACKLOG:
                wish = self._wish("http", dice)
                self.answers[submit(wish, self._port(), self._log)] += 1
