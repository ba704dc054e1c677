"""What a shell offers when somebody presses Tab: tasks, queues and job ids of the app.

Owns the completions of the command line, in the form that click asks for. Whatever goes wrong,
an app that cannot be imported as well, offers nothing: a prompt is no place for a traceback.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

import click
from click.shell_completion import CompletionItem
from flask.cli import ScriptInfo

from .config import EXTENSION
from .state import AppState

MOST: Final = 200
"""As many jobs, the newest, are looked through for ids."""

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def task_names(
    context: click.Context, parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Offer the names of the registered tasks."""
    state = _state(context)
    names = state.spooler.tasks if state else []
    return [CompletionItem(name) for name in sorted(names) if name.startswith(begun)]


def queues(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Offer the queues that are known."""
    state = _state(context)
    if state is None:
        return []
    known = {"default"}
    with contextlib.suppress(Exception):
        known = state.known_queues
    return [CompletionItem(name) for name in sorted(known) if name.startswith(begun)]


def job_ids(*states: str) -> Complete:
    """Offer the ids of jobs, in some states only where any are given; the newest first."""

    def complete(
        context: click.Context, parameter: click.Parameter, begun: str
    ) -> list[CompletionItem]:
        state = _state(context)
        if state is None or not state.engine.spool.exists():
            return []
        try:
            found = [
                record
                for each in states or (None,)
                for record in state.engine.ledger.find(state=each, limit=MOST)
            ]
        except Exception:
            return []
        given = {str(value) for value in context.params.get(parameter.name or "") or ()}
        return [
            CompletionItem(record.id, help=f"{record.state}, {record.task}")
            for record in sorted(found, key=lambda record: record.enqueued_at, reverse=True)
            if record.id.startswith(begun) and record.id not in given
        ]

    return complete


def _state(context: click.Context) -> AppState | None:
    try:
        return context.ensure_object(ScriptInfo).load_app().extensions.get(EXTENSION)
    except Exception:
        return None
