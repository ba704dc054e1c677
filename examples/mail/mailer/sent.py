"""The list of what was sent, newest first: a table of the app's own, which names the jobs.

Jobs are forgotten after `SPOOLER_RETENTION`; what an app has to remember for longer it keeps.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from flask import current_app

TABLE = """
CREATE TABLE IF NOT EXISTS letters (
    job TEXT PRIMARY KEY, recipient TEXT NOT NULL, subject TEXT NOT NULL, at REAL NOT NULL
)
"""


def remember(job: str, recipient: str, subject: str) -> None:
    """Note a letter; one that is noted already stays as it is."""
    with _table() as table:
        table.execute(
            "INSERT OR IGNORE INTO letters VALUES (?, ?, ?, ?)",
            (job, recipient, subject, time.time()),
        )


def latest(number: int) -> list[sqlite3.Row]:
    """Return the newest letters."""
    with _table() as table:
        return table.execute("SELECT * FROM letters ORDER BY at DESC LIMIT ?", (number,)).fetchall()


@contextmanager
def _table() -> Iterator[sqlite3.Connection]:
    directory = Path(current_app.config["DATA_DIRECTORY"])
    directory.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(directory / "letters.db")) as connection, connection:
        connection.row_factory = sqlite3.Row
        connection.execute(TABLE)
        yield connection
