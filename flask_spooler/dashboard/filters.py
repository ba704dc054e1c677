"""Which jobs an address means: the filters of lists, read from a query string and written to one.

Owns their names and what they may be, for pages and API alike, and what a search text means: the
id of a job, or the beginning of one; else exactly a task, a tag or an exception; else any text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..errors import OptionError, Words
from ..job import STATES, is_id
from ..ledger.search import Found, Listed, Search, is_cursor
from ..ledger.walks import Filter
from ..schedule import lost_plus, parse_at, parse_length
from .base import expected
from .values import preview_all

NAMES: Final = ("state", "queue", "task", "tag", "error", "q", "since", "until")
LONGEST_TEXT: Final = 200
SHORTEST_ID: Final = 10


class Asked(msgspec.Struct, frozen=True):
    """What was asked for, and what it means."""

    given: dict[str, str]
    wanted: Filter
    job_id: str | None = None
    """The one job that the text names, if it names one."""
    meant: str | None = None
    """As what the text was understood, when not as free text."""

    @property
    def settled(self) -> Asked:
        """The same, by the names of what the text was understood as.

        For what takes several requests: deleting all jobs with a tag, the last of them would leave
        a text that nobody bears as a tag, and the next step would mean all jobs that contain it.
        """
        name = {"task": "task", "tag": "tag", "exception": "error"}.get(self.meant or "")
        if name is None:
            return self
        rest = {key: value for key, value in self.given.items() if key != "q"}
        return msgspec.structs.replace(self, given=rest | {name: self.given["q"]})

    @property
    def is_free_text(self) -> bool:
        return self.wanted.text is not None


def read(arguments: Mapping[str, str], search: Search, now: float) -> Asked:
    """Return the filters in a query string or a form; raise `BadRequest`."""
    given = {name: arguments[name].strip() for name in NAMES if arguments.get(name, "").strip()}
    state = given.get("state")
    if state is not None and state not in STATES:
        raise expected("state", f"one of {', '.join(STATES)}", state)
    for name in ("queue", "task", "tag", "error", "q"):
        text = given.get(name, "")
        if len(text) > LONGEST_TEXT:
            raise expected(name, f"at most {LONGEST_TEXT} characters", Words(f"{len(text):,}"))
    wanted = Filter(
        state=state,
        queue=given.get("queue"),
        task=given.get("task"),
        tag=given.get("tag"),
        error=given.get("error"),
        since=_time("since", given.get("since"), now),
        until=_time("until", given.get("until"), now),
    )
    return _understood(given, wanted, search) if "q" in given else Asked(given, wanted)


def cursor(text: str | None, search: Search) -> int | None:
    """Return the place in the list before which a page begins; raise `BadRequest`."""
    if not text:
        return None
    if not is_cursor(text):
        raise expected("before", "the id of a job, or what another page said is next", text)
    return search.seq_before(text) or 0 if is_id(text) else int(text)


def matches(asked: Asked, search: Search, before: int | None, limit: int) -> Found:
    """Return a page of the jobs that are meant."""
    if asked.job_id is not None:
        # Its id says all: the other filters are not asked.
        seq = search.seq_before(asked.job_id)
        found = search.page(Filter(), before=(seq or 0) + 1, limit=1)
        jobs = [job for job in found.jobs if job.id == asked.job_id and before is None]
        return Found(jobs, None, len(jobs), stopped=False)
    return search.page(asked.wanted, before=before, limit=limit, keep=_visibly(asked.wanted.text))


def newer(asked: Asked, search: Search, after: int) -> int:
    """Return how many jobs that are meant came after this place, up to a hundred."""
    if asked.job_id is not None:
        return 0
    return search.newer(asked.wanted, after, keep=_visibly(asked.wanted.text))


def _understood(given: dict[str, str], wanted: Filter, search: Search) -> Asked:
    text = given["q"]
    if is_id(text) and search.seq_before(text) is not None and text in search.starting_with(text):
        return Asked(given, wanted, job_id=text, meant="id")
    if text.isascii() and text.isalnum() and len(text) >= SHORTEST_ID:
        begun = search.starting_with(text)
        if len(begun) == 1:
            return Asked(given, wanted, job_id=begun[0], meant="id")
    if wanted.task is None and text in {task for _, task, _, _ in search.tally()}:
        return Asked(given, msgspec.structs.replace(wanted, task=text), meant="task")
    if wanted.tag is None and search.knows_tag(text):
        return Asked(given, msgspec.structs.replace(wanted, tag=text), meant="tag")
    if wanted.error is None and search.knows_error(text):
        return Asked(given, msgspec.structs.replace(wanted, error=text), meant="exception")
    return Asked(given, msgspec.structs.replace(wanted, text=text))


def _visibly(text: str | None) -> Any:
    """Return what tells whether a job holds a text where it may be seen.

    Secrets in arguments are masked: could they be searched, one could guess them letter by letter.
    """
    if text is None:
        return None
    needle = text.lower()

    def keep(job: Listed) -> bool:
        said = (
            job.id,
            job.task,
            job.queue,
            job.error_type,
            job.error_message,
            job.progress_note,
            job.tags,
        )
        return (
            any(needle in each.lower() for each in said if each)
            or needle in preview_all(job.kwargs).lower()
        )

    return keep


def _time(name: str, text: str | None, now: float) -> float | None:
    """Read a time, or a length of time before now."""
    if text is None:
        return None
    try:
        if text[-1:].isalpha() and text[:1].isdigit() and "T" not in text:
            return now - parse_length(name, text)
        return parse_at(text)
    except OptionError:
        known = "unix seconds, ISO 8601 with a zone, or a length of time such as 1h"
        raise expected(name, known + lost_plus(text), text) from None
