"""What does an enqueue cost, alone and many in a row, on an empty spool and on a full one?"""

from __future__ import annotations

import statistics
import time
from typing import Final

from .figures import percentile
from .marks import wait_until
from .sitting import DISK, MEMORY, Sitting
from .systems import PATIENCE, System
from .systems.store import CeleryRedis, DramatiqRedis, HueyRedis, HueySqlite, RqRedis
from .systems.uwsgi import BareSpooler, Spooler, UwsgiTasks

TITLE: Final = "Enqueue"
HOW: Final = """\
The call is timed in the process that makes it: a web worker where a system lives in uWSGI, else a
Python process. *Alone*: one job at a time, the pool idle, the next one when the last has run;
median of the calls of a run. *In a row*: the mean of many calls one after the other, the consumers
working meanwhile on the same cores."""

ALONE: Final = "enqueue, alone"
ROW: Final = "enqueue, in a row"
SYNCED: Final = "enqueue, power, beyond two syncs"
SYNCS: Final = "two syncs of the file system"
POWER: Final = "enqueue, power"
EMPTY: Final = "enqueue, empty spool"
SCHEDULED: Final = "enqueue, 1,000,000 scheduled"
WAITING: Final = "enqueue, 100,000 waiting"
BULK: Final = "enqueue_many of 10,000, each"
ONE_BY_ONE: Final = "10,000 one by one, each"

PEERS: Final[list[type[System]]] = [
    BareSpooler, HueyRedis, UwsgiTasks, HueySqlite, CeleryRedis, DramatiqRedis, RqRedis,
]  # fmt: skip

MICRO: Final = 1e6


def measure(sitting: Sitting) -> None:
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


def one_at_a_time(system: System, first: int, count: int, gap: float = 0.003) -> list[float]:
    """Enqueue into an idle pool; return the seconds of each call."""
    seconds = []
    for n in range(first, first + count):
        seconds += system.enqueue(n, 1, each=True)
        system.marks.wait(n, 1, PATIENCE, 0.0005)
        time.sleep(gap)
    return seconds
