"""What does an enqueue cost, alone and many in a row, on an empty spool and on a full one?"""

from __future__ import annotations

import statistics
import time
from typing import Final

from . import depth
from .marks import wait_until
from .sitting import DISK, MEMORY, Sitting
from .systems import PATIENCE, System
from .systems.peers import PEERS
from .systems.uwsgi import Spooler

TITLE: Final = "Enqueue"
HOW: Final = """\
The call is timed in the process that makes it: a web worker where a system lives in uWSGI, else a
Python process. *Alone*: one job at a time, the pool idle, the next one when the last has run;
median of the calls of a run. *In a row*: the mean of many calls one after the other, the consumers
working meanwhile on the same cores. *Many scheduled* is 1,000,000 jobs for a later day, *many
waiting* 100,000 in a paused queue (20,000 and 5,000 in the short form); each is measured in turns
with an empty spool, both servers standing side by side. *Bulk* and *one by one* are enqueued while
the queue is paused. With `power`, each call is followed by a sync of a new small file and of its
directory in the same file system, and the difference of the medians is what we add to it."""

ALONE: Final = "enqueue, alone"
ROW: Final = "enqueue, in a row"
EMPTY: Final = "enqueue, alone, empty spool"
SCHEDULED: Final = "enqueue, alone, many scheduled"
WAITING: Final = "enqueue, alone, many waiting"
BULK: Final = "enqueue_many, each job"
ONE_BY_ONE: Final = "the same one by one, each job"
POWER: Final = "enqueue, power, alone"
SYNCS: Final = "the file system's own two syncs"
BEYOND: Final = "enqueue, power, beyond two syncs"

MICRO: Final = 1e6


def measure(sitting: Sitting) -> None:
    beside_peers(sitting)
    for part in (in_bulk, with_power, on_full_spools):
        with sitting.tolerating(part.__name__):
            part(sitting)


def beside_peers(sitting: Sitting) -> None:
    calls = sitting.size(500, 100)
    row = sitting.size(2_000, 200)

    def cost(kind: type[System], place: str) -> None:
        with sitting.running(kind, place) as system:
            alone = one_at_a_time(system, 0, calls)
            total = system.enqueue(calls, row)
            wait = PATIENCE + row / 50
            wait_until(lambda: sitting.marks.count(0, calls + row) == calls + row, wait)
        sitting.note(ALONE, kind, place, statistics.median(alone) * MICRO, "us")
        sitting.note(ROW, kind, place, total / row * MICRO, "us")

    sitting.take_turns(PEERS, (MEMORY, DISK), sitting.size(3, 1), cost)


def one_at_a_time(
    system: System, first: int, count: int, gap: float = 0.003, *, runs: bool = True
) -> list[float]:
    """Enqueue jobs with a pause after each, for its run where it runs; the seconds of each call."""
    seconds = []
    for n in range(first, first + count):
        seconds += system.enqueue(n, 1, each=True)
        if runs:
            system.marks.wait(n, 1, PATIENCE, 0.0005)
        time.sleep(gap)
    return seconds


def on_full_spools(sitting: Sitting) -> None:
    """Take turns between an empty spool, one with many scheduled and one with many waiting."""
    calls, rounds = sitting.size(200, 40), sitting.size(5, 2)
    waiting = sitting.size(*depth.WAITING)
    with (
        depth.scheduled(sitting) as (full, place),
        sitting.running(Spooler, place) as empty,
        sitting.running(Spooler, place) as behind,
    ):
        behind.hold()
        sitting.tell(f"enqueueing {waiting:,} jobs into a paused queue on {place}")
        depth.in_portions(
            waiting, lambda first, count: behind.call("enqueue_many", first=first, count=count)
        )
        depth.wait_until_calm(behind)
        for turn in range(rounds):
            for number, (figure, system) in enumerate(
                ((EMPTY, empty), (SCHEDULED, full), (WAITING, behind))
            ):
                first = depth.AT_ONCE + (3 * turn + number) * calls
                seconds = one_at_a_time(system, first, calls, runs=system is not behind)
                sitting.note(figure, Spooler, place, statistics.median(seconds) * MICRO, "us")


def in_bulk(sitting: Sitting) -> None:
    """Enqueue 10,000 jobs together, and as many one by one."""
    jobs, alone = 10_000, sitting.size(10_000, 1_000)
    for place in (MEMORY, DISK):
        for _ in range(sitting.size(3, 1)):
            with sitting.fresh(Spooler, place) as system, system.running(consuming=False):
                one_by_one = system.enqueue(0, alone) / alone
            with sitting.fresh(Spooler, place) as system, system.running(consuming=False):
                together = system.call("enqueue_many", first=0, count=jobs) / jobs
            sitting.note(ONE_BY_ONE, Spooler, place, one_by_one * MICRO, "us")
            sitting.note(BULK, Spooler, place, together * MICRO, "us")


def with_power(sitting: Sitting) -> None:
    """Compare a synced enqueue with what the file system's syncs cost at the same moment."""
    calls = sitting.size(200, 50)
    for _ in range(sitting.size(3, 1)):
        with sitting.running(Spooler, DISK, durability="power") as system:
            pairs = system.call("with_syncs", first=0, count=calls)
        enqueue = statistics.median(ours for ours, _ in pairs) * MICRO
        syncs = statistics.median(theirs for _, theirs in pairs) * MICRO
        sitting.note(POWER, Spooler, DISK, enqueue, "us")
        sitting.note(SYNCS, Spooler, DISK, syncs, "us")
        sitting.note(BEYOND, Spooler, DISK, enqueue - syncs, "us")
