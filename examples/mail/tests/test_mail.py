"""Mail without uWSGI: `spooler_jobs` runs the jobs, aiosmtpd takes the mails."""

from __future__ import annotations

import email
import email.policy
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from smtplib import SMTPAuthenticationError
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from flask import Flask
from mailer import create_app
from mailer.jobs import send_newsletter, send_welcome
from mailer.smtp import Refused, TryLater
from smtp_server import Inbox

from flask_spooler.testing import SpoolerJobs

NOBODY_LISTENS = 1


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return create_app(TESTING=True, DATA_DIRECTORY=tmp_path, SMTP_PORT=NOBODY_LISTENS)


@pytest.fixture
def start_mail(app: Flask) -> Iterator[Callable[..., None]]:
    """Start a mail server for the app, with settings of aiosmtpd's."""
    started: list[Controller] = []

    def start(kind: type[Controller] = Controller, **settings: Any) -> None:
        inbox = Inbox(Path(app.config["DATA_DIRECTORY"]) / "inbox")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            app.config["SMTP_PORT"] = probe.getsockname()[1]
        port = app.config["SMTP_PORT"]
        controller = kind(inbox, hostname="127.0.0.1", port=port, **settings)
        controller.start()
        started.append(controller)

    yield start
    for controller in started:
        controller.stop()


def arrived(app: Flask) -> list[EmailMessage]:
    return [
        email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
        for file in sorted(Path(app.config["DATA_DIRECTORY"], "inbox").glob("*.eml"))
    ]


def welcome(app: Flask, recipient: str = "ada@example.org", name: str = "Ada") -> int:
    form = {"recipient": recipient, "name": name}
    return app.test_client().post("/welcome", data=form).status_code


def test_a_welcome_is_sent_once_however_often_the_button_is_pressed(
    app: Flask, spooler_jobs: SpoolerJobs, start_mail: Callable[..., None]
) -> None:
    start_mail()
    assert [welcome(app), welcome(app)] == [303, 303]
    job = spooler_jobs.assert_enqueued(send_welcome, recipient="ada@example.org")
    assert spooler_jobs.run_pending() == [job]
    (mail,) = arrived(app)
    assert mail["Message-ID"] == f"<{job.id}@example.org>"
    assert "Hello Ada," in mail.get_content()
    assert "sent" in app.test_client().get("/").text


def test_a_mail_waits_for_a_server_that_is_away(
    app: Flask, spooler_jobs: SpoolerJobs, start_mail: Callable[..., None]
) -> None:
    welcome(app)
    spooler_jobs.run_pending(until=timedelta(hours=2), expected=ConnectionRefusedError)
    start_mail()
    (job,) = spooler_jobs.run_pending(until="all")
    assert job.state == "succeeded"
    assert job.attempt > 10
    assert len(arrived(app)) == 1


def test_later_is_tried_again_and_never_is_not(
    app: Flask, spooler_jobs: SpoolerJobs, start_mail: Callable[..., None]
) -> None:
    start_mail()
    welcome(app, "busy@example.org")
    welcome(app, "nobody@example.org")
    spooler_jobs.run_pending(until="all", expected=(TryLater, Refused))
    busy = spooler_jobs.assert_enqueued(send_welcome, recipient="busy@example.org")
    nobody = spooler_jobs.assert_enqueued(send_welcome, recipient="nobody@example.org")
    assert (busy.state, busy.attempt) == ("succeeded", 3)
    assert (nobody.state, nobody.attempt) == ("dead", 1)
    assert nobody.error is not None
    assert nobody.error["message"] == "550 5.1.1 no such mailbox"


def test_a_newsletter_is_sent_once_to_each_while_one_says_later(
    app: Flask, spooler_jobs: SpoolerJobs, start_mail: Callable[..., None]
) -> None:
    start_mail()
    recipients = [f"{name}@example.org" for name in ("ada", "busy", "nobody", "grace", "ada")]
    form = {"edition": "7", "subject": "News", "text": "-", "recipients": " ".join(recipients)}
    for _ in range(2):
        app.test_client().post("/newsletter", data=form)
    job = spooler_jobs.assert_enqueued(send_newsletter, subject="News")
    ran = spooler_jobs.run_pending(until="all", expected=TryLater)
    assert ran == [job] * 3
    assert job.result == {
        "ada@example.org": "sent",
        "busy@example.org": "sent",
        "nobody@example.org": "refused: 550 5.1.1 no such mailbox",
        "grace@example.org": "sent",
    }
    assert Counter(mail["To"] for mail in arrived(app)) == {
        "ada@example.org": 1,
        "grace@example.org": 1,
        "busy@example.org": 1,
    }


class Rude(SMTP):
    """A server that takes the mail and hangs up."""

    async def smtp_QUIT(self, _: str) -> None:
        assert self.transport is not None
        self.transport.close()


class RudeController(Controller):
    """Serves rudely."""

    def factory(self) -> SMTP:
        return Rude(self.handler)


def test_a_goodbye_that_fails_sends_no_second_mail(
    app: Flask, spooler_jobs: SpoolerJobs, start_mail: Callable[..., None]
) -> None:
    start_mail(RudeController)
    welcome(app)
    (job,) = spooler_jobs.run_pending(until="all")
    assert job.state == "succeeded"
    assert len(arrived(app)) == 1


def test_the_password_goes_over_a_line_that_is_encrypted_and_checked(
    app: Flask, spooler_jobs: SpoolerJobs, start_mail: Callable[..., None], tmp_path: Path
) -> None:
    def logs_in(*said: Any) -> AuthResult:
        return AuthResult(success=said[4] == LoginPassword(b"post", b"12345"), handled=False)

    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    start_mail(
        tls_context=context, require_starttls=True, authenticator=logs_in, auth_required=True
    )
    app.config.update(SMTP_SECURITY="starttls", SMTP_USER="post", SMTP_PASSWORD="12345")
    welcome(app)
    (job,) = spooler_jobs.run_pending(expected=ssl.SSLCertVerificationError)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    app.config["SMTP_CA_FILE"] = str(tmp_path / "ca.pem")
    spooler_jobs.run_pending(until="all")
    assert job.state == "succeeded"

    app.config["SMTP_PASSWORD"] = "another"
    welcome(app)
    (job,) = spooler_jobs.run_pending(expected=SMTPAuthenticationError)
    assert job.state == "retrying", "that says nothing about the mail"
    assert len(arrived(app)) == 1


@pytest.mark.parametrize(
    "recipient",
    ["", "ada", "ada@example", "a@b.c, d@e.f", "Ada <a@b.c>", "a@b.c\r\nBcc: d@e.f", "ä@b.c"],
)
def test_what_is_not_one_address_is_refused(
    app: Flask, spooler_jobs: SpoolerJobs, recipient: str
) -> None:
    assert welcome(app, recipient) == 400
    form = {"subject": "News", "recipients": f"ada@example.org\n{recipient}@"}
    assert app.test_client().post("/newsletter", data=form).status_code == 400
    assert spooler_jobs.all_enqueued() == []


def test_a_wrong_setting_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected SMTP_SECURITY to be one of .* got: 'ssl'"):
        create_app(SMTP_SECURITY="ssl", DATA_DIRECTORY=tmp_path)
