"""Where in an argument the trouble lies, said in one sentence: only asked when there is some.

Owns the way down to the smallest part that does not fit, found by trying the parts as the whole
was tried, and the way out that the sentence ends with.
"""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

import msgspec

from .carrier import Changed, ModelError, NotCarried, carrier
from .hints import UNIONS, bare, field_hints, phrase, short, without_none, words
from .kept import field_names, is_mapped, is_model, same

Part = tuple[str, Any, Any]
"""A path, the annotation that holds there, and the value that is there."""

DEEPEST: Final = 50
_AT: Final = re.compile(r"(?P<reason>.*) - at (?P<key>`key` in )?`\$(?P<path>.*)`", re.DOTALL)


def sentence(name: str, hint: Any, value: Any) -> str:
    """Return what is wrong with an argument that does not fit, and the way out of it."""
    path, hint, value = _smallest((name, hint, value))
    trouble = _trouble(hint, value)
    if isinstance(trouble, ModelError):
        return f"expected {path}{trouble.path} to fit {words(bare(hint))}; {trouble}"
    found = f"expected {path} to be {phrase(hint)}, got: {short(value)}"
    said = f"{found} ({type(value).__name__})" if value is not None else found
    return "; ".join([said, *_why(hint, value, trouble)])


def changed(name: str, hint: Any, error: Exception, raw: bytes) -> str:
    """Return what is wrong with JSON, or a text, that is no value of the argument."""
    try:
        shown = short(msgspec.json.decode(raw))
    except msgspec.DecodeError:
        shown = short(raw.decode(errors="replace"))
    said = f"expected {name} to be {phrase(hint)}, got: {shown}"
    found = _AT.fullmatch(str(error))
    below = error.__cause__.path if isinstance(error.__cause__, ModelError) else ""
    if found is None and not below:
        return "; ".join([said, *_reason(error)])
    reason = (found["reason"] if found else str(error)).replace("`", "")
    if _TYPES.fullmatch(str(error).partition(" - at `")[0]):
        reason = reason[0].lower() + reason[1:]
    place = f"{name}{found['path'] if found else ''}{below}"
    return f"{said}; {'a key of ' if found and found['key'] else ''}{place}: {reason}"


def in_json(hint: Any, text: str) -> str:
    """Say how to write what only JSON can say, where a text was not meant as JSON; else ""."""
    if text.lstrip().startswith(("{", "[")):
        return ""
    kind = bare(hint)
    origin = typing.get_origin(kind) or kind
    if not isinstance(origin, type) or issubclass(origin, (str, bytes, bytearray)):
        return ""
    is_object = typing.is_typeddict(origin) or is_model(origin) or field_names(origin) is not None
    if is_object or issubclass(origin, Mapping):
        names = (field_names(origin) or tuple(field_hints(kind))) if is_object else ()
        inside = ", ".join(f'"{name}": …' for name in names or ("…",))
        return f"; write it as JSON: {{{inside}}}"
    return "; write it as JSON: […]" if issubclass(origin, Iterable) else ""


def _trouble(hint: Any, value: Any) -> Exception | None:
    try:
        carrier(hint).freeze(value)
    except (NotCarried, TypeError, ValueError, OverflowError, RecursionError) as error:
        return _of_model(error, value) or error
    return None


def _of_model(error: Exception, value: Any) -> ModelError | None:
    if not is_model(type(value)):
        return None
    if isinstance(error, Changed) and type(error.arrives) is type(value):
        for name in _names(type(value)):
            given, arrives = getattr(value, name), getattr(error.arrives, name)
            if not same(given, arrives):
                problem = f"{short(given)} would arrive as {short(arrives)}"
                return ModelError(f".{name}", problem)
    return error.__cause__ if isinstance(error.__cause__, ModelError) else None


def _smallest(part: Part) -> Part:
    for _ in range(DEEPEST):
        if isinstance(_trouble(*part[1:]), RecursionError):
            break
        inner = next((each for each in _parts(*part) if _trouble(each[1], each[2])), None)
        if inner is None:
            break
        part = inner
    return part


def _parts(path: str, hint: Any, value: Any) -> Iterator[Part]:
    """Yield what a value consists of, as far as its annotation knows."""
    hint = bare(_member(hint, value))
    kind, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if isinstance(value, dict):
        if typing.is_typeddict(kind):
            for key, each in field_hints(hint).items():
                if key in value:
                    yield f"{path}[{key!r}]", each, value[key]
        elif kind in (Any, object):
            if all(isinstance(key, str) for key in value):
                yield from _parts(path, dict[str, Any], value)
        elif isinstance(kind, type) and issubclass(kind, Mapping):
            of_key, of_value = inner if len(inner) == 2 else (Any, Any)
            for key, each in value.items():
                yield f"the key {short(key)} of {path}", of_key, key
                yield f"{path}[{short(key)}]", of_value, each
    elif is_model(kind) or is_mapped(kind):
        return  # pydantic says by itself where the trouble lies; a row is one thing
    elif isinstance(kind, type) and type(value) is kind and _names(kind):
        hints = field_hints(hint)
        for name in _names(kind):
            yield f"{path}.{name}", hints.get(name, Any), getattr(value, name, None)
    elif kind is tuple and inner and inner[-1] is not Ellipsis:
        if isinstance(value, tuple) and len(value) == len(inner):
            for number, (each, item) in enumerate(zip(inner, value, strict=True)):
                yield f"{path}[{number}]", each, item
    elif isinstance(value, (list, tuple, set, frozenset)) and _is_many(kind):
        of_item = inner[0] if inner else Any
        for number, item in enumerate(value):
            place = number if isinstance(value, (list, tuple)) else short(item)
            yield f"{path}[{place}]", of_item, item


def _member(hint: Any, value: Any) -> Any:
    """Return the member of a union that a value is meant for, where that can be seen."""
    hint = bare(hint)
    if typing.get_origin(hint) not in UNIONS:
        return hint
    fitting = [
        each
        for each in without_none(hint)
        if isinstance(kind := typing.get_origin(bare(each)) or bare(each), type)
        and not typing.is_typeddict(kind)
        and isinstance(value, kind)
    ]
    return fitting[0] if len(fitting) == 1 else hint


def _names(kind: type) -> tuple[str, ...]:
    return field_names(kind) or getattr(kind, "_fields", None) or ()


def _is_many(kind: Any) -> bool:
    return kind in (Any, object) or (isinstance(kind, type) and issubclass(kind, Iterable))


def _why(hint: Any, value: Any, trouble: Exception | None) -> Iterator[str]:
    """Yield what else there is to say: the reason where it cannot be seen, and the way out."""
    if isinstance(trouble, RecursionError):
        yield "it contains itself, or is nested too deeply"
    elif isinstance(value, float) and not math.isfinite(value):
        yield "JSON has no such number: pass None, or a str"
    elif isinstance(trouble, UnicodeEncodeError):
        yield "it has surrogates, which are no text: pass bytes, as os.fsencode gives them"
    elif isinstance(trouble, OverflowError):
        yield "this number is too large for JSON here: pass it as a str or a Decimal"
    elif (way := _way_out(bare(hint), value, trouble)) is not None:
        yield way
    elif isinstance(trouble, Changed):
        yield _change(value, trouble.arrives)
    elif trouble is not None:
        yield from _reason(trouble)


_TYPES: Final = re.compile("Expected `[^`]*`, got `[^`]*`")


def _reason(error: Exception) -> Iterator[str]:
    """Yield what msgspec says, where it says more than which types it saw."""
    told = str(error).partition(" - at `")[0]
    if not _TYPES.fullmatch(told) and not told.startswith("Invalid enum value"):
        yield told.replace("`", "")


def _change(value: Any, arrives: Any) -> str:
    if isinstance(value, (datetime, time)):
        if value.tzinfo is None:
            return "its fold does not travel: give it a zone"
        return "only offsets of whole minutes travel: pass it with another zone"
    if isinstance(value, dict) and (lost := [key for key in value if key not in arrives]):
        return f"there is no key {short(lost[0])} in it"
    return f"it would arrive as {short(arrives)} ({type(arrives).__name__})"


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


def _way_out(kind: Any, value: Any, trouble: Exception | None) -> str | None:
    given = type(value)
    if kind in (Any, object):
        return _annotate(value)
    wanted = typing.get_origin(kind) or kind
    if isinstance(trouble, Changed) and type(trouble.arrives) is not given:
        wanted = type(trouble.arrives)  # what an abstract type, or a union, comes to
    if not isinstance(wanted, type) or typing.is_typeddict(wanted) or given in (wanted, bool):
        return UNKNOWN if given is wanted and _is_unknown(given) else None
    if isinstance(value, dict) and _names(wanted):
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
            leads = "{0}" not in way or _makes(wanted, value)
            return way.format(name, short(value)) if leads else None
    return None


def _makes(wanted: Any, value: Any) -> bool:
    try:
        getattr(wanted, "fromisoformat", wanted)(value)
    except (ValueError, TypeError, ArithmeticError):
        return False
    return True


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
    return is_mapped(kind) or not (issubclass(kind, known) or _names(kind) or is_model(kind))
