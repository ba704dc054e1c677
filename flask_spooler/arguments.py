"""A task's arguments: checked and frozen when they are enqueued, rebuilt before the call.

Owns the way from a Python call to one JSON object by parameter name and back. The types come from
the function's own annotations, through msgspec: what does not fit is refused at once, by a
sentence that names the task and the argument, and not hours later in a spooler. A parameter
without an annotation takes plain JSON values only, since nothing would turn anything else back
into what it was.
"""

from __future__ import annotations

import enum
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from .errors import ArgumentError

_ANYTHING = msgspec.json.Decoder()
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_POSITIONAL = inspect.Parameter.POSITIONAL_ONLY
_VARIABLE = inspect.Parameter.VAR_POSITIONAL
_KEYWORDS = inspect.Parameter.VAR_KEYWORD


class Arguments:
    """The arguments that one function takes."""

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        self._task = task
        self._function = function
        self._signature = inspect.signature(function)
        self._parameters = dict(self._signature.parameters)
        self._fitting: set[tuple[str, ...]] = set()
        """Sets of names that fit the signature, so that each is tried once."""

    def freeze(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Return the call's arguments as one JSON object by parameter name.

        Raises `ArgumentError`, a `TypeError`, when the call does not fit the signature or a value
        does not fit its annotation. Defaults are not filled in: they are the function's own
        affair, on the day it runs.
        """
        return msgspec.json.encode(
            {
                name: msgspec.Raw(self._frozen(name, value))
                for name, value in self._by_name(args, kwargs).items()
            }
        )

    def thaw(self, frozen: bytes | msgspec.Raw) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return positional and keyword arguments for the call, of the annotated types.

        Raises `ArgumentError` when the function has changed since and the values do not fit now.
        """
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        values = _OBJECT.decode(frozen)
        for name, raw in values.items():
            kind = self._parameters[name].kind if name in self._parameters else None
            value = self._thawed(name, raw)
            if kind is _VARIABLE:
                args += value
            elif kind is not _KEYWORDS and self._goes_by_position(name):
                args.append(value)
            else:
                kwargs[name] = value
        names = tuple(values)
        if names not in self._fitting:
            self._check_fit(args, kwargs)
            self._fitting.add(names)
        return tuple(args), kwargs

    def _check_fit(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(self._task, f"the job's arguments do not fit: {error}") from None

    def from_text(self, name: str, text: str) -> Any:
        """Return what `text` means as the argument `name`: JSON where that fits, else a string."""
        try:
            value = _ANYTHING.decode(text.encode())
            self._frozen(name, value)
        except (msgspec.DecodeError, ArgumentError):
            return text
        return value

    def _by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            bound = self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise ArgumentError(self._task, f"{error}; it takes {self._signature}") from None
        named: dict[str, Any] = {}
        for name, value in bound.items():
            if self._parameters[name].kind is not _KEYWORDS:
                named[name] = value
                continue
            clash = next((key for key in value if key in self._parameters), None)
            if clash is not None:
                problem = f"the keyword {clash!r} is also the name of another parameter"
                raise ArgumentError(self._task, problem)
            named.update(value)
        return named

    def _frozen(self, name: str, value: Any) -> bytes:
        decoder = self._decoder(name)
        try:
            if decoder is None:
                _check_plain(value)
                return msgspec.json.encode(value)
            _check_finite(msgspec.to_builtins(value))
            data = msgspec.json.encode(value)
            _check_kept(value, decoder.decode(data))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            problem = f"{name}={_short(value)} does not fit {self._expected(name)}: {error}"
            raise ArgumentError(self._task, problem) from None
        return data

    def _thawed(self, name: str, raw: msgspec.Raw) -> Any:
        decoder = self._decoder(name) or _ANYTHING
        try:
            return decoder.decode(raw)
        except msgspec.ValidationError as error:
            problem = f"{name} does not fit {self._expected(name)} any more: {error}"
            raise ArgumentError(self._task, problem) from None

    @functools.cached_property
    def _leading(self) -> frozenset[str]:
        kinds = (_POSITIONAL, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return frozenset(name for name, each in self._parameters.items() if each.kind in kinds)

    @functools.cached_property
    def _has_variable(self) -> bool:
        return any(each.kind is _VARIABLE for each in self._parameters.values())

    def _goes_by_position(self, name: str) -> bool:
        # In front of *args everything stands by position; else only what has to.
        if name not in self._leading:
            return False
        return self._has_variable or self._parameters[name].kind is _POSITIONAL

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self._function, include_extras=True)
        except (NameError, TypeError):
            return {}

    def _hint(self, name: str) -> Any:
        parameter = self._parameters.get(name)
        if parameter is None:
            keywords = (p.name for p in self._parameters.values() if p.kind is _KEYWORDS)
            return self._hints.get(next(keywords, ""), Any)
        hint = self._hints.get(name, Any)
        return types.GenericAlias(list, (hint,)) if parameter.kind is _VARIABLE else hint

    def _decoder(self, name: str) -> msgspec.json.Decoder[Any] | None:
        if name not in self._decoders:
            hint = self._hint(name)
            self._decoders[name] = None if hint in (Any, list[Any], object) else _decoder(hint)
        return self._decoders[name]

    @functools.cached_property
    def _decoders(self) -> dict[str, msgspec.json.Decoder[Any] | None]:
        return {}

    def _expected(self, name: str) -> str:
        hint = self._hint(name)
        if self._decoder(name) is None:
            return "plain JSON (annotate the parameter for richer types)"
        return getattr(hint, "__name__", str(hint)) if isinstance(hint, type) else str(hint)


def _decoder(hint: Any) -> msgspec.json.Decoder[Any] | None:
    try:
        return msgspec.json.Decoder(hint)
    except TypeError:
        return None


def _check_plain(value: Any) -> None:
    if value is None or isinstance(value, (bool, int, str)):
        return
    if isinstance(value, float):
        _check_finite(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_plain(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is not a string")
            _check_plain(item)
    else:
        raise TypeError(f"a {type(value).__name__} would not come back as one")


def _check_finite(value: Any) -> None:
    # JSON has no NaN, and msgspec would write null for it.
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} cannot be written as JSON")
    if isinstance(value, dict):
        for item in value.values():
            _check_finite(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_finite(item)


def _check_kept(value: Any, arrives: Any) -> None:
    # JSON writes bytes, UUIDs and times as text: under the annotation str they would stay text.
    if isinstance(arrives, str) and not isinstance(value, (str, enum.Enum)):
        raise TypeError(f"a {type(value).__name__} would arrive as a str")
    if isinstance(arrives, (list, tuple)) and isinstance(value, (list, tuple)):
        for given, kept in zip(value, arrives, strict=True):
            _check_kept(given, kept)
    elif isinstance(arrives, dict) and isinstance(value, dict):
        for given, kept in zip(value.values(), arrives.values(), strict=False):
            _check_kept(given, kept)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "…"
