"""E-mail through a real SMTP server: retried, refused, and not sent twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flask import Flask

from flask_spooler import SpoolerError

from . import pages
from .jobs import spooler

BESIDE_THE_APP = Path(__file__).resolve().parents[1] / "data"
SECURITIES = ("none", "starttls", "tls")


def create_app(**config: Any) -> Flask:
    """Return the app; its settings come from `config`, else from ``FLASK_…`` variables."""
    app = Flask(__name__)
    app.config.from_mapping(
        DATA_DIRECTORY=BESIDE_THE_APP,
        SMTP_HOST="127.0.0.1",
        SMTP_PORT=8025,
        SMTP_SECURITY="none",  # or "starttls", or "tls" from the first byte
        SMTP_USER=None,
        SMTP_CA_FILE=None,  # who signed the server's certificate, where the system does not know
        SMTP_TIMEOUT=20,
        MAIL_FROM="Flask-Spooler <post@example.org>",
        # Two connections to the mail server at a time, however many spoolers there are.
        SPOOLER_QUEUES={"mail": {"weight": 1, "limit": 2}},
    )
    app.config.from_prefixed_env()
    # As it stands: from_prefixed_env reads JSON, and a password may look like a number.
    app.config["SMTP_PASSWORD"] = os.environ.get("FLASK_SMTP_PASSWORD")
    app.config.from_mapping(config)
    if app.config["SMTP_SECURITY"] not in SECURITIES:
        wrong = app.config["SMTP_SECURITY"]
        raise ValueError(f"expected SMTP_SECURITY to be one of {SECURITIES}, got: {wrong!r}")
    spooler.init_app(app)
    app.register_blueprint(pages.blueprint)
    app.register_error_handler(SpoolerError, pages.no_room)
    app.after_request(pages.guard)
    return app
