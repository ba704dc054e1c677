"""Which index answers which filter: a list is a walk along one of them, from the newest job down.

Owns `Filter` and the SQL that it becomes. `tally` says how many jobs each index would lead past,
and the shortest way is taken; the rest of the filter is asked of each row that it leads to. The
index is named in the statement: SQLite has no statistics and would walk the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from ..job import QUEUED, RUNNING, STATES

LOOK_AT: Final = 20_000
"""Entries of an index that one page looks at, at most."""

MOST_COUNTED: Final = 10_000
LISTED_BYTES: Final = 4_096
"""Arguments and messages of more bytes are not part of a list."""

BY_STATE: Final = "jobs INDEXED BY jobs_state WHERE state NOT IN ('queued', 'running') AND state"
"""SQLite takes a partial index only where its condition stands in the statement word by word."""

RUNS: Final = "jobs INDEXED BY jobs_window WHERE window IS NOT NULL AND state = 'running'"

WAITS: Final = (
    "jobs WHERE seq IN (SELECT seq FROM jobs INDEXED BY jobs_ready WHERE state = 'queued'"
    " AND window IS NULL UNION ALL SELECT seq FROM jobs INDEXED BY jobs_window"
    " WHERE window IS NOT NULL AND state = 'queued')"
)

BY_TAG: Final = "tags CROSS JOIN jobs USING (seq) WHERE tag = ?"
"""CROSS keeps the order: along the tags, and from each to its job."""

Counted = tuple[str, str, str, int]
"""A queue, a task, a state, and how many jobs that are."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs are meant; None means any. Times are those of enqueue."""

    state: str | None = None
    queue: str | None = None
    task: str | None = None
    tag: str | None = None
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
        uncounted = (self.tag, self.error, self.text, self.since, self.until)
        return all(each is None for each in uncounted)


class Walk(NamedTuple):
    """A way through the jobs: where it leads, which columns that answers, and its two ends."""

    of: str
    values: tuple[Any, ...]
    answered: tuple[str, ...]
    above: int
    below: int


def shortest(wanted: Filter, tally: list[Counted], above: int, below: int) -> Walk:
    """Return the index that leads past the fewest other jobs, between two sequence numbers.

    It is named in the statement: SQLite has no statistics and would walk the table.
    """
    choices = [Walk("jobs NOT INDEXED WHERE true", (), (), above, below)]
    if wanted.tag is not None:
        choices = [Walk(BY_TAG, (wanted.tag,), ("tag",), above, below)]
    elif wanted.error is not None:
        of = "jobs INDEXED BY jobs_error WHERE error_type = ?"
        choices = [Walk(of, (wanted.error,), ("error_type",), above, below)]
    elif wanted.state == RUNNING:
        choices = [Walk(RUNS, (), ("state",), above, below)]
    elif not wanted.is_for_all:
        sizes = [sum(each[3] for each in tally)]
        for number, walk in _walks(wanted, tally, above, below):
            sizes.append(number)
            choices.append(walk)
        return choices[sizes.index(min(sizes))]
    return choices[0]


def _walks(
    wanted: Filter, tally: list[Counted], above: int, below: int
) -> Iterator[tuple[int, Walk]]:
    """Give each index that can answer, and how many jobs it leads past."""
    if wanted.state == QUEUED:
        number = sum(each[3] for each in tally if each[2] == QUEUED)
        if number <= LOOK_AT:
            yield number, Walk(WAITS, (), ("state",), above, below)
    elif wanted.state in STATES:
        of = f"{BY_STATE} = '{wanted.state}'"
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


def rest(wanted: Filter, walk: Walk) -> tuple[str, tuple[Any, ...]]:
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


def _containing(text: str) -> tuple[str, str]:
    """Return the term for rows that hold a text anywhere; capital letters do not matter."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    said = "id, task, queue, error_type, error_message, progress_note, unique_key, jobs.tags"
    shown = f"iif(kwargs_size > {LISTED_BYTES}, NULL, CAST(kwargs AS TEXT))"
    return f"concat_ws(' ', {said}, {shown}) LIKE ? ESCAPE '\\'", f"%{escaped}%"
