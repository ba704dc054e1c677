"""The same action on many jobs: those that were ticked, or all that fit a filter.

Owns the bounded step. One step works for `BUDGET` seconds and says where the next one goes on, so
neither a web worker nor the ledger is held up by a hundred thousand jobs. It walks down from where
the list ended when the action was confirmed: what is enqueued meanwhile is left alone, and nothing
is met twice.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec

from .. import operations
from ..engine import SpoolEngine
from ..errors import JobNotFound, JobStateError
from ..job import FINAL, REVIVABLE
from ..ledger.search import Listed, Search
from . import filters

ACTIONS: Final = ("retry", "cancel", "delete")
BUDGET: Final = 0.4
"""Seconds of work in one step."""

PIECE: Final = 200
"""Jobs looked up at a time."""

ASK_ABOVE: Final = 100
"""More jobs than this are never acted on without asking."""

DONE_WORDS: Final = {"retry": "retried", "cancel": "cancelled", "delete": "deleted"}


class Step(msgspec.Struct):
    """What one step did. `next` is where to go on, None when all is done."""

    done: list[str] = msgspec.field(default_factory=list)
    refused: int = 0
    next: int | None = None


def fits(action: str, state: str) -> bool:
    """Tell whether an action can be done to a job in this state."""
    match action:
        case "retry":
            return state in REVIVABLE
        case "delete":
            return state in FINAL
        case _:
            return state not in FINAL


def do(engine: SpoolEngine, action: str, job_id: str) -> str:
    """Do it to one job and return its state afterwards; `JobNotFound`, `JobStateError`."""
    match action:
        case "retry":
            return operations.revive(engine, job_id)
        case "delete":
            operations.delete(engine, job_id)
            return "deleted"
        case _:
            return operations.cancel(engine, job_id)


def to_each(engine: SpoolEngine, action: str, job_ids: list[str]) -> Step:
    """Do it to these jobs; those to which it cannot be done are counted."""
    step = Step()
    for job_id in job_ids:
        try:
            do(engine, action, job_id)
        except (JobNotFound, JobStateError):
            step.refused += 1
        else:
            step.done.append(job_id)
    return step


def to_all(
    engine: SpoolEngine,
    search: Search,
    action: str,
    asked: filters.Asked,
    before: int,
) -> Step:
    """Do it to the jobs that fit, from `before` on down, while the budget lasts; one at least."""
    step = Step(next=before)
    give_up = time.monotonic() + BUDGET
    while step.next is not None:
        found = filters.matches(asked, search, step.next, PIECE)
        for job in found.jobs:
            _one(engine, action, job, step)
            step.next = job.seq
            if time.monotonic() > give_up:
                return step
        step.next = found.next
        if time.monotonic() > give_up:
            return step
    return step


def _one(engine: SpoolEngine, action: str, job: Listed, step: Step) -> None:
    if not fits(action, job.state):
        step.refused += 1
        return
    try:
        do(engine, action, job.id)
    except (JobNotFound, JobStateError):
        step.refused += 1
    else:
        step.done.append(job.id)
