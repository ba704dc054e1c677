"""What is written to the ledger: each method is one change of rows within a write transaction.

Invariant: each change of state is compare-and-set on what it leaves, and a final state is left
only by `revive`. Nothing here begins, commits or waits; `Ledger.transaction` does.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import apsw
import msgspec

from .._uwsgi import Process
from ..endings import class_of
from ..job import CANCELLED, DEAD, FINAL, QUEUED, RUNNING, SUCCEEDED, Job, is_id
from ..queues import Waiting
from ..record import CANCEL_ASKED, SUPERSEDED, Change, ErrorInfo, Output, Progress, Row, Step
from . import logs

LONGEST_SHOWN: Final = 65_536
"""Arguments of more bytes stay in the job file only; the row says how large they are."""

ROW: Final = ", ".join(Row.__struct_fields__)

HOLDER: Final = "SELECT id FROM jobs WHERE task = ? AND unique_key = ? AND finished_at IS NULL"

WAITING_QUEUES: Final = (
    "WITH RECURSIVE next(name) AS ("
    " SELECT (SELECT queue FROM jobs INDEXED BY jobs_ready WHERE state = 'queued'"
    "  AND window IS NULL ORDER BY queue LIMIT 1)"
    " UNION ALL SELECT (SELECT queue FROM jobs INDEXED BY jobs_ready WHERE"
    "  state = 'queued' AND window IS NULL AND queue > name ORDER BY queue LIMIT 1)"
    "  FROM next WHERE name IS NOT NULL)"
    " SELECT name FROM next WHERE name IS NOT NULL"
)
"""One look-up in the index for each queue, however many jobs it has."""


class Seen(NamedTuple):
    """The window at one moment."""

    ready: int
    """Jobs that wait for a spooler."""
    busy: set[int]
    """Processes that run a job."""
    inside: Counter[str]
    """Jobs of each queue, running ones included."""


class Held(NamedTuple):
    """What is not to be started."""

    draining: bool
    paused: frozenset[str]


class Transaction:
    """One write transaction. Made by `Ledger.transaction`, which commits or rolls it back."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._run: Callable[..., Any] = connection.execute
        self._undo: list[tuple[str, Callable[[], object]]] = []

    def commit(self) -> None:
        """Keep what was done."""
        self._run("COMMIT")

    def on_rollback(self, job_id: str, undo: Callable[[], object]) -> None:
        """Call `undo` for a job before the write lock is released, should this fail."""
        self._undo.append((job_id, undo))

    def roll_back(self) -> None:
        """Undo what was done outside the ledger, then end the transaction, whatever happens.

        SQLite rolls back by itself on a full disk, and the write lock is gone: somebody may have
        started a job meanwhile. Then the lock is taken again, and such a job is left alone.
        """
        alone = self._connection.in_transaction
        try:
            if self._undo and not alone:
                self._run("BEGIN IMMEDIATE")
            for job_id, undo in reversed(self._undo):
                if alone or self.row(job_id) is None:
                    with contextlib.suppress(OSError):
                        undo()
        finally:
            if self._connection.in_transaction:
                self._run("ROLLBACK")

    def insert(self, job: Job, state: str, window: str | None) -> bool:
        """Add the row of a job; False when it is there already, which is no error.

        A unique key that another unfinished job holds by now is left out: a job that was
        published must have its row. It takes the place of an older one if it is to replace that,
        and whoever enqueued it was killed before its commit.
        """
        holder = self.holder_of(job.task, job.unique) if job.unique is not None else None
        held = holder not in (None, job.id)
        shown = bytes(job.kwargs) if len(bytes(job.kwargs)) <= LONGEST_SHOWN else None
        added = self._run(
            "INSERT INTO jobs (id, task, queue, priority, state, window, enqueued_at, due_at,"
            " expires_at, max_attempts, unique_key, tags, kwargs, kwargs_size)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING RETURNING 1",
            (
                job.id,
                job.task,
                job.queue,
                job.priority,
                state,
                window,
                job.enqueued_at,
                job.due_at,
                job.expires_at,
                job.max_attempts,
                None if held or state in FINAL else job.unique,
                msgspec.json.encode(job.tags).decode() if job.tags else None,
                shown,
                len(bytes(job.kwargs)),
            ),
        ).get
        if added and state not in FINAL and holder is not None and holder < job.id:
            self._make_up_for(job, holder)
        return added is not None

    def _make_up_for(self, job: Job, holder: str) -> None:
        """Let a job replace an older one late, whose enqueue did not get as far as its commit."""
        if job.on_duplicate == "replace":
            self.replace(holder, job.id, job.enqueued_at)
            self._run("UPDATE jobs SET unique_key = ? WHERE id = ?", (job.unique, job.id))

    def insert_dead(self, job: Job, now: float, why: ErrorInfo) -> bool:
        """Add the row of a file found in ``dead/``; False when it is there already."""
        added = self.insert(job, DEAD, None)
        if added:
            self._run(
                "UPDATE jobs SET finished_at = ?, error_type = ?, error_message = ? WHERE id = ?",
                (now, why.type, why.message, job.id),
            )
        return added

    def insert_running(self, job: Job, attempt: int) -> None:
        """Add the row of a job whose history is gone while it runs its n-th attempt."""
        self.insert(job, RUNNING, None)
        self._run(
            "UPDATE jobs SET attempt = ?, charged = ?, started_at = ? WHERE id = ?",
            (attempt, attempt, job.enqueued_at, job.id),
        )

    def requeue(self, job_id: str) -> None:
        """Let a job wait whose file is in ``waiting/``, whatever its row said."""
        self._run(
            "UPDATE jobs SET state = 'queued', window = NULL, pid = NULL"
            " WHERE id = ? AND finished_at IS NULL",
            (job_id,),
        )

    def end_lost(self, job_id: str, now: float, why: ErrorInfo) -> None:
        """Make a job dead whose file is nowhere, even one that says it runs."""
        self.requeue(job_id)
        self.close(job_id, DEAD, now, why)

    def row(self, job_id: str) -> Row | None:
        """Return what decides the job's next step, or None where there is no row."""
        if not is_id(job_id):
            return None
        found = self._run(f"SELECT {ROW} FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return Row(*found) if found else None

    def holder_of(self, task: str, unique: str) -> str | None:
        """Return the id of the unfinished job of `task` that holds this unique key."""
        found = self._run(HOLDER, (task, unique))
        return found.get  # type: ignore[no-any-return]

    def replace(self, job_id: str, by: str, now: float) -> None:
        """Let another job take the unique key of this one.

        It is cancelled while it waits. One that runs goes on without the key, and is not tried
        again: `SUPERSEDED` stands where a person's cancel would.
        """
        why = ErrorInfo("Replaced", f"job {by} was enqueued in its place")
        if not self.close(job_id, CANCELLED, now, why):
            self._run(
                "UPDATE jobs SET unique_key = NULL,"
                " cancel_asked = iif(cancel_asked, cancel_asked, ?)"
                " WHERE id = ? AND finished_at IS NULL",
                (SUPERSEDED, job_id),
            )

    def known(self, job_id: str) -> Row:
        """Return the row of a job that has one."""
        row = self.row(job_id)
        assert row is not None, job_id
        return row

    def start_fresh(
        self, job_id: str, window: str, now: float, process: Process, boot: str
    ) -> Row | None:
        """Start a job against which nothing speaks, with one statement; None where something may.

        The common case of what `admit` decides: queued and due, nothing ever went wrong with it,
        nobody wants it cancelled, its queue is not paused and its boot does not drain.
        """
        started = self._run(
            "UPDATE jobs SET state = 'running', window = ?, attempt = attempt + 1,"
            " charged = charged + 1, started_at = ?, pid = ?, pid_started = ?, boot = ?,"
            " progress_done = NULL, progress_total = NULL, progress_note = NULL"
            " WHERE id = ? AND state = 'queued' AND due_at <= ? AND NOT cancel_asked"
            " AND crashes + interruptions = 0 AND (expires_at IS NULL OR expires_at > ?)"
            " AND NOT EXISTS (SELECT 1 FROM queues WHERE name = jobs.queue AND paused)"
            " AND NOT EXISTS (SELECT 1 FROM servers WHERE boot = ? AND draining_until > ?)"
            f" RETURNING {ROW}",
            (window, now, process.pid, process.started, boot, job_id, now, now, boot, now),
        ).fetchall()
        return Row(*started[0]) if started else None

    def start(self, job_id: str, window: str, now: float, process: Process, boot: str) -> Row:
        """Count the next attempt and write down who runs it; before the run, always."""
        started = self._run(
            "UPDATE jobs SET state = 'running', window = ?, attempt = attempt + 1,"
            " charged = charged + 1, started_at = ?, pid = ?, pid_started = ?, boot = ?,"
            " progress_done = NULL, progress_total = NULL, progress_note = NULL"
            f" WHERE id = ? AND finished_at IS NULL RETURNING {ROW}",
            (window, now, process.pid, process.started, boot, job_id),
        )
        return Row(*started.get)

    def settle(self, row: Row, change: Change) -> bool:
        """Write how the attempt in `row` ended and what the job is now.

        False where that cannot be: it was done before, the row is gone, or the job would run
        again though a person has asked for its end.
        """
        if change.progress is not None:
            self.progress(row.id, change.progress)
        self._run(
            "UPDATE jobs SET state = ?, due_at = ?, window = NULL, result = ?, error_type = ?,"
            " error_message = ?, traceback = ?, charged = charged + ?, crashes = ?,"
            " interruptions = ?, finished_at = ?, cancel_asked = 0, pid = NULL"
            " WHERE id = ? AND state = 'running' AND attempt = ?"
            " AND NOT (cancel_asked AND ? = 'retrying')",
            (
                change.state,
                change.due_at,
                change.result,
                *_columns(change.error),
                0 if change.charged else -1,
                change.crashes,
                change.interruptions,
                change.ended_at if change.state in FINAL else None,
                row.id,
                row.attempt,
                change.state,
            ),
        )
        if not self._connection.changes():
            return False
        if change.output is not None:
            self.log(row.id, change.output)
        for step in change.steps:
            self.step(row.id, step)
        started = row.started_at or change.ended_at
        if change.state != SUCCEEDED:
            self._run(
                "INSERT OR IGNORE INTO attempts VALUES (?,?,?,?,?,?,?,?)",
                (
                    row.id,
                    row.attempt,
                    change.outcome,
                    started,
                    change.ended_at,
                    *_columns(change.error),
                ),
            )
        self._count(
            row, change, max(0.0, started - row.due_at), max(0.0, change.ended_at - started)
        )
        return True

    def _count(self, row: Row, change: Change, waited: float, ran: float) -> None:
        minute = int(change.ended_at // 60)
        classes = (class_of(waited), class_of(ran))
        self._run(
            "INSERT INTO endings VALUES (?,?,?,?,?,?,1,?,?,?) ON CONFLICT DO UPDATE SET"
            " number = number + 1, wait_seconds = wait_seconds + excluded.wait_seconds,"
            " run_seconds = run_seconds + excluded.run_seconds,"
            " longest_run = max(longest_run, excluded.longest_run)",
            (minute, row.queue, row.task, change.outcome, *classes, waited, ran, ran),
        )
        self._run(
            "INSERT INTO totals VALUES (?,?,?,?,?,1,?,?,?,?) ON CONFLICT DO UPDATE SET"
            " number = number + 1, wait_seconds = wait_seconds + excluded.wait_seconds,"
            " run_seconds = run_seconds + excluded.run_seconds,"
            " longest_run = max(longest_run, excluded.longest_run),"
            " latest = max(latest, excluded.latest)",
            (row.queue, row.task, change.outcome, *classes, waited, ran, ran, change.ended_at),
        )

    def forget_minute(self, before: int) -> bool:
        """Delete the oldest minute of the history if it is before this one; False if none is.

        A minute a step, so that nobody waits for it. The totals keep what it counted.
        """
        self._run(
            "DELETE FROM endings WHERE minute ="
            " (SELECT minute FROM endings WHERE minute < ? ORDER BY minute LIMIT 1)",
            (before,),
        )
        return bool(self._connection.changes())

    def close(self, job_id: str, state: str, now: float, why: ErrorInfo | None) -> bool:
        """Make a job that is not running final; False when it runs or is final already."""
        closed = self._run(
            "UPDATE jobs SET state = ?, window = NULL, finished_at = ?,"
            " error_type = coalesce(?, error_type), error_message = coalesce(?, error_message)"
            " WHERE id = ? AND finished_at IS NULL AND state != 'running' RETURNING 1",
            (state, now, why and why.type, why and why.message, job_id),
        )
        return closed.get is not None

    def ask_cancel(self, job_id: str) -> None:
        """Note that a running job is to be aborted."""
        self._run(
            "UPDATE jobs SET cancel_asked = ? WHERE id = ? AND finished_at IS NULL",
            (CANCEL_ASKED, job_id),
        )

    def revive(self, job_id: str, due: float, now: float, unique: str | None = None) -> bool:
        """Let a dead, cancelled or expired job wait until `due` again, its limits starting anew."""
        revived = self._run(
            "UPDATE jobs SET state = CASE WHEN ? <= ? THEN 'queued' ELSE 'scheduled' END,"
            " due_at = ?, finished_at = NULL, charged = 0,"
            " crashes = 0, interruptions = 0, cancel_asked = 0, expires_at = NULL, result = NULL,"
            " unique_key = coalesce(unique_key, ?)"
            " WHERE id = ? AND state IN ('dead', 'cancelled', 'expired') RETURNING 1",
            (due, now, due, unique, job_id),
        )
        return revived.get is not None

    def overdue(self, now: float, limit: int) -> list[str]:
        """Return waiting jobs whose `expires` has passed."""
        found = self._run(
            "SELECT id FROM jobs WHERE expires_at <= ? AND finished_at IS NULL"
            " AND window IS NULL LIMIT ?",
            (now, limit),
        )
        return [job_id for (job_id,) in found]

    def delete(self, job_id: str) -> None:
        """Delete everything known of a job."""
        self._run("DELETE FROM attempts WHERE job = ?", (job_id,))
        self._run("DELETE FROM logs WHERE job = ?", (job_id,))
        self._run("DELETE FROM steps WHERE job = ?", (job_id,))
        self._run("DELETE FROM jobs WHERE id = ?", (job_id,))

    def put_off(self, job_id: str, due: float, now: float, why: ErrorInfo | None) -> None:
        """Let a job that is not running wait outside the window until `due`."""
        self._run(
            "UPDATE jobs SET state = CASE WHEN ? <= ? THEN 'queued' WHEN attempt = 0 THEN"
            " 'scheduled' ELSE 'retrying' END, window = NULL, due_at = ?,"
            " error_type = coalesce(?, error_type), error_message = coalesce(?, error_message)"
            " WHERE id = ? AND finished_at IS NULL",
            (due, now, due, why and why.type, why and why.message, job_id),
        )

    def enter_window(self, job_id: str, window: str) -> None:
        """Note under which name a queued job stands in the window."""
        self._run("UPDATE jobs SET window = ? WHERE id = ? AND state = 'queued'", (window, job_id))

    def give_back(self, job_id: str, window: str) -> None:
        """Note where the file of a running job stands that another process had taken."""
        self._run("UPDATE jobs SET window = ? WHERE id = ? AND state = 'running'", (window, job_id))

    def progress(self, job_id: str, progress: Progress) -> None:
        """Keep the progress that a running job reported last."""
        self._run(
            "UPDATE jobs SET progress_done = ?, progress_total = ?, progress_note = ?"
            " WHERE id = ? AND state = 'running'",
            (progress.done, progress.total, progress.note, job_id),
        )

    def step(self, job_id: str, step: Step) -> None:
        """Keep a finished step of a job; the first one of a name stays.

        A job that gets on is none that kills its process each time: what it lost in a row counts
        from here again.
        """
        self._run(
            "INSERT OR IGNORE INTO steps (job, name, attempt, finished_at, seconds, result)"
            " SELECT id, ?, ?, ?, ?, ? FROM jobs WHERE id = ?",
            (step.name, step.attempt, step.finished_at, step.seconds, step.result, job_id),
        )
        if self._connection.changes():
            self._run(
                "UPDATE jobs SET crashes = 0, interruptions = 0"
                " WHERE id = ? AND crashes + interruptions > 0",
                (job_id,),
            )

    def log(self, job_id: str, output: Output) -> None:
        """Add to what is kept of a job's log, and let go of its oldest where that is too much."""
        logs.append(self._run, job_id, output)

    def ripen(self, now: float, limit: int) -> int:
        """Make up to `limit` jobs queued whose time has come, the oldest first; how many."""
        self._run(
            "UPDATE jobs SET state = 'queued' WHERE id IN (SELECT id FROM jobs"
            " WHERE state IN ('scheduled', 'retrying') AND due_at <= ? ORDER BY due_at LIMIT ?)",
            (now, limit),
        )
        return self._run("SELECT changes()").get  # type: ignore[no-any-return]

    def seen(self) -> Seen:
        """Return who is in the window."""
        return seen(self._run)

    def held(self, boot: str, now: float) -> Held:
        """Return what may not start."""
        found = self._run(
            "SELECT name FROM queues WHERE paused UNION ALL"
            " SELECT NULL FROM servers WHERE boot = ? AND draining_until > ?",
            (boot, now),
        ).fetchall()
        names = [name for (name,) in found]
        return Held(draining=None in names, paused=frozenset(names) - {None})

    def open_queues(self, boot: str, now: float) -> list[str]:
        """Return the queues with jobs that wait and may start: neither paused nor draining."""
        found = self._run(
            f"{WAITING_QUEUES} AND name NOT IN (SELECT name FROM queues WHERE paused)"
            " AND NOT EXISTS (SELECT 1 FROM servers WHERE boot = ? AND draining_until > ?)",
            (boot, now),
        )
        return [name for (name,) in found]

    def heads(self, queue: str, limit: int) -> list[Waiting]:
        """Return who of one queue comes next: highest priority first, then the oldest due."""
        found = self._run(
            "SELECT -priority, due_at, seq, id, task FROM jobs INDEXED BY jobs_ready"
            " WHERE state = 'queued' AND window IS NULL AND queue = ?"
            " ORDER BY priority DESC, due_at, seq LIMIT ?",
            (queue, limit),
        )
        return [Waiting(*row) for row in found]

    def anyone_waits(self) -> bool:
        """Tell whether a due job is outside the window."""
        return anyone_waits(self._run)

    def pool(self) -> int:
        """Return how many spoolers the servers on this spool have, as far as they said."""
        return self._run("SELECT total(pool) FROM servers").get  # type: ignore[no-any-return]

    def is_first_due(self, due: float) -> bool:
        """Tell whether no scheduled job is due before `due`."""
        found = self._run(
            "SELECT EXISTS (SELECT 1 FROM jobs WHERE state IN ('scheduled', 'retrying')"
            " AND due_at < ?)",
            (due,),
        )
        return not found.get

    def drain(self, boot: str, until: float) -> None:
        """Let a boot start no jobs until a time; a time in the past takes it back."""
        self._run(
            "INSERT INTO servers (boot, since, draining_until) VALUES (?, ?, ?)"
            " ON CONFLICT (boot) DO UPDATE SET draining_until = excluded.draining_until",
            (boot, until, until),
        )

    def register(self, boot: str, now: float, pool: int) -> None:
        """Note that a server serves this spool with that many spoolers."""
        self._run(
            "INSERT INTO servers (boot, since, pool) VALUES (?, ?, ?)"
            " ON CONFLICT (boot) DO UPDATE SET pool = excluded.pool",
            (boot, now, pool),
        )

    def unregister(self, boot: str) -> None:
        """Forget a server that is gone."""
        self._run("DELETE FROM servers WHERE boot = ?", (boot,))

    def note_stop(self, process: Process) -> None:
        """Note that a process was told to end: its death is no crash of the job it runs."""
        self._run(
            "UPDATE jobs SET boot = '' WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_window"
            " WHERE window IS NOT NULL AND state = 'running') AND pid = ? AND pid_started = ?",
            process,
        )

    def pause(self, queue: str, paused: bool) -> None:
        """Pause a queue, or let it go on."""
        self._run(
            "INSERT INTO queues (name, paused) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET paused = excluded.paused",
            (queue, int(paused)),
        )

    def holds(self, queue: str, boot: str, now: float) -> bool:
        """Tell whether jobs of a queue are not to be started: it is paused, or the boot drains."""
        found = self._run(
            "SELECT EXISTS (SELECT 1 FROM queues WHERE name = ? AND paused)"
            " OR EXISTS (SELECT 1 FROM servers WHERE boot = ? AND draining_until > ?)",
            (queue, boot, now),
        )
        return bool(found.get)


def seen(run: Callable[..., Any]) -> Seen:
    """Return who is in the window; `run` executes a statement."""
    ready, busy, inside = 0, set(), Counter[str]()
    for state, queue, pid in run(
        "SELECT state, queue, pid FROM jobs INDEXED BY jobs_window WHERE window IS NOT NULL"
    ).fetchall():
        inside[queue] += 1
        if state == QUEUED:
            ready += 1
        else:
            busy.add(pid)
    return Seen(ready, busy, inside)


def anyone_waits(run: Callable[..., Any]) -> bool:
    """Tell whether a due job is outside the window; `run` executes a statement."""
    found = run(
        "SELECT EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_ready"
        " WHERE state = 'queued' AND window IS NULL)"
    )
    return bool(found.get)


def waiting_queues(run: Callable[..., Any]) -> list[str]:
    """Return the queues with jobs that wait outside the window; `run` executes a statement."""
    return [name for (name,) in run(WAITING_QUEUES)]


def _columns(error: ErrorInfo | None) -> tuple[str | None, str | None, str | None]:
    return (error.type, error.message, error.traceback) if error else (None, None, None)
