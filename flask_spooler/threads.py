"""Long-lived threads beside a Flask app that stop in good order. Stands alone.

Owns `BackgroundThread`: subclasses say what to do in `startup`, `handle` and `shutdown`; this
class starts one thread a process, after fork and never in the master or the reloader's parent,
and stops it on stop, reload and Ctrl-C. A thread lives in memory: a killed process takes with it
what was in its hands. Work that must survive that belongs into the spool.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import time
from typing import Final

from . import _uwsgi

log = logging.getLogger("flask_spooler.threads")

GRACE: Final = 5.0
"""Seconds that a thread has for finishing, unless its class says otherwise."""


STARTUP_AGAIN: Final = 1.0
"""Seconds between two tries of a `startup` that raises."""


class BackgroundThread:
    """A loop in a thread of its own: `startup()`, `handle()` again and again, `shutdown()`.

    `handle` should return within a second or so even when there is nothing to do, since the stop
    is seen between two calls. An exception in it is logged and the loop goes on.
    """

    grace = GRACE

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._stopping = threading.Event()
        self.stop_by = 0.0

    def startup(self) -> None:
        """Prepare, in the thread, before the first `handle`; tried again when it raises."""

    def handle(self) -> None:
        """Do one piece of work, or wait a moment for one."""
        raise NotImplementedError

    def shutdown(self) -> None:
        """Finish, in the thread, after the last `handle`, within `seconds_left`."""

    def abandoned(self) -> None:
        """Save what is left, at a stop, when `startup` or `shutdown` failed or took too long."""

    @property
    def stopping(self) -> bool:
        """Whether the thread was asked to stop."""
        return self._stopping.is_set()

    @property
    def seconds_left(self) -> float:
        """Seconds until a stopping thread is given up."""
        return max(0.0, self.stop_by - time.monotonic())

    def start(self) -> None:
        """Run in this process, unless it does already. Safe to call from any thread."""
        with self._lock:
            if self._pid == os.getpid():
                return
            self._pid = os.getpid()
            self._stopping = threading.Event()
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()
        if not _uwsgi.inside():
            atexit.register(self.stop)

    def start_in_workers(self) -> None:
        """Start in each web worker of a uWSGI server after fork; elsewhere at the first use.

        Call it once where the app is made. Outside uWSGI the first `start()` counts, so neither
        the command line nor the reloader's parent process runs the thread for nothing.
        """
        if _uwsgi.inside():
            _uwsgi.on_fork(lambda: self.start() if _uwsgi.worker_id() > 0 else None)
            _uwsgi.on_exit(self.stop)

    def stop(self) -> None:
        """Ask the thread to finish, and wait for it up to `grace` seconds. Once is enough."""
        with self._lock:
            thread = self._thread
            if thread is None or self._pid != os.getpid() or self._stopping.is_set():
                return
            self.stop_by = time.monotonic() + self.grace
            self._stopping.set()
        thread.join(self.grace)
        if thread.is_alive():
            log.warning("thread %s did not finish within %g s", self.name, self.grace)
            self._save()

    def _run(self) -> None:
        # uWSGI ends a worker within the signal handler, on whichever thread the signal reaches:
        # on this one it would wait for itself.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        if not self._starts_up():
            self._save()
            return
        while not self.stopping:
            try:
                self.handle()
            except Exception:  # one bad piece of work must not end the loop
                log.exception("thread %s failed on a piece of work and goes on", self.name)
        try:
            self.shutdown()
        except Exception:  # what it left undone is saved all the same
            log.exception("thread %s failed in its shutdown", self.name)
            self._save()

    def _starts_up(self) -> bool:
        """Try until it works; False when the thread is to stop before that."""
        while True:
            try:
                self.startup()
            except Exception:  # what it is given meanwhile waits, and is saved at a stop
                log.exception("thread %s failed in its startup and tries again", self.name)
                if self._stopping.wait(STARTUP_AGAIN):
                    return False
            else:
                return True

    def _save(self) -> None:
        try:
            self.abandoned()
        except Exception:  # whoever stops has others to stop
            log.exception("thread %s failed to save what it left undone", self.name)
