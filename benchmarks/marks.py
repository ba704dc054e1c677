"""The one instrument for all systems: a file in memory where job *n* writes when it ran.

Owns two arrays of times, mapped by producer, consumers and the benchmark: `sent[n]`, written just
before job *n* is enqueued, and `ran[n]`, written by the job itself. No system pays for it with a
disk or a socket, no process waits for another, and all are measured with the same clock. It lies
in ``/dev/shm`` also when the systems work on a disk.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

VARIABLE: Final = "BENCH_MARKS"
SLOTS: Final = 262_144


class Marks:
    """When each job was sent and when it ran, by its number; 0 where it was not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, 16 * SLOTS)
        self._mapped = mmap.mmap(descriptor, 16 * SLOTS)
        os.close(descriptor)
        self.sent = memoryview(self._mapped)[: 8 * SLOTS].cast("d")
        self.ran = memoryview(self._mapped)[8 * SLOTS :].cast("d")

    def clear(self) -> None:
        """Forget everything, before the next system."""
        self._mapped[:] = bytes(16 * SLOTS)

    def run(self, n: int) -> int:
        """Be the job that every system runs: note the time, and return the argument."""
        self.ran[n] = time.time()
        return n

    def times(self, first: int, count: int) -> list[float]:
        """Return when these jobs ran, of those that did."""
        return [moment for moment in self.ran[first : first + count] if moment]

    def count(self, first: int, count: int) -> int:
        """Return how many of these jobs have run."""
        return len(self.times(first, count))

    def latencies(self, first: int, count: int) -> list[float]:
        """Return the seconds from just before the enqueue, or the due time, to the run."""
        numbers = range(first, first + count)
        return [self.ran[n] - self.sent[n] for n in numbers if self.ran[n] and self.sent[n]]

    def wait(self, first: int, count: int, timeout: float, every: float = 0.01) -> float:
        """Wait until these jobs have run; return when the last did. Raises `TimeoutError`."""
        wait_until(lambda: self.ran[first + count - 1], timeout, every)
        wait_until(lambda: self.count(first, count) == count, timeout, every)
        return max(self.times(first, count))


def from_environment() -> Marks:
    """Return the marks of the benchmark that started this process."""
    return Marks(Path(os.environ[VARIABLE]))


def wait_until(true: Callable[[], object], timeout: float, every: float = 0.01) -> None:
    """Wait until `true()` is true. Raises `TimeoutError`."""
    give_up = time.monotonic() + timeout
    while not true():
        if time.monotonic() > give_up:
            raise TimeoutError(f"not so within {timeout:g} s")
        time.sleep(every)
