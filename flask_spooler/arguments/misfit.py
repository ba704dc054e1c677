"""Where in an argument the trouble lies, said in one sentence: only asked when there is some.

Owns the way down to the smallest part that does not fit, found by trying the parts as the whole
was tried; `way_out` has what the sentence ends with.
"""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, time
from typing import Any, Final

import msgspec

from .carrier import Changed, ModelError, NotCarried, carrier
from .hints import UNIONS, bare, field_hints, phrase, short, without_none, words
from .kept import field_names, is_mapped, is_model, names_within, not_finite, same
from .way_out import way_out

Part = tuple[str, Any, Any]
"""A path, the annotation that holds there, and the value that is there."""

DEEPEST: Final = 50
NO_SUCH_NUMBER: Final = "JSON has no such number: pass None, or a str"
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
    if (found := not_finite(value)) is not None:  # null by now, which pydantic would speak of
        place, number = found
        return ModelError(place, f"got: {number}; {NO_SUCH_NUMBER}")
    if isinstance(error, Changed) and type(error.arrives) is type(value):
        for name in names_within(type(value)):
            given, arrives = getattr(value, name), getattr(error.arrives, name)
            if not same(given, arrives):
                return ModelError(f".{name}", _comes_back(short(given), short(arrives)))
    return error.__cause__ if isinstance(error.__cause__, ModelError) else None


def _comes_back(given: str, arrives: str) -> str:
    if given != arrives:
        return f"{given} would arrive as {arrives}"
    masked = "is another one when it is read back, as pydantic masks secrets"
    return f"{given} {masked}: pass its key and load it in the task"


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
    elif isinstance(kind, type) and type(value) is kind and names_within(kind):
        hints = field_hints(hint)
        for name in names_within(kind):
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


def _is_many(kind: Any) -> bool:
    return kind in (Any, object) or (isinstance(kind, type) and issubclass(kind, Iterable))


def _why(hint: Any, value: Any, trouble: Exception | None) -> Iterator[str]:
    """Yield what else there is to say: the reason where it cannot be seen, and the way out."""
    if isinstance(trouble, RecursionError):
        yield "it contains itself, or is nested too deeply"
    elif isinstance(value, float) and not math.isfinite(value):
        yield NO_SUCH_NUMBER
    elif isinstance(trouble, UnicodeEncodeError):
        yield "it has surrogates, which are no text: pass bytes, as os.fsencode gives them"
    elif isinstance(value, int) and type(trouble) is ValueError:
        yield "it has more digits than Python turns into text: pass hex(…) of it, a str"
    elif isinstance(trouble, OverflowError):
        yield "this number is too large for JSON here: pass it as a str or a Decimal"
    elif (way := way_out(bare(hint), value, trouble)) is not None:
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
