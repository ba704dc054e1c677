"""Threads that enqueue over HTTP, and one that watches the ledger.

A client writes INTENT before its request and ACK after a 202, and nothing where the connection
broke: then it knows nothing. The watcher writes down each final state when it first sees it, and
unfinished jobs of one key when it sees several. It tells the clients how many jobs are unfinished,
so that they never run far ahead.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections import Counter, defaultdict
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
KEY = "json_extract(CAST(kwargs AS TEXT), '$.key')"


def intend(wish: Wish, log: Log) -> None:
    for payload in wish.payloads:
        due, promises = f"{payload.due:.6f}", wish.promises(payload)
        log.write("INTENT", payload.token, payload.hash, due, *promises)


def acknowledge(wish: Wish, ids: list[str], log: Log) -> None:
    for payload, job_id in zip(wish.payloads, ids, strict=True):
        log.write("ACK", payload.token, job_id)


def refuse(wish: Wish, log: Log) -> None:
    for payload in wish.payloads:
        log.write("REFUSED", payload.token)


def turn_away(wish: Wish, holder: str, log: Log) -> None:
    for payload in wish.payloads:
        log.write("DUPLICATE", payload.token, holder)


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
    elif answer.status == 409:
        turn_away(wish, json.loads(text)["holder"], log)
    return str(answer.status)


class Watcher:
    """Looks at the ledger now and then, and writes down each final state once."""

    def __init__(self, ledger: Path, log: Log) -> None:
        self.unfinished = 0
        self._ledger = ledger
        self._log = log
        self._seen: dict[str, str] = {}
        self._looks = 0
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
        self._look_at_keys()
        self.unfinished = run("SELECT count(*) FROM jobs WHERE finished_at IS NULL").get
        return self.unfinished

    def _look_at_keys(self) -> None:
        self._looks += 1
        holders: dict[str, list[tuple[str, str]]] = defaultdict(list)
        how = (
            "CASE WHEN unique_key IS NOT NULL THEN 'holds'"
            " WHEN state = 'running' AND cancel_asked THEN 'replaced' ELSE 'without' END"
        )
        columns = f"SELECT {KEY}, {TOKEN}, {how} FROM jobs"
        found = self._connected().execute(f"{columns} WHERE finished_at IS NULL").fetchall()
        for key, token, held in found:
            if key:
                holders[key].append((token, held))
        for key, several in holders.items():
            for token, held in several if len(several) > 1 else ():
                self._log.write("BESIDE", self._looks, key, token, held)

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
