"""Five ways to run work beside a request, in one module, to compare.

===================  ==========================================  ===============================
way                  survives                                    says how it went
===================  ==========================================  ===============================
threaded_task        nothing                                     the log
uwsgi_task           nothing                                     the log
spool_task           kill -9, reload, power cut                  state, progress, result, attempts
uwsgi_tasks_task     kill -9, reload                             the log
NotificationThread   stop and reload: the rest goes to the spool  the log, and its jobs
===================  ==========================================  ===============================
"""

from __future__ import annotations

import json
import logging
import math
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import uwsgi_tasks

from flask_spooler import SPOOL_OK, Spooler, current_job
from flask_spooler.retry import SpoolAnswer
from flask_spooler.threads import BackgroundThread

try:
    import uwsgidecorators
except ImportError:  # the command line and the tests import this module without uWSGI
    uwsgidecorators = None

log = logging.getLogger(__name__)

INSIDE_UWSGI = uwsgidecorators is not None

RETRY_COUNT = 5
RETRY_TIMEOUT = 2
"""`uwsgi-tasks` runs a task up to five times, two whole seconds apart."""

spooler = Spooler()


def work(duration: float, where: str) -> Iterator[tuple[int, int]]:
    """Pass `duration` seconds, printing and yielding (i, N) as each of the N seconds is done."""
    total = max(1, math.ceil(duration))
    for i in range(1, total + 1):
        print(f"Working in {where}... {i}/{total}", flush=True)
        time.sleep(min(1.0, duration - (i - 1)))
        yield i, total


def threaded_task(duration: float) -> None:
    """Work in a plain thread: the simplest way, gone with its process."""
    for _ in work(duration, "a thread"):
        continue


def start_thread(duration: float) -> str:
    """Start `threaded_task` and return the name of its thread."""
    thread = threading.Thread(target=threaded_task, args=(duration,), daemon=True)
    thread.start()
    return thread.name


def uwsgi_task(duration: float) -> None:
    """Work in a thread that uWSGI's own decorator makes: a plain thread with less to type."""
    for _ in work(duration, "a uwsgi thread"):
        continue


if INSIDE_UWSGI:
    uwsgi_task = uwsgidecorators.thread(uwsgi_task)


@spooler.task
def spool_task(duration: float = 5) -> SpoolAnswer:
    """Work in the spooler, with progress: durable, retried, visible."""
    for i, total in work(duration, "uwsgi spool"):
        current_job.progress(i, total)
    return SPOOL_OK


@uwsgi_tasks.task(  # type: ignore[untyped-decorator]
    executor=uwsgi_tasks.TaskExecutor.SPOOLER,
    retry_count=RETRY_COUNT,
    retry_timeout=RETRY_TIMEOUT,
    working_dir=None,
)
def uwsgi_tasks_task(duration: float, fail: int) -> None:
    """Work in the spooler through the uwsgi-tasks library; its first `fail` tries fail."""
    memory = uwsgi_tasks.get_current_task().buffer
    memory["tries"] = tries = memory.get("tries", 0) + 1
    print(f"Working in uwsgi-tasks, try {tries} of at most {RETRY_COUNT}", flush=True)
    if tries <= fail:
        raise uwsgi_tasks.RetryTaskException(timeout=RETRY_TIMEOUT)
    for _ in work(duration, "uwsgi-tasks"):
        continue


@spooler.task
def notify(notification: dict[str, Any]) -> None:
    """Deliver one notification: what both the thread and the spooler do with it."""
    print(f"Notification handled: {notification}", flush=True)


class NotificationThread(BackgroundThread):
    """Delivers notifications one after the other; what a stop leaves undone becomes jobs.

    One that can become nothing now, as on a full disk, holds up no other: it is tried again as
    long as there is time, and then logged whole, for a person to deliver.
    """

    pause = 0.5
    """Seconds between two tries to make jobs of what could not become jobs."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._accepted: queue.Queue[dict[str, Any]] = queue.Queue()
        self._in_hand: dict[str, Any] | None = None
        self._door = threading.Lock()

    def submit(self, notification: dict[str, Any]) -> None:
        """Accept a notification: from now on it is delivered, or becomes a job at a stop.

        Raises `ArgumentError` or `PayloadTooLarge` for one that could not become a job.
        """
        spooler.engine.check_size(notify.job((notification,), {}, time.time()))
        self.start()
        # Nothing is put behind the back of a stop that has just emptied the queue.
        with self._door:
            if not self.stopping:
                self._accepted.put(notification)
                return
        notify.enqueue(notification)

    def handle(self) -> None:
        """Deliver the next notification, waiting a moment for one."""
        try:
            self._in_hand = self._accepted.get(timeout=0.2)
        except queue.Empty:
            return
        try:
            notify(self._in_hand)
        except Exception:  # not delivered now: as a job it is tried again
            for notification, error in self._failing([self._in_hand]):
                log.warning("%s", error)
                self._accepted.put(notification)
                time.sleep(self.pause)
            raise
        finally:
            self._in_hand = None

    def shutdown(self) -> None:
        """Deliver while there is time, and leave the rest to the spooler."""
        while not self._accepted.empty() and self.seconds_left > self.grace / 2:
            self.handle()
        self._to_the_spool([])

    def abandoned(self) -> None:
        """Hand over everything, also what is in hand: it may then be delivered twice."""
        in_hand = self._in_hand
        self._to_the_spool([] if in_hand is None else [in_hand])

    def _to_the_spool(self, left: list[dict[str, Any]]) -> None:
        with self._door:
            while not self._accepted.empty():
                left.append(self._accepted.get_nowait())
            failed = self._failing(left)
            while failed and self.seconds_left > self.pause:
                time.sleep(self.pause)
                failed = self._failing([notification for notification, _ in failed])
        for notification, error in failed:
            log.error("Notification lost: %s: %s", json.dumps(notification), error)

    @staticmethod
    def _failing(notifications: list[dict[str, Any]]) -> list[tuple[dict[str, Any], Exception]]:
        """Make jobs of notifications; return those of which none could be made, and why."""
        failed = []
        for notification in notifications:
            try:
                notify.enqueue(notification)
            except Exception as error:  # whatever it is, the others are not to be lost by it
                failed.append((notification, error))
        return failed


class BackgroundThreadFactory:
    """Makes background threads by name."""

    kinds = {"notification": NotificationThread}  # noqa: RUF012

    @classmethod
    def create(cls, name: str) -> NotificationThread:
        """Return a new thread of this kind, not started yet; `ValueError` for an unknown name."""
        if name not in cls.kinds:
            raise ValueError(f"expected one of {sorted(cls.kinds)}, got: {name!r}")
        return cls.kinds[name](name)


notifications = BackgroundThreadFactory.create("notification")
