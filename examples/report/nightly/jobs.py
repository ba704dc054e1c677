"""The tasks: a night, which keeps the series going, and a report, which does the work.

There is no cron here: a night's job enqueues the next night's. What makes that safe:

- It does so first. Whatever becomes of a report, the series goes on.
- It plans only a night that is still to come. An old night that a person runs again, with a retry
  or by hand, finds the next one planned and starts no second series.
- Each night has a key of its own, `unique`: enqueueing it twice, because a job ran twice or a
  deploy ran ``flask nightly`` again, gives the job that is there. One key for all nights would
  not do: the night that runs still holds it when it enqueues the next.
- A job is a file. Who is down at 02:30 makes up for it at the next start: the night that waited
  enqueues the reports of the nights in between too, where there are none.
"""

from __future__ import annotations

from datetime import date, datetime, timezone

from flask import current_app

from flask_spooler import JobHandle, Spooler, current_job, exponential

from . import files, shop
from .nights import ONE_DAY, coming_day, moment_after

spooler = Spooler()

MADE_UP = 7
"""Of the nights without a server, how many reports are made at the next start: the last ones."""


@spooler.task(max_attempts=1000, backoff=exponential(longest=600))
def night(day: date) -> str:
    """Enqueue the coming night, then the report of `day` and those that were missed since.

    Return the id of the job that makes the report of `day`.
    """
    coming = max(day + ONE_DAY, _coming_day())  # never this night itself, which holds its key
    plan(coming)
    job = report(day)
    for missed in _without_report(day, coming):
        report(missed)
    return job.id


@spooler.task(queue="reports", timeout=600)
def make_report(day: date) -> list[str]:
    """Write the report of one day and return the names of its files.

    The figures are collected once for a job: after a crash the PDF is made of what stands in the
    CSV, whatever has been sold or cancelled since.
    """
    figures = current_job.step("collect", shop.collect, day)
    current_job.progress(1, 3, note="collected")
    names = [current_job.step("csv", files.write_csv, day, figures)]
    current_job.progress(2, 3, note="CSV written")
    names.append(current_job.step("pdf", files.write_pdf, day, figures))
    current_job.progress(3, 3, note="PDF written")
    return names


def plan(day: date) -> JobHandle:
    """Enqueue the night after `day`, once, and note which job that is."""
    at = moment_after(day, current_app.config["REPORT_AT"], current_app.config["REPORT_ZONE"])
    task = night.using(at=at, unique=f"night:{day}", tags=["night"])
    job = task.enqueue(day)
    found = job.as_dict()
    if found["state"] == "scheduled" and found["due_at"] != at.timestamp():
        # It was planned when `REPORT_AT` was another time.
        job = task.using(on_duplicate="replace").enqueue(day)
    files.note_next(job.id)
    return job


def plan_next() -> JobHandle:
    """Enqueue the night that comes next; where it is enqueued already, nothing changes."""
    return plan(_coming_day())


def report(day: date) -> JobHandle:
    """Enqueue the report of a day, at most one at a time."""
    return make_report.using(unique=f"report:{day}", tags=["report", f"day:{day}"]).enqueue(day)


def _coming_day() -> date:
    config = current_app.config
    return coming_day(datetime.now(timezone.utc), config["REPORT_AT"], config["REPORT_ZONE"])


def _without_report(after: date, before: date) -> list[date]:
    """Return the last days between these two of which no report lies there, the oldest first."""
    made = files.by_day()
    last = [before - number * ONE_DAY for number in range(MADE_UP, 0, -1)]
    return [day for day in last if day > after and str(day) not in made]
