"""Rows: the only module with SQL. What we know about each job, in one SQLite file.

The spool file makes a job run; the ledger says what is known of it. It is the index over the
files and the record for people. Losing it costs history and attempt counts, never a job.

=============  ==================================  ========================================
state          file                                leaves it by
=============  ==================================  ========================================
``scheduled``  ``waiting/``                        its time coming (housekeeper)
``retrying``   ``waiting/``                        its time coming (housekeeper)
``queued``     ``waiting/``, or the window, whose  a spooler starting it
               name then stands in ``window``
``running``    window or ``taken/``, locked        its outcome, or the end of its process
``succeeded``  unlinked by uWSGI                   never
``dead``       ``dead/``                           a person's retry
``cancelled``  ``dead/``                           a person's retry
``expired``    ``dead/``                           a person's retry
=============  ==================================  ========================================

Invariant: each change of state is compare-and-set on the state and attempt it leaves, and a final
state is left only by `revive`. There is one connection a process, behind one mutex held for the
whole transaction, because two threads on one connection would roll each other back. Any failure
of SQLite is a `LedgerError`. What is written stands in `transaction`, the file in `connection`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from ..interrupts import shielded
from ..job import QUEUED, RUNNING, STATES, is_id
from ..record import CANCEL_ASKED, Attempt, Record, Row, Step
from . import logs
from .connection import Connection, trouble
from .figures import SQLITE_VERSION, Ended, Figures, read_figures
from .transaction import (
    HOLDER,
    LONGEST_SHOWN,
    ROW,
    Held,
    Seen,
    Transaction,
    anyone_waits,
    seen,
    waiting_queues,
)
from .walks import BY_STATE, BY_TAG, RUNS, WAITS
from .writing import Writing

__all__ = [
    "BUSY_SECONDS",
    "LONGEST_SHOWN",
    "SQLITE_VERSION",
    "Ended",
    "Figures",
    "Held",
    "Ledger",
    "Seen",
    "Transaction",
]

BUSY_SECONDS: Final = 5.0
"""How long a transaction waits for the write lock before it gives up."""

HIGHEST: Final = 100
"""No priority is above this."""

_ATTEMPT: Final = ", ".join(Attempt.__struct_fields__)
_STEP: Final = ", ".join(Step.__struct_fields__)
_RECORD: Final = ", ".join(Record.__struct_fields__)


class Ledger:
    """The ledger file of one spool, opened when it is first needed and once a process."""

    def __init__(
        self, path: Path, prepare: Callable[[], None] = lambda: None, *, sync: bool = True
    ) -> None:
        self.path = path
        self.patience = BUSY_SECONDS
        self._mutex = threading.RLock()
        self._connection = Connection(path, prepare, sync=sync)

    def transaction(self, seconds: float | None = None, *, durable: bool = False) -> Writing:
        """Run the body under the write lock, and commit it when it ends without an error.

        Waits `seconds` at most for the lock, else `patience`. With `durable` the commit is on the
        disk when this ends, in a spool that syncs; else it may come a little later. Raises
        `LedgerError` where SQLite fails; then, as with any other error, nothing of the body is
        kept and its undos have run.
        """
        patience = self.patience if seconds is None else seconds
        return Writing(self._connection, self._mutex, patience, durable=durable)

    def record(self, job_id: str) -> Record | None:
        """Return everything known of one job but its ended attempts; None where it is unknown."""
        if not is_id(job_id):
            return None
        with self._reading() as run:
            found = run(f"SELECT {_RECORD} FROM jobs WHERE id = ?", (job_id,)).fetchone()
            return Record(*found) if found else None

    def attempts(self, job_id: str) -> list[Attempt]:
        """Return the ended attempts of one job, the first one first."""
        with self._reading() as run:
            found = run(
                f"SELECT {_ATTEMPT} FROM attempts WHERE job = ? UNION ALL"
                " SELECT attempt, 'succeeded', started_at, finished_at, NULL, NULL, NULL FROM jobs"
                " WHERE id = ? AND state = 'succeeded' ORDER BY number",
                (job_id, job_id),
            )
            return [Attempt(*attempt) for attempt in found]

    def steps(self, job_id: str) -> list[Step]:
        """Return the finished steps of one job, the first one first."""
        with self._reading() as run:
            found = run(
                f"SELECT {_STEP} FROM steps WHERE job = ? ORDER BY finished_at, name", (job_id,)
            )
            return [Step(*step) for step in found]

    def log(self, job_id: str, after: int = 0) -> list[tuple[int, str]]:
        """Return what a job has printed and logged, from number `after` on; see `logs.read`."""
        with self._reading() as run:
            return logs.read(run, job_id, after)

    def state(self, job_id: str) -> str | None:
        """Return the state of one job, None where it is not known."""
        if not is_id(job_id):
            return None
        with self._reading() as run:
            found = run("SELECT state FROM jobs WHERE id = ?", (job_id,))
            return found.get  # type: ignore[no-any-return]

    def holder_of(self, task: str, unique: str) -> str | None:
        """Return the id of the unfinished job of `task` that holds this unique key."""
        with self._reading() as run:
            found = run(HOLDER, (task, unique))
            return found.get  # type: ignore[no-any-return]

    def states(self, job_ids: list[str]) -> dict[str, str]:
        """Return the states of those of these jobs that are known, with one query."""
        ids = msgspec.json.encode([job_id for job_id in job_ids if is_id(job_id)]).decode()
        with self._reading() as run:
            return dict(
                run(
                    "SELECT id, state FROM jobs WHERE id IN (SELECT value FROM json_each(?))",
                    (ids,),
                )
            )

    def is_cancel_asked(self, job_id: str) -> bool:
        """Tell whether a running job is to be aborted."""
        with self._reading() as run:
            asked = run("SELECT cancel_asked FROM jobs WHERE id = ?", (job_id,)).get
            return bool(asked == CANCEL_ASKED)

    def find(
        self,
        *,
        state: str | None = None,
        queue: str | None = None,
        task: str | None = None,
        tag: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[Record]:
        """Return jobs, the newest first, that fit all filters; without their attempts."""
        filters = {
            # Without a tag, the source answers for the state.
            "state = ?": None if tag is None else state,
            "queue = ?": queue,
            "task = ?": task,
            "seq < coalesce((SELECT seq FROM jobs WHERE id = ?), 0)": before,
        }
        given = {text: value for text, value in filters.items() if value is not None}
        match state:
            case _ if tag is not None:
                source = BY_TAG
            case None:
                source = "jobs WHERE true"
            case "running":
                source = RUNS
            case "queued":
                source = WAITS
            case _:
                source = f"{BY_STATE} = '{state}'" if state in STATES else "jobs WHERE false"
        values = (*(() if tag is None else (tag,)), *given.values(), limit)
        where = "".join(f" AND {text}" for text in given)
        with self._reading() as run:
            found = run(f"SELECT {_RECORD} FROM {source}{where} ORDER BY seq DESC LIMIT ?", values)
            return [Record(*row) for row in found]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many jobs each queue has in each state; exact, and free at any size."""
        counts: dict[str, dict[str, int]] = {}
        with self._reading() as run:
            for queue, state, number in run(
                "SELECT queue, state, sum(number) FROM tally WHERE number > 0"
                " GROUP BY queue, state UNION ALL SELECT queue, state, count(*) FROM jobs"
                " INDEXED BY jobs_window WHERE window IS NOT NULL AND state = 'running'"
                " GROUP BY queue"
            ):
                of_queue = counts.setdefault(queue, dict.fromkeys(STATES, 0))
                of_queue[state] = number
                if state == RUNNING:
                    of_queue[QUEUED] -= number  # the tally does not tell them apart
        return counts

    def paused(self) -> list[str]:
        """Return the queues that are paused."""
        with self._reading() as run:
            return [name for (name,) in run("SELECT name FROM queues WHERE paused ORDER BY name")]

    def seen(self) -> Seen:
        """Return who is in the window; reads only."""
        with self._reading() as run:
            return seen(run)

    def anyone_waits(self) -> bool:
        """Tell whether a due job is outside the window; reads only."""
        with self._reading() as run:
            return anyone_waits(run)

    def oldest_queued(self) -> dict[str, float]:
        """Return since when the longest-waiting due job of each queue has been due.

        One look-up for each priority that waits: the index is by queue, priority, due time.
        """
        oldest: dict[str, float] = {}
        with self._reading() as run:
            for queue, due in run(
                "SELECT queue, due_at FROM jobs INDEXED BY jobs_window"
                " WHERE window IS NOT NULL AND state = 'queued'"
            ):
                oldest[queue] = min(due, oldest.get(queue, due))
            for queue in waiting_queues(run):
                above = HIGHEST + 1
                while first := run(
                    "SELECT priority, due_at FROM jobs INDEXED BY jobs_ready WHERE"
                    " state = 'queued' AND window IS NULL AND queue = ? AND priority < ?"
                    " ORDER BY priority DESC, due_at LIMIT 1",
                    (queue, above),
                ).fetchone():
                    above, due = first
                    oldest[queue] = min(due, oldest.get(queue, due))
        return oldest

    def figures(self, now: float) -> Figures:
        """Return what monitoring wants to know, all of it at one moment."""
        with self._reading() as run:
            run("SAVEPOINT figures")
            try:
                in_window = list(self.in_window().values())
                return read_figures(run, now, in_window, self.oldest_queued())
            finally:
                run("RELEASE figures")

    def next_due(self) -> float | None:
        """Return when the next scheduled or retrying job is due."""
        with self._reading() as run:
            return run(  # type: ignore[no-any-return]
                "SELECT due_at FROM jobs WHERE state IN ('scheduled', 'retrying')"
                " ORDER BY due_at LIMIT 1"
            ).get

    def has_work(self, now: float) -> bool:
        """Tell whether a job has become due or may enter the window; reads only."""
        with self._reading() as run:
            return bool(  # two index look-ups, so that an idle housekeeper takes no write lock
                run(
                    "SELECT EXISTS (SELECT 1 FROM jobs WHERE state IN ('scheduled', 'retrying')"
                    " AND due_at <= ?) OR EXISTS"
                    " (SELECT 1 FROM jobs WHERE state = 'queued' AND window IS NULL)",
                    (now,),
                ).get
            )

    def ended_before(self, when: float, limit: int, states: frozenset[str]) -> list[str]:
        """Return jobs in one of these final states that ended before a time, the oldest first."""
        places = ", ".join("?" * len(states))
        with self._reading() as run:
            found = run(
                f"SELECT id FROM jobs WHERE finished_at < ? AND state IN ({places})"
                " ORDER BY finished_at LIMIT ?",
                (when, *sorted(states), limit),
            )
            return [job_id for (job_id,) in found]

    def is_draining(self, boot: str, now: float) -> bool:
        """Tell whether a boot starts no jobs for now; reads only."""
        with self._reading() as run:
            return run(  # type: ignore[no-any-return]
                "SELECT EXISTS (SELECT 1 FROM servers WHERE boot = ? AND draining_until > ?)",
                (boot, now),
            ).get

    def servers(self) -> list[str]:
        """Return the boots that serve this spool, some of which may be gone."""
        with self._reading() as run:
            return [boot for (boot,) in run("SELECT boot FROM servers ORDER BY since")]

    def generation(self) -> int:
        """Return which ledger file this process uses: another number is another file."""
        with self._reading():
            return self._connection.generation

    def is_sound(self) -> bool:
        """Tell whether SQLite finds the file whole; takes seconds at a million rows."""
        with self._reading() as run:
            return run("PRAGMA quick_check(1)").get == "ok"  # type: ignore[no-any-return]

    def set_aside(self) -> Path:
        """Begin a new ledger; the old file is kept, and its new path returned."""
        with self._mutex:
            return self._connection.set_aside()

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self._mutex:
            self._connection.close()

    def in_window(self) -> dict[str, Row]:
        """Return the rows that say their file is in the window, running ones included."""
        with self._reading() as run:
            rows = [Row(*row) for row in run(f"SELECT {ROW} FROM jobs WHERE window IS NOT NULL")]
        return {row.id: row for row in rows}

    @contextmanager
    def _reading(self) -> Iterator[Callable[..., Any]]:
        with shielded, self._mutex:
            try:
                yield self._connection.get(self.patience).execute
            except (apsw.Error, OSError) as error:
                raise trouble(self.path, error) from error
