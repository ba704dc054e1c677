"""One spool that a development server's child works on: whether it may, and what is to be run.

Owns the lock of the spool's one housekeeper while nobody else keeps house there. A uWSGI server on
the same spool comes first: where one is, or comes, this child stands back until it is gone. Both at
once would do no harm, since whoever runs a job holds its file locked; but then a developer's
unfinished code would run jobs that were meant for the server.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

import click
from flask import Flask

from .. import _uwsgi
from ..config import Config
from ..dispatch import Desk, dispatch
from ..doctor.note import JOBS, read_note
from ..eager import hand_over
from ..housekeeper import HANDOVER, LOCK_LOOK, Housekeeper
from ..signals import announce, spool_trouble
from ..spool import private

AGAIN: Final = 5.0
"""Seconds until a spool is looked at again that could not be used."""

keeping: Final = threading.Lock()
"""Held while a housekeeper of this process is at work; a task that forks waits for it, or its
child would get a ledger that is locked for ever."""


class Keeper(Housekeeper):
    """A housekeeper beside the jobs, in one process with them."""

    wake: Callable[[], None]
    """Makes the main thread look: who fills the window does not wake its own process."""

    def round(self, now: float) -> float:
        """Do what is to be done, and let nobody fork meanwhile."""
        with keeping:
            pause = super().round(now)
        self.wake()
        return pause


class Seat:
    """What one app has in the child."""

    def __init__(self, app: Flask, config: Config, desk: Desk) -> None:
        self.app = app
        self.engine = desk.worker.engine
        self.is_open = False
        self.desk = desk
        self._keeper = Keeper(app, self.engine, grace=0.0, retention=config.retention)
        self._lock: int | None = None
        self._said = ""

    def keep(self, wake: Callable[[], None]) -> None:
        """Keep house while no server does, for ever; in a thread of its own."""
        self._keeper.wake = wake
        # What a signal is for is done in the main thread, which it must therefore interrupt.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            try:
                self._keep_house()
            except Exception as error:  # whatever it is: jobs must not wait for a dead thread
                announce(spool_trouble, self.app, what="no job can be run here", error=error)
                time.sleep(AGAIN)

    def run_ready(self) -> bool:
        """Run the first job that is ready in the window; False where none has left it by that."""
        if not self.is_open:
            return False
        files = self.engine.spool.window()
        return any(self._run(file.name) for file in files if file.mtime <= time.time())

    def release_in_fork(self) -> None:
        """Let the lock be this process's alone: a child of a task may live longer."""
        if self._lock is not None:
            os.close(self._lock)

    def _run(self, name: str) -> bool:
        """Do with one file what uWSGI does; False where it stays, and is to be left in peace."""
        return hand_over(self.desk, name, dispatch) and not self.engine.spool.in_window(name)

    def _keep_house(self) -> None:
        spool = self.engine.spool
        spool.prepare()
        with keeping:
            # No file object: a task's child would close the number a second time at its end.
            lock = private(str(spool.housekeeper_lock), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            self._lock = lock
        try:
            self._wait_for(lock)
            self._serve()
        finally:
            self.is_open = False
            with keeping:
                os.close(lock)
                self._lock = None

    def _serve(self) -> None:
        self.engine.serves = True
        self.engine.prepare()
        self._keeper.register(time.time())
        self.is_open = True
        self._say(
            f"jobs run in child process {os.getpid()} of the development server"
            " (one at a time; for production: uwsgi --ini uwsgi.ini)"
        )
        self._keeper.keep_house(lambda: self._server() is None)
        self.engine.serves = False
        with self.engine.ledger.transaction() as rows:
            rows.unregister(_uwsgi.boot_name())

    def _wait_for(self, lock: int) -> None:
        """Wait until no server works on the spool, and for the lock; say so where that is long."""
        began = time.monotonic()
        while True:
            server = self._server()
            if server is not None:
                self._say(f"uWSGI server {server} runs the jobs of {self.engine.spool.root}")
            elif _locked(lock):
                return
            elif time.monotonic() - began > HANDOVER:
                self._say(f"another process runs the jobs of {self.engine.spool.root}")
            time.sleep(LOCK_LOOK)

    def _server(self) -> int | None:
        """Return the master of the uWSGI server that works on this spool, if there is one."""
        note = read_note(self.engine.spool, JOBS)
        if note is None or not note.is_alive:
            return None
        return _uwsgi.Boot.parse(note.boot).master.pid

    def _say(self, what: str) -> None:
        if what != self._said:
            self._said = what
            say(what)


def say(what: str) -> None:
    """Tell the developer, in the manner of Flask's own lines."""
    click.echo(f" * Spooler: {what}", err=True)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
