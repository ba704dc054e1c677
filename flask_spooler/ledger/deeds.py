"""Who did what: the record of what people did to jobs and queues through the dashboard and the API.

Owns the table ``deeds``. A deed is written after it was done, by the process that did it; the
newest `KEPT` are kept. It outlives the job that it was done to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from . import Ledger

KEPT: Final = 100_000


class Deed(msgspec.Struct, frozen=True):
    """One thing that was done; field names are columns of the ledger."""

    at: float
    who: str
    deed: str
    target: str
    detail: str | None = None


_DEED: Final = ", ".join(Deed.__struct_fields__)


class Deeds:
    """The deeds of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def write(self, deeds: Iterable[Deed]) -> None:
        """Write down what was done, and forget what is older than the newest `KEPT`."""
        rows = [msgspec.structs.astuple(deed) for deed in deeds]
        with self._ledger.transaction() as work:
            for row in rows:
                work._run(f"INSERT INTO deeds ({_DEED}) VALUES (?,?,?,?,?)", row)
            work._run("DELETE FROM deeds WHERE seq <= (SELECT max(seq) FROM deeds) - ?", (KEPT,))

    def of(self, target: str, limit: int = 50) -> list[Deed]:
        """Return what was done to a job or a queue, the newest first."""
        with self._ledger._reading() as run:
            found = run(
                f"SELECT {_DEED} FROM deeds WHERE target = ? ORDER BY seq DESC LIMIT ?",
                (target, limit),
            )
            return [Deed(*row) for row in found]

    def newest(self, limit: int = 50) -> list[Deed]:
        """Return what was done last, the newest first."""
        with self._ledger._reading() as run:
            found = run(f"SELECT {_DEED} FROM deeds ORDER BY seq DESC LIMIT ?", (limit,))
            return [Deed(*row) for row in found]
