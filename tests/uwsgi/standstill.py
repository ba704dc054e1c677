"""For how long the machine under a test did nothing for anybody.

A bound on latency tells right from wrong only while the machine runs: a shared disk has stood still
for eleven seconds under these tests. So a thread does, all the time, the least that every job needs
(it sleeps, and it syncs a few bytes) and adds up by how much that took too long. A test allows its
bound that much more: `assert waited < 0.5 + standstill.seconds`. A fault of ours is not in it.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Final

BEAT: Final = 0.05
"""Seconds between two looks."""

USUAL: Final = 0.05
"""Seconds that a sleep and a sync may take beyond the beat: what every bound allows for."""


class Standstill:
    """Adds up the seconds in which nothing went on, from `start` to `stop`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="standstill", daemon=True)
        self._lost = 0.0
        self._beat_at = 0.0

    def start(self) -> None:
        self._beat_at = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        """What was lost so far, the standstill that may go on at this moment included."""
        return self._lost + self._late()

    def _late(self) -> float:
        late = time.monotonic() - self._beat_at - BEAT
        return late if late > USUAL else 0.0

    def _watch(self) -> None:
        file = os.open(self._file, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            while not self._ended.wait(BEAT):
                os.pwrite(file, b"beat", 0)
                os.fsync(file)
                self._lost += self._late()
                self._beat_at = time.monotonic()
        finally:
            os.close(file)
