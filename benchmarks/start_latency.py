"""How soon does a job start when nobody has anything to do?"""

from __future__ import annotations

import statistics
from typing import Final

from .enqueue import one_at_a_time
from .figures import percentile
from .sitting import DISK, MEMORY, Sitting
from .systems import System
from .systems.peers import PEERS
from .systems.uwsgi import Spooler

TITLE: Final = "Start latency"
HOW: Final = """\
From just before the call that enqueues to the first line of the job, the pool idle: the next job is
enqueued some milliseconds after the last one has run. Four consumer processes. What `power` adds is
the difference of the medians of two servers that take turns, one with each durability; beside it
stands what a sync of a small file and of its directory costs in the same minute."""

P50: Final = "start latency, p50"
P99: Final = "start latency, p99"
POWER: Final = "start latency, power, p50"
ADDED: Final = "start latency, added by power"
SYNCS: Final = "two syncs beside it"

MILLI: Final = 1e3
BATCH: Final = 20


def measure(sitting: Sitting) -> None:
    jobs = sitting.size(300, 60)

    def latency(kind: type[System], place: str) -> None:
        with sitting.running(kind, place) as system:
            one_at_a_time(system, 0, jobs)
            found = sitting.marks.latencies(0, jobs)
        sitting.note(P50, kind, place, percentile(found, 50) * MILLI, "ms")
        sitting.note(P99, kind, place, percentile(found, 99) * MILLI, "ms")

    sitting.take_turns(PEERS, (MEMORY, DISK), sitting.size(3, 1), latency)
    with sitting.tolerating("what power adds"):
        what_power_adds(sitting, sitting.size(15, 3))


def what_power_adds(sitting: Sitting, turns: int) -> None:
    """Let a server that syncs and one that does not take turns on the disk."""
    process: list[float] = []
    power: list[float] = []
    syncs: list[float] = []
    with (
        sitting.running(Spooler, DISK) as plain,
        sitting.running(Spooler, DISK, durability="power") as synced,
    ):
        for turn in range(turns):
            first = 2 * turn * BATCH
            plain.call("with_syncs", first=first, count=BATCH)
            process += sitting.marks.latencies(first, BATCH)
            first += BATCH
            syncs += [own for _, own in synced.call("with_syncs", first=first, count=BATCH)]
            power += sitting.marks.latencies(first, BATCH)
    added = statistics.median(power) - statistics.median(process)
    sitting.note(POWER, Spooler, DISK, statistics.median(power) * MILLI, "ms")
    sitting.note(ADDED, Spooler, DISK, added * MILLI, "ms")
    sitting.note(SYNCS, Spooler, DISK, statistics.median(syncs) * MILLI, "ms")
