"""The questions that pages ask of the ledger: read-only, and bounded at any size.

Owns the SQL behind the dashboard and the operations API. Invariant: no question costs more with a
million jobs than with ten thousand. Counts come from `tally` and figures from `endings`. A list
walks one index from the newest job down, the one that `tally` says is the shortest; it looks at
`LOOK_AT` of its entries at most, or for `PATIENCE` seconds, and says how far it came. Belongs to
the `Ledger` and shares its connection and mutex.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from ..endings import BOUNDS
from ..job import DEAD, RETRYING, RUNNING, SCHEDULED, STATES, id_at, is_id
from . import Ledger

LOOK_AT: Final = 20_000
"""Entries of an index that one page looks at, at most."""

PATIENCE: Final = 0.05
"""Seconds after which a page stops looking earlier, as where each row holds 64 KiB."""

STEP: Final = 1_000
LISTED_BYTES: Final = 4_096
"""Arguments and messages of more bytes are not part of a list."""

MARGIN: Final = 1_000
"""Commits that may come between two jobs in another order than that of their enqueue."""

MOST_COUNTED: Final = 10_000
CLASSES: Final = len(BOUNDS) + 1
FAILED: Final = ("failed", "timed_out", "crashed")
"""The outcomes that count as failures; an interruption or a cancel is nobody's fault."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs are meant; None means any. Times are those of enqueue."""

    state: str | None = None
    queue: str | None = None
    task: str | None = None
    error: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def is_for_all(self) -> bool:
        """Whether neither state nor queue nor task matters."""
        return all(each is None for each in (self.state, self.queue, self.task))

    @property
    def is_counted(self) -> bool:
        """Whether `tally` knows exactly how many jobs fit."""
        return all(each is None for each in (self.error, self.text, self.since, self.until))


class Listed(msgspec.Struct, frozen=True):
    """One line of a list; field names are columns, the long ones cut to `LISTED_BYTES`."""

    seq: int
    id: str
    task: str
    queue: str
    priority: int
    state: str
    attempt: int
    max_attempts: int
    enqueued_at: float
    due_at: float
    expires_at: float | None
    started_at: float | None
    finished_at: float | None
    progress_done: float | None
    progress_total: float | None
    progress_note: str | None
    error_type: str | None
    error_message: str | None
    kwargs_size: int
    kwargs: bytes | None


class Found(msgspec.Struct, frozen=True):
    """A page of a list, and how far it looked."""

    jobs: list[Listed]
    next: int | None
    """Where the next page begins, as `before`; None where nothing is left."""
    looked_at: int
    stopped: bool
    """Whether it stopped looking before the page was full: "search further"."""


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


_LISTED: Final = ", ".join(
    f"substr({name}, 1, {LISTED_BYTES})"
    if name == "error_message"
    else f"iif(kwargs_size > {LISTED_BYTES}, NULL, kwargs)"
    if name == "kwargs"
    else name
    for name in Listed.__struct_fields__
)
_RUNNING: Final = ", ".join(Running.__struct_fields__)
_SERVER: Final = ", ".join(Server.__struct_fields__)
_ENDED_OR_WAITS: Final = "jobs INDEXED BY jobs_state WHERE state != 'running' AND state"
"""SQLite takes a partial index only where its condition stands in the statement word by word."""

_NOW: Final = "state = 'running' AND window IS NOT NULL"

Keep = Callable[[Listed], bool]


class Walk(NamedTuple):
    """A way through the jobs: where it leads, which columns that answers, and its two ends."""

    of: str
    values: tuple[Any, ...]
    answered: tuple[str, ...]
    above: int
    below: int


class Search:
    """The questions of pages, asked of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def page(
        self,
        wanted: Filter,
        *,
        before: int | None = None,
        limit: int = 50,
        keep: Keep | None = None,
    ) -> Found:
        """Return up to `limit` jobs that fit, the newest first, of those before a sequence number.

        `keep` decides once more on each job that fits, where SQL cannot.
        """
        give_up = time.monotonic() + PATIENCE
        walk = self._walk(wanted)
        upper = min(walk.below, 2**62 if before is None else before)
        fits, fitted = self._rest(wanted, walk)
        expected = self.count(wanted) if before is None and keep is None else None
        step = STEP if fits or keep else limit + 1
        jobs: list[Listed] = []
        looked_at = 0
        while True:
            with self._ledger._reading() as run:
                # One bound on each side, or SQLite walks to the end of the table.
                floor = run(
                    f"SELECT seq FROM {walk.of} AND seq < ? ORDER BY seq DESC LIMIT 1 OFFSET ?",
                    (*walk.values, upper, step - 1),
                ).get
                lowest = max(walk.above, -1 if floor is None else floor - 1)
                found = run(
                    f"SELECT {_LISTED} FROM {walk.of}{fits} AND seq < ? AND seq > ?"
                    " ORDER BY seq DESC",
                    (*walk.values, *fitted, upper, lowest),
                )
                for row in found:
                    job = Listed(*row)
                    if keep is None or keep(job):
                        jobs.append(job)
                        if len(jobs) > limit:
                            found.close()
                            break
            looked_at += step
            if len(jobs) > limit:
                return Found(jobs[:limit], jobs[limit - 1].seq, looked_at, stopped=False)
            if floor is None or lowest == walk.above or len(jobs) == expected:
                return Found(jobs, None, looked_at, stopped=False)
            upper = floor
            if looked_at >= LOOK_AT or time.monotonic() > give_up:
                return Found(jobs, upper, looked_at, stopped=True)

    def newer(self, wanted: Filter, after: int, most: int = 100, keep: Keep | None = None) -> int:
        """Return how many jobs that fit came after a sequence number, up to `most`."""
        found = self.page(wanted, limit=most, keep=keep)
        return sum(job.seq > after for job in found.jobs)

    def seq_before(self, job_id: str) -> int | None:
        """Return the sequence number before which a page goes on that ended with this job.

        For a job that is gone it is that of the one enqueued before it, as ids sort by time.
        """
        with self._ledger._reading() as run:
            seq = run("SELECT seq FROM jobs WHERE id = ?", (job_id,)).get
            if seq is None:
                earlier = run(
                    "SELECT seq FROM jobs WHERE id < ? ORDER BY id DESC LIMIT 1", (job_id,)
                ).get
                seq = None if earlier is None else earlier + 1
        return seq  # type: ignore[no-any-return]

    def newest(self) -> int:
        """Return the sequence number of the newest job, 0 without any."""
        with self._ledger._reading() as run:
            return run("SELECT coalesce(max(seq), 0) FROM jobs").get  # type: ignore[no-any-return]

    def knows_error(self, name: str) -> bool:
        """Tell whether a job's last error is exactly this exception."""
        with self._ledger._reading() as run:
            return bool(run("SELECT EXISTS (SELECT 1 FROM jobs WHERE error_type = ?)", (name,)).get)

    def starting_with(self, text: str) -> list[str]:
        """Return up to two ids that begin with this text: one is a hit."""
        with self._ledger._reading() as run:
            found = run(
                "SELECT id FROM jobs WHERE id >= ? AND id < ? ORDER BY id LIMIT 2",
                (text, text + "\x7f"),
            )
            return [job_id for (job_id,) in found]

    def count(self, wanted: Filter) -> int | None:
        """Return exactly how many jobs fit, None where nobody has counted."""
        if not wanted.is_counted:
            return None
        return sum(
            number
            for queue, task, state, number in self.tally()
            if wanted.queue in (None, queue)
            and wanted.task in (None, task)
            and wanted.state in (None, state)
        )

    def tally(self) -> list[tuple[str, str, str, int]]:
        """Return the number of jobs by queue, task and state."""
        with self._ledger._reading() as run:
            return list(run("SELECT queue, task, state, number FROM tally WHERE number > 0"))

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
                f" FROM {_ENDED_OR_WAITS} = '{DEAD}'"
                " ORDER BY seq LIMIT 1000)"
            ).get

    def failures(self, limit: int) -> list[Listed]:
        """Return the jobs that failed last, of the newest 200 dead and 200 retrying ones."""
        found: list[Listed] = []
        for state in (DEAD, RETRYING):
            with self._ledger._reading() as run:
                rows = run(
                    f"SELECT {_LISTED} FROM {_ENDED_OR_WAITS} = '{state}'"
                    " ORDER BY seq DESC LIMIT 200"
                )
                found += [Listed(*row) for row in rows]
        found.sort(key=lambda job: job.finished_at or job.started_at or 0.0, reverse=True)
        return found[:limit]

    def running(self) -> list[Running]:
        """Return the jobs that run now, the longest-running first."""
        with self._ledger._reading() as run:
            found = run(f"SELECT {_RUNNING} FROM jobs WHERE {_NOW} ORDER BY started_at")
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

    def _walk(self, wanted: Filter) -> Walk:
        """Return the index that leads past the fewest other jobs, as `tally` knows.

        It is named in the statement: SQLite has no statistics and would walk the table.
        """
        above, below = self._between(wanted)
        choices = [Walk("jobs NOT INDEXED WHERE true", (), (), above, below)]
        if wanted.error is not None:
            of = "jobs INDEXED BY jobs_error WHERE error_type = ?"
            choices = [Walk(of, (wanted.error,), ("error_type",), above, below)]
        elif wanted.state == RUNNING:
            of = f"jobs INDEXED BY jobs_window WHERE {_NOW}"
            choices = [Walk(of, (), ("state",), above, below)]
        elif not wanted.is_for_all:
            tally = self.tally()
            sizes = [sum(each[3] for each in tally)]
            for number, walk in self._walks(wanted, tally, above, below):
                sizes.append(number)
                choices.append(walk)
            return choices[sizes.index(min(sizes))]
        return choices[0]

    @staticmethod
    def _walks(
        wanted: Filter, tally: list[tuple[str, str, str, int]], above: int, below: int
    ) -> Iterator[tuple[int, Walk]]:
        """Give each index that can answer, and how many jobs it leads past."""
        if wanted.state in STATES:
            of = f"{_ENDED_OR_WAITS} = '{wanted.state}'"
            number = sum(each[3] for each in tally if each[2] == wanted.state)
            yield number, Walk(of, (), ("state",), above, below)
        if wanted.task is not None:
            of = "jobs INDEXED BY jobs_task WHERE task = ?"
            number = sum(each[3] for each in tally if each[1] == wanted.task)
            yield number, Walk(of, (wanted.task,), ("task",), above, below)
        elif wanted.queue is not None:
            tasks = tuple(sorted({each[1] for each in tally if each[0] == wanted.queue}))
            number = sum(each[3] for each in tally if each[1] in tasks)
            if number <= LOOK_AT and len(tasks) <= 100:
                places = ", ".join("?" * len(tasks))
                of = f"jobs INDEXED BY jobs_task WHERE task IN ({places})"
                yield number, Walk(of, tasks, (), above, below)

    def _rest(self, wanted: Filter, walk: Walk) -> tuple[str, tuple[Any, ...]]:
        """Return what is asked of each row that the index leads to."""
        columns = {
            "state": wanted.state,
            "queue": wanted.queue,
            "task": wanted.task,
            "error_type": wanted.error,
        }
        terms: list[tuple[str, Any]] = [
            (f"{column} = ?", value)
            for column, value in columns.items()
            if value is not None and column not in walk.answered
        ]
        if wanted.since is not None:
            terms.append(("enqueued_at >= ?", wanted.since))
        if wanted.until is not None:
            terms.append(("enqueued_at < ?", wanted.until))
        if wanted.text is not None:
            terms.append(_containing(wanted.text))
        return "".join(f" AND {term}" for term, _ in terms), tuple(value for _, value in terms)

    def _between(self, wanted: Filter) -> tuple[int, int]:
        """Return the sequence numbers between which all jobs enqueued in this time lie.

        Commits come nearly in the order of enqueue; `MARGIN` is what "nearly" means.
        """
        above, below = -1, 2**62
        if wanted.since is not None:
            above = max(-1, self._seq_at(wanted.since) - MARGIN)
        if wanted.until is not None:
            below = self._seq_at(wanted.until) + MARGIN
        return above, below

    def _seq_at(self, when: float) -> int:
        with self._ledger._reading() as run:
            found = run(
                "SELECT seq FROM jobs WHERE id < ? ORDER BY id DESC LIMIT 1", (id_at(when),)
            )
            return found.get or 0


def _containing(text: str) -> tuple[str, str]:
    """Return the term for rows that hold a text anywhere; capital letters do not matter."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    said = "id, task, queue, error_type, error_message, progress_note, unique_key"
    shown = f"iif(kwargs_size > {LISTED_BYTES}, NULL, CAST(kwargs AS TEXT))"
    return f"concat_ws(' ', {said}, {shown}) LIKE ? ESCAPE '\\'", f"%{escaped}%"


def is_cursor(text: str) -> bool:
    """Tell whether this could be a place in a list: a sequence number or the id of a job."""
    return is_id(text) or (text.isascii() and text.isdigit() and len(text) <= 18)
