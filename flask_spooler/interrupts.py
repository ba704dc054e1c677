"""Exceptions that signals raise, kept out of places where they would do harm.

Owns one counter and the actions that wait for it, and the cheap way to set a handler. A timeout
or a cancel reaches a task as an exception raised by a signal handler, between any two bytecodes
of the main thread. While the ledger is in the middle of a transaction that must not happen:
`shielded` holds such an exception back until the transaction is over.
"""

from __future__ import annotations

import _signal
import threading
from collections.abc import Callable
from typing import Any, Final

# What `signal` wraps, without turning numbers and handlers into enums and back: 0.4 instead of
# 3 µs a call, and each job takes a dozen of them.
set_handler: Final[Callable[[int, Any], Any]] = _signal.signal
get_handler: Final[Callable[[int], Any]] = _signal.getsignal

_main = threading.main_thread().ident
_depth = 0
_pending: list[Callable[[], None]] = []


class _Shield:
    """Holds back what `deliver` brings until the body is done. Other threads pass through."""

    def __enter__(self) -> None:
        global _depth
        if threading.get_ident() == _main:
            _depth += 1

    def __exit__(self, *error: object) -> None:
        global _depth
        if threading.get_ident() != _main:
            return
        _depth -= 1
        while _depth == 0 and _pending:
            _pending.pop(0)()


shielded: Final = _Shield()
"""``with shielded:`` may be nested."""


def deliver(action: Callable[[], None]) -> None:
    """Call `action`, which may raise, now or as soon as no shield is up. For signal handlers."""
    if _depth:
        _pending.append(action)
    else:
        action()


def forget() -> None:
    """Drop what is held back: the job that it was meant for is over."""
    _pending.clear()
