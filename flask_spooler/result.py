"""What a task returned, as JSON; what a step returned is in `arguments.returned`.

Owns the answer to what is JSON. What msgspec writes in another form, a set as a list, a date as
text, is taken, as nobody awaits it back as what it was. A number that JSON does not have is not:
msgspec would write null for it, which says something else.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .arguments.hints import with_article
from .arguments.kept import not_finite


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
        found = not_finite(msgspec.to_builtins(value, builtin_types=(msgspec.Raw,)))
        if found is not None:
            place, number = found
            where = f"at {place} it has" if place else "JSON has no"
            raise NotJSON(value, f"{where} {number}: return None, or a str, in its place")
    return data
