"""Templates, and what they may call: an environment of our own, which no app can change.

Owns the way from values to HTML. Everything is escaped, nothing is ever marked as safe, and a name
that does not exist is an error. The app's own filters, context processors and autoescaping stay
outside: they are made for its pages and not for these.
"""

from __future__ import annotations

import functools
import hashlib
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from flask import Response, current_app, g, request, url_for
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from werkzeug.exceptions import NotFound

from ..endings import percentile
from ..job import REVIVABLE
from ..times import ago, clock, duration, took
from . import charts, notices, values
from .base import NAME

HERE: Final = Path(__file__).parent
TYPES: Final = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
SHORT_ID: Final = 8


def page(template: str, **values_: Any) -> str:
    """Return a page of the dashboard."""
    visitor = getattr(g, "spooler_visitor", None)
    choices = {
        "theme": request.cookies.get("spooler_theme", "auto"),
        "live": request.cookies.get("spooler_live", "5"),
    }
    return (
        _environment()
        .get_template(template)
        .render(
            now=time.time(),
            visitor=visitor,
            may_operate=visitor is not None and visitor.may_operate,
            choices=choices,
            here=_here,
            notice=notices.take() if visitor is not None else None,
            app_name=current_app.name,
            is_debug=current_app.debug,
            **values_,
        )
    )


def static_file(name: str) -> Response:
    """Return one of our files; its address changes with its content, so a browser may keep it."""
    if name not in TYPES:
        raise NotFound
    answer = Response(
        (HERE / "static" / name).read_bytes(), content_type=f"{TYPES[name]}; charset=utf-8"
    )
    answer.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    return answer


def link(endpoint: str, **arguments: Any) -> str:
    """Return the address of a page; arguments that are None stay out of it."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return url_for(f"{NAME}.{endpoint}", **given)


def _here(**changes: Any) -> str:
    """Return the address of this page with some of its arguments changed."""
    arguments = {**request.args.to_dict(), **(request.view_args or {}), **changes}
    assert request.endpoint is not None
    return link(request.endpoint.removeprefix(f"{NAME}."), **arguments)


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
        link=link,
        asset=_asset,
        revivable=REVIVABLE,
        took=took,
        version=version("Flask-Spooler"),
    )
    made.filters.update(
        duration=duration,
        clock=clock,
        iso=_iso,
        ago=ago,
        number=_number,
        short_id=lambda job_id: job_id[-SHORT_ID:],
        pretty=values.pretty,
        preview=values.preview,
        cut=values.cut,
        folded=values.folded,
        percentile=lambda classes, part: charts.bounded(percentile(classes, part)),
        sparkline=charts.sparkline,
        tidy=lambda number: f"{number:g}",
    )
    return made


@functools.cache
def _stamp(name: str) -> str:
    return hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:12]


def _asset(name: str) -> str:
    return link("static", name=name, v=_stamp(name))


def _iso(when: float) -> str:
    return datetime.fromtimestamp(when, timezone.utc).isoformat(timespec="milliseconds")


def _number(number: float) -> str:
    return f"{number:,.0f}"
