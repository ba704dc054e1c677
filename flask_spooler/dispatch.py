"""The one spooler callable of a process: who is to run this packet.

Owns `uwsgi.spooler`, of which there is one a process, though several apps and several libraries
may live in it. Jobs of ours go to the worker of the spool they lie in; packets of
`uwsgidecorators` and `uwsgi_tasks` go to those libraries where the app has opted in, and so do
packets for a bare callable that the app has registered. Everything else is put into quarantine:
whoever reaches a uwsgi socket can spool a packet, so by default an unsigned one is run by nobody.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable
from typing import Any, Final

from . import _uwsgi, aside
from .job import is_ours
from .record import ErrorInfo
from .retry import SPOOL_OK, SPOOL_RETRY, SpoolAnswer
from .signals import announce, file_quarantined, log
from .worker import Worker, window_of

MARKS: Final = {
    b"ud_spool_func": ("uwsgidecorators", "uwsgidecorators"),
    b"function_name": ("uwsgi_tasks", "uwsgi_tasks.tasks"),
}
"""The key that marks a library's packets, its name for `SPOOLER_FOREIGN_PACKETS`, its module."""

HOT: Final = 1.0
"""Seconds until another library's packet is tried again: bare uWSGI would loop without a pause."""

BROKEN: Final = 30.0
"""Seconds until a file is looked at again on which we ourselves failed."""

Handler = Callable[[_uwsgi.Packet], Any]


class Desk:
    """Where the packets of one app's spool arrive."""

    def __init__(self, worker: Worker, foreign: frozenset[str]) -> None:
        self.worker = worker
        self.foreign = foreign
        self.bare: Handler | None = None

    def handle(self, packet: _uwsgi.Packet) -> SpoolAnswer:
        """Answer for one packet, whoever has written it."""
        if is_ours(packet):
            return self.worker.handle(packet)
        handler = self._handler(packet)
        if handler is not None:
            return self._hand_on(handler, packet)
        kept = self.worker.engine.spool.quarantine.put(window_of(packet), os.getcwd())
        why = "it is unsigned, and the app has not opted in to such packets"
        if kept is not None:
            announce(file_quarantined, self.worker.app, name=kept, why=why)
        return SPOOL_RETRY

    def _handler(self, packet: _uwsgi.Packet) -> Handler | None:
        for mark, (library, module) in MARKS.items():
            if mark in packet:
                if library not in self.foreign:
                    return None
                return importlib.import_module(module).manage_spool_request  # type: ignore[no-any-return]
        return self.bare

    def _hand_on(self, handler: Handler, packet: _uwsgi.Packet) -> SpoolAnswer:
        try:
            answer = handler(packet)
        except (Exception, SystemExit):  # its own affair, but it must not end our pool
            log.exception("the handler of a foreign packet failed, it is tried again")
            answer = SPOOL_RETRY
        if answer == SPOOL_OK:
            return SPOOL_OK
        self.worker.engine.spool.lease(window_of(packet), time.time() + HOT)
        return SPOOL_RETRY


desks: list[Desk] = []


def open_desk(desk: Desk) -> None:
    """Let this process answer for one more spool, and be the one that is asked."""
    desks.append(desk)
    _uwsgi.install(dispatch)


def dispatch(packet: _uwsgi.Packet) -> int:
    """Answer uWSGI, whatever happens: one of two numbers, never an exception."""
    window = window_of(packet)
    desk = _desk_of(window)
    try:
        return int(desk.handle(packet))
    except Exception as error:  # a fault of ours: the job is kept, loudly, and the pool goes on
        log.exception("the spooler failed on %r, it is kept and tried again", window)
        # Where even that fails the file is looked at again at the next scan.
        with contextlib.suppress(OSError):
            why = ErrorInfo(type(error).__name__, f"the spooler itself failed on it: {error}")
            aside.send_back(desk.worker.engine, window, BROKEN, why)
        return int(SPOOL_RETRY)


def _desk_of(window: str) -> Desk:
    for desk in desks[1:]:
        if desk.worker.engine.spool.in_window(window):
            return desk
    return desks[0]
