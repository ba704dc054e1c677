"""A spool of one's own for tests: in memory where there is one, and gone afterwards.

Owns where it lies and when it goes: with the object, with `close`, or with the process that made
it, whichever is first. A process that was forked from that one uses it and removes nothing. It
syncs nothing: no test survives a power cut.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import weakref

from .config import MEMORY
from .spool import Spool


class PrivateSpool(Spool):
    """A spool directory that nobody else knows."""

    def __init__(self) -> None:
        directory = MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else None
        home = tempfile.mkdtemp(prefix="flask-spooler-", dir=directory)
        super().__init__(f"{home}/spool", sync=False)
        self._removal = weakref.finalize(self, _remove, home, os.getpid())

    def prepare(self) -> None:
        """Make what is missing of the directories; never again after `close`."""
        if not self._removal.alive:
            why = "its test is over; whoever uses it still was started by that test"
            raise FileNotFoundError(errno.ENOENT, why, str(self.root))
        super().prepare()

    def close(self) -> None:
        """Remove the directory with everything in it."""
        self._removal()


def _remove(home: str, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(home, ignore_errors=True)
