"""The page: two forms, what became of the letters, and what arrived at the development server."""

from __future__ import annotations

import email
import email.policy
import secrets
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from flask import Blueprint, current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from flask_spooler import JobHandle

from . import sent
from .jobs import send_newsletter, send_welcome, spooler
from .letters import is_address

MOST_RECIPIENTS = 1000
POLICY = "default-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'"
WORDS = {
    "scheduled": "waits",
    "queued": "waits",
    "running": "on its way",
    "retrying": "not now, is tried again",
    "succeeded": "sent",
    "dead": "refused",
    "cancelled": "cancelled",
    "expired": "expired",
}
FINAL = ("succeeded", "dead", "cancelled", "expired")

blueprint = Blueprint("pages", __name__)


@dataclass(frozen=True)
class Letter:
    """One letter as it is shown; a newsletter is one, to many."""

    recipient: str
    subject: str
    state: str = "forgotten"
    finished: bool = True
    attempt: int = 0
    note: str = ""


@blueprint.get("/")
def index(error: str | None = None) -> ResponseReturnValue:
    """Show forms, letters and inbox."""
    page = render_template(
        "index.html",
        error=error,
        edition=secrets.token_hex(8),
        letters=_letters(),
        inbox=_inbox(),
    )
    return page, 400 if error else 200, {"Cache-Control": "no-store"}


@blueprint.post("/welcome")
def welcome() -> ResponseReturnValue:
    """Enqueue a welcome, at most one at a time for an address."""
    name, recipient = _field("name"), _field("recipient")
    if not name or not is_address(recipient):
        return index("A welcome needs a name, and one address like ada@example.org.")
    key = f"welcome:{recipient.casefold()}"
    job = send_welcome.using(unique=key, tags=["welcome"]).enqueue(recipient, name)
    sent.remember(job.id, recipient, f"Welcome, {name}")
    return redirect(url_for(".index"), 303)


@blueprint.post("/newsletter")
def newsletter() -> ResponseReturnValue:
    """Enqueue a newsletter, once for each time that the form was shown."""
    subject, text = _field("subject"), request.form.get("text", "")
    recipients = list(dict.fromkeys(request.form.get("recipients", "").split()))
    wrong = [each for each in recipients if not is_address(each)]
    if wrong:
        return index(f"Not an address: {wrong[0]}")
    if not subject or not 0 < len(recipients) <= MOST_RECIPIENTS:
        return index(f"A newsletter needs a subject, and 1 to {MOST_RECIPIENTS} addresses.")
    key = f"newsletter:{_field('edition')}"
    task = send_newsletter.using(unique=key, tags=["newsletter"])
    job = task.enqueue(subject, text, recipients)
    sent.remember(job.id, f"{len(recipients)} recipients", subject)
    return redirect(url_for(".index"), 303)


def no_room(error: Exception) -> ResponseReturnValue:
    """Answer where no job could be enqueued or looked at."""
    current_app.logger.error("%s", error)
    return "No mail can be taken now. Try again in a minute.", 503


def guard(response: Response) -> Response:
    """Let browsers load nothing that is not from here."""
    response.headers.setdefault("Content-Security-Policy", POLICY)
    return response


def _field(name: str) -> str:
    # One line, whatever was sent: these become headers of a mail.
    return " ".join(request.form.get(name, "").split())[:200]


def _letters() -> list[Letter]:
    rows = sent.latest(50)
    jobs = {job.id: job for job in spooler.get_many([row["job"] for row in rows])}
    return [_shown(row["recipient"], row["subject"], jobs.get(row["job"])) for row in rows]


def _shown(recipient: str, subject: str, job: JobHandle | None) -> Letter:
    if job is None:
        return Letter(recipient, subject)
    known = job.as_dict()
    return Letter(
        recipient,
        subject,
        WORDS[known["state"]],
        known["state"] in FINAL,
        known["attempt"],
        _note(known),
    )


def _note(known: dict[str, Any]) -> str:
    if known["error"]:
        return str(known["error"]["message"])
    if isinstance(known["result"], dict):
        refused = [f"{who}: {what}" for who, what in known["result"].items() if what != "sent"]
        return "; ".join([f"{len(known['result']) - len(refused)} sent", *refused])
    if known["progress"]:
        return f"{known['progress']['done']:.0f} of {known['progress']['total']:.0f}"
    return ""


def _inbox() -> list[EmailMessage]:
    files = sorted(Path(current_app.config["DATA_DIRECTORY"], "inbox").glob("*.eml"))
    return [
        email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
        for file in reversed(files[-50:])
    ]
