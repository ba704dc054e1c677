"""Spools with very many jobs in them: a million scheduled, a hundred thousand waiting.

Owns the one directory with the scheduled ones, which several questions use: it takes minutes to
fill, so that is done once a sitting. It lies in memory where there is room, else on the disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from .sitting import DISK, MEMORY, Sitting
from .systems.uwsgi import Spooler

SCHEDULED: Final = (1_000_000, 20_000)
WAITING: Final = (100_000, 5_000)
AT_ONCE: Final = 5_000
"""Jobs enqueued by one request."""

BYTES_EACH: Final = 8_192
"""What a scheduled job may take: a page of its own, its inode, its row and its index entries."""

FAR: Final = 30 * 86_400.0
CALM: Final = 0.02
"""The share of a core below which a server counts as idle."""


def place_for(sitting: Sitting, jobs: int) -> str:
    """Return where so many jobs find room."""
    free = os.statvfs(sitting.places[MEMORY])
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    room = min(free.f_bavail * free.f_frsize, pages)
    return MEMORY if room > 1.5 * jobs * BYTES_EACH else DISK


@contextmanager
def scheduled(sitting: Sitting) -> Iterator[tuple[Spooler, str]]:
    """Run a server on a spool with very many scheduled jobs; also return where it lies."""
    jobs = sitting.size(*SCHEDULED)
    place = place_for(sitting, jobs)
    directory = sitting.places[place] / "scheduled"
    is_new = not directory.exists()
    directory.mkdir(exist_ok=True)
    system = Spooler(directory, sitting.marks)
    with system.running():
        if is_new:
            sitting.tell(f"scheduling {jobs:,} jobs on {place}")
            in_portions(jobs, lambda first, count: schedule(system, first, count))
        sitting.tell(f"idle {wait_until_calm(system):.1f} s later")
        yield system, place


def schedule(system: Spooler, first: int, count: int) -> None:
    """Schedule jobs for a day that this sitting does not see."""
    system.call("enqueue_many", first=first, count=count, delay=FAR)


def in_portions(jobs: int, act: Callable[[int, int], object]) -> None:
    """Call `act(first, count)` for so many jobs, a portion at a time."""
    for first in range(0, jobs, AT_ONCE):
        act(first, min(AT_ONCE, jobs - first))


def wait_until_calm(system: Spooler, patience: float = 600.0) -> float:
    """Wait until the server does nothing; return the seconds that took. Raises `TimeoutError`."""
    began = time.monotonic()
    while time.monotonic() - began < patience:
        before = system.cpu_seconds()
        time.sleep(1.0)
        if system.cpu_seconds() - before < CALM:
            return time.monotonic() - began - 1.0
    raise TimeoutError(f"still busy after {patience:g} s")
