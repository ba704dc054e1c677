"""A look at a spool directory: the facts that its checks go by.

Changes nothing but for one file in ``tmp/`` that it makes, moves, locks and removes: what every
job needs of the file system is tried out once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from ..spool import CORRUPT, WRITING, Spool
from ..spool.inspection import Entry, devices, entries, scratch


@dataclass(frozen=True)
class Facts:
    """What a look at a spool directory has shown."""

    path: str
    owner: int
    mode: int
    entries: tuple[Entry, ...]
    devices: dict[str, int]
    file_system: str
    free_bytes: int
    total_bytes: int
    free_files: int
    total_files: int
    corrupt: int
    failed_test: str
    clock_skew: float
    now: float


def look(spool: Spool) -> Facts:
    """Gather the facts; raises `OSError` where this process may not."""
    path = str(spool.root)
    root = os.stat(path)
    inside = tuple(entries(spool.root))
    room = os.statvfs(path)
    on_devices = devices(spool.root)
    failed, skew = _try_out(spool) if WRITING in on_devices else ("", 0.0)
    return Facts(
        path=path,
        owner=root.st_uid,
        mode=stat.S_IMODE(root.st_mode),
        entries=inside,
        devices=on_devices,
        file_system=file_system_of(path, Path("/proc/self/mountinfo").read_text()),
        free_bytes=room.f_bavail * room.f_frsize,
        total_bytes=room.f_blocks * room.f_frsize,
        free_files=room.f_favail,
        total_files=room.f_files,
        corrupt=sum(1 for _ in spool.names(CORRUPT)) if CORRUPT in on_devices else 0,
        failed_test=failed,
        clock_skew=skew,
        now=time.time(),
    )


def _try_out(spool: Spool) -> tuple[str, float]:
    """Do once what every job needs of the file system; return what failed, and the skew."""
    step = "write"
    with scratch(spool.root) as (first, second):
        try:
            descriptor = os.open(first, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                skew = os.fstat(descriptor).st_mtime - time.time()
                os.write(descriptor, b"flask spooler doctor")
                step = "sync"
                os.fsync(descriptor)
                step = "set a time in the future"
                due = int(time.time()) + 86_400
                os.utime(first, (due, due))
                step = "rename"
                os.rename(first, second)
                if os.stat(second).st_mtime != due:
                    return "a file's time is not kept", skew
                step = "lock"
                return "" if _is_locked_out(descriptor, second) else "a lock locks nobody out", skew
            finally:
                os.close(descriptor)
        except OSError as error:
            return f"{step}: {error.strerror}", 0.0


def _is_locked_out(descriptor: int, path: str) -> bool:
    """Tell whether a lock as uWSGI takes it keeps another open file from locking.

    The second lock is one of an open file description: it meets the first even in one process.
    """
    whole = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(descriptor, fcntl.F_SETLK, whole)
    other = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, whole)
    except OSError as error:
        # A kernel without such locks cannot tell, and is not to blame for it.
        return error.errno in (errno.EAGAIN, errno.EACCES, errno.EINVAL)
    finally:
        os.close(other)
    return False


def file_system_of(path: str, mounts: str) -> str:
    r"""Return the type of the file system that holds `path`, by ``/proc/self/mountinfo``.

    >>> mounts = '''21 1 8:1 / / rw - ext4 /dev/sda1 rw
    ... 22 21 0:5 / /srv/my\\040data rw shared:1 - nfs4 server:/data rw'''
    >>> file_system_of("/srv/my data/spool", mounts), file_system_of("/srv/my", mounts)
    ('nfs4', 'ext4')
    """
    found, longest = "", -1
    real = os.path.realpath(path)
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        mount = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), before.split()[4])
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= longest:
            found, longest = after.split()[0], len(mount)
    return found
