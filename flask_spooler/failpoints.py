"""Named places in the code where a test can make things go wrong.

Owns one variable. `reach(name)` stands before every system call that matters for a job's safety;
it does nothing unless a test has put a function into `armed`, which may then raise, wait or kill
the process. The names are listed by `grep -rn 'reach(' flask_spooler`.
"""

from __future__ import annotations

from collections.abc import Callable

armed: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """Give a test the chance to interfere here."""
    if armed is not None:
        armed(name)
