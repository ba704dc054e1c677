"""The one process that watches the clock: a uWSGI mule.

Owns what nobody else does at a time of its own: jobs become queued when they are due, the window
is filled when no job ends, a wake-up that got lost is sent again, and what a crash left between
two steps is put right. It waits on the spool's FIFO until the next due time or the next second,
whichever is first, so it costs nothing while nothing happens.

There is one housekeeper a spool, by a lock file that ends with its process: the second server on
the same spool waits for the lock. Everything it does is safe to do twice and at any moment; if it
is killed half-way, the next one goes on.
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from . import _uwsgi, operations, upkeep
from .endings import HISTORY
from .engine import SpoolEngine
from .errors import LedgerError, NewerFormat, PacketError
from .job import CANCELLED, EXPIRED, QUEUED, RUNNING, SUCCEEDED
from .lifecycle import drain_at_end
from .record import CANCEL_ASKED, Unrecorded
from .signals import announce, spool_trouble
from .spool import DONE, OUTCOME, TAKEN, private
from .survey import Survey
from .window import RIPEN_AT_ONCE

TICK: Final = 1.0
"""Seconds between two looks at the window; also how long a lost wake-up can last."""

STEP: Final = 200
"""Rows changed in one step of retention and expiry, so that no writer waits for them."""

RETIRING: Final = frozenset({SUCCEEDED, CANCELLED, EXPIRED})
"""What retention deletes. Dead jobs wait for a person, however long that takes."""

HANDOVER: Final = 5.0
"""Seconds for which two housekeepers of one spool are a reload, and not two servers."""

LOCK_LOOK: Final = 0.05

CLOCK_JUMP: Final = 5.0
"""Seconds by which the clock must have gone back to be worth a line in the log."""

TRUST: Final = 2.0
"""Seconds for which the steps of others are left alone: each takes milliseconds."""


class Housekeeper:
    """Keeps one spool in order."""

    def __init__(self, app: Any, engine: SpoolEngine, *, grace: float, retention: float) -> None:
        self.app = app
        self.engine = engine
        self.grace = grace
        self.retention = retention
        self._spool = engine.spool
        self._ledger = engine.ledger
        self._tick_at = 0.0
        self._minute = 0
        self._survey = Survey(app, engine)
        self._looked_at = (time.time(), time.monotonic())

    def run(self) -> None:
        """Wait for the lock of the one housekeeper, then keep house until the process ends."""
        self.engine.prepare()
        self.register(time.time())
        with open(self._spool.housekeeper_lock, "ab", opener=private) as lock:
            self._wait_for(lock.fileno())
            self.keep_house(lambda: True)

    def keep_house(self, goes_on: Callable[[], bool]) -> None:
        """Do one round after the other, as long as `goes_on` says so; the lock is held."""
        bell = os.open(self._spool.doorbell, os.O_RDWR | os.O_NONBLOCK)  # a writer: it never ends
        try:
            self.check_ledger()
            while goes_on():
                select.select([bell], [], [], self.round(time.time()))
                self._hush(bell)
        finally:
            os.close(bell)

    def _wait_for(self, lock: int) -> None:
        """Wait for the housekeeper's lock; say so when that is not just a reload's last moment."""
        give_up = time.monotonic() + HANDOVER
        while time.monotonic() < give_up:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(LOCK_LOOK)
            else:
                return
        what = "another server works on this spool"
        error = "give each server a spool of its own, or end the other one"
        announce(spool_trouble, self.app, what=what, error=error)
        fcntl.flock(lock, fcntl.LOCK_EX)

    def check_ledger(self) -> None:
        """After a power cut, look at a ledger that nobody had synced before trusting it."""
        try:
            booted = self._spool.notes.is_first_since_boot(sync=self._spool.sync)
            if booted and not self._spool.sync and not self._ledger.is_sound():
                self._begin_anew()
        except (LedgerError, OSError) as error:
            announce(spool_trouble, self.app, what="the ledger is not checked", error=error)

    def _begin_anew(self) -> None:
        kept = self._ledger.set_aside()
        what = f"the ledger was damaged, is kept as {kept.name}, and begins anew"
        announce(spool_trouble, self.app, what=what, error="history and attempts are lost")

    def run_or_end(self) -> None:
        """Run in a thread, and take the mule down with it: the master starts a fresh one."""
        try:
            self.run()
        except BaseException as error:
            announce(spool_trouble, self.app, what="a housekeeper failed", error=error)
        os._exit(1)

    def register(self, now: float) -> None:
        """Note that this server serves the spool, and forget those that are gone."""
        boot = _uwsgi.boot()
        try:
            servers = self._ledger.servers()
            with self._ledger.transaction() as rows:
                rows.register(str(boot), now, len(_uwsgi.spooler_pids()))
                for other in servers:
                    master = _uwsgi.Boot.parse(other).master
                    if other != str(boot) and (
                        master == boot.master or not _uwsgi.is_alive(master)
                    ):
                        rows.unregister(other)
        except LedgerError as error:
            announce(spool_trouble, self.app, what="the server is not registered", error=error)

    def round(self, now: float) -> float:
        """Do what is to be done at `now`; return the seconds until there may be more."""
        self._watch_clock(now)
        try:
            more = self._promote(now)
            tick = now - self._tick_at >= TICK or now < self._tick_at
            if tick:
                self._tick_at = now
                self._look_at_taken(now)
                self._look_at_window(now)
                self._record_done(now)
                more = upkeep.expire(self.engine, now, STEP) == STEP or more
                more = self._forget_old(now) or more
                self._forget_minutes(int(now // 60))
            if self._survey.meets_another_ledger(now):
                self.register(now)
            more = self._survey.go_on(now, tick) or more
            next_due = self._ledger.next_due()
        except (LedgerError, OSError) as error:
            announce(spool_trouble, self.app, what="housekeeping has to wait", error=error)
            if isinstance(error, LedgerError) and error.beyond_use:
                self._begin_anew()
            return TICK
        if more:
            return 0.0
        until_due = TICK if next_due is None else next_due - time.time()
        return min(max(until_due, 0.0), TICK)

    def _watch_clock(self, now: float) -> None:
        """Say so when the clock was set back: jobs wait until it is there again."""
        back = self._looked_at[0] + time.monotonic() - self._looked_at[1] - now
        if back > CLOCK_JUMP:
            what = f"the clock was set back by {back:.0f} s"
            announce(spool_trouble, self.app, what=what, error="jobs that wait, wait longer")
        self._looked_at = (now, time.monotonic())

    def _promote(self, now: float) -> bool:
        """Make due jobs queued and fill the window; True when there are more of them."""
        if not self._ledger.has_work(now):
            return False
        with self._ledger.transaction() as rows:
            ripened = rows.ripen(now, RIPEN_AT_ONCE)
            sleepers = self.engine.window.fill(rows).sleepers
        _uwsgi.wake(sleepers)
        return ripened == RIPEN_AT_ONCE

    def _look_at_taken(self, now: float) -> None:
        """Bring back what spoolers had taken that are gone."""
        names = set(self._spool.names(TAKEN))
        if not names:
            return
        # What runs as it should is only read: a long job is no reason to write each second.
        known = self._ledger.in_window().values()
        running = {row.id for row in known if row.state == RUNNING and _uwsgi.is_alive(row.process)}
        for job_id in names - running:
            if upkeep.look_at_taken(self.engine, job_id, now):
                with self._ledger.transaction() as rows:
                    sleepers = self.engine.window.sleepers(rows, unknown=1)
                _uwsgi.wake(sleepers)

    def _look_at_window(self, now: float) -> None:
        """Compare one listing of the window with the rows that speak of it."""
        rows = self._ledger.in_window()
        files = self._spool.window()
        strays = [
            file for file in files if file.job_id not in rows and now - file.promoted_at > TRUST
        ]
        for file in strays:
            with self._ledger.transaction() as writer:
                writer.enter_window(file.job_id, file.name)
        seen = {file.job_id for file in files}
        for row in rows.values():
            if row.state == RUNNING and _uwsgi.is_alive(row.process):
                continue
            if row.id not in seen and now - max(row.due_at, row.started_at or 0) > TRUST:
                upkeep.find_again(self.engine, row.id)
        for row in rows.values():
            if row.cancel_asked == CANCEL_ASKED and row.state == RUNNING:
                # Asked for by somebody who may not signal the server's processes.
                _uwsgi.abort(row.process)
        ready = {row.id for row in rows.values() if row.state == QUEUED}
        stale = [
            file
            for file in files
            if file.job_id in ready and file.mtime <= now and now - file.promoted_at > TICK / 2
        ]
        if strays or stale:
            # A ready file that nobody took: its wake-up came at the wrong moment.
            with self._ledger.transaction() as writer:
                sleepers = self.engine.window.sleepers(writer, unknown=len(strays))
            _uwsgi.wake(sleepers)

    def _record_done(self, now: float) -> None:
        """Write the rows of jobs that ended while the ledger could not be written."""
        names = set(self._spool.names(DONE))
        for job_id in {name.removesuffix(OUTCOME) for name in names}:
            try:
                self._record_one(job_id, names, now)
            except NewerFormat:
                continue  # it waits for code that knows it; nothing runs what lies there
            except (PacketError, msgspec.DecodeError, FileNotFoundError) as error:
                what = f"done/{job_id} cannot be read and is kept in corrupt/"
                announce(spool_trouble, self.app, what=what, error=error)
                for name in names & {job_id, job_id + OUTCOME}:
                    self._spool.quarantine.put_from(DONE, name)

    def _record_one(self, job_id: str, names: set[str], now: float) -> None:
        has_outcome = job_id + OUTCOME in names
        if job_id in names and has_outcome:
            kept = msgspec.json.decode(self._spool.outcome(job_id), type=Unrecorded)
            upkeep.record_late(self.engine, job_id, kept)
        elif self._spool.age(DONE, job_id if job_id in names else job_id + OUTCOME, now) > TRUST:
            # Its worker had no room for an outcome, or was killed before it moved the job file.
            if job_id in names:
                upkeep.record_bare(self.engine, job_id)
            elif not upkeep.is_running(self.engine, job_id):
                self._spool.forget_outcome(job_id)

    def _forget_old(self, now: float) -> bool:
        """Delete a step of what is past its retention; True when there may be more."""
        before = now - self.retention
        return operations.purge(self.engine, before, STEP, RETIRING) == STEP

    def _forget_minutes(self, minute: int) -> None:
        """Delete what the history of minutes has too much: a step a tick until it is done."""
        if minute == self._minute:
            return
        with self._ledger.transaction() as rows:
            if not rows.forget_minute(minute - HISTORY):
                self._minute = minute

    @staticmethod
    def _hush(bell: int) -> None:
        try:
            while os.read(bell, 65_536):
                continue
        except BlockingIOError:
            return


keepers: list[Housekeeper] = []
"""The housekeepers of this process's apps, one a spool; filled when an app is set up."""


def run() -> None:
    """Keep house for all apps of this process; for ``mule = flask_spooler.housekeeper:run``."""
    drain_at_end({keeper.engine: keeper.grace for keeper in keepers})
    for keeper in keepers[1:]:
        threading.Thread(target=keeper.run_or_end, name="housekeeper", daemon=True).start()
    if keepers:
        keepers[0].run()
    what = "the mule knows no app: call spooler.init_app(app) in what module= names, not lazy-apps"
    if _uwsgi.has_pool():  # else the doctor says what is missing
        announce(spool_trouble, None, what=what, error="no job that waits for its time will start")
    while True:
        time.sleep(3600)
