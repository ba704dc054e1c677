"""A job from what a person or a program wrote: the task, its arguments as JSON, and options.

Owns the fields of the form and of the request, and whose fault an error is. The arguments go the
way of a job file's: from JSON through the task's annotations, so a date is a date.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from ..errors import (
    ArgumentError,
    EnqueueError,
    OptionError,
    PayloadTooLarge,
    UnknownTask,
)
from ..options import Options
from ..record import Record
from ..schedule import parse_at, parse_seconds

if TYPE_CHECKING:
    from ..extension import Spooler
    from ..handle import JobHandle
    from ..task import Task

FIELDS: Final = ("task", "arguments", "queue", "priority", "delay", "at")


class Described(NamedTuple):
    """A task as the form offers it."""

    text: str
    summary: str
    template: str
    """Its required arguments as JSON, to be filled in."""


def described(tasks: Mapping[str, Task[..., Any]]) -> dict[str, Described]:
    """Return every registered task by its name."""
    return {name: _described(task) for name, task in sorted(tasks.items())}


def from_form(spooler: Spooler, form: Mapping[str, str], wrong: dict[str, str]) -> JobHandle | None:
    """Enqueue what a form asks for; else say in `wrong` what is the matter with which field."""
    task: Task[..., Any] | None = None
    try:
        task = spooler.find_task(form["task"])
    except UnknownTask as error:
        wrong["task"] = str(error)
    options: dict[str, Any] = {}
    readers: dict[str, Any] = {
        "queue": str,
        "priority": _whole_number,
        "delay": lambda text: parse_seconds("delay", text),
        "at": parse_at,
    }
    for name, read in readers.items():
        text = form[name].strip()
        if not text:
            continue
        try:
            options[name] = read(text)
            Options().but(**{name: options[name]})
        except OptionError as error:
            wrong[name] = _sentence(error)
    if "at" in options and "delay" in options:
        wrong["at"] = "Give a time or a delay, not both."
    text = form["arguments"].strip() or "{}"
    if task is None or wrong:
        _check_object(text, wrong)
        return None
    try:
        return enqueue(task.using(**options), text.encode("utf-8", "surrogatepass"))
    except (ArgumentError, PayloadTooLarge) as error:
        wrong["arguments"] = str(error)
    except EnqueueError as error:
        wrong["form"] = str(error)
    return None


def enqueue(task: Task[..., Any], kwargs: bytes) -> JobHandle:
    """Enqueue a job with these arguments, a JSON object; raise `ArgumentError` and others."""
    try:
        positional, named = task.arguments.read(kwargs)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = f"expected the arguments as a JSON object: {error}"
        raise ArgumentError(task.name, problem) from None
    return task.enqueue(*positional, **named)


def again(spooler: Spooler, record: Record) -> JobHandle:
    """Enqueue the same task with the same arguments, now."""
    task = spooler.find_task(record.task)
    if record.kwargs is None:
        size = f"{record.kwargs_size:,} bytes of arguments are kept in the job's file only"
        raise ArgumentError(record.task, size)
    same = task.using(queue=record.queue, priority=record.priority, tags=record.all_tags)
    return enqueue(same, record.kwargs)


def _described(task: Task[..., Any]) -> Described:
    parameters = signature(task.function).parameters
    required = {
        name: _example(parameter)
        for name, parameter in parameters.items()
        if parameter.default is Parameter.empty
        and parameter.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    }
    optional = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not Parameter.empty and _is_plain(parameter.default)
    }
    template = json.dumps({**required, **optional}, indent=2, ensure_ascii=False)
    text = ", ".join(str(parameter) for parameter in parameters.values())
    summary = (task.function.__doc__ or "").strip().partition("\n")[0]
    return Described(f"{task.name.rpartition('.')[2]}({text})", summary, template)


def _example(parameter: Parameter) -> Any:
    name = (
        parameter.annotation
        if isinstance(parameter.annotation, str)
        else getattr(parameter.annotation, "__name__", "")
    )
    kind = name.partition("[")[0]
    return {"int": 0, "float": 0.0, "bool": False, "list": [], "dict": {}}.get(kind, "")


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise OptionError("priority", "a whole number from -100 to 100", text) from None


def _check_object(text: str, wrong: dict[str, str]) -> None:
    try:
        if not isinstance(json.loads(text), dict):
            wrong.setdefault("arguments", 'Expected a JSON object, such as {"duration": 5}.')
    except (ValueError, RecursionError) as error:
        wrong.setdefault("arguments", f"Expected a JSON object: {error}")


def _sentence(error: OptionError) -> str:
    return f"Expected {error.expected}."
