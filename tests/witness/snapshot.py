"""What is left when all is quiet: rows of the ledger by token, files by place.

It is taken of a spool whose server was stopped, so nothing moves and no lock can be lost by
looking.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import apsw

from flask_spooler.spool import CORRUPT, DEAD, DONE, OUTCOME, WAITING, WRITING, Spool

from .checker import FileSeen, RowSeen
from .clients import TOKEN
from .logs import Ack, History


def rows(ledger: Path, history: History) -> tuple[RowSeen, ...]:
    """The jobs in the ledger; arguments that are too long for it are known by their ACK."""
    acked = {line.id: line.token for line in history.client if isinstance(line, Ack)}
    connection = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READWRITE)
    outcomes: dict[str, dict[int, str]] = defaultdict(dict)
    for job_id, number, outcome in connection.execute("SELECT job, number, outcome FROM attempts"):
        outcomes[job_id][number] = outcome
    found = connection.execute(f"SELECT id, state, error_type, {TOKEN} FROM jobs").fetchall()
    connection.close()
    return tuple(
        RowSeen(token or acked.get(job_id, job_id), job_id, state, why or "", outcomes[job_id])
        for job_id, state, why, token in found
    )


def integrity(ledger: Path) -> str:
    """What SQLite's own check says of the ledger: ``ok``, or what is wrong."""
    connection = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READWRITE)
    answer = "; ".join(str(line) for (line,) in connection.execute("PRAGMA integrity_check"))
    connection.close()
    return answer


def files(spool: Spool) -> tuple[FileSeen, ...]:
    """The files of jobs, and whatever else lies where only jobs should be."""
    window = [FileSeen("window", file.job_id) for file in spool.window()]
    kept = [
        FileSeen(place, name.removesuffix(OUTCOME))
        for place in (WAITING, DEAD, DONE, CORRUPT)
        for name in spool.names(place)
    ]
    return (*window, *kept)


def old_in_tmp(spool: Spool, begun: float) -> tuple[str, ...]:
    """The files in ``tmp/`` that were there before the run; those of killed writers are not."""
    place = spool.root / WRITING
    return tuple(name for name in spool.names(WRITING) if (place / name).stat().st_ctime < begun)


def is_quiet(spool: Spool) -> bool:
    """Tell whether no file of a job waits, runs or is to be written down."""
    busy = any(True for place in (WAITING, DONE) for _ in spool.names(place))
    return not busy and not spool.window()
