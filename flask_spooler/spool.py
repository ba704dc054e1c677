"""Directories and files: the only module that builds a path.

Owns where a job's file lies, which says what happens to it next. A file is written once and
never changed; every step below is one `rename`, `unlink` or `utime`, atomic by itself.

=================  ========================================================================
place              what lies there
=================  ========================================================================
``.``, the window  what uWSGI scans: a few ready files, and those that run
``waiting/``       due but beyond the window, scheduled, retrying, paused
``taken/``         taken by a spooler that had just finished another job; locked, it runs
``tmp/``           being written, not yet a job
``dead/``          dead, cancelled and expired jobs, kept whole for a person's retry
``done/``          finished, its final row could not be written yet; never run again
``corrupt/``       unreadable, unsigned or foreign; kept, counted, never run
``ledger.db``      the ledger
``key``            signs job files
``wake``           a FIFO: one byte wakes the housekeeper
``housekeeper``    the lock file of the one housekeeper
``machine``        which start of the machine a housekeeper has seen last
``quarantined``    one byte for each file that ever went to ``corrupt/``
``server.json``    how the server was started, for ``flask spooler doctor``; ``web.json``
                   is the same of an instance that only enqueues
=================  ========================================================================

Invariant: only the process that holds its lock moves or unlinks a file in the window or in
``taken/``, because uWSGI can keep the lock of a file that was moved under its hands for ever. A
file in the window is never opened by a process of the server: closing any descriptor of it would
drop the lock under which that process runs it. `FileNotFoundError` on a move means that somebody
was faster; any other `OSError` is real.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import hashlib
import itertools
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from .errors import KeyUnusable
from .failpoints import reach
from .job import is_id

WAITING: Final = "waiting"
TAKEN: Final = "taken"
WRITING: Final = "tmp"
DEAD: Final = "dead"
DONE: Final = "done"
CORRUPT: Final = "corrupt"
PLACES: Final = (WAITING, TAKEN, WRITING, DEAD, DONE, CORRUPT)

OUTCOME: Final = ".outcome"
PREFIX: Final = "uwsgi_spoolfile_on_"
_OURS: Final = re.compile(re.escape(PREFIX) + r"(\d{19})_([0-9A-Za-z_-]{20,40})")

CLOCK_TICK: Final = 0.02
"""uWSGI compares an mtime with time(2), which lags behind the precise clock by up to one kernel
tick (10 ms at 100 Hz). A file promoted at its due time would look early by that much, and wait
for the next scan: so files in ``waiting/`` carry a time that is earlier by two ticks."""


LEDGER: Final = "ledger.db"
STANDING: Final = frozenset(
    {
        *PLACES,
        *("key", "key.fingerprint", "wake", "housekeeper", "quarantined", "machine"),
        *("server.json", "web.json"),
    }
)
"""What lies in the root beside the window's files, and the ledger with its companions."""

SHORTEST_KEY: Final = 16
"""Bytes; what is shorter was cut by a crash, or made by hand."""


def private(path: str, flags: int) -> int:
    """Open a file that only the spool's owner may read; for ``open(…, opener=private)``."""
    return os.open(path, flags, 0o600)


def fingerprint(key: bytes) -> str:
    """Return what may be shown of a key, enough to see that two are the same."""
    return hashlib.sha256(key).hexdigest()[:16]


class InWindow(NamedTuple):
    """One file of ours in the window."""

    name: str
    job_id: str
    promoted_at: float
    mtime: float


class Entry(NamedTuple):
    """One thing in the root, as it is: links are not followed."""

    name: str
    mode: int
    owner: int
    size: int
    mtime: float

    @property
    def is_standing(self) -> bool:
        """Whether it is one of what every spool has, or of the ledger."""
        return self.name in STANDING or self.name.startswith(LEDGER)

    @property
    def is_spooled(self) -> bool:
        """Whether uWSGI takes it for a job, of ours or of anybody."""
        return self.name.startswith(PREFIX)

    @property
    def is_ours(self) -> bool:
        """Whether it bears the name of one of our jobs."""
        return _OURS.fullmatch(self.name) is not None

    @property
    def is_nobodys(self) -> bool:
        """Whether no rule is broken by it: hidden, or made by the file system itself."""
        return self.name.startswith(".") or self.name == "lost+found"


class Spool:
    """One spool directory and the moves of a job's file within it."""

    def __init__(self, root: str | os.PathLike[str], *, sync: bool = True) -> None:
        self.root = Path(root).absolute()
        self._root = str(self.root)
        self.sync = sync

    @property
    def ledger(self) -> Path:
        return self.root / LEDGER

    @property
    def key(self) -> Path:
        return self.root / "key"

    @property
    def doorbell(self) -> Path:
        return self.root / "wake"

    @property
    def housekeeper_lock(self) -> Path:
        return self.root / "housekeeper"

    @property
    def _tally(self) -> Path:
        return self.root / "quarantined"

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

        Safe to call from several processes at once. Raises `OSError` where that is impossible.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        if stat.S_IMODE(self.root.stat().st_mode) != 0o700:
            self.root.chmod(0o700)
        for place in PLACES:
            (self.root / place).mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self.doorbell, 0o600)
        if os.geteuid() == 0 and self._owner[0] != 0:
            for path in (*(self.root / place for place in PLACES), self.doorbell):
                os.chown(path, *self._owner)

    def is_first_since_boot(self) -> bool:
        """Tell whether the machine was started since this was asked last, and note that it was."""
        note = self.root / "machine"
        machine = Path("/proc/sys/kernel/random/boot_id").read_text()
        if note.exists() and note.read_text() == machine:
            return False
        aside = self.root / WRITING / f"machine-{secrets.token_hex(8)}"
        self._write(aside, machine.encode())
        os.rename(aside, note)
        return True

    def noted_key(self) -> str | None:
        """Return the fingerprint of the key that the server signs with, if it is noted."""
        try:
            return (self.root / "key.fingerprint").read_text()
        except FileNotFoundError:
            return None

    def note_key(self, fingerprint: str) -> None:
        """Let other processes see with which key the server signs."""
        self._note("key.fingerprint", fingerprint.encode())

    def server_note(self, name: str) -> bytes | None:
        """Return what a server has noted of itself under this name, None where none has."""
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def note_server(self, name: str, note: bytes) -> None:
        """Let other processes see how a server of this spool was started.

        Not synced: after a power cut the next start writes it again.
        """
        self._note(name, note, sync=False)

    def _note(self, name: str, data: bytes, *, sync: bool = True) -> None:
        aside = self.root / WRITING / f"{name}-{secrets.token_hex(8)}"
        self._write(aside, data, sync=sync)
        os.rename(aside, self.root / name)

    def signing_key(self) -> bytes:
        """Return the spool's own key, made at the first call by whoever comes first.

        The key appears whole or not at all: it is written aside and linked into place, and a
        link never overwrites. Losing the file makes waiting jobs unreadable to us; they are kept
        in ``corrupt/``.
        """
        with contextlib.suppress(FileNotFoundError):
            return self._whole_key()
        fresh = self.root / WRITING / f"key-{secrets.token_hex(8)}"
        self._write(fresh, secrets.token_hex(32).encode(), always_sync=True)
        with contextlib.suppress(FileExistsError):
            os.link(fresh, self.key)
            self._sync_directory(self.root)
        fresh.unlink()
        return self._whole_key()

    def _whole_key(self) -> bytes:
        key = self.key.read_bytes()
        if len(key) < SHORTEST_KEY:
            raise KeyUnusable(str(self.key), len(key))
        return key

    def write(
        self, job_id: str, data: bytes, due: float | None = None, *, sync: bool = True
    ) -> None:
        """Write a job's file whole into ``tmp/``, synced when this spool syncs.

        Not yet a job: a crash before or after leaves at most a file in ``tmp/``, which the
        housekeeper removes. `due` becomes its mtime for ``waiting/``. With `sync` False somebody
        calls `sync_written` for many at once.
        """
        self._write(self._at(WRITING, job_id), data, due, sync=sync)

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
        target = self._window(window_name) if window_name else self._at(WAITING, job_id)
        os.rename(self._at(WRITING, job_id), target)

    def sync_published(self, *, in_window: bool) -> None:
        """Make published files survive a power cut: sync the directory they were renamed into."""
        if self.sync:
            reach("publish.fsync_directory")
            self._sync_directory(self.root if in_window else self.root / WAITING)

    def withdraw(self, job_id: str) -> bool:
        """Rename a published file back into ``tmp/``, wherever it stands by now; write lock only.

        It may have been promoted since: by the same transaction, or by somebody after its commit.
        """
        written = self._at(WRITING, job_id)
        if self._move(self._at(WAITING, job_id), written):
            return True
        mine = (file.name for file in self.window() if file.job_id == job_id)
        return any(self._move(self._window(name), written) for name in mine)

    def discard_written(self, job_id: str) -> None:
        """Unlink a file in ``tmp/`` that will not be published, if it is there."""
        self._forget(self._at(WRITING, job_id))

    def window_name(self, job_id: str) -> str:
        """Return a name for the window, which sorts by the moment of promotion.

        19 digits with no leading zero, so that uWSGI's version sort compares them as one number.
        """
        return f"{PREFIX}{time.time_ns():019d}_{job_id}"

    def promote(self, job_id: str, window_name: str) -> bool:
        """Rename from ``waiting/`` into the window; False when the file is not there.

        A crash after it leaves a row that says waiting while the file is in the window, which
        `start` accepts.
        """
        reach("promote.rename")
        return self._move(self._at(WAITING, job_id), self._window(window_name))

    def take(self, job_id: str) -> str | None:
        """Rename from ``waiting/`` to ``taken/`` and return its new name, None when it is gone.

        A crash between this and the commit of the row leaves a file whose row says that it
        waits: `give_back` puts it right when its turn comes.
        """
        name = f"{TAKEN}/{job_id}"
        reach("take.rename")
        return name if self._move(self._at(WAITING, job_id), self._window(name)) else None

    def read_taken(self, name: str) -> tuple[bytes, int]:
        """Return a taken file's content, and a descriptor that holds its lock until it is closed.

        The lock says to everybody else that the job runs, should the ledger be lost meanwhile.
        """
        reach("taken.open")
        return self._read_locked(name, fcntl.LOCK_EX)

    def lock(self, window_name: str) -> tuple[bytes, int] | None:
        """Return a file of the window and a descriptor that locks it until it is closed.

        For a process that runs jobs without uWSGI, and plays its part. None when somebody else
        has the file, or has moved it.
        """
        try:
            data, descriptor = self._read_locked(window_name, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):
            return None
        # Who held it before may have moved it after it was opened here: uWSGI looks again, too.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(self._window(window_name))):
                return data, descriptor
        os.close(descriptor)
        return None

    def _read_locked(self, name: str, operation: int) -> tuple[bytes, int]:
        descriptor = os.open(self._window(name), os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.lockf(descriptor, operation)
            data = b""
            while part := os.read(descriptor, 1 << 20):
                data += part
        except BaseException:
            os.close(descriptor)
            raise
        return data, descriptor

    def is_locked(self, job_id: str) -> bool:
        """Tell whether a living process holds a taken file; never for one of our own."""
        try:
            descriptor = os.open(self._at(TAKEN, job_id), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def untake(self, job_id: str) -> bool:
        """Rename from ``taken/`` back to ``waiting/``; write lock only."""
        reach("untake.rename")
        return self._move(self._at(TAKEN, job_id), self._at(WAITING, job_id))

    def give_back(self, job_id: str, window_name: str) -> bool:
        """Rename from ``taken/`` into the window, where uWSGI finds it; write lock only.

        For a file whose taker is gone: the row says so, and names it before `start` asks how
        its attempt ended.
        """
        reach("give_back.rename")
        return self._move(self._at(TAKEN, job_id), self._window(window_name))

    def demote(self, window_name: str, job_id: str, due: float) -> bool:
        """Rename from the window to ``waiting/``, to be started at `due`; lock holder only.

        The row says waiting before this; a crash in between leaves the file in the window, where
        `start` finds a row that is not due and comes here again.
        """
        path = self._window(window_name)
        self._set_time(path, due - CLOCK_TICK)
        reach("demote.rename")
        return self._move(path, self._at(WAITING, job_id))

    def bury(self, window_name: str, job_id: str) -> bool:
        """Rename from the window to ``dead/``, after the final row; lock holder only."""
        reach("bury.rename")
        return self._move(self._window(window_name), self._at(DEAD, job_id))

    def bury_waiting(self, job_id: str) -> bool:
        """Rename from ``waiting/`` to ``dead/``, after the final row."""
        reach("bury_waiting.rename")
        return self._move(self._at(WAITING, job_id), self._at(DEAD, job_id))

    def exhume(self, job_id: str) -> bool:
        """Rename from ``dead/`` to ``waiting/``, after the row says queued again.

        It may still bear the time it once waited for, and uWSGI would go on waiting; a crash
        after that has changed leaves it among the dead, where it does not matter.
        """
        self._make_ready(self._at(DEAD, job_id))
        reach("exhume.rename")
        return self._move(self._at(DEAD, job_id), self._at(WAITING, job_id))

    def make_ready(self, job_id: str) -> None:
        """Let a file in ``waiting/`` start at once whose row says so, whatever its own time is."""
        self._make_ready(self._at(WAITING, job_id))

    def finish(self, window_name: str) -> None:
        """Unlink the file of a finished job that came back; lock holder only.

        Raises `OSError` where that is impossible, and not when it is gone already.
        """
        reach("finish.unlink")
        self._forget(self._window(window_name))

    def job_in(self, window_name: str) -> str | None:
        """Return the id in the name of a file of ours in the window, None for any other name."""
        match = _OURS.fullmatch(window_name)
        return match[2] if match else None

    def set_done(self, window_name: str, job_id: str, outcome: bytes | None) -> bool:
        """Rename from the window to ``done/``, its outcome beside it; lock holder only.

        The outcome is written first: a crash in between leaves an outcome without a job file,
        and a job in the window whose attempt has no end, which counts as a crash.
        """
        if outcome is not None:
            aside = self._at(WRITING, job_id) + OUTCOME
            self._forget(aside)
            try:
                self._write(aside, outcome)
            except OSError:
                self._forget(aside)
                raise
            os.rename(aside, self._at(DONE, job_id) + OUTCOME)
        reach("done.rename")
        return self._move(self._window(window_name), self._at(DONE, job_id))

    def outcome(self, job_id: str) -> bytes:
        """Return the outcome that `set_done` kept."""
        return Path(self._at(DONE, job_id) + OUTCOME).read_bytes()

    def forget_outcome(self, job_id: str) -> None:
        """Unlink an outcome in ``done/`` whose job file never came."""
        self._forget(self._at(DONE, job_id) + OUTCOME)

    def clear_done(self, job_id: str, place: str | None) -> None:
        """Move a job out of ``done/`` to `place`, or unlink it, after its row was written."""
        path = self._at(DONE, job_id)
        if place is None:
            self._forget(path)
        else:
            self._move(path, self._at(place, job_id))
        self._forget(path + OUTCOME)

    def name_in_quarantine(self, window_name: str) -> str:
        """Return a name for ``corrupt/`` that nothing there has."""
        return f"{time.time_ns():019d}_{window_name.replace('/', '_')}"[:250]

    def quarantine(
        self, window_name: str, directory: str | None = None, kept: str | None = None
    ) -> str | None:
        """Rename a file that is no job of ours to ``corrupt/`` and return its new name.

        uWSGI also looks into directories whose name is a number: `directory` is the one that it
        stands in now. Returns None when the file is not there.
        """
        kept = kept or self.name_in_quarantine(window_name)
        reach("quarantine.rename")
        source = self._window(window_name) if directory is None else f"{directory}/{window_name}"
        return kept if self._put_into_quarantine(source, kept) else None

    def quarantine_from(self, place: str, name: str) -> None:
        """Rename an unreadable file from one of our own directories to ``corrupt/``."""
        kept = f"{time.time_ns():019d}_{place}_{name}"[:250]
        self._put_into_quarantine(self.root / place / name, kept)

    def _put_into_quarantine(self, source: str | Path, kept: str) -> bool:
        moved = self._move(source, self.root / CORRUPT / kept)
        if moved:
            # A file of its own, because people empty corrupt/ and ledgers are replaced. On a full
            # disk the figure falls behind, and nothing else.
            with contextlib.suppress(OSError), open(self._tally, "ab", opener=private) as tally:
                tally.write(b"!")
                self._give_to_owner(tally.fileno())
        return moved

    def lease(self, window_name: str, until: float) -> None:
        """Keep uWSGI from looking at a file before `until`; lock holder or housekeeper only.

        Rounded up, because uWSGI compares whole seconds and would come up to one early.
        """
        reach("lease.utime")
        self._set_time(self._window(window_name), math.ceil(until))

    def in_window(self, window_name: str) -> bool:
        """Tell whether the file is still in the window."""
        return os.path.exists(self._window(window_name))

    def window(self) -> list[InWindow]:
        """List our files in the window in the order of their promotion."""
        found = []
        with os.scandir(self.root) as entries:
            for entry in entries:
                match = _OURS.fullmatch(entry.name)
                if match is None:
                    continue
                try:
                    mtime = entry.stat(follow_symlinks=False).st_mtime
                except FileNotFoundError:
                    continue
                promoted_at = int(match[1]) / 1e9
                found.append(InWindow(entry.name, match[2], promoted_at, mtime))
        return sorted(found)

    def names(self, place: str) -> Iterator[str]:
        """List one of our directories in no order, without holding it all in memory."""
        with os.scandir(self.root / place) as entries:
            for entry in entries:
                yield entry.name

    def has(self, place: str, job_id: str) -> bool:
        """Tell whether a job's file lies in one of our directories."""
        return os.path.exists(self._at(place, job_id))

    def read(self, place: str, job_id: str) -> bytes:
        """Return a job's file from one of our directories, never from the window."""
        return Path(self._at(place, job_id)).read_bytes()

    def remove(self, place: str, job_id: str) -> bool:
        """Unlink a job's file in one of our directories; False when it was gone already."""
        return self._forget(self._at(place, job_id))

    def sweep(self, name: str) -> None:
        """Unlink what a writer that died has left in ``tmp/``."""
        self._forget(self.root / WRITING / name)

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

    def quarantined(self) -> int:
        """Return how many files were ever put into ``corrupt/``."""
        try:
            return self._tally.stat().st_size
        except FileNotFoundError:
            return 0

    def free_bytes(self) -> int:
        """Return how much room the spool's file system has left for its owner."""
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize

    def is_writable(self) -> bool:
        """Tell whether files can be made and moved here, without making one."""
        found = os.statvfs(self.root)
        no_names_left = found.f_files > 0 and found.f_favail == 0
        if found.f_flag & os.ST_RDONLY or found.f_bavail == 0 or no_names_left:
            return False
        places = [self.root, *(self.root / place for place in PLACES)]
        return all(os.access(place, os.W_OK | os.X_OK) for place in places)

    def has_housekeeper(self) -> bool:
        """Tell whether a housekeeper lives: it holds its lock as long as it does.

        A shared lock, tried and let go: two who ask do not mislead each other, and a housekeeper
        that begins at this very moment waits some microseconds.
        """
        try:
            with open(self.housekeeper_lock, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def entries(self) -> list[Entry]:
        """List everything in the root, changing nothing; raises `OSError`."""
        found = []
        with os.scandir(self.root) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    seen = entry.stat(follow_symlinks=False)
                    kept = (seen.st_mode, seen.st_uid, seen.st_size, seen.st_mtime)
                    found.append(Entry(entry.name, *kept))
        return sorted(found)

    def devices(self) -> dict[str, int]:
        """Return the file system on which each place lies that is there, the root as ``.``."""
        found = {}
        for place in (".", *PLACES):
            with contextlib.suppress(FileNotFoundError):
                found[place] = os.stat(self.root / place).st_dev
        return found

    def kept_key(self) -> bytes | None:
        """Return the key in the key file, None where there is none; makes nothing."""
        with contextlib.suppress(FileNotFoundError):
            return self._whole_key()
        return None

    @contextlib.contextmanager
    def scratch(self) -> Iterator[tuple[str, str]]:
        """Lend two names in ``tmp/`` for a try; what stands under them is gone afterwards."""
        names = [f"{self._root}/{WRITING}/try-{secrets.token_hex(8)}" for _ in range(2)]
        try:
            yield names[0], names[1]
        finally:
            for name in names:
                self._forget(name)

    def counts(self) -> dict[str, int]:
        """Return how many files lie in each place, the window included."""
        counts = {place: sum(1 for _ in self.names(place)) for place in PLACES}
        return {"window": len(self.window()), **counts}

    def _at(self, place: str, job_id: str) -> str:
        # Ids come from URLs and command lines too: whatever else they hold, no path leaves here.
        if not is_id(job_id):
            raise FileNotFoundError(errno.ENOENT, "not the id of a job", job_id[:60])
        return f"{self._root}/{place}/{job_id}"

    def _window(self, window_name: str) -> str:
        place, slash, job_id = window_name.partition("/")
        if slash and place == TAKEN:
            return self._at(TAKEN, job_id)
        if slash or window_name in ("", ".", ".."):
            raise FileNotFoundError(errno.ENOENT, "not a name in the window", window_name[:60])
        return f"{self._root}/{window_name}"

    def _make_ready(self, path: str) -> None:
        now = time.time()
        try:
            if os.stat(path).st_mtime > now:
                self._set_time(path, now - CLOCK_TICK)
        except FileNotFoundError:
            return

    def _write(
        self,
        path: str | Path,
        data: bytes,
        due: float | None = None,
        *,
        sync: bool = True,
        always_sync: bool = False,
    ) -> None:
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
            self._give_to_owner(descriptor)
            if (self.sync and sync) or always_sync:
                reach("write.fsync")
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _give_to_owner(self, descriptor: int) -> None:
        """Make a file the spool owner's: uWSGI skips what its user cannot open, without a word."""
        owner = self._owner
        if os.geteuid() == owner[0]:
            return
        if os.geteuid() != 0:
            raise PermissionError(errno.EACCES, f"the spool belongs to user id {owner[0]}")
        os.fchown(descriptor, *owner)

    @functools.cached_property
    def _owner(self) -> tuple[int, int]:
        found = self.root.stat()
        return found.st_uid, found.st_gid

    def _move(self, source: str | Path, target: str | Path) -> bool:
        try:
            os.rename(source, target)
        except FileNotFoundError:
            return False
        return True

    def _forget(self, path: str | Path) -> bool:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def _set_time(self, path: str, when: float) -> None:
        try:
            os.utime(path, (when, when))
        except FileNotFoundError:
            return

    def _sync_directory(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
