"""Single files: each function here is one atomic step, or writes a file that is none yet.

`FileNotFoundError` on a step means that somebody was faster, which its caller is told by False;
any other `OSError` is real.
"""

from __future__ import annotations

import errno
import functools
import os
import time
from pathlib import Path
from typing import Final

from ..failpoints import reach

CLOCK_TICK: Final = 0.02
"""uWSGI compares an mtime with time(2), which lags behind the precise clock by up to one kernel
tick (10 ms at 100 Hz). A file promoted at its due time would look early by that much, and wait
for the next scan: so files in ``waiting/`` carry a time that is earlier by two ticks."""


def private(path: str, flags: int) -> int:
    """Open a file that only the spool's owner may read; for ``open(…, opener=private)``."""
    return os.open(path, flags, 0o600)


def move(source: str | Path, target: str | Path) -> bool:
    """Rename a file; False when it is not there."""
    try:
        os.rename(source, target)
    except FileNotFoundError:
        return False
    return True


def forget(path: str | Path) -> bool:
    """Unlink a file; False when it was gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def set_time(path: str, when: float) -> None:
    """Set a file's mtime, if it is there."""
    try:
        os.utime(path, (when, when))
    except FileNotFoundError:
        return


def make_due(path: str) -> None:
    """Take from a file a time that is still to come, for which uWSGI would wait."""
    now = time.time()
    try:
        if os.stat(path).st_mtime > now:
            set_time(path, now - CLOCK_TICK)
    except FileNotFoundError:
        return


def sync_directory(path: Path) -> None:
    """Put on the disk what was renamed into or out of a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Files:
    """Writes files that belong to the owner of one spool, whoever runs this process."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, path: str, data: bytes, due: float | None = None, *, sync: bool) -> None:
        """Make a file, 0600, whose mtime makes it start at `due`; raises where one stands."""
        reach("write.open")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            reach("write.write")
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if due is not None:
                reach("write.utime")
                os.utime(descriptor, (due - CLOCK_TICK, due - CLOCK_TICK))
            self.give_to_owner(descriptor)
            if sync:
                reach("write.fsync")
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, path: Path, aside: str, data: bytes, *, sync: bool) -> None:
        """Put a file in the place of what stood there; a crash leaves the one or the other."""
        self.write(aside, data, sync=sync)
        os.rename(aside, path)

    def give_to_owner(self, descriptor: int) -> None:
        """Make a file the spool owner's: uWSGI skips what its user cannot open, without a word.

        Raises `PermissionError` in a process that is neither theirs nor root's.
        """
        if os.geteuid() == self.owner[0]:
            return
        if os.geteuid() != 0:
            raise PermissionError(errno.EACCES, f"the spool belongs to user id {self.owner[0]}")
        os.fchown(descriptor, *self.owner)

    @functools.cached_property
    def owner(self) -> tuple[int, int]:
        """The user and the group whose directory the spool is."""
        found = self._root.stat()
        return found.st_uid, found.st_gid
