"""What does a server cost that has nothing to do, though very many jobs are scheduled?"""

from __future__ import annotations

import time
from typing import Final

from . import depth
from .sitting import MEMORY, Sitting
from .systems import System
from .systems.peers import ALL
from .systems.uwsgi import BareSpooler, Spooler

TITLE: Final = "Idle cost"
HOW: Final = """\
Processor time of all processes of a system, while nothing runs: its Redis included, its producer
too. *Many scheduled* is 1,000,000 jobs (20,000 in the short form) for a later day, four spoolers
that look once a second; memory is taken before and after. What a start costs with them, to compare
all files with their rows once, is over by then. *Some scheduled* is 50,000 (5,000) for us and for
the bare spooler."""

EMPTY: Final = "idle, nothing waits"
SOME: Final = "idle, some scheduled"
MANY: Final = "idle, many scheduled"
BEFORE: Final = "memory before"
AFTER: Final = "memory after"

SOME_JOBS: Final = (50_000, 5_000)
CORE: Final = "% of a core"


def measure(sitting: Sitting) -> None:
    seconds = sitting.size(10, 3)

    def nothing(kind: type[System], place: str) -> None:
        with sitting.running(kind, place) as system:
            time.sleep(2)
            sitting.note(EMPTY, kind, place, idle(system, seconds), CORE)

    for kind in ALL:
        sitting.attempt(nothing, kind, MEMORY)
    with sitting.tolerating("some scheduled"):
        some(sitting, seconds)
    with sitting.tolerating("many scheduled"):
        many(sitting, sitting.size(60, 5))


def some(sitting: Sitting, seconds: float) -> None:
    """Compare with the bare spooler, whose scheduled jobs lie where it looks once a second."""
    jobs = sitting.size(*SOME_JOBS)
    with sitting.fresh(BareSpooler, MEMORY) as bare:
        later = time.time() + depth.FAR
        with bare.running(consuming=False):
            depth.in_portions(
                jobs,
                lambda first, count: bare.call(
                    "enqueue_at", first=first, count=count, start=later, gap=0
                ),
            )
        # Started afresh: each enqueue was a wake-up, and each of them is one more scan of all.
        with bare.running(consuming=False):
            bare.consume()
            time.sleep(seconds)
            sitting.note(SOME, BareSpooler, MEMORY, idle(bare, seconds), CORE)
    with sitting.running(Spooler, MEMORY) as ours:
        depth.in_portions(jobs, lambda first, count: depth.schedule(ours, first, count))
        depth.wait_until_calm(ours)
        sitting.note(SOME, Spooler, MEMORY, idle(ours, seconds), CORE)


def many(sitting: Sitting, seconds: float) -> None:
    """Watch a server with very many scheduled jobs do nothing."""
    with depth.scheduled(sitting) as (system, place):
        sitting.note(BEFORE, Spooler, place, sum(system.pss().values()), "MB")
        sitting.note(MANY, Spooler, place, idle(system, seconds), CORE)
        sitting.note(AFTER, Spooler, place, sum(system.pss().values()), "MB")


def idle(system: System, seconds: float) -> float:
    """Return the percentage of one core that the system uses in so many seconds."""
    before, began = system.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (system.cpu_seconds() - before) / (time.monotonic() - began) * 100
