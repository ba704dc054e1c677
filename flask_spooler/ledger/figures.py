"""Figures for monitoring: what the ledger has counted, read in one snapshot.

Owns the queries behind metrics and health. Each reads what is counted already (`tally`, `totals`),
what is small by design (the window, the servers), or one end of an index: so a scrape costs the
same with ten jobs and with a million. What is said to never fall does so only with a new ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import apsw

from ..job import QUEUED, RUNNING, STATES
from ..record import Row

SQLITE_VERSION: Final[str] = apsw.sqlite_lib_version()

MOST_OVERDUE: Final = 100
"""Jobs looked at whose time has come and who are not queued yet: there are more of them only
while nobody keeps house, and then the oldest ones tell that."""


class Ended(NamedTuple):
    """Attempts of one task in one queue that ended alike, since the ledger began."""

    queue: str
    task: str
    outcome: str
    waited: int
    ran: int
    number: int
    wait_seconds: float
    run_seconds: float
    latest: float


class Figures(NamedTuple):
    """What the ledger knows at one moment, in numbers."""

    counts: dict[str, dict[str, int]]
    """Jobs of each queue by state; with every queue that there ever was, and every state."""
    enqueued: dict[tuple[str, str], int]
    """Jobs of each queue and task that were ever enqueued, deleted ones included."""
    ended: list[Ended]
    oldest_due: dict[str, float]
    """Since when the longest-waiting due job of a queue has been due, where one waits."""
    paused: frozenset[str]
    pools: dict[str, int]
    """How many spoolers each server on this spool has; some of the servers may be gone."""
    draining: dict[str, float]
    """Until when each of these servers starts no jobs; a time in the past means nothing."""
    in_window: list[Row]
    """Jobs whose files are in the window, running ones included."""


def read_figures(
    run: Callable[..., Any], now: float, in_window: list[Row], oldest: dict[str, float]
) -> Figures:
    """Return the figures at `now`; `run` executes a statement within one snapshot.

    `in_window` and `oldest` are what the ledger says of its window and of its queued jobs.
    """
    counts: dict[str, dict[str, int]] = {}
    enqueued: dict[tuple[str, str], int] = {}
    for queue, task, state, number, deleted in run(
        "SELECT queue, task, state, number, deleted FROM tally"
    ):
        counts.setdefault(queue, dict.fromkeys(STATES, 0))[state] += number
        enqueued[queue, task] = enqueued.get((queue, task), 0) + number + deleted
    for row in in_window:
        if row.state == RUNNING:  # the tally counts these as queued
            counts[row.queue][QUEUED] -= 1
            counts[row.queue][RUNNING] += 1
    ended = run(
        "SELECT queue, task, outcome, waited, ran, number, wait_seconds, run_seconds, latest"
        " FROM totals"
    )
    servers = run("SELECT boot, pool, draining_until FROM servers").fetchall()
    return Figures(
        counts=counts,
        enqueued=enqueued,
        ended=[Ended(*row) for row in ended],
        oldest_due=_with_overdue(run, now, oldest),
        paused=frozenset(name for (name,) in run("SELECT name FROM queues WHERE paused")),
        pools={boot: pool for boot, pool, _ in servers},
        draining={boot: until for boot, _, until in servers},
        in_window=in_window,
    )


def _with_overdue(
    run: Callable[..., Any], now: float, oldest: dict[str, float]
) -> dict[str, float]:
    """Add those whose time has come and whom nobody has made queued yet."""
    found = dict(oldest)
    for queue, due in run(
        "SELECT queue, due_at FROM jobs INDEXED BY jobs_later"
        " WHERE state IN ('scheduled', 'retrying') AND due_at <= ? ORDER BY due_at LIMIT ?",
        (now, MOST_OVERDUE),
    ):
        found[queue] = min(due, found.get(queue, due))
    return found
