"""What is left when all is quiet: rows of the ledger by token, files by place.

It is taken of a spool whose server was stopped, so nothing moves and no lock can be lost by
looking.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw

from flask_spooler.ledger import Ledger
from flask_spooler.ledger.search import Search
from flask_spooler.ledger.walks import Filter
from flask_spooler.spool import CORRUPT, DEAD, DONE, OUTCOME, TAKEN, WAITING, WRITING, Spool

from .clients import TOKEN
from .facts import FileSeen, Hits, RowSeen
from .logs import Ack, History

MOST = 1_000_000
REPLACED_BY = re.compile(r"job (\S+) was enqueued in its place")


def rows(ledger: Path, history: History) -> tuple[RowSeen, ...]:
    """The jobs in the ledger; arguments that are too long for it are known by their ACK."""
    acked = {line.id: line.token for line in history.client if isinstance(line, Ack)}
    connection = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READWRITE)
    outcomes: dict[str, dict[int, str]] = defaultdict(dict)
    starts: dict[str, dict[int, float]] = defaultdict(dict)
    for job_id, number, outcome, at in connection.execute(
        "SELECT job, number, outcome, started_at FROM attempts UNION ALL"
        " SELECT id, attempt, state, started_at FROM jobs WHERE state = 'succeeded'"
    ):
        outcomes[job_id][number] = outcome
        starts[job_id][number] = at
    steps: dict[str, dict[str, tuple[int, str]]] = defaultdict(dict)
    for job_id, name, attempt, result in connection.execute(
        "SELECT job, name, attempt, result FROM steps"
    ):
        steps[job_id][name] = attempt, str(json.loads(result))
    columns = "id, state, error_type, error_message, finished_at, unique_key, tags"
    found = connection.execute(f"SELECT {TOKEN}, {columns} FROM jobs").fetchall()
    connection.close()
    return tuple(
        RowSeen(
            token or acked.get(job_id, job_id),
            job_id,
            state,
            why or "",
            outcomes[job_id],
            ended,
            key,
            _replaced_by(message),
            frozenset(json.loads(tags or "[]")),
            steps[job_id],
            starts[job_id],
        )
        for token, job_id, state, why, message, ended, key, tags in found
    )


def _replaced_by(message: str | None) -> str | None:
    found = REPLACED_BY.search(message or "")
    return found and found[1]


def searched(path: Path, tags: tuple[str, ...]) -> tuple[Hits, ...]:
    """What each way to search finds for each tag: that of the command line, and the dashboard's."""
    ledger = Ledger(path)
    ways: dict[str, Callable[[str], Iterator[str]]] = {
        "the list": lambda tag: (job.id for job in ledger.find(tag=tag, limit=MOST)),
        "the search": lambda tag: _pages(Search(ledger), tag),
    }
    found = [Hits(way, tag, frozenset(ids(tag))) for way, ids in ways.items() for tag in tags]
    ledger.close()
    return tuple(found)


def _pages(search: Search, tag: str) -> Iterator[str]:
    before = None
    while True:
        page = search.page(Filter(tag=tag), before=before)
        yield from (job.id for job in page.jobs)
        before = page.next
        if before is None:
            return


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
        for place in (WAITING, TAKEN, DEAD, DONE, CORRUPT)
        for name in spool.names(place)
    ]
    return (*window, *kept)


def old_in_tmp(spool: Spool, begun: float) -> tuple[str, ...]:
    """The files in ``tmp/`` that were there before the run; those of killed writers are not."""
    place = spool.root / WRITING
    return tuple(name for name in spool.names(WRITING) if (place / name).stat().st_ctime < begun)


def is_quiet(spool: Spool) -> bool:
    """Tell whether no file of a job waits, runs or is to be written down."""
    busy = any(True for place in (WAITING, TAKEN, DONE) for _ in spool.names(place))
    return not busy and not spool.window()
