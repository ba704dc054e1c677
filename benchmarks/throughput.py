"""How many no-op jobs a second do four processes finish, status and result kept?"""

from __future__ import annotations

from typing import Final

from .figures import middle_rate
from .marks import wait_until
from .sitting import DISK, MEMORY, Sitting
from .systems import PATIENCE, System
from .systems.store import CeleryRedis, DramatiqRedis, HueyRedis, HueySqlite, RqRedis
from .systems.uwsgi import BareSpooler, UwsgiTasks

TITLE: Final = "Throughput"
HOW: Final = """\
All jobs are queued before the first is consumed, one call each from one process. Then four
processes work: ours is paused before and resumed, the spoolers of the other two on uWSGI are
stopped by SIGSTOP and go on, the consumers of the rest are started. The rate is that of the jobs
between the first and the last tenth, by the time at which each ran. A run counts only when the
system itself has all of them as done."""

DRAIN: Final = "drain"
PEERS: Final[dict[type[System], tuple[int, int]]] = {
    BareSpooler: (50_000, 5_000),
    HueyRedis: (50_000, 5_000),
    UwsgiTasks: (50_000, 5_000),
    HueySqlite: (10_000, 1_000),
    CeleryRedis: (10_000, 1_000),
    DramatiqRedis: (5_000, 500),
    RqRedis: (1_000, 150),
}
"""How many jobs each peer gets, in the full form and in the short one: seconds of work."""

OUR_JOBS: Final = (50_000, 5_000)


def measure(sitting: Sitting) -> None:
    def drain(kind: type[System], place: str) -> None:
        jobs = sitting.size(*PEERS.get(kind, OUR_JOBS))
        with sitting.fresh(kind, place) as system, system.running(consuming=False):
            system.enqueue(0, jobs)
            system.consume()
            sitting.marks.wait(0, jobs, PATIENCE + jobs / 50, 0.1)
            wait_until(lambda: system.finished() == jobs, PATIENCE, 0.2)
            rate = middle_rate(sitting.marks.times(0, jobs))
        sitting.note(DRAIN, kind, place, rate, "jobs/s")

    sitting.take_turns(PEERS, (MEMORY, DISK), sitting.size(3, 1), drain)
