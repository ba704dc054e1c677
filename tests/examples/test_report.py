"""The report as it is fetched: made by the night, made at once, and planned again."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

from pypdf import PdfReader
from server import wait_until

from tests.examples.conftest import Example


def zone_where_it_is_noon() -> ZoneInfo:
    """A zone without a midnight nearby, whenever this test runs."""
    ahead = 12 - datetime.now(timezone.utc).hour
    return ZoneInfo(f"Etc/GMT{-ahead:+d}")  # its signs are the other way round


def test_the_night_makes_the_report_and_plans_the_next_night(
    start_example: Callable[..., Example],
) -> None:
    zone = zone_where_it_is_noon()
    today = datetime.now(zone).date()
    yesterday = today - timedelta(days=1)
    example = start_example("report", REPORT_ZONE=zone.key)
    assert "No report is planned" in example.get("/").text
    planned = example.flask("nightly")
    assert f"next report: of {today}, at {today + timedelta(days=1)} 02:30" in planned
    assert f"The report of {today} is made on" in example.get("/").text

    # The night of yesterday, as if the server had been down then: it finds the next one planned.
    example.flask("spooler", "enqueue", "nightly.jobs.night", f"day={yesterday}")
    wait_until(lambda: f"{yesterday}.pdf" in example.get("/").text, timeout=30)
    table = list(csv.DictReader(io.StringIO(example.get(f"/reports/{yesterday}.csv").text)))
    with sqlite3.connect(example.data / "shop.db") as shop:
        midnight = datetime.combine(yesterday, datetime.min.time(), zone).timestamp()
        (cents,) = shop.execute(
            "SELECT sum(cents) FROM sales WHERE at BETWEEN ? AND ?", (midnight, midnight + 86_400)
        ).fetchone()
    shop.close()
    total = sum(Decimal(row["Turnover"]) for row in table)
    assert total == Decimal(cents) / 100 > 0
    pdf = example.get(f"/reports/{yesterday}.pdf")
    assert pdf.headers["Content-Type"] == "application/pdf"
    text = PdfReader(io.BytesIO(pdf.body)).pages[0].extract_text()
    assert all(word in text for word in ("Sales of", table[0]["Product"], str(total)))

    other = yesterday - timedelta(days=3)
    page = example.submit("/reports", day=str(other))
    wait_until(lambda: f"Report of {other}: done" in example.get(page.address).text, timeout=30)
    assert example.get(f"/reports/{other}.csv").status == 200
    assert example.submit("/reports", day=str(today)).status == 400
    assert example.submit("/reports", day="../../etc").status == 400
    assert example.get("/reports/.next").status == 404
    assert f"The report of {today} is made on" in example.get("/").text
