"""The page: which report comes next, the button, and all reports to fetch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any

from flask import (
    Blueprint,
    abort,
    current_app,
    redirect,
    render_template,
    request,
    send_from_directory,
    url_for,
)
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from flask_spooler import JobNotFound

from . import files
from .jobs import plan_next, report, spooler
from .nights import last_whole_day

POLICY = "default-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'"
WORDS = {
    "scheduled": "waits",
    "queued": "waits",
    "running": "in work",
    "retrying": "failed, is tried again",
    "succeeded": "done",
    "dead": "failed",
    "cancelled": "cancelled",
    "expired": "failed",
}
FINAL = ("succeeded", "dead", "cancelled", "expired")

blueprint = Blueprint("pages", __name__)


@dataclass(frozen=True)
class Night:
    """The night that comes next."""

    day: str
    at: datetime


@blueprint.get("/")
def index(error: str | None = None) -> ResponseReturnValue:
    """Show the page; ``?job=ID`` also shows how far that report is."""
    job = _job(request.args.get("job"))
    page = render_template(
        "index.html",
        error=error,
        yesterday=_yesterday(),
        night=_next_night(),
        zone=current_app.config["REPORT_ZONE"],
        job=job,
        word=job and WORDS[job["state"]],
        open=job and job["state"] not in FINAL,
        days=files.by_day(),
    )
    return page, 400 if error else 200, {"Cache-Control": "no-store"}


@blueprint.post("/reports")
def make() -> ResponseReturnValue:
    """Enqueue the report of a day that is over."""
    text = request.form.get("day", "")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return index(f"Expected a day like 2026-11-19, got: {text[:30]}")
    if day > _yesterday():
        return index(f"{day} is not over yet.")
    return redirect(url_for(".index", job=report(day).id), 303)


@blueprint.post("/nights")
def plan() -> ResponseReturnValue:
    """Plan the next night, where it is not planned already."""
    plan_next()
    return redirect(url_for(".index"), 303)


@blueprint.get("/reports/<name>")
def download(name: str) -> ResponseReturnValue:
    """Return a report as a file."""
    if not files.NAME.fullmatch(name):
        abort(404)
    return send_from_directory(files.reports(), name, as_attachment=True, max_age=0)


def no_room(error: Exception) -> ResponseReturnValue:
    """Answer where no job could be enqueued or looked at."""
    current_app.logger.error("%s", error)
    return "No report can be made now. Try again in a minute.", 503


def guard(response: Response) -> Response:
    """Let browsers load nothing that is not from here."""
    response.headers.setdefault("Content-Security-Policy", POLICY)
    return response


def _next_night() -> Night | None:
    known = _job(files.next_job())
    if known is None or known["state"] in FINAL:
        return None
    due = datetime.fromtimestamp(known["due_at"], current_app.config["REPORT_ZONE"])
    return Night(known["kwargs"]["day"], due)


def _job(job_id: str | None) -> dict[str, Any] | None:
    try:
        return spooler.get(job_id).as_dict() if job_id else None
    except JobNotFound:
        return None


def _yesterday() -> date:
    return last_whole_day(datetime.now(timezone.utc), current_app.config["REPORT_ZONE"])
