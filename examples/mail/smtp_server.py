"""A mail server to try the app with: keeps what it takes as files in ``data/inbox``.

``python smtp_server.py uwsgi …`` becomes that command, with the server as its child: it listens
before the command starts, and ends with it.

It takes a third of a second for each mail, as servers do that look at what they get. It answers
450 to the first two tries for ``busy@…``, and 550 to all for ``nobody@…``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

SECONDS_A_MAIL = 0.3
DATA = Path(os.environ.get("FLASK_DATA_DIRECTORY", Path(__file__).with_name("data")))


class Inbox:
    """What the server does with a recipient, and with a mail."""

    def __init__(self, directory: Path, seconds_a_mail: float = 0) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self._seconds_a_mail = seconds_a_mail
        self._tries: Counter[str] = Counter()

    async def handle_RCPT(
        self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[Any]
    ) -> str:
        """Take a recipient or not."""
        if address.startswith("nobody@"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("busy@"):
            self._tries[address] += 1
            if self._tries[address] % 3:
                return "450 4.2.1 mailbox busy, try later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:
        """Keep a mail."""
        await asyncio.sleep(self._seconds_a_mail)
        assert isinstance(envelope.content, bytes)
        name = f"{time.time_ns()}.eml"
        unfinished = self.directory / f".{name}"
        unfinished.write_bytes(envelope.content)
        unfinished.replace(self.directory / name)
        print(f"mail to {', '.join(envelope.rcpt_tos)}", flush=True)
        return "250 OK"


async def serve(listener: socket.socket, parent: int) -> None:
    """Serve as long as our parent is there, which may end by kill -9."""
    inbox = Inbox(DATA / "inbox", SECONDS_A_MAIL)
    await asyncio.get_running_loop().create_server(lambda: SMTP(inbox), sock=listener)
    while os.getppid() == parent:
        await asyncio.sleep(0.1)


def main(command: list[str]) -> None:
    """Listen, serve in a child, and become the command."""
    port = int(os.environ.get("FLASK_SMTP_PORT", "8025"))
    listener, parent = socket.create_server(("127.0.0.1", port)), os.getpid()
    if os.fork() > 0:
        os.execvp(command[0], command)
    os.setsid()  # Ctrl-C is for the app, which sends what it has in hand
    asyncio.run(serve(listener, parent))


if __name__ == "__main__":
    main(sys.argv[1:])
