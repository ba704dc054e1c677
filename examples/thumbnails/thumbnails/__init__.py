"""Thumbnails of uploaded pictures: one job for each picture, watched on a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask, current_app, request
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from flask_spooler import SpoolerError

from . import pages
from .jobs import spooler

BESIDE_THE_APP = Path(__file__).resolve().parents[1] / "data"

POLICY = "default-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'"

MOST_THROWN_AWAY = 512 * 2**20
BLOCK = 2**16


def create_app(**config: Any) -> Flask:
    """Return the app; its settings come from `config`, else from ``FLASK_…`` variables."""
    app = Flask(__name__)
    app.config.from_mapping(
        DATA_DIRECTORY=BESIDE_THE_APP,
        MAX_CONTENT_LENGTH=64 * 2**20,  # of one upload, all its pictures together
        # A picture takes up to 160 MB while it is decoded: two at a time, however many spoolers.
        SPOOLER_QUEUES={"pictures": {"weight": 1, "limit": 2}},
    )
    app.config.from_prefixed_env()
    app.config.from_mapping(config)
    spooler.init_app(app)
    app.register_blueprint(pages.blueprint)
    app.register_error_handler(413, _too_large)
    app.register_error_handler(SpoolerError, _no_room)
    app.after_request(_only_from_here)
    return app


def _too_large(_error: Exception) -> ResponseReturnValue:
    # A browser shows the answer when it has sent everything: what still comes is thrown away,
    # within reason. In front of a public site nginx does both, with client_max_body_size.
    for _ in range(MOST_THROWN_AWAY // BLOCK):
        if not request.environ["wsgi.input"].read(BLOCK):
            break
    return pages.refusal("That is more than 64 MiB at once. Upload fewer pictures.", 413)


def _no_room(error: SpoolerError) -> ResponseReturnValue:
    current_app.logger.error("%s", error)
    return pages.refusal("No job can be taken now. Try again in a minute.", 503)


def _only_from_here(response: Response) -> Response:
    # An uploaded file is somebody else's: whatever is in it, no browser shall run it.
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Content-Security-Policy", POLICY)
    return response
