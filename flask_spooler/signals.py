"""What happened, as blinker signals with the app as sender.

Owns the signals and the one receiver that turns them into log lines: there are no log strings in
the logic. Receivers get keyword arguments as listed, after the commit that makes the thing true.
Each is called by itself: an exception in one is logged, and changes nothing for the job or for the
other receivers.
"""

from __future__ import annotations

import logging
from inspect import iscoroutinefunction
from typing import Any

from blinker import NamedSignal, Namespace

from .errors import JobTimeout
from .record import Change, ErrorInfo, Row

_signals = Namespace()

job_enqueued = _signals.signal("job-enqueued", "job_id, task: published and committed")
job_started = _signals.signal("job-started", "job_id, task, attempt: before the task runs")
job_succeeded = _signals.signal("job-succeeded", "job_id, task, attempt, seconds")
job_retrying = _signals.signal(
    "job-retrying", "job_id, task, attempt, outcome, error, traceback, due_at"
)
job_dead = _signals.signal("job-dead", "job_id, task, attempt, outcome, error, traceback")
job_cancelled = _signals.signal("job-cancelled", "job_id, task, attempt")
job_expired = _signals.signal("job-expired", "job_id, task")
job_put_off = _signals.signal("job-put-off", "job_id, task, why, seconds: kept, not run now")
job_dropped = _signals.signal("job-dropped", "job_id, task, why: never published")
job_unpublished = _signals.signal("job-unpublished", "job_id, task, error: after its commit")
file_quarantined = _signals.signal("file-quarantined", "name, why: moved to corrupt/")
spool_trouble = _signals.signal("spool-trouble", "what, error: needs a person's look")
housekeeping_done = _signals.signal("housekeeping-done", "what, count: nothing to worry about")

log = logging.getLogger("flask_spooler")

_LINES: dict[str, tuple[int, str]] = {
    "job-enqueued": (logging.DEBUG, "job %(job_id)s enqueued: %(task)s"),
    "job-started": (logging.DEBUG, "job %(job_id)s started: %(task)s, attempt %(attempt)s"),
    "job-succeeded": (logging.INFO, "job %(job_id)s succeeded: %(task)s in %(seconds).3f s"),
    "job-retrying": (
        logging.WARNING,
        "job %(job_id)s will be tried again: %(task)s, attempt %(attempt)s %(outcome)s: %(error)s",
    ),
    "job-dead": (
        logging.ERROR,
        "job %(job_id)s is dead: %(task)s, attempt %(attempt)s %(outcome)s: %(error)s",
    ),
    "job-cancelled": (logging.INFO, "job %(job_id)s cancelled: %(task)s"),
    "job-expired": (logging.WARNING, "job %(job_id)s expired before it could start: %(task)s"),
    "job-put-off": (
        logging.WARNING,
        "job %(job_id)s put off by %(seconds)g s: %(task)s: %(why)s",
    ),
    "job-dropped": (
        logging.WARNING,
        "job %(job_id)s was not enqueued after the commit: %(task)s: %(why)s",
    ),
    "job-unpublished": (
        logging.ERROR,
        "job %(job_id)s is missing, although its transaction is committed: %(task)s: %(error)s",
    ),
    "file-quarantined": (
        logging.ERROR,
        "%(name)r is no job of this spool and was moved to corrupt/: %(why)s",
    ),
    "housekeeping-done": (logging.INFO, "%(what)s: %(count)d"),
    "spool-trouble": (logging.ERROR, "%(what)s: %(error)s"),
}


def announce_end(app: Any, row: Row, change: Change) -> None:
    """Tell how an attempt ended and what the job is by it."""
    facts = {"job_id": row.id, "task": row.task, "attempt": row.attempt}
    match change.state:
        case "succeeded":
            seconds = change.ended_at - (row.started_at or change.ended_at)
            announce(job_succeeded, app, seconds=seconds, **facts)
        case "cancelled":
            announce(job_cancelled, app, **facts)
        case "retrying":
            facts |= {"outcome": change.outcome, "due_at": change.due_at}
            announce(job_retrying, app, **facts, **_error(change.error))
        case _:
            announce(job_dead, app, outcome=change.outcome, **facts, **_error(change.error))


def announce_loss(app: Any, row: Row, why: ErrorInfo) -> None:
    """Tell of a job that is dead without the end of an attempt: its file or outcome is lost."""
    facts = {"job_id": row.id, "task": row.task, "attempt": row.attempt}
    announce(job_dead, app, outcome="lost", **facts, **_error(why))


def _error(error: ErrorInfo | None) -> dict[str, str]:
    if error is None:
        return {"error": "", "traceback": ""}
    return {"error": f"{error.type}: {error.message}", "traceback": error.traceback or ""}


def announce(signal: NamedSignal, app: Any, **facts: Any) -> None:
    """Log the event and send its signal; a broken receiver is logged and otherwise ignored.

    Receivers may be ``async def``, as for Flask's own signals.
    """
    level, line = _LINES[signal.name]
    if log.isEnabledFor(level):
        log.log(level, line, facts)
    if not signal.receivers:
        return
    for receiver in signal.receivers_for(app):
        try:
            # Flask's own signals wait for coroutines in the same way.
            (app.ensure_sync(receiver) if iscoroutinefunction(receiver) else receiver)(app, **facts)
        except JobTimeout:  # of a task that enqueues: it is for the task
            raise
        except Exception:  # a receiver belongs to the user: its bug must not cost a job
            log.exception("a receiver of %s failed", signal.name)
