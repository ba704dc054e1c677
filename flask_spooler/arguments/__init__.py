"""A task's arguments: checked and frozen when they are enqueued, rebuilt before the call.

Owns the way from a Python call to one JSON object by parameter name and back. The types come from
the function's own annotations: `hints` says what they mean, `carrier` how their values travel,
`kept` whether a value has arrived as it was, `misfit` what is wrong with one that does not. What
does not fit is refused at once, by a sentence that names the task and the argument, and not hours
later in a spooler; nothing arrives changed in silence, but for what `kept` and `carrier` let pass.
A parameter without an annotation takes plain JSON values only, since nothing would turn anything
else back into what it was.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ..errors import ArgumentError, NotATask
from ..options import CHECKS
from .carrier import Carrier, NotCarried, carrier
from .carrier import from_text as _from_text
from .hints import VARIABLE, hint_of, short, shown_signature
from .misfit import changed, in_json, sentence

__all__ = ["Arguments", "check_function"]

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_POSITIONAL: Final = inspect.Parameter.POSITIONAL_ONLY
_EITHER: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD
_KEYWORDS: Final = inspect.Parameter.VAR_KEYWORD


class Arguments:
    """The arguments that one function takes."""

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        self._task = task
        self._function = function
        self._signature = inspect.signature(function)
        self._parameters = dict(self._signature.parameters)
        self._fitting: set[tuple[str, ...]] = set()
        """Sets of names that fit the signature, so that each is tried once."""
        self._hints: dict[str, Any] = {}
        self._carriers: dict[str, Carrier] = {}

    def freeze(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Return the call's arguments as one JSON object by parameter name.

        Raises `ArgumentError`, a `TypeError`, when the call does not fit the signature or a value
        would not arrive as it is under its annotation. Defaults are not filled in: they are the
        function's own affair, on the day it runs.
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
        try:
            return self._rebuilt(frozen, Carrier.thaw)
        except ArgumentError as error:
            problem = f"it was enqueued when the task took other arguments: {error.problem}"
            raise ArgumentError(self._task, problem, cannot="run") from None

    def read(self, written: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that a person or a program wrote as a JSON object.

        As `thaw`, but a key that no field has is an `ArgumentError`, and not left out.
        """
        return self._rebuilt(written, Carrier.read)

    def _rebuilt(
        self, written: bytes | msgspec.Raw, way: Callable[[Carrier, msgspec.Raw], Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        raw = _OBJECT.decode(written)
        args, kwargs = self.placed(
            {name: self._thawed(name, each, way) for name, each in raw.items()}
        )
        names = tuple(raw)
        if names not in self._fitting:
            self._check_fit(args, kwargs)
            self._fitting.add(names)
        return args, kwargs

    def placed(self, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return values by parameter name, in any order, as positional and keyword arguments.

        Raises `ArgumentError` where one that goes by position would take the place of another.
        """
        if not self._by_place and self._variable is None:
            return (), dict(values)
        by_place = [name for name in self._by_place if name in values]
        if by_place != self._by_place[: len(by_place)]:
            skipped = next(name for name in self._by_place if name not in values)
            problem = f"{by_place[-1]} goes by position, after {skipped}: give that too"
            raise ArgumentError(self._task, problem)
        args = [values[name] for name in by_place]
        kwargs: dict[str, Any] = {}
        for name, value in values.items():
            if name == self._variable:
                args += value
            elif name not in self._by_place:
                kwargs[name] = value
        return tuple(args), kwargs

    def from_text(self, name: str, text: str) -> Any:
        """Return what `text` means as the argument `name`: JSON where that fits, else the text.

        ``5`` is a number where one is expected, ``2030-01-02`` a date, and where bytes are
        expected text stands for its UTF-8 bytes. Raises `ArgumentError` when it means nothing.
        """
        self._carrier(name)
        hint = self._hint(name)
        try:
            return _from_text(hint, text)
        except (ValueError, TypeError, RecursionError) as error:
            data = text.encode(errors="backslashreplace")
            problem = changed(name, hint, error, data) + in_json(hint, text)
            raise ArgumentError(self._task, problem) from None

    def check(self, name: str, value: Any) -> None:
        """Raise `ArgumentError` for a value that no job could carry as the argument `name`."""
        self._frozen(name, value)

    def misfit(self, error: TypeError, kwargs: Mapping[str, Any]) -> str:
        """Say why a call does not fit the signature, and where options go that stand in it."""
        said = f"{error}; it takes {shown_signature(self._signature)}"
        options = [name for name in kwargs if name in CHECKS and name not in self._parameters]
        given = ", ".join(f"{name}=…" for name in options)
        return f"{said}; options go to task.using({given})" if options else said

    def _check_fit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(self._task, f"the job's arguments do not fit: {error}") from None

    def _by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            bound = self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise ArgumentError(self._task, self.misfit(error, kwargs)) from None
        named: dict[str, Any] = {}
        for name, value in bound.items():
            if self._parameters[name].kind is VARIABLE:
                named[name] = list(value)
                continue
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
        way = self._carrier(name)
        try:
            return way.freeze(value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise ArgumentError(self._task, sentence(name, self._hint(name), value)) from None

    def _thawed(
        self, name: str, raw: msgspec.Raw, way: Callable[[Carrier, msgspec.Raw], Any]
    ) -> Any:
        try:
            return way(self._carrier(name), raw)
        except msgspec.ValidationError as error:
            problem = changed(name, self._hint(name), error, bytes(raw))
            raise ArgumentError(self._task, problem) from None

    @functools.cached_property
    def _variable(self) -> str | None:
        names = (name for name, each in self._parameters.items() if each.kind is VARIABLE)
        return next(names, None)

    @functools.cached_property
    def _by_place(self) -> list[str]:
        # In front of *args everything stands by position; else only what has to.
        return [
            name
            for name, each in self._parameters.items()
            if each.kind is _POSITIONAL or (each.kind is _EITHER and self._variable is not None)
        ]

    def _hint(self, name: str) -> Any:
        if name not in self._hints:
            self._hints[name] = self._resolved(name)
        return self._hints[name]

    def _resolved(self, name: str) -> Any:
        keywords = (each for each in self._parameters.values() if each.kind is _KEYWORDS)
        parameter = self._parameters.get(name) or next(keywords, None)
        if parameter is None:
            return Any
        try:
            return hint_of(self._function, parameter)
        except Exception as error:  # annotations are any code at all
            problem = (
                f"{name}: its annotation {parameter.annotation} cannot be resolved ({error}): "
                "import what it names where the task is defined, outside of `if TYPE_CHECKING:`"
            )
            raise ArgumentError(self._task, problem) from None

    def _carrier(self, name: str) -> Carrier:
        if name not in self._carriers:
            try:
                self._carriers[name] = carrier(self._hint(name))
            except NotCarried as reason:
                raise ArgumentError(self._task, f"{name}: {reason}") from None
        return self._carriers[name]


def check_function(function: Callable[..., Any], name: str | None) -> str:
    """Return the stored name of a function that becomes a task; raise `NotATask`.

    A job carries arguments and no object, so a method cannot be one; and what has no name of its
    own, such as a lambda, needs one.
    """
    path = getattr(function, "__qualname__", "<lambda>")
    if not callable(function):
        raise NotATask(short(function), short(function), "put the task's decorator outermost")
    owner, _, own = path.rpartition(".")
    try:
        first = next(iter(inspect.signature(function).parameters), "")
    except ValueError:
        way_out = "wrap it in a function whose arguments are annotated"
        raise NotATask(path, "one of C without a signature", way_out) from None
    if owner and not owner.endswith("<locals>") and first in ("self", "cls"):
        way_out = "a job has no object to call it on: make it a function that loads what it needs"
        raise NotATask(path, "a method", way_out)
    if name is None and own == "<lambda>":
        raise NotATask(short(function), "one without a name that a job could carry", "add name='…'")
    return name or f"{function.__module__}.{path}"
