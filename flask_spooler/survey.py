"""Comparing the files that wait, and those of the dead, with the ledger.

Owns the walk through ``waiting/``, ``dead/`` and ``tmp/``. Once for each ledger file that this
process meets, without a pause: at its start, and when somebody has deleted the ledger. After that
again and again, one step a second, for the rare file whose enqueue or cancel was killed between
its two steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

from . import upkeep
from .engine import SpoolEngine
from .errors import NewerFormat
from .job import FINAL, SUCCEEDED
from .signals import announce, housekeeping_done, spool_trouble
from .spool import DEAD, WAITING, WRITING

COMPARE_AT_ONCE: Final = 200
"""Files compared with the ledger in one round, so that a million of them delay no due job."""

ABANDONED: Final = 3600.0
"""Seconds after which a file in ``tmp/`` belongs to nobody any more."""


class Survey:
    """The walk through one spool."""

    def __init__(self, app: Any, engine: SpoolEngine) -> None:
        self._app = app
        self._engine = engine
        self._spool = engine.spool
        self._ledger = engine.ledger
        self._steps: Iterator[int] = iter(())
        self._urgent = False
        self._surveyed: int | None = None

    def meets_another_ledger(self, now: float) -> bool:
        """Tell whether this process has a ledger file that was not surveyed yet, and begin that."""
        generation = self._ledger.generation()
        if generation == self._surveyed:
            return False
        if self._surveyed is not None:
            what = "the ledger was replaced, its history begins anew"
            announce(spool_trouble, self._app, what=what, error="jobs are found by their files")
        self._surveyed, self._urgent = generation, True
        self._steps = self._compare_all(now)
        return True

    def go_on(self, now: float, tick: bool) -> bool:
        """Compare some more files with the ledger; True when there is urgently more of it."""
        if not (self._urgent or tick):
            return False
        if next(self._steps, None) is None:
            self._steps, self._urgent = self._compare_all(now), False
        return self._urgent

    def _compare_all(self, now: float) -> Iterator[int]:
        for name in list(self._spool.names(WRITING)):
            if self._spool.age(WRITING, name, now) > ABANDONED:
                self._spool.sweep(name)
        adopted = 0
        for place in (WAITING, DEAD):
            names = self._spool.names(place)
            while some := list(itertools.islice(names, COMPARE_AT_ONCE)):
                states = self._ledger.states(some)
                for name in some:
                    adopted += self._compare(place, name, states.get(name))
                yield len(some)
        if adopted:
            announce(housekeeping_done, self._app, what="made rows again from files", count=adopted)

    def _compare(self, place: str, name: str, state: str | None) -> bool:
        if state is None:
            return self._adopt(place, name)
        if state == SUCCEEDED:
            self._spool.remove(place, name)
        elif state in FINAL and place == WAITING:
            # Cancelled or expired, and killed before the file was moved.
            self._spool.bury_waiting(name)
        return False

    def _adopt(self, place: str, name: str) -> bool:
        try:
            return upkeep.adopt(self._engine, place, name)
        except (OSError, NewerFormat) as error:
            what = f"{place}/{name[:60]} cannot be read"
            announce(spool_trouble, self._app, what=what, error=error)
            return False
