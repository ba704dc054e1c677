"""A task for each type of `tests.samples`, which answers what it was given, types and all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app import app
from flask_spooler.task import Task
from tasks import spooler
from tests.samples import MAKERS
from tests.shapes import canon

__all__ = ["app", "spooler"]


def echo(hint: Any) -> Callable[[Any], str]:
    """Make the function of one type."""

    def work(value):  # type: ignore[no-untyped-def]
        return repr(canon(value))

    work.__annotations__ = {"value": hint}
    return work


TASKS: dict[str, Task[[Any], str]] = {
    name: spooler.task(name=f"echo.{name}")(echo(hint)) for name, (hint, _) in MAKERS.items()
}
