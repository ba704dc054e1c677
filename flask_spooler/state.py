"""What one app has of the extension: its configuration, where its jobs go, and who runs them.

Owns the choice between the spool that the app is configured for and a private one. An app whose
`testing` is true has a private one: asked for at each use, because the flag is mostly set after
`init_app`, and whatever `SPOOLER_DIRECTORY` says, because that comes from the same configuration
as production's; but for one where temporary files lie, which no production has and a test has
given. Never inside uWSGI: a server runs the jobs of the directory that it scans.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from flask import Flask

from . import _uwsgi
from .config import Config
from .dispatch import Desk
from .engine import SpoolEngine
from .errors import ExtraMissing
from .private import PrivateSpool
from .signals import announce, spool_trouble
from .spool import Spool
from .worker import Worker

if TYPE_CHECKING:
    from .extension import Spooler

TESTERS: Final = ("pytest", "click.testing", "flask.testing")
"""Modules that only tests import: pytest, and what is behind an app's test client and runner."""


class Parts(NamedTuple):
    """A spool, and who works on it."""

    engine: SpoolEngine
    desk: Desk


class AppState:
    """What one app has of the extension."""

    def __init__(self, spooler: Spooler, app: Flask, config: Config) -> None:
        self.spooler = spooler
        self.config = config
        self._app = app
        self._choosing = threading.Lock()
        self._private: Parts | None = None
        self.lent: Parts | None = None
        """What `flask_spooler.testing.spooler_jobs` has put in the place of all others."""
        spool = Spool(config.directory, sync=config.durability == "power")
        self.configured = self._work_on(spool, time.time)

    @property
    def engine(self) -> SpoolEngine:
        """Where the app's jobs go."""
        return self._parts.engine

    @property
    def desk(self) -> Desk:
        """Who answers for the files of these jobs."""
        return self._parts.desk

    @property
    def known_queues(self) -> set[str]:
        """The queues that the configuration or a task names, that have jobs or are paused."""
        config, ledger = self.config.queues, self.engine.ledger
        named = {"default", *config.order, *config.weights, *config.limits}
        named |= {task.options.queue for task in self.spooler.tasks.values()}
        return named | {*ledger.counts(), *ledger.paused()} if self.engine.spool.exists() else named

    @property
    def is_private(self) -> bool:
        """Whether the app's jobs go to a spool that ends with this process: it is being tested."""
        given = self.config.directory_is_passing
        return self._app.testing and not given and not _uwsgi.inside()

    @property
    def is_stranded(self) -> bool:
        """Whether its jobs go where nobody runs them: it is being tested, and this is no test."""
        return self.is_private and self.lent is None and not any(map(sys.modules.get, TESTERS))

    def work_privately(self, spool: PrivateSpool, clock: Callable[[], float]) -> Parts:
        """Return parts that work on a private spool."""
        parts = self._work_on(spool, clock)
        parts.engine.by_hand = True
        return parts

    @property
    def _parts(self) -> Parts:
        if self.lent is not None:
            return self.lent
        if not self.is_private:
            return self.configured
        with self._choosing:
            if self._private is None:
                self._warn_stranded()
                self._private = self.work_privately(PrivateSpool(), time.time)
            return self._private

    def _warn_stranded(self) -> None:
        if self.is_stranded:
            what = "TESTING is on, so jobs go to a spool that ends with this process"
            error = f"for {self.config.directory}, leave TESTING out of the configuration"
            announce(spool_trouble, self._app, what=what, error=error)

    def _work_on(self, spool: Spool, clock: Callable[[], float]) -> Parts:
        config = self.config
        make_engine, make_worker = _makers(config)
        engine = make_engine(
            spool,
            key=config.key,
            max_payload=config.max_payload,
            queues=config.queues,
            clock=clock,
        )
        worker = make_worker(
            self._app,
            engine,
            self.spooler.tasks,
            max_crashes=config.max_crashes,
            grace=config.grace,
        )
        return Parts(engine, Desk(worker, config.foreign_packets))


def _makers(config: Config) -> tuple[type[SpoolEngine], type[Worker]]:
    """Return what enqueues and what runs: the plain ones know nothing of tracing."""
    if not config.tracing:
        return SpoolEngine, Worker
    try:
        from .tracing import TracedEngine, TracedWorker
    except ImportError:
        raise ExtraMissing("SPOOLER_TRACING", "opentelemetry-api", "tracing") from None
    return TracedEngine, TracedWorker
