"""One write transaction, from the wait for the lock to the commit or the way back.

Owns the order of locks: the shield against exceptions from signals, the mutex of this process's
threads, our turn among the processes, SQLite's own lock. A class and not a generator, because each
job opens one or two of these and a generator takes longer.
"""

from __future__ import annotations

import contextlib
from typing import Protocol

import apsw

from ..failpoints import reach
from ..interrupts import shielded
from .connection import Connection, trouble
from .transaction import Transaction


class Mutex(Protocol):
    """A lock among the threads of this process."""

    def acquire(self) -> bool: ...

    def release(self) -> None: ...


class Writing:
    """The context in which a `Transaction` lives."""

    def __init__(
        self, file: Connection, mutex: Mutex, patience: float, *, durable: bool = False
    ) -> None:
        self._durable = durable
        self._file = file
        self._mutex = mutex
        self._patience = patience

    def __enter__(self) -> Transaction:
        shielded.__enter__()
        try:
            self._mutex.acquire()
        except BaseException:  # by a signal handler of the user's
            shielded.__exit__()
            raise
        try:
            self._work = self._begin()
        except BaseException:
            self._leave()
            raise
        return self._work

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        try:
            if error is None:
                try:
                    reach("ledger.commit")
                    self._work.commit()
                    return
                except BaseException as failed:
                    error = failed
            with contextlib.suppress(apsw.Error):
                # Where the database is beyond reach, what could be undone was.
                self._work.roll_back()
            if isinstance(error, apsw.Error):
                raise trouble(self._file.path, error) from error
            if kind is None:
                raise error
        finally:
            self._end()
            self._leave()

    def _begin(self) -> Transaction:
        try:
            connection = self._file.get(self._patience)
            self._file.take_turn()
            try:
                reach("ledger.begin")
                if self._durable:
                    self._file.sync_commits(True)
                connection.execute("BEGIN IMMEDIATE")
            except BaseException:
                self._end()
                raise
        except (apsw.Error, OSError) as error:
            raise trouble(self._file.path, error) from error
        return Transaction(connection)

    def _end(self) -> None:
        if self._durable:
            with contextlib.suppress(apsw.Error):
                self._file.sync_commits(False)
        self._file.end_turn()

    def _leave(self) -> None:
        self._mutex.release()
        shielded.__exit__()
