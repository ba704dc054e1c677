"""How the values of one annotation travel: to JSON, and back to what they were.

Owns the types that can travel. msgspec knows most; the hooks add paths, pydantic models where
they are installed, and a few abstract types. A value is written, read again and compared: what
would not arrive as it is does not leave, but for the member of an `IntEnum`, or the like of a str,
where just an int or a str, or None, is annotated: it arrives as its plain value.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterable
from enum import Enum, EnumMeta
from pathlib import PurePath
from typing import Any

import msgspec

from .hints import UNIONS, bare, short, with_article, words
from .kept import AS_THEY_ARE, is_model, is_plain, same


class NotCarried(Exception):
    """An annotation whose values cannot travel; says why."""


class Changed(TypeError):
    """A value that would arrive as another one."""

    def __init__(self, arrives: Any) -> None:
        super().__init__("it would not arrive as it is")
        self.arrives = arrives


class ModelError(ValueError):
    """What pydantic has against a value: where, as a path below the model, and what."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(problem)
        self.path = path


class Carrier:
    """The way of the values of one annotation."""

    def __init__(self, hint: Any) -> None:
        self._exact = next((each for each in AS_THEY_ARE if each is hint), None)
        self._anything = hint in (Any, object)
        self._is_simple = _is_simple(hint)
        try:
            self._decoder = msgspec.json.Decoder(hint, dec_hook=rebuilt)
        except Exception as error:  # names that cannot be resolved within classes, too
            raise NotCarried(_reason(hint, error)) from None

    def freeze(self, value: Any) -> bytes:
        """Return a value as JSON; raise one of several errors when it would not arrive as it is."""
        data = msgspec.json.encode(value, enc_hook=_plain)
        if type(value) is self._exact or (self._anything and is_plain(value)):
            return data
        arrives = self._decoder.decode(data)
        if not same(value, arrives) and not self._is_member(value, arrives):
            raise Changed(arrives)
        return data

    def _is_member(self, value: Any, arrives: Any) -> bool:
        """Tell whether this is a member of an `IntEnum` for an int, or the like for a str.

        A type checker lets it pass, and the task gets the plain value that it has asked for.
        """
        is_one = isinstance(value, Enum) and type(arrives) in type(value).__mro__
        return is_one and self._is_simple and value == arrives

    def thaw(self, data: bytes | msgspec.Raw) -> Any:
        """Return the value; raise `msgspec.ValidationError` where it does not fit any more."""
        return self._decoder.decode(data)

    def read(self, data: bytes | msgspec.Raw) -> Any:
        """Return the value that a person wrote as JSON: a key that means nothing is an error."""
        value = self._decoder.decode(data)
        again = msgspec.json.decode(msgspec.json.encode(value, enc_hook=_plain))
        lost = _first_lost(msgspec.json.decode(data), again)
        if lost is not None:
            raise msgspec.ValidationError(f"there is no such field - at `{lost}`")
        return value


def _is_simple(hint: Any) -> bool:
    """Tell whether no more than an int, a str or None is asked for."""
    choices = typing.get_args(hint) if typing.get_origin(hint) in UNIONS else (hint,)
    return all(choice in (int, str, type(None)) for choice in choices)


def carrier(hint: Any) -> Carrier:
    """Return the carrier of an annotation; raise `NotCarried`."""
    try:
        return _carrier(hint)
    except TypeError:  # what stands in Annotated may be unhashable
        return Carrier(hint)


_carrier = functools.lru_cache(maxsize=1024)(Carrier)


def _plain(value: Any) -> Any:
    """Return what msgspec can write for a value that it does not know."""
    if isinstance(value, PurePath):
        return str(value)
    if is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)
    raise TypeError(f"{with_article(type(value).__name__)} cannot be written as JSON")


def rebuilt(kind: Any, data: Any) -> Any:
    """Return the value of a type that msgspec does not know from what `_plain` made of it."""
    if kind is object:
        return data
    if is_model(kind):
        return _model(kind, data)
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return kind(data)
    if typing.get_origin(kind) is Iterable:
        return msgspec.convert(data, list[typing.get_args(kind)[0]], dec_hook=rebuilt)  # type: ignore[misc]
    raise TypeError(f"{words(kind)} cannot be read from JSON")


def _model(kind: Any, data: Any) -> Any:
    try:
        return kind.model_validate_json(msgspec.json.encode(data))
    except ValueError as error:
        first = error.errors()[0]  # type: ignore[attr-defined]  # pydantic's ValidationError
        path = "".join(
            f"[{each}]" if isinstance(each, int) else f".{each}" for each in first["loc"]
        )
        raise ModelError(path, f"{first['msg']}, got: {short(first['input'])}") from None


def from_text(hint: Any, text: str) -> Any:
    """Return what a text means under an annotation: JSON where that fits, else the text itself.

    Raises `msgspec.ValidationError` and `ValueError` when it means nothing there.
    """
    way = carrier(hint)
    try:
        return way.read(text.encode())
    except msgspec.ValidationError:
        if text.lstrip().startswith(("{", "[")):  # this was meant as JSON
            raise
    except msgspec.DecodeError:
        pass  # as most texts are no JSON
    kind = bare(hint)
    if kind in (bytes, bytearray):
        return kind(text, "utf-8")
    if isinstance(kind, EnumMeta) and text in kind.__members__:
        return kind[text]
    try:
        return msgspec.convert(text, hint, strict=False, dec_hook=rebuilt)
    except msgspec.ValidationError:
        if isinstance(kind, type) and hasattr(kind, "fromisoformat"):
            return kind.fromisoformat(text)
        raise


def _first_lost(given: Any, read: Any, path: str = "$") -> str | None:
    """Return the path of a key in JSON that was not read, because no field has its name."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            inner = f"{path}.{key}"
            found = _first_lost(value, read[key], inner) if key in read else inner
            if found is not None:
                return found
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        pairs = enumerate(zip(given, read, strict=True))
        lost = (_first_lost(one, other, f"{path}[{number}]") for number, (one, other) in pairs)
        return next((each for each in lost if each is not None), None)
    return None


def _reason(hint: Any, error: Exception) -> str:
    told = str(error).partition(" - type ")[0]
    if told.startswith("Type unions"):
        rule = told.partition(" (")[0]
        return (
            f"the members of its annotation {words(hint)} cannot be told apart in JSON: {rule}; "
            "annotate one of them, or make each a msgspec.Struct with a tag"
        )
    way = "; or pass the name of the member" if told.startswith("Enums") else ""
    return f"its annotation {words(hint)} cannot travel as JSON: {told}{way}"
