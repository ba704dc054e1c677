"""What a check has found: a name, a sentence, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One check and what it found.

    `problem` says what was found, also where that is right; `fix` what to do, and is empty where
    nothing is to be done. What is not `ok` is either wrong, or worth knowing: then it may be
    meant, or does no harm today.
    """

    name: str
    ok: bool
    problem: str
    fix: str = ""
    harmless: bool = False

    @property
    def grade(self) -> str:
        """``right``, ``worth knowing`` or ``wrong``."""
        if self.ok:
            return "right"
        return "worth knowing" if self.harmless else "wrong"

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        shown = {"name": self.name, "ok": self.ok, "grade": self.grade}
        return {**shown, "problem": self.problem, "fix": self.fix}


def right(name: str, found: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(name, True, found)


def wrong(name: str, problem: str, fix: str) -> Finding:
    """Return a finding that costs jobs, time or safety."""
    return Finding(name, False, problem, fix)


def worth_knowing(name: str, problem: str, fix: str) -> Finding:
    """Return a finding that may be meant, or does no harm today."""
    return Finding(name, False, problem, fix, harmless=True)


def some(names: list[str]) -> str:
    """Return the first few names, and how many there are more.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3:,} more" if len(names) > 3 else shown
