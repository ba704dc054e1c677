"""What to pass in place of an argument that does not fit: how the sentence about it ends.

Owns the table of conversions. What it says is Python that works: a call that would raise for this
very value is not offered.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from .carrier import Changed
from .hints import phrase, short, words
from .kept import is_mapped, is_model, names_within

WRITTEN: Final[tuple[tuple[type, type, str], ...]] = (
    (str, datetime, "pass {0}.fromisoformat({1})"),
    (str, date, "pass {0}.fromisoformat({1})"),
    (str, time, "pass {0}.fromisoformat({1})"),
    (str, UUID, "pass {0}({1})"),
    (str, Decimal, "pass {0}({1})"),
    (str, PurePath, "pass {0}({1})"),
    (str, bytes, "pass {1}.encode()"),
    (bytes, str, "pass {1}.decode()"),
    (str, Enum, "pass {0}({1})"),
    (int, Enum, "pass {0}({1})"),
    (str, int, "pass int({1})"),
    (str, float, "pass float({1})"),
    (float, Decimal, "pass Decimal('{1}'): a float is hardly ever what it looks like"),
    (int, Decimal, "pass Decimal({1})"),
    (int, timedelta, "pass timedelta(seconds={1})"),
    (float, timedelta, "pass timedelta(seconds={1})"),
    (date, datetime, "pass datetime.combine(…, time())"),
    (tuple, list, "pass a list"),
    (list, tuple, "pass a tuple"),
    (list, set, "pass a set"),
    (PurePath, str, "pass str(…) of it"),
    (UUID, str, "pass str(…) of it"),
)
"""The type given, the type expected, and how one makes the second of the first."""


def way_out(kind: Any, value: Any, trouble: Exception | None) -> str | None:
    """Return what to pass in place of a value, None where there is nothing to say.

    `kind` is the bare type that is expected, `trouble` what became of the value.
    """
    given = type(value)
    if kind in (Any, object):
        return _annotate(value)
    wanted = typing.get_origin(kind) or kind
    if isinstance(trouble, Changed) and type(trouble.arrives) is not given:
        wanted = type(trouble.arrives)  # what an abstract type, or a union, comes to
    if not isinstance(wanted, type) or typing.is_typeddict(wanted) or given in (wanted, bool):
        return UNKNOWN if given is wanted and _is_unknown(given) else None
    if wanted is bool:
        return "pass True or False"
    if isinstance(value, dict) and names_within(wanted):
        return f"pass {words(kind)}(**…)"
    if wanted in (str, int) and isinstance(value, Enum):
        return f"pass its .value, or annotate the parameter with {words(given)}"
    if wanted is date and isinstance(value, datetime):
        return "pass its .date()"
    if issubclass(given, wanted):
        plain = f"it would arrive as {phrase(wanted)}: pass a plain one"
        return UNKNOWN if _is_unknown(given) else plain
    name = words(kind if isinstance(kind, type) else wanted)
    for had, needed, way in WRITTEN:
        if issubclass(given, had) and issubclass(wanted, needed):
            makes = getattr(wanted, "fromisoformat", wanted) if "{0}" in way else MAKES.get(way)
            leads = makes is None or _leads(makes, value)
            return way.format(name, short(value)) if leads else None
    return None


def _leads(makes: Callable[[Any], Any], value: Any) -> bool:
    try:
        makes(value)
    except (ValueError, TypeError, ArithmeticError):
        return False
    return True


MAKES: Final[dict[str, Callable[[Any], Any]]] = {
    "pass int({1})": int,
    "pass float({1})": float,
    "pass {1}.decode()": bytes.decode,
}
"""What a way out calls that may raise, where that is not the expected type itself."""


UNKNOWN: Final = (
    "it cannot be written as JSON: pass its key and load it in the task, "
    "or make it a dataclass or a msgspec.Struct"
)


def _annotate(value: Any) -> str | None:
    given = type(value)
    if isinstance(value, dict):
        return "its keys are not all strings: annotate the parameter, as dict[int, str]"
    if not _is_unknown(given):
        said = given.__name__
        return f"annotate the parameter, as {said}, and it comes back as one"
    return UNKNOWN


def _is_unknown(kind: type) -> bool:
    known = (datetime, date, time, timedelta, UUID, Decimal, Enum, PurePath, bytes, bytearray,
             str, int, float, list, tuple, set, frozenset, dict, memoryview)  # fmt: skip
    return is_mapped(kind) or not (issubclass(kind, known) or names_within(kind) or is_model(kind))
