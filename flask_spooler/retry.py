"""When a job is tried again: pure functions of the attempt, no clock and no disk.

Owns the two exceptions by which a task decides itself (`Retry`, `Discard`), the two return codes
that uWSGI knows, and the backoff policies. A policy is a callable from the number of the attempt
that failed (1 for the first) to the seconds to wait before the next one.

>>> [round(exponential()(n, rng=lambda: 0.0), 1) for n in (1, 2, 3, 12, 13)]
[1.0, 2.0, 4.0, 2048.0, 3600.0]
>>> [listed([0.5, 10])(n) for n in (1, 2, 3)]
[0.5, 10, 10]
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import IntEnum
from typing import Union

from .errors import OptionError

Backoff = Union[Callable[[int], float], Sequence[float]]

FIRST = 1.0
LONGEST = 3600.0
JITTER = 0.25
LONGEST_WAIT = 315_576_000.0
"""Ten years: what is longer is a mistake in somebody's arithmetic."""


class SpoolAnswer(IntEnum):
    """uWSGI's return codes of a spooler callable, told from a task's plain result by type."""

    SPOOL_OK = -2
    SPOOL_RETRY = -1


SPOOL_OK = SpoolAnswer.SPOOL_OK
SPOOL_RETRY = SpoolAnswer.SPOOL_RETRY


class Retry(Exception):
    """Raise inside a task to run it again, after `delay` seconds or after its usual backoff.

    It counts as an attempt: a task that always asks for one more ends dead after its
    `max_attempts`, like any other that never succeeds.
    """

    def __init__(self, delay: float | timedelta | None = None, reason: str = "") -> None:
        seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
        if seconds is not None and not _is_wait(seconds):
            raise OptionError("Retry(delay=…)", "seconds from 0, under ten years", delay)
        super().__init__(reason or "the task asked to be run again")
        self.delay = seconds


class Discard(Exception):
    """Raise inside a task that can never succeed: the job is dead at once, with this reason."""

    def __init__(self, reason: str = "the task discarded itself") -> None:
        super().__init__(reason)


def exponential(
    first: float = FIRST, longest: float = LONGEST, jitter: float = JITTER
) -> Callable[..., float]:
    """Double the wait with each attempt, and spread it.

    The wait after attempt n is ``first * 2 ** (n - 1)`` seconds, made longer at random by up to
    `jitter` (0.25 = a quarter), and never more than `longest`. The spread keeps jobs that failed
    together, because a service went down, from coming back together.
    """

    def seconds(attempt: int, rng: Callable[[], float] = random.random) -> float:
        doublings = min(attempt - 1, 60)
        return min(first * 2.0**doublings * (1 + jitter * rng()), longest)

    return seconds


def listed(seconds: Sequence[float]) -> Callable[[int], float]:
    """Wait the listed seconds in turn; the last one repeats."""

    def of(attempt: int) -> float:
        return seconds[min(attempt, len(seconds)) - 1]

    return of


def backoff_seconds(backoff: Backoff, attempt: int) -> float:
    """Return the wait after `attempt`, whatever form the policy has; never negative.

    Raises `OptionError` when a user's callable answers something that is no time.
    """
    policy = backoff if callable(backoff) else listed(backoff)
    seconds = policy(attempt)
    if not _is_wait(seconds):
        raise OptionError("backoff", "a number of seconds from 0, under ten years", seconds)
    return float(seconds)


def check_backoff(backoff: Backoff) -> Backoff:
    """Return `backoff` when it can be a policy, raise `OptionError` otherwise."""
    if callable(backoff):
        return backoff
    values = list(backoff) if isinstance(backoff, (list, tuple)) else []
    if not values or not all(_is_wait(value) for value in values):
        raise OptionError(
            "backoff", "a callable from attempt to seconds or a list of seconds", backoff
        )
    return [float(value) for value in values]


def _is_wait(value: object) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0 <= value < LONGEST_WAIT
    )
