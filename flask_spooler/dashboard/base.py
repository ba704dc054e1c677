"""What the parts of the dashboard share: the app's state, who is asking, what is not understood.

Imported with the library, in every web worker: what only a page needs is imported when it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import current_app, g, request

from ..arguments.hints import short
from ..config import EXTENSION

if TYPE_CHECKING:
    from ..config import Config
    from ..engine import SpoolEngine
    from ..ledger.deeds import Deeds
    from ..ledger.insight import Insight
    from ..ledger.search import Search
    from ..state import AppState
    from .access import Visitor

NAME: Final = "spooler_dashboard"


class BadRequest(ValueError):
    """What was asked for cannot be understood; `field` says what of it."""

    def __init__(self, field: str | None, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.field = field
        self.status = status


def expected(field: str | None, what: str, got: object) -> BadRequest:
    """Return the error of a field that is not what it has to be."""
    return BadRequest(field, f"expected {what}, got: {short(got)}")


def state() -> AppState:
    """Return what the app that answers has of the extension."""
    found: AppState = current_app.extensions[EXTENSION]
    return found


def config() -> Config:
    """Return the configuration of the app that answers."""
    return state().config


def engine() -> SpoolEngine:
    """Return the engine of the app that answers."""
    return state().engine


def search() -> Search:
    """Return the lists of the app's ledger."""
    from ..ledger.search import Search

    return Search(engine().ledger)


def insight() -> Insight:
    """Return what may be asked of the app's ledger as a whole."""
    from ..ledger.insight import Insight

    return Insight(engine().ledger)


def deeds() -> Deeds:
    """Return the record of who did what."""
    from ..ledger.deeds import Deeds

    return Deeds(engine().ledger)


def prefix() -> str:
    """Return under which path of the app the dashboard is."""
    return config().dashboard_prefix


def visitor() -> Visitor:
    """Return who sends this request; the guard has let them in."""
    found: Visitor = g.spooler_visitor
    return found


def is_api() -> bool:
    """Tell whether this request is one of a program, which reads JSON."""
    return request.path.startswith(f"{prefix()}/api/")


def did(now: float, deed: str, *targets: str, detail: str | None = None) -> None:
    """Write down what this visitor has done to these jobs or to this queue."""
    from ..ledger.deeds import Deed

    who = visitor()
    via = "API" if is_api() else "page"
    told = f"{via}, {request.remote_addr or '?'}" + (f"; {detail}" if detail else "")
    deeds().write(Deed(now, who.name, deed, target, told) for target in targets)


def text_arg(values: Any, name: str) -> str | None:
    """Return a text that was given and is not empty."""
    text = values.get(name)
    return text.strip() or None if isinstance(text, str) else None
