"""How what a function returns is kept, and comes back as what it was: for steps.

Owns the meaning of a return annotation. What has one is rebuilt by it, as an argument is by its
own. Without one it has to be what JSON has: numbers, text, lists and objects. Those of a subclass,
and tuples, come back as the plain ones, which does no harm; a Decimal that came back as text would.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar

from .carrier import Carrier, Changed, NotCarried, carrier
from .hints import hint_of, short, with_article, words
from .kept import not_finite

ANNOTATE: Final = "annotate what its function returns, and it comes back as that"


class NotKept(TypeError):
    """A returned value that cannot be kept as what it is: what it is and why, and a way out."""

    def __init__(self, problem: str, way_out: str | None) -> None:
        super().__init__(problem)
        self.way_out = way_out


class Returned:
    """The way of what one function returns; of a class that is called, of its objects."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._hint, self._carrier = _way(function)

    def freeze(self, value: Any) -> bytes:
        """Return a value as JSON; raise `NotKept` where it would not come back as what it is."""
        try:
            return self._carrier.freeze(_plain(value) if self._hint is Any else value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            is_bare = self._hint is Any and isinstance(error, Changed)
            way_out = ANNOTATE if is_bare and not_finite(value) is None else None
            raise NotKept(f"{_shown(value)}, {self._why_not(value, error)}", way_out) from None

    def thaw(self, data: bytes) -> Any:
        """Return what was kept; raise `ValueError` where the function returns another type now."""
        try:
            return self._carrier.thaw(data)
        except (ValueError, TypeError) as error:
            raise ValueError(f"it is no {words(self._hint)}: {error}") from None

    def _why_not(self, value: Any, error: Exception) -> str:
        if not isinstance(error, RecursionError) and (found := not_finite(value)) is not None:
            return f"and JSON has no {found[1]}"
        if isinstance(error, Changed):
            return f"which would come back as {_shown(error.arrives)}"
        kind = "JSON" if self._hint is Any else words(self._hint)
        return f"which is not {kind} ({error})"


def _way(function: Callable[..., Any]) -> tuple[Any, Carrier]:
    """Return the type of what a function returns, and how it travels; `Any` where none can."""
    hint = _hint(function)
    if hint not in (Any, None, type(None)) and not isinstance(hint, TypeVar):
        try:
            return hint, carrier(hint)
        except NotCarried:
            pass
    return Any, carrier(Any)


def _hint(function: Callable[..., Any]) -> Any:
    if isinstance(function, type):
        return function
    try:
        annotation = inspect.signature(function).return_annotation
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return hint_of(function, inspect.Parameter("returns", kind, annotation=annotation))
    except Exception:  # no signature, or names that only type checkers import
        return Any


def _plain(value: Any) -> Any:
    """Return the plain ones of lists, objects, texts and numbers, and everything else as it is."""
    match value:
        case bool():
            return value
        case list() | tuple():
            return [_plain(each) for each in value]
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case str():
            return str.__str__(value)
        case int():
            return int.__int__(value)
        case float():
            return float.__float__(value)
        case _:
            return value


def _shown(value: Any) -> str:
    return f"{with_article(type(value).__name__)}, {short(value)}"
