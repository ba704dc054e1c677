"""Whether a value has arrived as it was given: the same in value and in type, at every depth.

Owns that one question. `==` does not answer it: it takes 1 for True, 3.14 for 3.140, a tuple's
subclass for a tuple, and two moments for one whose clocks differ. Two differences are let pass:
an int where a float is annotated, which typing itself promotes, when the float is that number
exactly; and the name of a time's zone, where its clock and its offset from UTC are the same.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from datetime import datetime, time
from decimal import Decimal
from typing import Any, Final

import msgspec


def same(given: Any, arrives: Any) -> bool:
    """Tell whether `arrives` is what was `given`."""
    if given is arrives:
        return True
    kind = type(given)
    if kind is not type(arrives):
        return kind is int and type(arrives) is float and bool(given == arrives)
    compare = COMPARE.get(kind)
    if compare is not None:
        return compare(given, arrives)
    names = field_names(kind)  # type: ignore[arg-type]  # classes are hashable
    if names is not None and is_mapped(kind):
        return False  # it has the same fields, and is not the row of the database any more
    if names is not None:
        return all(same(getattr(given, name), getattr(arrives, name)) for name in names) and (
            not is_model(kind) or given == arrives  # which knows of extras and private ones
        )
    if isinstance(given, tuple):
        return _same_items(given, arrives)
    return bool(given == arrives)


@functools.lru_cache(maxsize=1024)
def field_names(kind: Any) -> tuple[str, ...] | None:
    """Return the names of the fields of a class that is made of fields, else None."""
    if issubclass(kind, msgspec.Struct):
        names: tuple[str, ...] = kind.__struct_fields__
        return names
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if is_model(kind):
        return tuple(kind.model_fields)
    attributes = getattr(kind, "__attrs_attrs__", None)
    return None if attributes is None else tuple(each.name for each in attributes)


def is_model(kind: Any) -> bool:
    """Tell whether this is a pydantic model; pydantic itself is never imported by us."""
    return (
        isinstance(kind, type)
        and hasattr(kind, "__pydantic_validator__")
        and hasattr(kind, "model_validate_json")
    )


def is_mapped(kind: Any) -> bool:
    """Tell whether SQLAlchemy maps this class to a table, dataclasses and models included."""
    return hasattr(kind, "__mapper__")


def _same_items(given: Any, arrives: Any) -> bool:
    return len(given) == len(arrives) and all(map(same, given, arrives))


def _same_pairs(given: dict[Any, Any], arrives: dict[Any, Any]) -> bool:
    return _same_items(given.keys(), arrives.keys()) and _same_items(
        given.values(), arrives.values()
    )


def _same_members(given: Any, arrives: Any) -> bool:
    found = {each: each for each in arrives}
    return len(given) == len(found) and all(
        each in found and same(each, found[each]) for each in given
    )


def _same_moment(given: Any, arrives: Any) -> bool:
    # Zones are compared by their offset: between two zones Python takes some moments for unequal
    # to everything. A naive one has its fold instead.
    if (given.tzinfo is None) is not (arrives.tzinfo is None):
        return False
    if given.tzinfo is None:
        return bool(given == arrives) and given.fold == arrives.fold
    clocks_agree = given.replace(tzinfo=None) == arrives.replace(tzinfo=None)
    return bool(clocks_agree and given.utcoffset() == arrives.utcoffset())


def _same_decimal(given: Decimal, arrives: Decimal) -> bool:
    return bool(given.as_tuple() == arrives.as_tuple())


def _equal(given: Any, arrives: Any) -> bool:
    return bool(given == arrives)


COMPARE: Final[dict[type, Callable[[Any, Any], bool]]] = {
    **dict.fromkeys((str, int, bool, float, bytes, bytearray), _equal),
    list: _same_items,
    tuple: _same_items,
    dict: _same_pairs,
    set: _same_members,
    frozenset: _same_members,
    datetime: _same_moment,
    time: _same_moment,
    Decimal: _same_decimal,
}
