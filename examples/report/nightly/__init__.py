"""A report each night, as CSV and PDF, and one of any day at the press of a button."""

from __future__ import annotations

from datetime import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flask import Flask

from flask_spooler import SpoolerError

from . import commands, pages
from .jobs import spooler

BESIDE_THE_APP = Path(__file__).resolve().parents[1] / "data"


def create_app(**config: Any) -> Flask:
    """Return the app; its settings come from `config`, else from ``FLASK_…`` variables.

    Raises for a `REPORT_AT` that is no time and a `REPORT_ZONE` that is no time zone.
    """
    app = Flask(__name__)
    app.config.from_mapping(
        DATA_DIRECTORY=BESIDE_THE_APP,
        REPORT_AT="02:30",  # every night, by the clocks of …
        REPORT_ZONE="Europe/Berlin",
        # One report at a time: each reads a whole day of the shop.
        SPOOLER_QUEUES={"reports": {"weight": 1, "limit": 1}},
    )
    app.config.from_prefixed_env()
    app.config.from_mapping(config)
    app.config["REPORT_AT"] = time.fromisoformat(app.config["REPORT_AT"])
    app.config["REPORT_ZONE"] = ZoneInfo(app.config["REPORT_ZONE"])
    spooler.init_app(app)
    app.register_blueprint(pages.blueprint)
    app.register_error_handler(SpoolerError, pages.no_room)
    app.after_request(pages.guard)
    app.cli.add_command(commands.nightly_command)
    app.cli.add_command(commands.report_command)
    return app
