"""What the parts of the dashboard share: the app's state, and who is asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask import current_app, g, request

from ..ledger.deeds import Deed, Deeds
from ..ledger.search import Search
from ..ledger.survey import Survey

if TYPE_CHECKING:
    from ..config import Config
    from ..engine import SpoolEngine
    from ..extension import AppState
    from .access import Visitor

NAME: Final = "spooler_dashboard"
EXTENSION: Final = "spooler"


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
    return Search(engine().ledger)


def survey() -> Survey:
    """Return what may be asked of the app's ledger as a whole."""
    return Survey(engine().ledger)


def deeds() -> Deeds:
    """Return the record of who did what."""
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
    who = visitor()
    via = "API" if is_api() else "page"
    told = f"{via}, {request.remote_addr or '?'}" + (f"; {detail}" if detail else "")
    deeds().write(Deed(now, who.name, deed, target, told) for target in targets)


def text_arg(values: Any, name: str) -> str | None:
    """Return a text that was given and is not empty."""
    text = values.get(name)
    return text.strip() or None if isinstance(text, str) else None
