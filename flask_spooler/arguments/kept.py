"""Whether a value has arrived as it was given: the same in value and in type, at every depth.

Owns that one question. `==` does not answer it: it takes 1 for True, 3.14 for 3.140, a tuple's
subclass for a tuple, and two moments for one whose clocks differ. Two differences are let pass:
an int where a float is annotated, which typing itself promotes, when the float is that number
exactly; and the name of a time's zone, where its clock and its offset from UTC are the same.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Callable
from datetime import datetime, time
from decimal import Decimal
from typing import Any, Final

import msgspec

Compare = Callable[[Any, Any], Any]

AS_THEY_ARE: Final = frozenset({str, int, bool, type(None)})
"""Types whose values JSON keeps exactly, under their own annotation and without one."""


def same(given: Any, arrives: Any) -> bool:
    """Tell whether `arrives` is what was `given`."""
    if given is arrives:
        return True
    kind = type(given)
    if kind is not type(arrives):
        return kind is int and type(arrives) is float and bool(given == arrives)
    return bool(_compare_of(kind)(given, arrives))  # type: ignore[arg-type]  # mypy: not hashable


def is_plain(value: Any) -> bool:
    """Tell whether JSON alone keeps a value: nothing in it needs an annotation to come back."""
    kind = type(value)
    if kind in AS_THEY_ARE:
        return True
    if kind is list:
        return all(map(is_plain, value))
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(is_plain, value.values()))
    return kind is float and math.isfinite(value)


def not_finite(value: Any) -> tuple[str, float] | None:
    """Return a number that JSON does not have, and where in `value` it stands; None without one."""
    left = [("", value)]  # as msgspec goes deeper than Python's own stack
    seen = set()
    while left:
        place, value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, float) and not math.isfinite(value):
            return place, value
        if isinstance(value, dict):
            left += [(f"{place}[{key!r}]", inner) for key, inner in value.items()]
        elif isinstance(value, (list, tuple)):
            left += [(f"{place}[{number}]", inner) for number, inner in enumerate(value)]
        else:
            names = field_names(type(value)) or ()
            left += [(f"{place}.{name}", getattr(value, name, None)) for name in names]
    return None


@functools.lru_cache(maxsize=1024)
def _compare_of(kind: Any) -> Compare:
    """Return what tells whether two values of the same class are the same."""
    if kind in COMPARE:
        return COMPARE[kind]
    names = field_names(kind)
    if names is None:
        return _same_items if issubclass(kind, tuple) else operator.eq
    if is_mapped(kind):
        return _never  # it has the same fields, and is not the row of the database any more
    if is_model(kind):  # which knows of its extras and private ones
        return lambda given, arrives: _same_fields(names, given, arrives) and given == arrives
    return functools.partial(_same_fields, names)


def _never(given: Any, arrives: Any) -> bool:
    return False


def _same_fields(names: tuple[str, ...], given: Any, arrives: Any) -> bool:
    return all(same(getattr(given, name), getattr(arrives, name)) for name in names)


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


def names_within(kind: Any) -> tuple[str, ...]:
    """Return the names of what a value of this class consists of, those of a NamedTuple too."""
    return field_names(kind) or getattr(kind, "_fields", None) or ()


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
    if given.tzinfo is arrives.tzinfo and given == arrives and given.fold == arrives.fold:
        return True
    # Zones are compared by their offset: between two zones Python takes some moments for unequal
    # to everything. A naive one has its fold instead.
    if (given.tzinfo is None) is not (arrives.tzinfo is None):
        return False
    if given.tzinfo is None:
        return False
    clocks_agree = given.replace(tzinfo=None) == arrives.replace(tzinfo=None)
    return bool(clocks_agree and given.utcoffset() == arrives.utcoffset())


def _same_decimal(given: Decimal, arrives: Decimal) -> bool:
    return bool(given.as_tuple() == arrives.as_tuple())


COMPARE: Final[dict[type, Compare]] = {
    list: _same_items,
    tuple: _same_items,
    dict: _same_pairs,
    set: _same_members,
    frozenset: _same_members,
    datetime: _same_moment,
    time: _same_moment,
    Decimal: _same_decimal,
}
