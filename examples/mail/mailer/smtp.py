"""One connection to the mail server, and what its answers mean for a job.

====================================  =======================================================
what happens                          what becomes of the job
====================================  =======================================================
no connection, it breaks, a timeout   the error goes through: another attempt, after a while
login or STARTTLS refused             the same: that says nothing about the mail
4xx for the mail                      `TryLater`: the same
5xx for the mail                      `Refused`: no other attempt would end otherwise
accepted, but the goodbye fails       the mail is sent: an error now would send it again
====================================  =======================================================
"""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Iterator
from email.message import EmailMessage

from flask import current_app


class TryLater(Exception):
    """The server does not take this mail now."""


class Refused(Exception):
    """The server will never take this mail."""


@contextlib.contextmanager
def connection() -> Iterator[smtplib.SMTP]:
    """Connect to the server of the configuration, and leave politely, or at least leave."""
    config = current_app.config
    host, port, timeout = config["SMTP_HOST"], config["SMTP_PORT"], config["SMTP_TIMEOUT"]
    if config["SMTP_SECURITY"] == "tls":
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=timeout, context=_trusted())
    else:
        smtp = smtplib.SMTP(host, port, timeout=timeout)
    try:
        if config["SMTP_SECURITY"] == "starttls":
            smtp.starttls(context=_trusted())
        if config["SMTP_USER"]:
            smtp.login(config["SMTP_USER"], config["SMTP_PASSWORD"])
        smtp.ehlo_or_helo_if_needed()  # so that what goes wrong later is about the mail
        yield smtp
        with contextlib.suppress(smtplib.SMTPException, OSError):
            smtp.quit()
    finally:
        smtp.close()


def deliver(smtp: smtplib.SMTP, message: EmailMessage) -> None:
    """Hand a mail with one recipient to the server; raise `TryLater` or `Refused`."""
    try:
        smtp.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        raise _meaning(*next(iter(error.recipients.values()))) from None
    except smtplib.SMTPResponseException as error:
        raise _meaning(error.smtp_code, error.smtp_error) from None


def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=current_app.config["SMTP_CA_FILE"])


def _meaning(code: int, said: bytes | str) -> Exception:
    text = said if isinstance(said, str) else said.decode("utf-8", "replace")
    return (Refused if code >= 500 else TryLater)(f"{code} {text}")
