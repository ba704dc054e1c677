"""What a function's annotations mean, and how they are said to people.

Owns the way from a parameter to a type. Each annotation is resolved by itself, so that one name
which only type checkers can import spoils no other parameter; and not before it is needed, when
all modules are there.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NewType, TypeVar, Union

from ..errors import Words

VARIABLE: Final = inspect.Parameter.VAR_POSITIONAL
UNIONS: Final = (Union, types.UnionType)


def hint_of(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the type that a parameter's values have; `Any` where it has no annotation.

    For ``*args`` it is the list of them. Raises `NameError` and others where the annotation
    cannot be resolved.
    """
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        hint: Any = Any
    else:
        names, kinds = _namespaces(function)
        only = types.SimpleNamespace(__annotations__={parameter.name: annotation})
        hint = typing.get_type_hints(only, names, kinds, include_extras=True)[parameter.name]
    if isinstance(hint, (typing.ParamSpecArgs, typing.ParamSpecKwargs)):
        hint = Any
    if parameter.default is None:
        hint = typing.Optional[hint]  # noqa: UP045 -- the hint may be anything, without an "or"
    return types.GenericAlias(list, (hint,)) if parameter.kind is VARIABLE else hint


def _namespaces(function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    while not hasattr(function, "__globals__") or hasattr(function, "__wrapped__"):
        inner: Any = (
            getattr(function, "__wrapped__", None)
            or getattr(function, "func", None)  # functools.partial
            or getattr(function, "__func__", None)  # a bound method
            or getattr(type(function), "__call__", None)  # noqa: B004 -- its own, not whether
        )
        if not callable(inner) or inner is function:
            return {}, {}
        function = inner
    parameters = getattr(function, "__type_params__", ())
    return function.__globals__, {each.__name__: each for each in parameters}


def shown_signature(signature: inspect.Signature) -> str:
    """Return a signature as it stands in the source, without quotes around annotations."""
    parameters = [
        each.replace(
            annotation=Words(each.annotation)
            if isinstance(each.annotation, str)
            else each.annotation,
            default=each.default
            if each.default is inspect.Parameter.empty
            else Words(short(each.default)),
        )
        for each in signature.parameters.values()
    ]
    return str(inspect.Signature(parameters))


def words(hint: Any) -> str:
    """Return a type as one writes it in Python.

    >>> words(dict[str, list[int] | None])
    'dict[str, list[int] | None]'
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return "Any"
    if hint is None or hint is type(None):
        return "None"
    if hint is Ellipsis:
        return "..."
    if origin in UNIONS:
        return " | ".join(words(each) for each in args)
    if origin is Annotated:
        extras = (repr(each).removeprefix("msgspec.") for each in hint.__metadata__)
        return f"Annotated[{', '.join([words(hint.__origin__), *extras])}]"
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, args))}]"
    if origin is not None and args:
        return f"{words(origin)}[{', '.join(words(each) for each in args)}]"
    if isinstance(hint, (type, NewType, TypeVar)):
        return getattr(hint, "__qualname__", hint.__name__).rpartition("<locals>.")[2]
    return str(hint).removeprefix("typing.")


def phrase(hint: Any) -> str:
    """Return a type with its article, for the middle of a sentence.

    >>> phrase(int), phrase(list[str]), phrase(int | None)
    ('an int', 'a list[str]', 'int | None')
    """
    if hint in (Any, object):
        return "plain JSON"
    said = words(hint)
    kind = typing.get_origin(hint) or hint
    if kind in (Annotated, *UNIONS) or not isinstance(kind, (type, NewType)):
        return said
    if said in ("None", "bytes"):
        return said
    return with_article(said)


def with_article(name: str) -> str:
    """Return the name of a type with its article, by its first letter as it is mostly spoken.

    >>> with_article("object"), with_article("UUID")
    ('an object', 'a UUID')
    """
    return f"{'an' if name[:1] in 'aeioAEIO' else 'a'} {name}"


def bare(hint: Any) -> Any:
    """Return a type without what only stands around it: constraints, other names, None."""
    while True:
        origin = typing.get_origin(hint)
        if origin is Annotated:
            hint = hint.__origin__
        elif isinstance(hint, NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":  # ``type X = …``, from Python 3.12 on
            hint = hint.__value__
        elif origin in UNIONS and len(members := without_none(hint)) == 1:
            hint = members[0]
        else:
            return hint


def without_none(hint: Any) -> list[Any]:
    """Return the members of a union but for None."""
    return [each for each in typing.get_args(hint) if each is not type(None)]


@functools.lru_cache(maxsize=1024)
def field_hints(kind: Any) -> dict[str, Any]:
    """Return the types of a class's fields, parameters of generic ones filled in."""
    origin = typing.get_origin(kind) or kind
    try:
        found = typing.get_type_hints(origin, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}
    given = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(kind), strict=False))
    plain = {name: _unqualified(hint) for name, hint in found.items()}
    return {name: given.get(hint, hint) for name, hint in plain.items()}


def _unqualified(hint: Any) -> Any:
    # What a TypedDict says of a key, not of its value.
    while getattr(typing.get_origin(hint), "_name", "") in ("Required", "NotRequired", "ReadOnly"):
        hint = typing.get_args(hint)[0]
    return hint


def short(value: Any) -> str:
    """Return a value for a sentence: cut where it is long, and never raising."""
    is_text = type(value) in (str, bytes)  # enums are texts, too
    try:
        shown = repr(value[:80] if is_text else value)
    except Exception:  # somebody else's __repr__
        return f"<{type(value).__name__}>"
    whole = len(shown) <= 80 and not (is_text and len(value) > 80)
    return shown if whole else shown[:77] + "…"
