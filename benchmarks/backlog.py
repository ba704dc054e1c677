"""Who comes first when very many wait: the urgent job, and then the oldest."""

from __future__ import annotations

import time
from typing import Final

from . import depth
from .figures import displacement, inversions, percentile
from .marks import wait_until
from .sitting import DISK, MEMORY, Sitting
from .systems import PATIENCE, PROCESSES
from .systems.uwsgi import Spooler

TITLE: Final = "Backlog"
HOW: Final = """\
*Urgent*: 100,000 jobs (5,000 in the short form) that sleep 10 ms each wait for four spoolers, which
work on them; an urgent job is enqueued, the next one when it has run. The bound is (window /
processes + 1) job lengths and 10 ms, the window two files for each process. *Order*: 10,000 no-op
jobs (2,000), queued one by one. Counted are the jobs that ran after a later one; with four spoolers
those whose handling did not overlap that one's, from the moment at which uWSGI hands over the
file to the end as the ledger has it. Four processes on few cores: one can be stopped by the
scheduler with a job in its hands, or wait for the ledger, while others go on; *from the start*
counts from the start that the ledger has, after any such wait."""

LENGTH: Final = 0.01
WINDOW_PER_PROCESS: Final = 2
BOUND: Final = (WINDOW_PER_PROCESS + 1) * LENGTH * 1e3 + 10.0
"""Milliseconds within which an urgent job starts."""

P50: Final = "urgent job, p50"
P99: Final = "urgent job, p99"
ONE: Final = "out of order, one spooler"
FOUR: Final = "out of order, four spoolers, not overlapping"
STARTED: Final = "out of order, four spoolers, not overlapping from the start"
ALL: Final = "out of order, four spoolers, all"
FARTHEST: Final = "places behind its turn, four spoolers, the most"

MILLI: Final = 1e3


def measure(sitting: Sitting) -> None:
    for place in (MEMORY, DISK):
        with sitting.tolerating(f"urgent on {place}"):
            urgent(sitting, place, sitting.size(*depth.WAITING))
        with sitting.tolerating(f"order on {place}"):
            order(sitting, place, sitting.size(10_000, 2_000))


def urgent(sitting: Sitting, place: str, jobs: int) -> None:
    """Send urgent jobs past very many that wait."""
    with sitting.running(Spooler, place) as system:
        system.hold()
        sitting.tell(f"enqueueing {jobs:,} jobs of 10 ms on {place}")
        depth.in_portions(
            jobs,
            lambda first, count: system.call(
                "enqueue_lasting", first=first, count=count, seconds=LENGTH
            ),
        )
        system.consume()
        wait_until(lambda: sitting.marks.count(0, jobs) > 4 * PROCESSES, PATIENCE)
        found = send_urgent(system, sitting.size(400, 60), jobs, gap=0.005)
        if sitting.marks.count(0, jobs) == jobs:
            raise RuntimeError("the backlog was worked off before the last urgent job came")
    sitting.note(P50, Spooler, place, percentile(found, 50) * MILLI, "ms")
    sitting.note(P99, Spooler, place, percentile(found, 99) * MILLI, "ms")


def send_urgent(system: Spooler, count: int, first: int, gap: float) -> list[float]:
    """Enqueue urgent jobs, the next when the last has run; seconds from the call to the start."""
    for n in range(first, first + count):
        system.call("enqueue_urgent", n=n)
        system.marks.wait(n, 1, PATIENCE, 0.001)
        time.sleep(gap)
    return system.marks.latencies(first, count)


def order(sitting: Sitting, place: str, jobs: int) -> None:
    """Count who started before whom."""
    for processes in (1, PROCESSES):
        with (
            sitting.fresh(Spooler, place, processes=processes, pickups="yes") as system,
            system.running(consuming=False),
        ):
            system.call("enqueue_noting_pickup", first=0, count=jobs)
            system.consume()
            sitting.marks.wait(0, jobs, PATIENCE + jobs / 50, 0.1)
            wait_until(lambda system=system: system.finished() == jobs, PATIENCE, 0.1)  # type: ignore[misc]
            history = system.call("history", last=jobs)
            picked_up = list(sitting.marks.sent[:jobs])
            ran = sitting.marks.times(0, jobs)
        if processes == 1:
            sitting.note(ONE, Spooler, place, inversions([*zip(ran, ran, strict=True)])[0], "jobs")
            continue
        ends = [end for _, _, end in history]
        handled = inversions([*zip(picked_up, ends, strict=True)])
        started = inversions([(start, end) for _, start, end in history])
        sitting.note(FOUR, Spooler, place, handled[1], "jobs")
        sitting.note(STARTED, Spooler, place, started[1], "jobs")
        sitting.note(ALL, Spooler, place, started[0], "jobs")
        sitting.note(FARTHEST, Spooler, place, displacement(ran), "places")
