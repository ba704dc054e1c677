"""Functions that do their work when they are called, and those that only promise it.

Owns the difference. A coroutine that nobody awaits and a generator that nobody loops over have not
begun: whoever took them for a result would believe that something had been done.
"""

from __future__ import annotations

import functools
import inspect


def is_async(function: object) -> bool:
    """Tell whether what a call returns is to be awaited, as far as that can be seen before."""
    while isinstance(function, functools.partial):
        function = function.func
    # A task says so itself: it is called like a function, whatever it is made of.
    is_task = getattr(function, "is_async", False) is True
    return is_task or any(
        inspect.iscoroutinefunction(each) for each in (function, type(function).__call__)
    )


def is_promise(result: object) -> bool:
    """Tell whether nothing has run yet of the call that returned this; a coroutine never will."""
    if inspect.iscoroutine(result):
        close(result)
        return True
    return inspect.isgenerator(result) or inspect.isasyncgen(result)


def close(value: object) -> None:
    """Let a coroutine go that nobody awaits, if it is one: else Python warns of it, much later."""
    if inspect.iscoroutine(value):
        value.close()
