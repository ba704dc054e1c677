"""The tasks: one mail, and one mail to many."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage

from flask import render_template

from flask_spooler import Spooler, current_job, exponential

from .letters import letter
from .smtp import Refused, TryLater, connection, deliver

spooler = Spooler()

ATTEMPTS = 20
BACKOFF = exponential(1, longest=3600)
"""After 1 s, 2 s, 4 s … an hour: twenty attempts take some eight hours, a night."""


@spooler.task(queue="mail", max_attempts=ATTEMPTS, backoff=BACKOFF, timeout=120, discard_on=Refused)
def send_welcome(recipient: str, name: str) -> str:
    """Welcome somebody."""
    text = render_template("welcome.txt", name=name)
    with connection() as smtp:
        deliver(smtp, letter(current_job.id, recipient, f"Welcome, {name}", text))
    return "sent"


@spooler.task(queue="mail", max_attempts=ATTEMPTS, backoff=BACKOFF)
def send_newsletter(subject: str, text: str, recipients: list[str]) -> dict[str, str]:
    """Send one text to all recipients, and return what became of each.

    Each recipient is a step: a job that is killed in the middle goes on behind the last one that
    was written down. The mail that was on its way at that moment is sent again, and only that.
    Whoever cannot be reached now does not hold up the others.
    """
    became: dict[str, str] = {}
    later: dict[str, str] = {}
    with connection() as smtp:
        for number, recipient in enumerate(recipients):
            message = letter(f"{current_job.id}.{number}", recipient, subject, text)
            try:
                became[recipient] = current_job.step(recipient, _send_one, smtp, message)
            except TryLater as error:
                later[recipient] = str(error)
            current_job.progress(len(became), len(recipients))
    if later:
        raise TryLater("; ".join(f"{recipient}: {why}" for recipient, why in later.items()))
    return became


def _send_one(smtp: smtplib.SMTP, message: EmailMessage) -> str:
    try:
        deliver(smtp, message)
    except Refused as error:  # a step that is done: this one is never tried again
        return f"refused: {error}"
    return "sent"
