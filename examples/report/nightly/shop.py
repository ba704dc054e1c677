"""A small shop's sales in SQLite: what a real app has already."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flask import current_app

from .nights import bounds

PRODUCTS = {
    "Espresso beans": 1290,
    "Filter paper": 349,
    "Grinder": 8900,
    "Kettle": 4950,
    "Mug": 1150,
}
TABLE = """
CREATE TABLE IF NOT EXISTS sales (
    at REAL NOT NULL, product TEXT NOT NULL, pieces INTEGER NOT NULL, cents INTEGER NOT NULL
)
"""
FIGURES = """
SELECT product, count(*) AS orders, sum(pieces) AS pieces, sum(cents) AS cents
FROM sales WHERE at >= ? AND at < ? GROUP BY product ORDER BY cents DESC, product
"""


def collect(day: date) -> list[dict[str, Any]]:
    """Return orders, pieces and turnover of one day, by product."""
    with _sales() as sales:
        return [dict(row) for row in sales.execute(FIGURES, bounds(day, _zone()))]


def seed(days: list[date]) -> None:
    """Fill an empty shop with sales on these days, the same for the same day."""
    with _sales() as sales:
        sales.execute("BEGIN IMMEDIATE")
        if sales.execute("SELECT 1 FROM sales LIMIT 1").fetchone():
            return
        for day in days:
            sales.executemany("INSERT INTO sales VALUES (?, ?, ?, ?)", _made_up(day))


def _made_up(day: date) -> Iterator[tuple[float, str, int, int]]:
    chance = random.Random(day.toordinal())
    begin, end = bounds(day, _zone())
    for _ in range(chance.randint(40, 120)):
        product = chance.choice(list(PRODUCTS))
        pieces = chance.randint(1, 4)
        yield chance.uniform(begin, end), product, pieces, pieces * PRODUCTS[product]


def _zone() -> ZoneInfo:
    zone: ZoneInfo = current_app.config["REPORT_ZONE"]
    return zone


@contextmanager
def _sales() -> Iterator[sqlite3.Connection]:
    directory = Path(current_app.config["DATA_DIRECTORY"])
    directory.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(directory / "shop.db")) as connection, connection:
        connection.row_factory = sqlite3.Row
        connection.execute(TABLE)
        yield connection
