"""Who may look, and who may act: tokens, the callback, and where a request comes from.

Owns the decision, and takes it for each request anew. Closed by default: without a token and
without a callback nobody gets in. What cannot be decided is refused. Tokens are compared in
constant time and never logged; a browser keeps a cookie that is signed with the token and good for
`COOKIE_SECONDS`, not the token itself.

Other sites can make a browser send a request, with its cookies. So an unsafe one counts only where
the browser says that it comes from the dashboard itself: ``Sec-Fetch-Site``, or ``Origin`` where
that is missing. No session is needed for it, and nothing expires under an open page. A bearer
token is not sent by browsers of their own accord and needs none of this.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from flask import Request

if TYPE_CHECKING:
    from ..config import Config

COOKIE: Final = "spooler_dashboard"
COOKIE_SECONDS: Final = 7 * 86_400
VIEW: Final = "view"
OPERATE: Final = "operate"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})

log = logging.getLogger("flask_spooler")


class Visitor(NamedTuple):
    """Somebody who may at least look."""

    level: str
    name: str
    """Under which name what they do is written down."""
    by_bearer: bool = False
    by_cookie: bool = False

    @property
    def may_operate(self) -> bool:
        return self.level == OPERATE


def is_open(config: Config) -> bool:
    """Tell whether anybody was ever to get in."""
    given = (config.dashboard_token, config.dashboard_read_token, config.dashboard_access)
    return any(way is not None for way in given)


def visitor(config: Config, request: Request) -> Visitor | None:
    """Return who sends this request, None for nobody we know.

    A bearer token that is wrong is not made up for by a cookie.
    """
    given = bearer_of(request)
    if given is not None:
        known = by_token(config, given)
        return known and known._replace(by_bearer=True)
    known = _by_cookie(config, request.cookies.get(cookie_name(request), ""))
    return known or _by_callback(config, request)


def bearer_of(request: Request) -> str | None:
    """Return the token that a program sends, right or wrong; None where it sends none."""
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if kind.lower() == "bearer" else None


def by_token(config: Config, given: str) -> Visitor | None:
    """Return whom this token lets in, None where it is neither of the two."""
    found = None
    for token, who in _tokens(config):
        if hmac.compare_digest(token.encode(), given.encode("utf-8", "surrogateescape")):
            found = found or who
    return found


def cookie_for(config: Config, given: str, now: float) -> str | None:
    """Return what the browser that brought this token is to keep; None for a wrong token."""
    known = by_token(config, given)
    if known is None:
        return None
    until = str(int(now) + COOKIE_SECONDS)
    return f"{until}.{_signed(given, until)}"


def cookie_name(request: Request) -> str:
    """Return the name of the cookie: browsers keep those of one host's ports together."""
    port = request.host.rpartition(":")[2]
    return f"{COOKIE}_{port}" if port.isascii() and port.isdigit() else COOKIE


def comes_from_here(request: Request) -> bool:
    """Tell whether the browser says that this request was made by a page of ours."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is not None and urlsplit(origin).netloc == request.host


def _tokens(config: Config) -> list[tuple[str, Visitor]]:
    both = (
        (config.dashboard_token, Visitor(OPERATE, "token")),
        (config.dashboard_read_token, Visitor(VIEW, "read token")),
    )
    return [(token, who) for token, who in both if token is not None]


def _by_cookie(config: Config, cookie: str) -> Visitor | None:
    until, _, signature = cookie.partition(".")
    if not (until.isascii() and until.isdigit() and len(until) < 12):
        return None
    found = None
    for token, who in _tokens(config):
        wanted = _signed(token, until).encode()
        if hmac.compare_digest(wanted, signature.encode("utf-8", "surrogateescape")):
            found = found or who._replace(by_cookie=True)
    return found if int(until) > time.time() else None


def _signed(token: str, until: str) -> str:
    return hmac.new(token.encode(), f"dashboard {until}".encode(), hashlib.sha256).hexdigest()


def _by_callback(config: Config, request: Request) -> Visitor | None:
    ask = config.dashboard_access
    if ask is None:
        return None
    name = f"{getattr(ask, '__module__', '?')}.{getattr(ask, '__qualname__', type(ask).__name__)}"
    try:
        level = ask(request)
    except Exception:  # it belongs to the user, and a broken one lets nobody in
        log.exception("the dashboard's access callback %s failed: refused", name)
        return None
    if level is None:
        return None
    if level not in (VIEW, OPERATE):
        log.error("the access callback %s answered %r, not 'view' or 'operate'", name, level)
        return None
    return Visitor(level, name)
