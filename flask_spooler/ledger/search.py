"""Lists of jobs by filters: read-only, and bounded at any size.

Invariant: no question costs more with a million jobs than with ten thousand. A list
walks one index from the newest job down, the one that `tally` says is the shortest; it looks at
`LOOK_AT` of its entries at most, or for `PATIENCE` seconds, and says how far it came. Belongs to
the `Ledger` and shares its connection and mutex.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ..job import DEAD, QUEUED, RUNNING, id_at, is_id
from . import Ledger
from .walks import LISTED_BYTES, LOOK_AT, MOST_COUNTED, RUNS, Counted, Filter, rest, shortest

PATIENCE: Final = 0.05
"""Seconds after which a page stops looking earlier, as where each row holds 64 KiB."""

STEP: Final = 1_000
MARGIN: Final = 1_000
"""Commits that may come between two jobs in another order than that of their enqueue."""


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
    tags: str | None


class Found(msgspec.Struct, frozen=True):
    """A page of a list, and how far it looked."""

    jobs: list[Listed]
    next: int | None
    """Where the next page begins, as `before`; None where nothing is left."""
    looked_at: int
    stopped: bool
    """Whether it stopped looking before the page was full: "search further"."""


LISTED: Final = ", ".join(
    f"substr({name}, 1, {LISTED_BYTES})"
    if name == "error_message"
    else f"iif(kwargs_size > {LISTED_BYTES}, NULL, kwargs)"
    if name == "kwargs"
    else name
    for name in Listed.__struct_fields__
)
Keep = Callable[[Listed], bool]


class Search:
    """The lists of one ledger, and what is counted of them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def page(
        self,
        wanted: Filter,
        *,
        before: int | None = None,
        after: int = -1,
        limit: int = 50,
        keep: Keep | None = None,
    ) -> Found:
        """Return up to `limit` jobs that fit, the newest first, between two sequence numbers.

        `keep` decides once more on each job that fits, where SQL cannot.
        """
        give_up = time.monotonic() + PATIENCE
        above, below = self._between(wanted)
        walk = shortest(wanted, self.tally(), max(above, after), below)
        upper = min(walk.below, 2**62 if before is None else before)
        fits, fitted = rest(wanted, walk)
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
                    f"SELECT {LISTED} FROM {walk.of}{fits} AND seq < ? AND seq > ?"
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
        return len(self.page(wanted, after=after, limit=most, keep=keep).jobs)

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

    def knows_tag(self, name: str) -> bool:
        """Tell whether a job bears exactly this tag."""
        with self._ledger._reading() as run:
            return bool(run("SELECT EXISTS (SELECT 1 FROM tags WHERE tag = ?)", (name,)).get)

    def starting_with(self, text: str) -> list[str]:
        """Return up to two ids that begin with this text: one is a hit."""
        with self._ledger._reading() as run:
            found = run(
                "SELECT id FROM jobs WHERE id >= ? AND id < ? ORDER BY id LIMIT 2",
                (text, text + "\x7f"),
            )
            return [job_id for (job_id,) in found]

    def count(self, wanted: Filter) -> int | None:
        """Return exactly how many jobs fit, None where nobody has counted.

        Those with one tag or one exception are counted here, up to `MOST_COUNTED`.
        """
        if wanted.tag is not None and wanted == Filter(tag=wanted.tag):
            return self._number("tags WHERE tag = ?", (wanted.tag,))
        if wanted.error is not None and replace(wanted, error=None).is_counted:
            return self._count_errors(wanted)
        if not wanted.is_counted:
            return None
        return sum(
            number
            for queue, task, state, number in self.tally()
            if wanted.queue in (None, queue)
            and wanted.task in (None, task)
            and wanted.state in (None, state)
        )

    def _count_errors(self, wanted: Filter) -> int | None:
        walk = shortest(wanted, [], -1, 2**62)
        fits, values = rest(wanted, walk)
        if wanted.state == DEAD and wanted.task is not None and wanted.queue is None:
            of = f"jobs INDEXED BY jobs_dead WHERE state = '{DEAD}' AND task = ? AND error_type = ?"
            walk, fits, values = walk._replace(of=of, values=(wanted.task, wanted.error)), "", ()
        return self._number(f"{walk.of}{fits}", (*walk.values, *values))

    def _number(self, of: str, values: tuple[Any, ...]) -> int | None:
        with self._ledger._reading() as run:
            number: int = run(
                f"SELECT count(*) FROM (SELECT 1 FROM {of} LIMIT {MOST_COUNTED + 1})", values
            ).get
        return None if number > MOST_COUNTED else number

    def tally(self) -> list[Counted]:
        """Return the number of jobs by queue, task and state."""
        with self._ledger._reading() as run:
            found = {
                (queue, task, state): number
                for queue, task, state, number in run(
                    "SELECT queue, task, state, number FROM tally WHERE number > 0"
                )
            }
            for queue, task, number in run(
                f"SELECT queue, task, count(*) FROM {RUNS} GROUP BY queue, task"
            ):
                # The tally counts those that run as queued.
                found[queue, task, RUNNING] = number
                found[queue, task, QUEUED] = found.get((queue, task, QUEUED), 0) - number
        return [(*names, number) for names, number in found.items() if number > 0]

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


def is_cursor(text: str) -> bool:
    """Tell whether this could be a place in a list: a sequence number or the id of a job."""
    return is_id(text) or (text.isascii() and text.isdigit() and len(text) <= 18)
