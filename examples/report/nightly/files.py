"""The report as files: CSV for programs, PDF for people. Each appears whole, by a rename."""

from __future__ import annotations

import csv
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from flask import current_app
from fpdf import FPDF
from fpdf.enums import XPos, YPos

NAME = re.compile(r"(\d{4}-\d\d-\d\d)\.(csv|pdf)", re.ASCII)
COLUMNS = ("Product", "Orders", "Pieces", "Turnover")

Figures = list[dict[str, Any]]


def reports() -> Path:
    """Return where the reports lie, made when it is missing."""
    found = Path(current_app.config["DATA_DIRECTORY"]).resolve() / "reports"
    found.mkdir(parents=True, exist_ok=True)
    return found


def by_day() -> dict[str, list[str]]:
    """Return the names of the files there are for each day, the newest day first."""
    found: dict[str, list[str]] = {}
    for name in sorted((path.name for path in reports().iterdir()), reverse=True):
        if match := NAME.fullmatch(name):
            found.setdefault(match[1], []).append(name)
    return found


def write_csv(day: date, figures: Figures) -> str:
    """Write ``<day>.csv`` and return its name."""
    with (
        _written(reports() / f"{day}.csv") as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_rows(figures))
    return f"{day}.csv"


def write_pdf(day: date, figures: Figures) -> str:
    """Write ``<day>.pdf`` and return its name."""
    pdf = FPDF()
    pdf.set_title(f"Sales of {day}")
    pdf.add_page()
    pdf.set_font("Helvetica", "B", 20)
    pdf.cell(0, 14, f"Sales of {day:%A, %d %B %Y}", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.set_font("Helvetica", "", 11)
    total = ("All", *(sum(row[key] for row in figures) for key in ("orders", "pieces")))
    rows = [COLUMNS, *_rows(figures), (*total, _money(sum(row["cents"] for row in figures)))]
    align = ("LEFT", "RIGHT", "RIGHT", "RIGHT")
    lines = "HORIZONTAL_LINES"
    with pdf.table(col_widths=(3, 1, 1, 2), text_align=align, borders_layout=lines) as table:
        for values in rows:
            table.row([str(value) for value in values])
    with _written(reports() / f"{day}.pdf") as path:
        pdf.output(str(path))
    return f"{day}.pdf"


def note_next(job: str) -> None:
    """Note the job of the next night, for the page."""
    with _written(reports() / ".next") as path:
        path.write_text(job)


def next_job() -> str | None:
    """Return what `note_next` noted last."""
    note = reports() / ".next"
    return note.read_text() if note.exists() else None


def _rows(figures: Figures) -> list[tuple[Any, ...]]:
    return [(row["product"], row["orders"], row["pieces"], _money(row["cents"])) for row in figures]


def _money(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


@contextmanager
def _written(target: Path) -> Iterator[Path]:
    """Give a path to write to; it becomes `target` in one step when the body is done, or never."""
    unfinished = target.with_name(f".{secrets.token_hex(16)}")
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
