"""What the ledger knows of a job, as values: rows, changes, and the job as JSON.

Owns the shape in which a job is shown (`Record.as_dict`), the few columns that decide a job's next
step (`Row`), and what the end of an attempt changes (`Change`). No disk, no clock, no SQL: the
ledger fills these, the worker and the edges read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ._uwsgi import Process

CANCEL_ASKED: Final = 1
SUPERSEDED: Final = 2
"""In `Row.cancel_asked`: a running job is to be aborted, or only not to be tried again."""


SECRET: Final = frozenset({"kwargs", "kwargs_size", "tags", "steps", "traceback"})
"""What whoever holds the id of a job does not see."""


class ErrorInfo(msgspec.Struct, frozen=True):
    """Why an attempt did not succeed."""

    type: str
    message: str
    traceback: str | None = None


class Progress(msgspec.Struct, frozen=True):
    """How far a running task says it is."""

    done: float
    total: float | None = None
    note: str | None = None


class Output(msgspec.Struct, frozen=True):
    """What a running task has printed and logged and the ledger does not have yet."""

    text: str
    cut: int = 0
    """Bytes that came before this and were not kept."""
    begins: bool = False
    """It is the first of its attempt; the one before may have ended within a line."""


class Step(msgspec.Struct, frozen=True):
    """One finished step of a job; field names are columns of the ledger."""

    name: str
    attempt: int
    """The number of the attempt that ran it."""
    finished_at: float
    seconds: float
    result: bytes
    """What it returned, as JSON."""

    def as_dict(self) -> dict[str, Any]:
        """Return the step as JSON, without its result."""
        return {
            "name": self.name,
            "attempt": self.attempt,
            "finished_at": self.finished_at,
            "seconds": self.seconds,
        }


class Unwritten(msgspec.Struct, frozen=True):
    """What a task has said of itself and the ledger does not have yet, when its attempt ends."""

    progress: Progress | None = None
    output: Output | None = None
    steps: tuple[Step, ...] = ()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one attempt: its outcome, and what the job becomes by it."""

    outcome: str
    state: str
    due_at: float
    ended_at: float
    result: bytes | None = None
    error: ErrorInfo | None = None
    charged: bool = True
    crashes: int = 0
    interruptions: int = 0
    progress: Progress | None = None
    output: Output | None = None
    steps: tuple[Step, ...] = ()


class Unrecorded(msgspec.Struct, frozen=True):
    """The end of an attempt that the ledger could not take; it waits as JSON in ``done/``."""

    attempt: int
    change: Change


class Row(msgspec.Struct, frozen=True):
    """What decides a job's next step; field names are columns of the ledger."""

    id: str
    task: str
    queue: str
    state: str
    window: str | None
    due_at: float
    expires_at: float | None
    started_at: float | None
    max_attempts: int
    attempt: int
    charged: int
    crashes: int
    interruptions: int
    cancel_asked: int
    pid: int | None
    pid_started: int | None
    boot: str | None
    unique_key: str | None

    @property
    def process(self) -> Process:
        """The process that runs it, or ran it last."""
        return Process(self.pid or 0, self.pid_started or 0)


class Attempt(msgspec.Struct, frozen=True):
    """One ended run of a job; field names are columns of the ledger."""

    number: int
    outcome: str
    started_at: float
    finished_at: float
    error_type: str | None
    error_message: str | None
    traceback: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the attempt as JSON."""
        return {
            "number": self.number,
            "outcome": self.outcome,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "error": _error(self.error_type, self.error_message, self.traceback),
        }


class Record(msgspec.Struct, frozen=True):
    """Everything known of a job; field names are columns of the ledger."""

    id: str
    task: str
    queue: str
    priority: int
    state: str
    attempt: int
    max_attempts: int
    enqueued_at: float
    due_at: float
    expires_at: float | None
    started_at: float | None
    finished_at: float | None
    unique_key: str | None
    tags: str | None
    pid: int | None
    progress_done: float | None
    progress_total: float | None
    progress_note: str | None
    error_type: str | None
    error_message: str | None
    traceback: str | None
    kwargs_size: int
    kwargs: bytes | None
    result: bytes | None

    @property
    def error(self) -> dict[str, Any] | None:
        """The last error as JSON, None when there was none or the job succeeded since."""
        return _error(self.error_type, self.error_message, self.traceback)

    @property
    def progress(self) -> dict[str, Any] | None:
        """The progress as JSON, None when none was reported."""
        if self.progress_done is None:
            return None
        return {
            "done": _tidy(self.progress_done),
            "total": _tidy(self.progress_total),
            "note": self.progress_note,
        }

    @property
    def all_tags(self) -> list[str]:
        """The tags, sorted."""
        return tags_in(self.tags)

    def as_dict(
        self, attempts: Sequence[Attempt] = (), steps: Sequence[Step] = ()
    ) -> dict[str, Any]:
        """Return the job as JSON, whole: arguments, tags and tracebacks included."""
        return {
            "id": self.id,
            "task": self.task,
            "queue": self.queue,
            "priority": self.priority,
            "tags": self.all_tags,
            "state": self.state,
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "kwargs": decoded(self.kwargs),
            "kwargs_size": self.kwargs_size,
            "result": decoded(self.result),
            "error": self.error,
            "progress": self.progress,
            "enqueued_at": self.enqueued_at,
            "due_at": self.due_at,
            "expires_at": self.expires_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "attempts": [attempt.as_dict() for attempt in attempts],
            "steps": [step.as_dict() for step in steps],
        }


def without_secrets(shown: dict[str, Any]) -> dict[str, Any]:
    """Return a job as JSON without what is `SECRET`, for whoever holds its id."""

    def public(value: dict[str, Any]) -> dict[str, Any]:
        return {key: item for key, item in value.items() if key not in SECRET}

    clean = public(shown)
    if clean["error"]:
        clean["error"] = public(clean["error"])
    clean["attempts"] = [
        attempt | {"error": public(attempt["error"]) if attempt["error"] else None}
        for attempt in clean["attempts"]
    ]
    return clean


def tags_in(column: str | None) -> list[str]:
    """Return the tags in the column of a job's row, sorted as they were stored."""
    return msgspec.json.decode(column, type=list[str]) if column else []


def decoded(data: bytes | None) -> Any:
    """Return the value in stored JSON, None where nothing is stored."""
    return None if data is None else msgspec.json.decode(data)


def _error(kind: str | None, message: str | None, traceback: str | None) -> dict[str, Any] | None:
    if kind is None:
        return None
    return {"type": kind, "message": message, "traceback": traceback}


def _tidy(number: float | None) -> float | int | None:
    # SQLite keeps REAL: show 2 of 5, not 2.0 of 5.0.
    return int(number) if number is not None and number.is_integer() else number
