"""What pages say of the whole: what runs, what failed last, dead jobs in groups, figures over time.

Read-only, and bounded like the lists in `search`: figures are added up from `endings`, which has
as many rows for a minute as there were kinds of ends in it; groups are skipped through, not
counted row by row. Belongs to the `Ledger` and shares its connection and mutex.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ..endings import BOUNDS
from ..job import DEAD, RETRYING, SCHEDULED
from ..record import CANCEL_ASKED
from . import Ledger
from .search import LISTED, Listed
from .walks import BY_STATE, LISTED_BYTES, MOST_COUNTED, RUNS

CLASSES: Final = len(BOUNDS) + 1
FAILED: Final = ("failed", "timed_out", "crashed")
"""The outcomes that count as failures; an interruption or a cancel is nobody's fault."""


class Running(msgspec.Struct, frozen=True):
    """A job that runs now, and in which process."""

    id: str
    task: str
    queue: str
    attempt: int
    started_at: float | None
    pid: int | None
    pid_started: int | None
    boot: str | None
    cancel_asked: int
    progress_done: float | None
    progress_total: float | None
    progress_note: str | None

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop; one that was replaced is let finish."""
        return self.cancel_asked == CANCEL_ASKED


class Server(msgspec.Struct, frozen=True):
    """A server that said it serves this spool; it may be gone."""

    boot: str
    since: float
    draining_until: float
    pool: int


class Group(msgspec.Struct, frozen=True):
    """Dead jobs of one task with one exception; `number` stops at `MOST_COUNTED` + 1."""

    task: str
    error: str
    number: int
    newest: float
    oldest: float
    message: str | None
    sample: str


class Minute(msgspec.Struct, frozen=True):
    """What ended in one minute."""

    minute: int
    done: int
    failed: int
    waits: list[int]


class Figures(msgspec.Struct):
    """What one task, or one queue, did in a stretch of time."""

    runs: int = 0
    failures: int = 0
    run_seconds: float = 0.0
    longest: float = 0.0
    waits: list[int] = msgspec.field(default_factory=lambda: [0] * CLASSES)
    took: list[int] = msgspec.field(default_factory=lambda: [0] * CLASSES)

    def add(self, other: Figures) -> None:
        """Take in what another stretch of time says."""
        self.runs += other.runs
        self.failures += other.failures
        self.run_seconds += other.run_seconds
        self.longest = max(self.longest, other.longest)
        self.waits = [sum(both) for both in zip(self.waits, other.waits, strict=True)]
        self.took = [sum(both) for both in zip(self.took, other.took, strict=True)]


_RUNNING: Final = ", ".join(Running.__struct_fields__)
_SERVER: Final = ", ".join(Server.__struct_fields__)


class Insight:
    """What is asked of one ledger as a whole."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def first_due(self) -> dict[str, float]:
        """Return when the next scheduled and the next retrying job is due, among the next 1,000."""
        first: dict[str, float] = {}
        with self._ledger._reading() as run:
            for state, due in run(
                "SELECT state, min(due_at) FROM (SELECT state, due_at FROM jobs"
                f" WHERE state IN ('{SCHEDULED}', '{RETRYING}') ORDER BY due_at LIMIT 1000)"
                " GROUP BY state"
            ):
                first[state] = due
        return first

    def oldest_dead(self) -> float | None:
        """Return since when the first of the dead jobs waits for a person."""
        with self._ledger._reading() as run:
            return run(  # type: ignore[no-any-return]
                "SELECT min(finished_at) FROM (SELECT finished_at"
                f" FROM {BY_STATE} = '{DEAD}'"
                " ORDER BY seq LIMIT 1000)"
            ).get

    def failures(self, limit: int) -> list[Listed]:
        """Return the jobs that failed last, of the newest 200 dead and 200 retrying ones."""
        found: list[Listed] = []
        for state in (DEAD, RETRYING):
            with self._ledger._reading() as run:
                rows = run(
                    f"SELECT {LISTED} FROM {BY_STATE} = '{state}' ORDER BY seq DESC LIMIT 200"
                )
                found += [Listed(*row) for row in rows]
        found.sort(key=lambda job: job.finished_at or job.started_at or 0.0, reverse=True)
        return found[:limit]

    def running(self) -> list[Running]:
        """Return the jobs that run now, the longest-running first."""
        with self._ledger._reading() as run:
            found = run(f"SELECT {_RUNNING} FROM {RUNS} ORDER BY started_at")
            return [Running(*row) for row in found]

    def servers(self) -> list[Server]:
        """Return the servers that said they serve this spool."""
        with self._ledger._reading() as run:
            return [Server(*row) for row in run(f"SELECT {_SERVER} FROM servers ORDER BY since")]

    def dead_groups(self, limit: int) -> list[Group]:
        """Return the dead jobs by task and exception, the largest group first.

        The groups are found by skipping through the index, so their number counts and not that
        of the jobs.
        """
        groups: list[Group] = []
        task, error = "", ""
        with self._ledger._reading() as run:
            while len(groups) < limit:
                pair = run(
                    "SELECT task, error_type FROM jobs WHERE state = 'dead'"
                    " AND (task, error_type) > (?, ?) ORDER BY task, error_type LIMIT 1",
                    (task, error),
                ).fetchone()
                if pair is None:
                    break
                task, error = pair
                groups.append(Group(task, error, *self._dead_group(run, task, error)))
        return sorted(groups, key=lambda group: -group.number)

    @staticmethod
    def _dead_group(run: Callable[..., Any], task: str, error: str) -> tuple[Any, ...]:
        of = "FROM jobs WHERE state = 'dead' AND task = ? AND error_type = ?"
        number = run(
            f"SELECT count(*) FROM (SELECT 1 {of} LIMIT {MOST_COUNTED + 1})", (task, error)
        ).get
        oldest = run(f"SELECT finished_at {of} ORDER BY finished_at LIMIT 1", (task, error)).get
        newest, message, sample = run(
            f"SELECT finished_at, substr(error_message, 1, {LISTED_BYTES}), id {of}"
            " ORDER BY finished_at DESC LIMIT 1",
            (task, error),
        ).fetchone()
        return number, newest, oldest, message, sample

    def minutes(self, since: float) -> list[Minute]:
        """Return what ended in each minute from a time on; minutes with nothing are left out."""
        found: dict[int, Minute] = {}
        done = dict[int, list[int]]()
        with self._ledger._reading() as run:
            for minute, outcome, waited, number in run(
                "SELECT minute, outcome, waited, sum(number) FROM endings WHERE minute >= ?"
                " GROUP BY minute, outcome, waited",
                (int(since // 60),),
            ):
                if minute not in found:
                    done[minute] = [0, 0]
                    found[minute] = Minute(minute, 0, 0, [0] * CLASSES)
                done[minute][0] += number if outcome == "succeeded" else 0
                done[minute][1] += number if outcome in FAILED else 0
                found[minute].waits[waited] += number
        return [
            msgspec.structs.replace(each, done=done[minute][0], failed=done[minute][1])
            for minute, each in found.items()
        ]

    def figures(self, by: str, since: float, until: float = 2.0**53) -> dict[str, Figures]:
        """Return the figures by ``task`` or by ``queue`` of the minutes in a stretch of time."""
        column = {"task": "task", "queue": "queue"}[by]
        found: dict[str, Figures] = {}
        with self._ledger._reading() as run:
            for name, outcome, waited, ran, number, runs, longest in run(
                f"SELECT {column}, outcome, waited, ran, sum(number), sum(run_seconds),"
                " max(longest_run) FROM endings WHERE minute >= ? AND minute < ?"
                f" GROUP BY {column}, outcome, waited, ran",
                (int(since // 60), int(until // 60)),
            ):
                one = found.setdefault(name, Figures())
                one.runs += number
                one.failures += number if outcome in FAILED else 0
                one.run_seconds += runs
                one.longest = max(one.longest, longest)
                one.waits[waited] += number
                one.took[ran] += number
        return found
