"""What goes wrong where: failpoints of the library, armed from outside the process.

Two ways to order a fault. The environment: ``WITNESS_FAULT=publish.rename:kill:3`` is done at the
third time a process reaches that point. Tickets, for a server that runs: a file named
``spooler@publish.rename`` in the directory of tickets, holding the action, is taken by the first
spooler that comes by, so that exactly one process suffers, and the log of kills has its line.

===============  ====================================================================
action           does
===============  ====================================================================
``kill``         logs the kill, then ends this very process with SIGKILL
``raise``        raises `OSError` (ENOSPC), as a full disk would
``stall``        waits a moment, so that others get in between
``stall-raise``  both
===============  ====================================================================
"""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flask_spooler import failpoints

from .logs import Log, identity

LIBRARY = Path(failpoints.__file__).parent
STALL = 0.15
VARIABLE = "WITNESS_FAULT"
_STALLED = threading.Event()


class Fault(NamedTuple):
    """One thing that goes wrong: where, what, and at the how manieth time."""

    point: str
    action: str
    nth: int = 1


def points() -> list[str]:
    """Return the names of all failpoints in the library, read from its source."""
    named = re.compile(r"\breach\(\"([a-z_.]+)\"\)")
    return sorted(
        {name for file in LIBRARY.rglob("*.py") for name in named.findall(file.read_text())}
    )


def from_environment() -> Fault | None:
    """Return the fault that `WITNESS_FAULT` orders, None where it is not set."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    point, action, nth = text.split(":")
    return Fault(point, action, int(nth))


def do(action: str, what: str, killer: Log) -> None:
    """Carry an action out in this process."""
    if action == "kill":
        killer.write("K", identity(os.getpid()), int(signal.SIGKILL), what)
        os.kill(os.getpid(), signal.SIGKILL)
    if action.startswith("stall"):
        _STALLED.wait(STALL)
    if action.endswith("raise"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), what)


def arm(
    fault: Fault | None, killer: Log, role: Callable[[], str], tickets: Path | None = None
) -> None:
    """Let this process, and those forked from it, suffer `fault` and the tickets for its role."""
    counts: Counter[str] = Counter()

    def armed(point: str) -> None:
        counts[point] += 1
        if fault is not None and point == fault.point and counts[point] == fault.nth:
            do(fault.action, f"{role()}@{point}", killer)
        if tickets is not None:
            action = take(tickets, role(), point)
            if action is not None:
                do(action, f"{role()}@{point}", killer)

    failpoints.armed = armed


def order(tickets: Path, role: str, point: str, action: str) -> None:
    """Leave a ticket: the next process of this role that reaches `point` suffers `action`."""
    aside = tickets / f".{role}@{point}"
    aside.write_text(action)
    aside.rename(tickets / f"{role}@{point}")


def take(tickets: Path, role: str, point: str) -> str | None:
    """Take the ticket for this place, if there is one; only one process ever gets it."""
    taken = tickets / f".taken-{os.getpid()}-{threading.get_native_id()}"
    try:
        (tickets / f"{role}@{point}").rename(taken)
    except FileNotFoundError:
        return None
    action = taken.read_text()
    taken.unlink()
    return action


def withdraw(tickets: Path) -> None:
    """Take back all tickets that nobody has come by for."""
    for ticket in tickets.glob("[!.]*@*"):
        ticket.unlink(missing_ok=True)
