"""The operations API: the same questions and actions, as JSON for programs.

Owns the shapes of the answers, which ``openapi.json`` describes and a test holds them to. Every
error has the shape ``{"error": {"field": …, "message": …}}``.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

import msgspec
from flask import Response, request
from flask.typing import ResponseReturnValue

from .. import operations
from ..errors import (
    ArgumentError,
    JobNotFound,
    OptionError,
    PayloadTooLarge,
    UnknownTask,
    Words,
)
from ..ledger.search import Listed
from ..options import queue_name
from ..record import decoded, tags_in
from . import enqueueing, filters, numbers, pages, values
from . import many as bulk
from .base import BadRequest, did, engine, expected, prefix, search, state, text_arg

MOST_LISTED: Final = 200
LARGEST_BODY: Final = 2**20
"""Bytes of a request beyond the arguments of a job."""

OPTIONS: Final = ("queue", "priority", "tags", "delay", "at")
IN_JSON: Final = {
    "delay": "a finite number of seconds from 0",
    "at": "unix seconds before the year 10000",
}
"""What an option is expected to be where there are no Python objects."""


def answer(value: Any, status: int = 200) -> Response:
    """Return a value as JSON."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    body = text.encode("utf-8", "backslashreplace")
    return Response(body, status, content_type="application/json")


def error(status: int, field: str | None, message: str) -> Response:
    """Return an error."""
    return answer({"error": {"field": field, "message": message}}, status)


def jobs() -> ResponseReturnValue:
    """List jobs by filters, the newest first."""
    asked_of = search()
    _only(request.args, (*filters.NAMES, "before", "limit"))
    asked = filters.read(request.args, asked_of, time.time())
    before = filters.cursor(text_arg(request.args, "before"), asked_of)
    found = filters.matches(asked, asked_of, before, _limit(request.args.get("limit")))
    return answer(
        {
            "jobs": [_listed(each) for each in found.jobs],
            "next": None if found.next is None else str(found.next),
            "stopped": found.stopped,
            "looked_at": found.looked_at,
            "total": asked_of.count(asked.wanted) if asked.job_id is None else len(found.jobs),
        }
    )


def job(job_id: str) -> ResponseReturnValue:
    """Return everything known of one job."""
    ledger = engine().ledger
    record = ledger.record(job_id)
    if record is None:
        raise JobNotFound(job_id)
    shown = record.as_dict(ledger.attempts(job_id), ledger.steps(job_id))
    shown["kwargs"] = values.masked(shown["kwargs"])
    shown["result"] = values.masked(shown["result"])
    return answer(shown)


def log(job_id: str) -> ResponseReturnValue:
    """Return what a job has printed and logged, from a part on."""
    if engine().ledger.state(job_id) is None:
        raise JobNotFound(job_id)
    _only(request.args, ("after",))
    after = request.args.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) <= 15):
        raise expected("after", "the number of a part, from 0", after)
    parts = engine().ledger.log(job_id, int(after))
    return answer({"parts": [{"part": number, "text": text} for number, text in parts]})


def act(job_id: str, action: str) -> ResponseReturnValue:
    """Retry, cancel or delete one job."""
    now = bulk.do(engine(), action, job_id)
    did(time.time(), action, job_id)
    return answer({"id": job_id, "state": now})


def many() -> ResponseReturnValue:
    """Do the same to all jobs that fit a filter, or to those named; one bounded step of it."""
    body = _body()
    action = body.get("action")
    if action not in bulk.ACTIONS:
        raise expected("action", f"one of {', '.join(bulk.ACTIONS)}", action)
    _only(body, ("action", "ids", "filter", "before"))
    found = search()
    if "ids" in body:
        job_ids = body["ids"]
        if not isinstance(job_ids, list) or not all(isinstance(each, str) for each in job_ids):
            raise expected("ids", "a list of ids", job_ids)
        if len(job_ids) > MOST_LISTED:
            raise expected("ids", f"at most {MOST_LISTED} ids", Words(f"{len(job_ids):,}"))
        if "filter" in body or "before" in body:
            raise BadRequest("ids", "expected ids or filter, got both")
        step = bulk.to_each(engine(), action, list(dict.fromkeys(job_ids)))
    else:
        given = body.get("filter")
        if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
            raise expected("filter", "an object of texts ({} means all jobs)", given)
        _only(given, filters.NAMES)
        asked = filters.read(given, found, time.time())
        before = body.get("before")
        if before is not None and not isinstance(before, str):
            raise expected("before", "what the step before said is next", before)
        start = filters.cursor(before, found)
        step = bulk.to_all(
            engine(), found, action, asked, found.newest() + 1 if start is None else start
        )
    did(time.time(), action, *step.done, detail="one of many")
    return answer(
        {
            "done": len(step.done),
            "refused": step.refused,
            "next": None if step.next is None else str(step.next),
        }
    )


def enqueue() -> ResponseReturnValue:
    """Enqueue a job."""
    body = _body()
    _only(body, ("task", "kwargs", *OPTIONS))
    name = body.get("task")
    if not isinstance(name, str):
        raise expected("task", "the name of a task", name)
    kwargs = body.get("kwargs", {})
    if not isinstance(kwargs, dict):
        raise expected("kwargs", "an object", kwargs)
    options = {name: body[name] for name in OPTIONS if body.get(name) is not None}
    if "delay" in options and "at" in options:
        raise BadRequest("at", "expected at or delay, got both")
    try:
        task = state().spooler.find_task(name)
        if "tags" in options:  # beside the task's own, as on the command line
            options["tags"] = (*task.options.tags, *task.using(tags=options["tags"]).options.tags)
        job = enqueueing.enqueue(task.using(**options), msgspec.json.encode(kwargs))
    except UnknownTask as unknown:
        raise BadRequest("task", str(unknown)) from None
    except OptionError as wrong:
        raise expected(wrong.option, IN_JSON.get(wrong.option, wrong.expected), wrong.got) from None
    except PayloadTooLarge as large:
        raise BadRequest("kwargs", str(large), 413) from None
    except ArgumentError as wrong:
        raise BadRequest("kwargs", str(wrong)) from None
    did(time.time(), "enqueue", job.id)
    return answer({"id": job.id, "state": job.enqueued_as}, 202)


def queues() -> ResponseReturnValue:
    """Return every queue."""
    return answer({"queues": [msgspec.to_builtins(each) for each in numbers.queues()]})


def hold(queue: str, action: str) -> ResponseReturnValue:
    """Pause a queue, or let it go on."""
    operations.pause(engine(), queue_name(queue), action == "pause")
    did(time.time(), action, queue)
    return answer({"queue": queue, "paused": action == "pause"})


def stats() -> ResponseReturnValue:
    """Return the numbers of the overview."""
    found = numbers.overview()
    return answer(
        {
            "counts": found.counts,
            "oldest_queued_seconds": None
            if found.oldest_since is None
            else max(0.0, found.now - found.oldest_since),
            "running": len(found.running),
            "pool": found.pool,
            "paused": engine().ledger.paused(),
            "last_hour": {"succeeded": found.done, "failed": found.failed},
            "health": [
                {"level": each.level, "text": each.text, "since": each.since}
                for each in found.worries
            ],
        }
    )


def tasks() -> ResponseReturnValue:
    """Return the tasks that may be enqueued, and what arguments they take."""
    known = enqueueing.described(state().spooler.tasks)
    return answer(
        {
            "tasks": [
                {"name": name, "signature": each.text, "summary": each.summary}
                for name, each in known.items()
            ]
        }
    )


def description() -> ResponseReturnValue:
    """Return the description of this API, for programs that make clients from it."""
    found = json.loads(Path(__file__).with_name("openapi.json").read_text())
    found["servers"] = [{"url": request.root_path + prefix() + "/api"}]
    return answer(found)


def _listed(each: Listed) -> dict[str, Any]:
    shown = msgspec.to_builtins(each)
    for name in (
        "seq",
        "error_type",
        "error_message",
        "progress_done",
        "progress_total",
        "progress_note",
    ):
        del shown[name]
    progress = {
        "done": each.progress_done,
        "total": each.progress_total,
        "note": each.progress_note,
    }
    return {
        **shown,
        "tags": tags_in(each.tags),
        "kwargs": values.masked(decoded(each.kwargs)),
        "error": None
        if each.error_type is None
        else {"type": each.error_type, "message": each.error_message},
        "progress": None if each.progress_done is None else progress,
    }


def _body() -> dict[str, Any]:
    most = engine().max_payload + LARGEST_BODY
    if request.content_length is not None and request.content_length > most:
        raise BadRequest(None, f"expected at most {most:,} bytes", 413)
    try:
        body = msgspec.json.decode(request.get_data())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest(None, "expected a JSON object as the body") from None
    if not isinstance(body, dict):
        raise BadRequest(None, "expected a JSON object as the body")
    return body


def _only(given: Any, known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise expected(name, f"one of {', '.join(known)}", name)


def _limit(text: str | None) -> int:
    if text is None:
        return pages.PAGE
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MOST_LISTED):
        raise expected("limit", f"a whole number from 1 to {MOST_LISTED}", text)
    return int(text)
