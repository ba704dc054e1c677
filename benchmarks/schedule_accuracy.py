"""Does a job start at its time, and does a crowd that is due at once block the others?"""

from __future__ import annotations

import time
from typing import Final

from . import depth
from .backlog import send_urgent
from .figures import percentile
from .sitting import DISK, MEMORY, Sitting
from .systems import PATIENCE
from .systems.uwsgi import Spooler

TITLE: Final = "Schedule accuracy"
HOW: Final = """\
Jobs are scheduled one after the other, each for a moment of its own, 30 ms apart, and the pool is
idle when the first is due: from the exact due time to the first line of the job. *Crowd*: 100,000
jobs (5,000 in the short form) are due in the same second; from half a second before, urgent jobs
are enqueued one after the other until some seconds later. The longest time from the call, any wait
for a lock included, to the first line counts."""

EARLIEST: Final = "after its time, the earliest"
P50: Final = "after its time, p50"
P99: Final = "after its time, p99"
BLOCKED: Final = "crowd, urgent job, longest"
CROWD_P50: Final = "crowd, urgent job, p50"

GAP: Final = 0.03
AHEAD: Final = 2.0
MILLI: Final = 1e3


def measure(sitting: Sitting) -> None:
    for place in (MEMORY, DISK):
        for _ in range(sitting.size(3, 1)):
            with sitting.tolerating(f"accuracy on {place}"):
                accuracy(sitting, place, sitting.size(300, 60))
    for place in (MEMORY, DISK):
        with sitting.tolerating(f"crowd on {place}"):
            crowd(sitting, place, sitting.size(*depth.WAITING))


def accuracy(sitting: Sitting, place: str, jobs: int) -> None:
    """Schedule jobs ahead and see how late each starts."""
    with sitting.running(Spooler, place) as system:
        start = time.time() + AHEAD + jobs * 0.001
        system.call("enqueue_at", first=0, count=jobs, start=start, gap=GAP)
        sitting.marks.wait(0, jobs, PATIENCE + jobs * GAP)
        late = sitting.marks.latencies(0, jobs)
    sitting.note(EARLIEST, Spooler, place, min(late) * MILLI, "ms")
    sitting.note(P50, Spooler, place, percentile(late, 50) * MILLI, "ms")
    sitting.note(P99, Spooler, place, percentile(late, 99) * MILLI, "ms")


def crowd(sitting: Sitting, place: str, jobs: int) -> None:
    """Let very many jobs become due in one second, and urgent ones come meanwhile."""
    with sitting.running(Spooler, place) as system:
        before = time.monotonic()
        depth.schedule(system, 0, depth.AT_ONCE)  # only to learn how long it takes
        each = (time.monotonic() - before) / depth.AT_ONCE
        moment = float(int(time.time() + 3 + 2.5 * each * jobs))
        depth.in_portions(
            jobs, lambda first, count: system.call("enqueue_due", first=first, count=count,
                                                   moment=moment)
        )  # fmt: skip
        if time.time() > moment - 0.5:
            raise RuntimeError("the machine was too slow to schedule them in time")
        time.sleep(max(0.0, moment - 0.5 - time.time()))
        found = send_urgent(system, sitting.size(300, 100), jobs, gap=0.02)
    sitting.note(CROWD_P50, Spooler, place, percentile(found, 50) * MILLI, "ms")
    sitting.note(BLOCKED, Spooler, place, max(found) * MILLI, "ms")
