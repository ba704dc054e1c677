"""Mails as they arrive: after the server was away, after a kill -9, and to whom it refuses."""

from __future__ import annotations

import email
import email.policy
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
import smtp_server
from aiosmtpd.controller import Controller
from server import free_port, wait_until
from smtp_server import Inbox

from tests.examples.conftest import Example


class Mailbox:
    """A mail server that can be away."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._controller: Controller | None = None

    def open(self, seconds_a_mail: float = 0) -> None:
        inbox = Inbox(self._directory, seconds_a_mail)
        self._controller = Controller(inbox, hostname="127.0.0.1", port=self.port)
        self._controller.start()

    def close(self) -> None:
        if self._controller is not None:
            self._controller.stop()
        self._controller = None

    def mails(self) -> list[EmailMessage]:
        return [
            email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
            for file in sorted(self._directory.glob("*.eml"))
        ]


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    made = Mailbox(tmp_path / "inbox")
    yield made
    made.close()


GREETED = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), timeout=30) as smtp:
    smtp.sendmail("a@example.org", "b@example.org", "hello")
"""


def test_the_mail_server_listens_before_its_app_starts_and_ends_with_it(tmp_path: Path) -> None:
    port = free_port()
    done = subprocess.run(
        [sys.executable, smtp_server.__file__, sys.executable, "-c", GREETED, str(port)],
        env={**os.environ, "FLASK_SMTP_PORT": str(port), "FLASK_DATA_DIRECTORY": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "mail to b@example.org" in done.stdout
    with socket.create_server(("127.0.0.1", port)):  # the pipes end with the mail server
        assert len(list((tmp_path / "inbox").glob("*.eml"))) == 1


def test_a_welcome_waits_until_the_mail_server_is_there(
    start_example: Callable[..., Example], mailbox: Mailbox
) -> None:
    example = start_example("mail", SMTP_PORT=str(mailbox.port))
    for _ in range(2):  # the button pressed twice
        page = example.submit("/welcome", name="Ada Lovelace", recipient="ada@example.org")
        assert page.status == 200
    example.submit("/welcome", name="Nobody", recipient="nobody@example.org")
    wait_until(lambda: "not now, is tried again" in example.get("/").text, timeout=30)
    assert "data-live" in example.get("/").text
    mailbox.open()
    wait_until(lambda: "data-live" not in example.get("/").text, timeout=30)
    (mail,) = mailbox.mails()
    assert mail["To"] == "ada@example.org"
    assert mail["Subject"] == "Welcome, Ada Lovelace"
    assert mail.get_content().startswith("Hello Ada Lovelace,")
    assert "550 5.1.1 no such mailbox" in example.get("/").text

    wrong = example.submit("/welcome", name="Eve", recipient="eve@example.org, ada@example.org")
    assert (wrong.status, "one address like" in wrong.text) == (400, True)
    example.submit("/welcome", name="Eve\nBcc: all@example.org", recipient="eve@example.org")
    wait_until(lambda: len(mailbox.mails()) == 2, timeout=30)
    assert mailbox.mails()[1]["Bcc"] is None


def test_a_newsletter_killed_in_the_middle_reaches_everybody_and_nobody_twice_but_one(
    start_example: Callable[..., Example], mailbox: Mailbox
) -> None:
    people = [f"reader-{number}@example.org" for number in range(8)]
    recipients = ["busy@example.org", "nobody@example.org", *people]
    mailbox.open(seconds_a_mail=0.1)
    example = start_example("mail", SMTP_PORT=str(mailbox.port))
    example.submit(
        "/newsletter",
        edition="1",
        subject="News",
        text="All is well.",
        recipients="\n".join(recipients),
    )
    wait_until(lambda: len(mailbox.mails()) >= 3, timeout=30)
    example.server.kill()
    sent_before = len(mailbox.mails())
    example.server.start()
    wait_until(lambda: "9 sent; nobody@example.org: refused: 550" in example.get("/").text, 30)
    assert sent_before < 9, "killed in the middle"
    times = Counter(mail["To"] for mail in mailbox.mails())
    assert set(times) == {"busy@example.org", *people}
    assert sum(times.values()) <= 10, "the one that was on its way may come again"
    ids = {mail["Message-ID"] for mail in mailbox.mails()}
    assert len(ids) == 9, "and is the same mail then"
