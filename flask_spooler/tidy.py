"""The next job finds its process as the first one did.

Owns what a task may change of its process and leave changed: working directory, umask,
environment, signal handlers, standard streams. `Baseline` remembers them when a spooler starts
and puts back, after each job, what is different. Threads and child processes that a task leaves
behind are its own affair.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, Final

from .interrupts import get_handler, set_handler

WATCHED: Final = tuple(
    map(
        int,
        (
            signal.SIGHUP,
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGUSR1,
            signal.SIGUSR2,
            signal.SIGALRM,
            signal.SIGPIPE,
            signal.SIGCHLD,
        ),
    )
)
"""Signals by which uWSGI and this library talk to a spooler, and those that tasks like to set."""

OURS: Final = frozenset(
    map(int, (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM))
)
"""Those whose handlers between jobs this library has set itself, so that Python knows them."""

SIGACTION_BYTES: Final = 256
"""More than ``struct sigaction`` takes on any Linux; it is only carried, never read."""


class Baseline:
    """The state of this process at one moment."""

    def __init__(self, directory: str) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._directory = directory
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._environment = dict(_entries())
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._descriptors = [_copy(number) for number in (0, 1, 2)]
        self._handlers = {number: get_handler(number) for number in WATCHED}
        self._actions = {number: self._action(number) for number in WATCHED}

    def enter(self) -> None:
        """Go where the server was started; uWSGI itself works in the spool directory.

        Where that is gone, as after a deploy, tasks run in the spool directory.
        """
        with contextlib.suppress(OSError):
            os.chdir(self._directory)

    def is_spoiled(self) -> bool:
        """Tell whether somebody has closed descriptors that were not theirs.

        Then uWSGI's and SQLite's are gone as well, and their numbers may stand for other files.
        """
        return not all(copy is None or _is_open(copy) for copy in self._descriptors)

    def restore(self) -> None:
        """Put back what is different, but for the handlers; cheap when nothing is."""
        self.enter()
        os.umask(self._umask)
        if _entries() != self._environment:
            self._restore_environment()
        if (sys.stdin, sys.stdout, sys.stderr) != self._streams:
            sys.stdin, sys.stdout, sys.stderr = self._streams
        for number, copy in enumerate(self._descriptors):
            if copy is not None and not _is_open(number) and _is_open(copy):
                os.dup2(copy, number)

    def restore_handlers(self, other: Mapping[int, Any]) -> None:
        """Put back the handlers of signals that are different; `other` ones for some of them."""
        for number, before in self._handlers.items():
            handler = other.get(number, before)
            if get_handler(number) is handler:
                continue
            if number in OURS:
                set_handler(number, handler)
            else:
                # Not through Python: it never heard of uWSGI's own handlers, takes SIGUSR1 for
                # SIG_DFL, and the next wake-up would kill the process.
                self._libc.sigaction(number, self._actions[number], None)

    def _restore_environment(self) -> None:
        for name in _entries().keys() - self._environment.keys():
            del os.environb[name]
        os.environb.update(self._environment)

    def _action(self, number: int) -> Any:
        action = ctypes.create_string_buffer(SIGACTION_BYTES)
        self._libc.sigaction(number, None, action)
        return action


def _entries() -> dict[bytes, bytes]:
    """Return the environment as it is kept, in bytes.

    Comparing `os.environ` itself decodes every entry, which takes longer than all the rest here.
    """
    entries: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    return entries


def _copy(number: int) -> int | None:
    return os.dup(number) if _is_open(number) else None


def _is_open(number: int) -> bool:
    try:
        os.get_inheritable(number)  # the cheapest question that fails on a closed one
    except OSError:
        return False
    return True
