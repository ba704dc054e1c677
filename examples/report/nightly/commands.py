"""What a deploy and a person type."""

from __future__ import annotations

from datetime import date, datetime, timezone

import click
from flask import current_app
from flask.cli import with_appcontext

from . import shop
from .jobs import plan_next, report
from .nights import ONE_DAY, last_whole_day

SEEDED = 30


@click.command("nightly")
@with_appcontext
def nightly_command() -> None:
    """Plan the next night where it is not planned, and fill the shop where it is empty.

    For each deploy: done twice it changes nothing.
    """
    yesterday = _yesterday()
    shop.seed([yesterday - number * ONE_DAY for number in range(SEEDED)])
    job = plan_next().as_dict()
    zone = current_app.config["REPORT_ZONE"]
    due = datetime.fromtimestamp(job["due_at"], zone)
    click.echo(f"next report: of {job['kwargs']['day']}, at {due:%Y-%m-%d %H:%M} {zone}")


@click.command("report")
@click.argument("day", required=False)
@with_appcontext
def report_command(day: str | None) -> None:
    """Make the report of a DAY (2026-11-19) now, of yesterday if none is given."""
    try:
        job = report(date.fromisoformat(day) if day else _yesterday())
    except ValueError:
        raise click.BadParameter(f"expected a day like 2026-11-19, got: {day!r}") from None
    click.echo(job.id)


def _yesterday() -> date:
    return last_whole_day(datetime.now(timezone.utc), current_app.config["REPORT_ZONE"])
