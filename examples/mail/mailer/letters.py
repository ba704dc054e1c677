"""What is sent: a message that is the same in every attempt of its job."""

from __future__ import annotations

from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, parseaddr

from flask import current_app


def is_address(text: str) -> bool:
    """Tell whether this can be the address of one mailbox, and nothing but that."""
    try:
        address = Address(addr_spec=text)
    except (ValueError, IndexError, MessageError):  # all that the parser raises for bad ones
        return False
    return bool(address.username and "." in address.domain) and text.isascii()


def letter(key: str, recipient: str, subject: str, text: str) -> EmailMessage:
    """Return a mail whose Message-ID is made from `key`.

    The key is the job's id, the same in each attempt. Should a mail be sent twice all the same,
    the two are recognised as one: in the server's log, and by the mailboxes that look.
    """
    sender = current_app.config["MAIL_FROM"]
    domain = parseaddr(sender)[1].rpartition("@")[2]
    message = EmailMessage()
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = subject
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{key}@{domain}>"
    message.set_content(text)
    return message
