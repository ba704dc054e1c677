"""Directories and files: the only package that builds a path.

Owns where a job's file lies, which says what happens to it next; `places` has the table. A file
is written once and never changed; every step below is one `rename`, `unlink` or `utime`, atomic
by itself.

Invariant: only the process that holds its lock moves or unlinks a file in the window or in
``taken/``, because uWSGI can keep the lock of a file that was moved under its hands for ever. A
file in the window is never opened by a process of the server: closing any descriptor of it would
drop the lock under which that process runs it. `FileNotFoundError` on a move means that somebody
was faster; any other `OSError` is real.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import NotASpool
from ..failpoints import reach
from . import locks
from .files import CLOCK_TICK, Files, forget, make_due, move, private, set_time, sync_directory
from .inspection import entries, taken_by
from .key import KeyFile, fingerprint
from .notes import Notes
from .places import (
    CORRUPT,
    DEAD,
    DONE,
    DOORBELL,
    HOUSEKEEPER,
    LEDGER,
    OUTCOME,
    PLACES,
    PREFIX,
    TAKEN,
    WAITING,
    WRITING,
    Places,
    new_window_name,
    parse_window_name,
)
from .quarantine import Quarantine

__all__ = [
    "CLOCK_TICK",
    "CORRUPT",
    "DEAD",
    "DONE",
    "OUTCOME",
    "PLACES",
    "PREFIX",
    "TAKEN",
    "WAITING",
    "WRITING",
    "InWindow",
    "Spool",
    "fingerprint",
    "private",
]


class InWindow(NamedTuple):
    """One file of ours in the window."""

    name: str
    job_id: str
    promoted_at: float
    mtime: float


class Spool:
    """One spool directory and the moves of a job's file within it."""

    def __init__(self, root: str | os.PathLike[str], *, sync: bool = True) -> None:
        self.root = Path(root).absolute()
        self.sync = sync
        self.ledger = self.root / LEDGER
        self.doorbell = self.root / DOORBELL
        self.housekeeper_lock = self.root / HOUSEKEEPER
        self._places = Places(self.root)
        self._files = Files(self.root)
        self.key = KeyFile(self._places, self._files)
        self.notes = Notes(self._places, self._files)
        self.quarantine = Quarantine(self._places, self._files)

    def exists(self) -> bool:
        """Tell whether this directory was prepared before; one that may not be seen into was."""
        try:
            os.stat(self.root / WAITING)
        except FileNotFoundError:
            return False
        except OSError:  # let whoever goes on say what is wrong
            return True
        return True

    def prepare(self) -> None:
        """Make what is missing of the directories, all 0700, and the doorbell.

        Safe to call from several processes at once. Raises `OSError` where that is impossible,
        and `NotASpool` for a directory that others use: they would be locked out of it.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            if not self.root.is_dir():
                raise
        mode = stat.S_IMODE(self.root.stat().st_mode)
        if mode & 0o077:
            self._check_use()
        if mode != 0o700:
            self.root.chmod(0o700)
        for place in PLACES:
            (self.root / place).mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.doorbell, 0o600)
        if os.geteuid() == 0 and self._files.owner[0] != 0:
            for path in (*(self.root / place for place in PLACES), self.doorbell):
                os.chown(path, *self._files.owner)

    def _check_use(self) -> None:
        """Raise `NotASpool` for a directory in which others have their files."""
        foreign = taken_by(entries(self.root))
        if foreign:
            raise NotASpool(str(self.root), foreign)

    def write(
        self, job_id: str, data: bytes, due: float | None = None, *, sync: bool = True
    ) -> None:
        """Write a job's file whole into ``tmp/``, synced when this spool syncs.

        Not yet a job: a crash before or after leaves at most a file in ``tmp/``, which the
        housekeeper removes. `due` becomes its mtime for ``waiting/``. With `sync` False somebody
        calls `sync_written` for many at once.
        """
        path = self._places.at(WRITING, job_id)
        self._files.write(path, data, due, sync=self.sync and sync)

    def sync_written(self) -> None:
        """Put all files written so far on the disk, with one call for all of them."""
        if not self.sync:
            return
        reach("write.syncfs")
        directory = os.open(self.root / WRITING, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(directory):
                raise OSError(ctypes.get_errno(), "syncfs failed", str(self.root))
        finally:
            os.close(directory)

    def publish(self, job_id: str, window_name: str | None) -> None:
        """Rename a written file to where it waits or into the window: now the job exists.

        A crash before leaves no job; a crash after leaves a whole one without a row, which
        `start` or the housekeeper makes again.
        """
        reach("publish.rename")
        target = (
            self._places.window(window_name) if window_name else self._places.at(WAITING, job_id)
        )
        os.rename(self._places.at(WRITING, job_id), target)

    def sync_published(self, *, in_window: bool) -> None:
        """Make published files survive a power cut: sync the directory they were renamed into."""
        if self.sync:
            reach("publish.fsync_directory")
            sync_directory(self.root if in_window else self.root / WAITING)

    def withdraw(self, job_id: str) -> bool:
        """Rename a published file back into ``tmp/``, wherever it stands by now; write lock only.

        It may have been promoted since: by the same transaction, or by somebody after its commit.
        """
        written = self._places.at(WRITING, job_id)
        if move(self._places.at(WAITING, job_id), written):
            return True
        mine = (file.name for file in self.window() if file.job_id == job_id)
        return any(move(self._places.window(name), written) for name in mine)

    def discard_written(self, job_id: str) -> None:
        """Unlink a file in ``tmp/`` that will not be published, if it is there."""
        forget(self._places.at(WRITING, job_id))

    def window_name(self, job_id: str) -> str:
        """Return a name for the window, which sorts by the moment of promotion."""
        return new_window_name(job_id)

    def promote(self, job_id: str, window_name: str) -> bool:
        """Rename from ``waiting/`` into the window; False when the file is not there.

        A crash after it leaves a row that says waiting while the file is in the window, which
        `start` accepts.
        """
        reach("promote.rename")
        return move(self._places.at(WAITING, job_id), self._places.window(window_name))

    def take(self, job_id: str) -> str | None:
        """Rename from ``waiting/`` to ``taken/`` and return its new name, None when it is gone.

        A crash between this and the commit of the row leaves a file whose row says that it
        waits: `give_back` puts it right when its turn comes.
        """
        name = f"{TAKEN}/{job_id}"
        reach("take.rename")
        return name if move(self._places.at(WAITING, job_id), self._places.window(name)) else None

    def read_taken(self, name: str) -> tuple[bytes, int]:
        """Return a taken file's content, and a descriptor that holds its lock until it is closed.

        The lock says to everybody else that the job runs, should the ledger be lost meanwhile.
        """
        reach("taken.open")
        return locks.read(self._places.window(name), wait=True)

    def lock(self, window_name: str) -> tuple[bytes, int] | None:
        """Return a file of the window and a descriptor that locks it until it is closed.

        For a process that runs jobs without uWSGI, and plays its part. None when somebody else
        has the file, or has moved it.
        """
        return locks.try_to_read(self._places.window(window_name))

    def is_locked(self, job_id: str) -> bool:
        """Tell whether a living process holds a taken file; never for one of our own."""
        return locks.is_locked(self._places.at(TAKEN, job_id))

    def untake(self, job_id: str) -> bool:
        """Rename from ``taken/`` back to ``waiting/``; write lock only."""
        reach("untake.rename")
        return move(self._places.at(TAKEN, job_id), self._places.at(WAITING, job_id))

    def give_back(self, job_id: str, window_name: str) -> bool:
        """Rename from ``taken/`` into the window, where uWSGI finds it; write lock only.

        For a file whose taker is gone: the row says so, and names it before `start` asks how
        its attempt ended.
        """
        reach("give_back.rename")
        return move(self._places.at(TAKEN, job_id), self._places.window(window_name))

    def demote(self, window_name: str, job_id: str, due: float) -> bool:
        """Rename from the window to ``waiting/``, to be started at `due`; lock holder only.

        The row says waiting before this; a crash in between leaves the file in the window, where
        `start` finds a row that is not due and comes here again.
        """
        path = self._places.window(window_name)
        set_time(path, due - CLOCK_TICK)
        reach("demote.rename")
        return move(path, self._places.at(WAITING, job_id))

    def bury(self, window_name: str, job_id: str) -> bool:
        """Rename from the window to ``dead/``, after the final row; lock holder only."""
        reach("bury.rename")
        return move(self._places.window(window_name), self._places.at(DEAD, job_id))

    def bury_waiting(self, job_id: str) -> bool:
        """Rename from ``waiting/`` to ``dead/``, after the final row."""
        reach("bury_waiting.rename")
        return move(self._places.at(WAITING, job_id), self._places.at(DEAD, job_id))

    def exhume(self, job_id: str, due: float | None = None) -> bool:
        """Rename from ``dead/`` to ``waiting/``, after the row says queued or scheduled again.

        It may still bear a time it once waited for, and uWSGI would go on waiting, unless that is
        `due`; a crash after that has changed leaves it among the dead, where it does not matter.
        """
        path = self._places.at(DEAD, job_id)
        if due is None:
            make_due(path)
        else:
            set_time(path, due - CLOCK_TICK)
        reach("exhume.rename")
        return move(self._places.at(DEAD, job_id), self._places.at(WAITING, job_id))

    def make_ready(self, job_id: str) -> None:
        """Let a file in ``waiting/`` start at once whose row says so, whatever its own time is."""
        make_due(self._places.at(WAITING, job_id))

    def finish(self, window_name: str) -> None:
        """Unlink the file of a finished job that came back; lock holder only.

        Raises `OSError` where that is impossible, and not when it is gone already.
        """
        reach("finish.unlink")
        forget(self._places.window(window_name))

    def lease(self, window_name: str, until: float) -> None:
        """Keep uWSGI from looking at a file before `until`; lock holder or housekeeper only.

        Rounded up, because uWSGI compares whole seconds and would come up to one early.
        """
        reach("lease.utime")
        set_time(self._places.window(window_name), math.ceil(until))

    def set_done(self, window_name: str, job_id: str, outcome: bytes | None) -> bool:
        """Rename from the window to ``done/``, its outcome beside it; lock holder only.

        The outcome is written first: a crash in between leaves an outcome without a job file,
        and a job in the window whose attempt has no end, which counts as a crash.
        """
        if outcome is not None:
            aside = self._places.at(WRITING, job_id) + OUTCOME
            forget(aside)
            try:
                self._files.write(aside, outcome, sync=self.sync)
            except OSError:
                forget(aside)
                raise
            os.rename(aside, self._places.at(DONE, job_id) + OUTCOME)
        reach("done.rename")
        return move(self._places.window(window_name), self._places.at(DONE, job_id))

    def outcome(self, job_id: str) -> bytes:
        """Return the outcome that `set_done` kept."""
        return Path(self._places.at(DONE, job_id) + OUTCOME).read_bytes()

    def forget_outcome(self, job_id: str) -> None:
        """Unlink an outcome in ``done/`` whose job file never came."""
        forget(self._places.at(DONE, job_id) + OUTCOME)

    def clear_done(self, job_id: str, place: str | None) -> None:
        """Move a job out of ``done/`` to `place`, or unlink it, after its row was written."""
        path = self._places.at(DONE, job_id)
        if place is None:
            forget(path)
        else:
            move(path, self._places.at(place, job_id))
        forget(path + OUTCOME)

    def in_window(self, window_name: str) -> bool:
        """Tell whether the file is still in the window."""
        return os.path.exists(self._places.window(window_name))

    def window(self) -> list[InWindow]:
        """List our files in the window in the order of their promotion."""
        found = []
        with os.scandir(self.root) as entries:
            for entry in entries:
                parsed = parse_window_name(entry.name)
                if parsed is None:
                    continue
                try:
                    mtime = entry.stat(follow_symlinks=False).st_mtime
                except FileNotFoundError:
                    continue
                promoted_at, job_id = parsed
                found.append(InWindow(entry.name, job_id, promoted_at, mtime))
        return sorted(found)

    def job_in(self, window_name: str) -> str | None:
        """Return the id in the name of a file of ours in the window, None for any other name."""
        parsed = parse_window_name(window_name)
        return parsed[1] if parsed else None

    def names(self, place: str) -> Iterator[str]:
        """List one of our directories in no order, without holding it all in memory."""
        with os.scandir(self.root / place) as entries:
            for entry in entries:
                yield entry.name

    def has(self, place: str, job_id: str) -> bool:
        """Tell whether a job's file lies in one of our directories."""
        return os.path.exists(self._places.at(place, job_id))

    def read(self, place: str, job_id: str) -> bytes:
        """Return a job's file from one of our directories, never from the window."""
        return Path(self._places.at(place, job_id)).read_bytes()

    def remove(self, place: str, job_id: str) -> bool:
        """Unlink a job's file in one of our directories; False when it was gone already."""
        return forget(self._places.at(place, job_id))

    def sweep(self, name: str) -> None:
        """Unlink what a writer that died has left in ``tmp/``."""
        forget(self.root / WRITING / name)

    def age(self, place: str, name: str, now: float) -> float:
        """Return how long ago a file was changed or moved; infinity when it is gone."""
        try:
            found = (self.root / place / name).stat()
            return now - (found.st_ctime if place == TAKEN else found.st_mtime)
        except FileNotFoundError:
            return float("inf")

    def count(self, place: str, most: int) -> int:
        """Return how many files lie in one of our directories; beyond `most` nobody counts."""
        return sum(1 for _ in itertools.islice(self.names(place), most))

    def counts(self) -> dict[str, int]:
        """Return how many files lie in each place, the window included."""
        counts = {place: sum(1 for _ in self.names(place)) for place in PLACES}
        return {"window": len(self.window()), **counts}

    def has_housekeeper(self) -> bool:
        """Tell whether a housekeeper lives: it holds its lock as long as it does."""
        return locks.is_held(self.housekeeper_lock)
