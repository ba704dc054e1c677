"""The connection to the ledger file: opened when needed, once a process, and never a stale one.

Owns the file itself: it is made whole and put into place in one step, so nobody ever meets half a
ledger; a connection that was inherited through fork is left alone; and before each use path and
descriptor are compared, because a deleted database goes on accepting writes that nobody will ever
read. SQLite runs in WAL mode through apsw, which brings a current SQLite of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from ..errors import LedgerError

SCHEMA_VERSION: Final = 3
SCHEMA: Final = Path(__file__).with_name("schema.sql")
UPGRADES: Final = {old: Path(__file__).with_name(f"from_{old}.sql") for old in (1, 2)}
"""What `SCHEMA` cannot change by itself, from each older version to the next one."""
COMPANIONS: Final = ("-wal", "-shm")
"""What SQLite keeps beside a file in WAL mode; without their file they belong to nothing."""

SHORTEST_PAUSE: Final = 0.00003
LONGEST_PAUSE: Final = 0.0005
"""Seconds between two looks whether it is our turn; a transaction takes about 0.0001."""


class Connection:
    """One ledger file as this process sees it."""

    def __init__(self, path: Path, prepare: Callable[[], None], *, sync: bool) -> None:
        self.path = path
        self._path = str(path)
        self._synchronous = "NORMAL" if sync else "OFF"
        self.generation = 0
        self._prepare = prepare
        self._patience = 0.0
        self._give_up_at = 0.0
        self._open: apsw.Connection | None = None
        self._pid = 0
        self._turn = -1
        self._end_turns: Callable[[], object] = lambda: None
        self._file = (0, 0)
        self._inherited: list[apsw.Connection] = []

    def get(self, patience: float) -> apsw.Connection:
        """Return the connection, ready for one use that waits up to `patience` for a lock.

        Raises `apsw.Error`, `OSError`, and `LedgerError` for a ledger of a newer version.
        """
        self._patience = patience
        self._give_up_at = 0.0
        if self._open is None or self._pid != os.getpid() or not self._is_current():
            self._let_go()
            self._open = self._connect()
            self.generation += 1
            self._pid = os.getpid()
        return self._open

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        self._let_go()
        self._end_turns()
        self._turn = -1

    def take_turn(self) -> None:
        """Wait for the other writers of our own, up to the patience of this use.

        SQLite's own lock decides; this one saves it from being asked over and over, which takes
        half a dozen system calls each time and was a third of the cost of a job with four
        spoolers. So whoever has waited in vain goes on to ask SQLite, and is told why not.
        """
        pause = SHORTEST_PAUSE
        while not _lock(self._turn) and self._has_patience():
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def end_turn(self) -> None:
        """Let the next writer begin."""
        fcntl.lockf(self._turn, fcntl.LOCK_UN)

    def sync_commits(self, each: bool) -> None:
        """Let each commit be on the disk when it ends, where the spool syncs, or a while after."""
        if self._open is not None and self._synchronous == "NORMAL":
            self._open.execute(f"PRAGMA synchronous = {'FULL' if each else 'NORMAL'}")

    def set_aside(self) -> Path:
        """Move a ledger that is beyond use out of the way; the next use begins a new one.

        The old file is kept beside it, its companions too, for whoever wants to look into it.
        """
        kept = self.path.with_name(f"{self.path.name}.unusable-{time.time_ns()}")
        with self._alone():
            for ending in ("", *COMPANIONS):
                old = Path(f"{self.path}{ending}")
                if old.exists():
                    old.rename(f"{kept}{ending}")
        return kept

    def _connect(self) -> apsw.Connection:
        if not self.path.exists():
            self._begin()
        connection = apsw.Connection(str(self.path), apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_handler(self._wait_for_lock)
        found = os.stat(self.path)
        self._file = (found.st_dev, found.st_ino)
        if self._turn < 0:
            self._turn = _private(f"{self.path}.turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            # Test suites make an app, and with it a ledger, for each of thousands of tests.
            self._end_turns = ending = weakref.finalize(self, os.close, self._turn)
            ending.atexit = False
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        version = connection.pragma("user_version")
        if version in UPGRADES:
            version = self._upgrade(connection)
        if version == 0:
            # Ours are linked into place whole: an empty file, or another program's database.
            raise LedgerError(str(self.path), RuntimeError("it is no ledger"), beyond_use=True)
        if version != SCHEMA_VERSION:
            raise LedgerError(
                str(self.path),
                RuntimeError(
                    f"it has schema {version}, this version knows {SCHEMA_VERSION}: upgrade "
                    "Flask-Spooler, or move the file away, which costs the history and no job"
                ),
            )
        return connection

    def _upgrade(self, connection: apsw.Connection) -> int:
        """Bring an older ledger to the present schema, whole or not at all; return its version.

        The write lock comes first: processes with older code may go on writing, and SQLite does not
        wait for them in a transaction that has read already.
        """
        with self._alone():
            connection.execute("BEGIN IMMEDIATE")
            try:
                version: int = connection.pragma("user_version")
                if version in UPGRADES:  # nobody else was faster
                    for old in range(version, SCHEMA_VERSION):
                        connection.execute(UPGRADES[old].read_text())
                    connection.execute(SCHEMA.read_text())
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(apsw.Error):  # it has rolled back by itself
                    connection.execute("ROLLBACK")
                raise
        return connection.pragma("user_version")  # type: ignore[no-any-return]

    def _begin(self) -> None:
        """Make an empty ledger beside the path and link it into place, unless it is there."""
        self._prepare()
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}.{time.time_ns()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        owner = self.path.parent.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.close(descriptor)
        try:
            connection = apsw.Connection(str(fresh))
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(SCHEMA.read_text())
            connection.close()
            with self._alone():
                if not self.path.exists():
                    for ending in COMPANIONS:
                        Path(f"{self.path}{ending}").unlink(missing_ok=True)
                    os.link(fresh, self.path)
        finally:
            for ending in ("", *COMPANIONS):
                Path(f"{fresh}{ending}").unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with open(f"{self.path}.lock", "ab", opener=_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _let_go(self) -> None:
        # A connection inherited through fork belongs to the parent: even closing it here would
        # meddle with the parent's locks. One that this process opened is closed.
        if self._open is not None:
            if self._pid == os.getpid():
                self._open.close()
            else:
                self._inherited.append(self._open)
        self._open = None

    def _is_current(self) -> bool:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._file

    def _has_patience(self) -> bool:
        """Tell whether this use may go on waiting; its patience begins with the first question."""
        now = time.monotonic()
        self._give_up_at = self._give_up_at or now + self._patience
        return now < self._give_up_at

    def _wait_for_lock(self, tries: int) -> bool:
        # SQLite's own waiting sleeps in steps of up to 100 ms; a transaction of ours takes 0.1 ms.
        if not self._has_patience():
            return False
        time.sleep(min(0.0001 * 1.3**tries, 0.005) * (0.5 + random.random()))
        return True


def trouble(path: Path, error: Exception) -> LedgerError:
    """Return any failure of SQLite or of the disk as ours."""
    damage = isinstance(error, (apsw.CorruptError, apsw.NotADBError))
    return LedgerError(str(path), error, beyond_use=damage)


def _lock(descriptor: int) -> bool:
    try:
        # Not flock: a child that a task forks would keep that when this process is killed.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
