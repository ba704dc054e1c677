"""Exceptions that signals raise, kept out of places where they would do harm.

Owns one counter and the actions that wait for it. A timeout or a cancel reaches a task as an
exception raised by a signal handler, between any two bytecodes of the main thread. While the
ledger is in the middle of a transaction that must not happen: `shielded` holds such an exception
back until the transaction is over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_depth = 0
_pending: list[Callable[[], None]] = []


@contextmanager
def shielded() -> Iterator[None]:
    """Hold back what `deliver` brings until the body is done. Other threads pass through."""
    global _depth
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        while _depth == 0 and _pending:
            _pending.pop(0)()


def deliver(action: Callable[[], None]) -> None:
    """Call `action`, which may raise, now or as soon as no shield is up. For signal handlers."""
    if _depth:
        _pending.append(action)
    else:
        action()


def forget() -> None:
    """Drop what is held back: the job that it was meant for is over."""
    _pending.clear()
