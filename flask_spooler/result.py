"""What a task or a step returned, as JSON.

Owns the answer to what is JSON. What msgspec writes in another form, a set as a list, a date as
text, is taken, as nobody awaits it back as what it was. A number that JSON does not have is not:
msgspec would write null for it, which says something else.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from .arguments.hints import with_article


class NotJSON(ValueError):
    """A value that is not JSON; says what it is, and why not."""

    def __init__(self, value: Any, why: object) -> None:
        super().__init__(f"{with_article(type(value).__name__)}, which is not JSON ({why})")


def to_json(value: Any) -> bytes:
    """Return a value as JSON; raise `NotJSON`."""
    try:
        data = msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise NotJSON(value, error) from None
    if b"null" in data:  # so that what has none, however large, is not looked through
        found = _not_finite(msgspec.to_builtins(value, builtin_types=(msgspec.Raw,)))
        if found is not None:
            place, number = found
            where = f"at {place} it has" if place else "JSON has no"
            raise NotJSON(value, f"{where} {number}: return None, or a str, in its place")
    return data


def _not_finite(value: Any) -> tuple[str, float] | None:
    """Return a number that JSON does not have, and where it stands."""
    left = [("", value)]  # as msgspec goes deeper than Python's own stack
    while left:
        place, value = left.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return place, value
        if isinstance(value, dict):
            left += [(f"{place}[{key!r}]", inner) for key, inner in value.items()]
        elif isinstance(value, (list, tuple)):
            left += [(f"{place}[{number}]", inner) for number, inner in enumerate(value)]
    return None
