"""Locks on single files, by which a process says that it lives and has a file in hand.

A job's file bears the lock that uWSGI takes (fcntl): it is lost when its process closes *any*
descriptor of that file, so nobody but the holder may open one that runs. The housekeeper's lock
(flock) belongs to the open file, and a look at it harms nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


def read(path: str, *, wait: bool) -> tuple[bytes, int]:
    """Return a file's content, and a descriptor that locks it until it is closed.

    Raises `BlockingIOError` where somebody else has the lock and `wait` is False.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        data = b""
        while part := os.read(descriptor, 1 << 20):
            data += part
    except BaseException:
        os.close(descriptor)
        raise
    return data, descriptor


def try_to_read(path: str) -> tuple[bytes, int] | None:
    """Do as `read` does; None when somebody else has the file, or has moved it."""
    try:
        data, descriptor = read(path, wait=False)
    except (BlockingIOError, FileNotFoundError):
        return None
    # Who held it before may have moved it after it was opened here: uWSGI looks again, too.
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return data, descriptor
    os.close(descriptor)
    return None


def is_locked(path: str) -> bool:
    """Tell whether a living process holds a job's file; never for one of our own."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_held(path: Path) -> bool:
    """Tell whether a living process holds the lock of a lock file.

    A shared lock, tried and let go: two who ask do not mislead each other, and one who takes the
    lock at this very moment waits some microseconds.
    """
    try:
        with open(path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
