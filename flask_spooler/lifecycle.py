"""How a server's processes begin and end.

Owns what uWSGI leaves open at a stop. uWSGI kills spoolers with SIGKILL, running jobs included,
as soon as its web workers are gone; so at a graceful stop the workers wait for the jobs. The
order of events, with ``hook-master-start = unix_signal:15 gracefully_kill_them_all``:

1. The master sends SIGHUP to mules and workers. The mule writes into the ledger that this boot is
   draining, so no spooler starts another job, and ends.
2. Each web worker finishes its request and, on its way out, waits until no job of this boot runs,
   at most `SPOOLER_GRACE` seconds. The master waits for its workers, without a limit of its own.
3. The master kills the spoolers. What still ran is interrupted, and run again at the next start.

A reload (SIGHUP to the master) kills the spoolers first: nothing is left to wait for, jobs are
interrupted and lose nothing; ``flask spooler drain`` before it avoids even that. Signals that
reach a spooler itself, by Ctrl-C to the whole process group or because its master died, let the
job in hand finish and end the process after it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

from . import _uwsgi, capture, operations
from .engine import SpoolEngine
from .errors import LedgerError
from .interrupts import deliver, set_handler
from .tidy import Baseline

PR_SET_PDEATHSIG: Final = 1
PR_SET_TIMERSLACK: Final = 29

TIMER_SLACK: Final = 1_000
"""Nanoseconds by which a spooler may oversleep. Linux gives 50,000 by default, which is as long as
the waits for the ledger among spoolers should take."""

LOOK_EVERY: Final = 0.05
"""Seconds between two looks at the running jobs while a worker waits for them."""

MULE_NEEDS: Final = 1.0
"""Seconds in which the mule must have noted the drain, or this is no stop of the server."""

LAST_WORDS: Final = 0.1
"""Seconds that uWSGI gets for unlinking a file before a process ends that was told to."""

ENDING: Final = (int(signal.SIGTERM), int(signal.SIGINT))
RELOAD: Final = int(signal.SIGHUP)


class SpoolerProcess:
    """A spooler process: its clean state, and whether it was told to end."""

    def __init__(self, directory: str, death: int = signal.SIGTERM) -> None:
        self.told_to_end = False
        self.abort_noted = False
        self.spoiled = False
        for ignored in (signal.SIGHUP, signal.SIGALRM, signal.SIGUSR2):
            signal.signal(ignored, signal.SIG_IGN)
        for number in ENDING:
            signal.signal(number, signal.SIG_DFL)
        self._listening: dict[int, Callable[[int, FrameType | None], None]] = {}
        capture.install()
        self._baseline = Baseline(directory)
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, TIMER_SLACK)
        # Without a master uWSGI's spooler would go on.
        die_with(_uwsgi.boot().master.pid, death)

    @contextmanager
    def busy(self, on_reload: Callable[[], None]) -> Iterator[None]:
        """Let what the body does come to its end whatever signal comes.

        SIGTERM and SIGINT end the process after it. SIGHUP says that SIGKILL follows in a second
        or two: `on_reload` may note that.
        """
        if self.told_to_end:
            os._exit(0)  # no job is in hand: uWSGI has the next file, and its lock ends with us

        def end(signum: int, frame: FrameType | None) -> None:
            self.told_to_end = True

        def reload(signum: int, frame: FrameType | None) -> None:
            self.told_to_end = True
            deliver(on_reload)

        def note_abort(signum: int, frame: FrameType | None) -> None:
            self.abort_noted = True

        self.abort_noted = False
        self._listening = {RELOAD: reload, _uwsgi.ABORT: note_abort, **dict.fromkeys(ENDING, end)}
        for number, handler in self._listening.items():
            set_handler(number, handler)
        self._baseline.enter()
        try:
            yield
        finally:
            self._baseline.restore_handlers({})
            if self.told_to_end:
                # uWSGI still has to unlink the file; if it then hands over no other one, nobody
                # would ask whether this process was told to end.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, LAST_WORDS)

    def tidy(self) -> None:
        """Put back what the task has left changed, and see whether the process is still sound."""
        self.spoiled = self._baseline.is_spoiled()
        self._baseline.restore()
        self._baseline.restore_handlers(self._listening)

    def take_abort_note(self) -> bool:
        """Tell whether somebody asked for a look at the job in hand before `perform` listened."""
        noted, self.abort_noted = self.abort_noted, False
        return noted

    def end(self) -> NoReturn:
        """End this process without a word; the master starts a fresh one."""
        os._exit(1)


class OtherProcess(SpoolerProcess):
    """Stands in where jobs are run outside uWSGI's spoolers: changes nothing."""

    def __init__(self) -> None:
        self.told_to_end = False
        self.spoiled = False

    @contextmanager
    def busy(self, on_reload: Callable[[], None]) -> Iterator[None]:
        """Run the body."""
        yield

    def tidy(self) -> None:
        """Leave the process as it is."""

    def take_abort_note(self) -> bool:
        """Let each job look: nobody listens here between two of them."""
        return True


_process: SpoolerProcess = OtherProcess()


def this_process() -> SpoolerProcess:
    """Return what is known of this process."""
    return _process


def become_spooler(directory: str, death: int) -> None:
    """Make this process a spooler that uWSGI has not forked; its parent's end sends `death`."""
    global _process
    _process = SpoolerProcess(directory, death)


def take_part(engine: SpoolEngine, grace: float) -> None:
    """Prepare the processes that the master is about to fork; called where the app is set up."""
    directory = os.getcwd()
    _uwsgi.boot()

    def begin() -> None:
        global _process
        # What was there before the fork stays: were it searched for garbage, each process would
        # get a copy of its own of every page that holds an object.
        gc.freeze()
        if _uwsgi.is_spooler() and isinstance(_process, OtherProcess):  # one, of several apps too
            _process = SpoolerProcess(directory)

    def leave() -> None:
        if _uwsgi.worker_id() > 0:
            wait_for_jobs(engine, grace)

    _uwsgi.on_fork(begin)
    _uwsgi.on_exit(leave)


def drain_at_end(engines: dict[SpoolEngine, float]) -> None:
    """Let the mule note the end of its server in each spool before it ends itself."""

    def end(signum: int, frame: FrameType | None) -> None:
        deliver(note_and_end)

    def note_and_end() -> None:
        for engine, grace in engines.items():
            # Where it fails the jobs are interrupted instead, and lose nothing.
            with contextlib.suppress(LedgerError), engine.ledger.transaction() as rows:
                rows.drain(_uwsgi.boot_name(), time.time() + grace)
        os._exit(0)

    for number in (signal.SIGHUP, *ENDING):
        signal.signal(number, end)


def wait_for_jobs(engine: SpoolEngine, grace: float) -> None:
    """Wait until no job of this server runs, when the server is about to stop.

    Returns at once where nothing runs, and soon where only this worker ends: then nobody has
    noted a drain.
    """
    started = time.monotonic()
    boot = _uwsgi.boot_name()
    try:
        while operations.running(engine, boot):
            waited = time.monotonic() - started
            draining = engine.ledger.is_draining(boot, time.time())
            if waited > grace or (waited > MULE_NEEDS and not draining):
                return
            time.sleep(LOOK_EVERY)
    except LedgerError:
        return


def die_with(parent: int, number: int) -> None:
    """Let the kernel send this process a signal when its parent has died."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        os._exit(0)  # it died before the line above
