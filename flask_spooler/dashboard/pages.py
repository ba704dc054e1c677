"""The pages that are looked at, from the overview to the system.

Each asks its questions and hands the answers to its template. None changes anything.
"""

from __future__ import annotations

import time
from typing import Any, Final

from flask import Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from .. import _uwsgi
from ..errors import JobNotFound
from ..job import FINAL, STATES
from ..ledger.search import Found
from ..ledger.walks import MOST_COUNTED, Filter
from ..queues import Queues
from ..times import duration
from . import charts, extras, filters, numbers, values
from .base import BadRequest, config, deeds, engine, insight, search, state, text_arg
from .render import page

PAGE: Final = 50
LONGEST_LOG: Final = 65_536
SPANS: Final = {"1h": ("1 hour", 3600.0), "24h": ("24 hours", 86_400.0)}
TIMES: Final = {"15min": "last 15 min", "1h": "last hour", "1d": "last day", "7d": "last week"}


def overview() -> ResponseReturnValue:
    """Say whether all is well, in one sentence and one row of numbers."""
    found = numbers.overview()
    return page(
        "overview.html",
        found=found,
        chart=charts.endings(found.minutes, found.now),
        waits=charts.waits(found.minutes, found.now),
        queues=numbers.queues(),
        failures=insight().failures(6),
        is_empty=not any(found.counts.values()),
    )


def jobs() -> ResponseReturnValue:
    """List jobs by filters, the newest first."""
    asked_of = search()
    trouble: BadRequest | None = None
    asked, before = filters.Asked({}, Filter()), None
    found = Found([], None, 0, stopped=False)
    try:
        asked = filters.read(request.args, asked_of, time.time())
        before = filters.cursor(text_arg(request.args, "before"), asked_of)
        found = filters.matches(asked, asked_of, before, PAGE)
    except BadRequest as error:
        trouble = error
    tally = asked_of.tally()
    top = found.jobs[0].seq if found.jobs else asked_of.newest()
    after = text_arg(request.args, "after")
    shown = page(
        "jobs.html",
        asked=asked,
        given={**dict.fromkeys(filters.NAMES), **asked.given},
        found=found,
        trouble=trouble,
        before=before,
        top=top,
        fresh=filters.newer(asked, asked_of, int(after)) if after and after.isdigit() else 0,
        tabs=_tabs(asked, tally),
        total=asked_of.count(asked.wanted) if asked.job_id is None else len(found.jobs),
        queue_names=sorted({queue for queue, _, _, _ in tally}),
        task_names=sorted({task for _, task, _, _ in tally} | set(state().spooler.tasks)),
        times=TIMES,
        is_empty=not tally,
    )
    return shown if trouble is None else (shown, 400)


def _tabs(asked: filters.Asked, tally: list[tuple[str, str, str, int]]) -> dict[str, int]:
    """Return the number of jobs in each state that the counted filters leave."""
    tabs = dict.fromkeys(STATES, 0)
    for queue, task, found, number in tally:
        if asked.wanted.queue in (None, queue) and asked.wanted.task in (None, task):
            tabs[found] += number
    return tabs


def job(job_id: str) -> ResponseReturnValue:
    """Show everything known of one job."""
    ledger = engine().ledger
    record = ledger.record(job_id)
    if record is None:
        raise JobNotFound(job_id)
    attempts = ledger.attempts(job_id)
    stopping = record.state == "running" and ledger.is_cancel_asked(job_id)
    return page(
        "job.html",
        job=record,
        attempts=attempts,
        steps=ledger.steps(job_id),
        kwargs=values.shown(record.kwargs),
        result=values.shown(record.result),
        is_stopping=stopping,
        is_final=record.state in FINAL,
        log=_log_end(job_id),
        deeds=deeds().of(job_id),
        is_known_task=record.task in state().spooler.tasks,
        most=values.LONGEST,
    )


def raw(job_id: str, what: str) -> ResponseReturnValue:
    """Send one value of a job whole, as a text to keep."""
    record = engine().ledger.record(job_id)
    if record is None:
        raise JobNotFound(job_id)
    match what:
        case "arguments.json" if record.kwargs is not None:
            text = values.pretty(values.shown(record.kwargs))
        case "result.json" if record.result is not None:
            text = values.pretty(values.shown(record.result))
        case "traceback.txt" if record.traceback is not None:
            text = record.traceback
        case "log.txt":
            text = "".join(part for _, part in engine().ledger.log(job_id))
        case _:
            raise NotFound
    answer = Response(text, content_type="text/plain; charset=utf-8")
    answer.headers["Content-Disposition"] = f'attachment; filename="{job_id}-{what}"'
    return answer


def _log_end(job_id: str) -> dict[str, Any]:
    text = "".join(part for _, part in engine().ledger.log(job_id))
    shown = text[-LONGEST_LOG:]
    return {"text": shown, "is_cut": len(shown) < len(text), "size": len(text)}


def queues() -> ResponseReturnValue:
    """Show each queue: what waits, what runs, how fast."""
    return page("queues.html", queues=numbers.queues())


def workers() -> ResponseReturnValue:
    """Show each process that runs jobs, and the servers they belong to."""
    found = insight()
    servers = [(each, _uwsgi.lives_on(each.boot)) for each in found.servers()]
    return page(
        "workers.html",
        spoolers=numbers.spoolers(state().spooler.tasks),
        servers=servers,
        is_inside=_uwsgi.inside(),
    )


def dead() -> ResponseReturnValue:
    """Show the dead jobs by task and exception."""
    groups = insight().dead_groups(PAGE)
    tally = search().tally()
    total = sum(number for _, _, found, number in tally if found == "dead")
    return page(
        "dead.html",
        groups=groups,
        total=total,
        most_counted=MOST_COUNTED,
        is_cut=len(groups) == PAGE,
    )


def performance() -> ResponseReturnValue:
    """Show how long the jobs of each task run and wait, and how often they fail."""
    span = request.args.get("span", "1h")
    if span not in SPANS:
        span = "1h"
    figures, since = numbers.by_task(SPANS[span][1])
    by_time = sorted(figures.items(), key=lambda item: -item[1].run_seconds)
    return page("performance.html", figures=by_time[:100], since=since, span=span, spans=SPANS)


def system() -> ResponseReturnValue:
    """Show the configuration, the versions, the disk, and what the doctor found."""
    settings = {
        f"SPOOLER_{name.upper()}": values.MASK
        if values.is_secret(name) or name == "key"
        else _told(name, value)
        for name in config().__dataclass_fields__
        if (value := getattr(config(), name)) is not None
    }
    return page(
        "system.html",
        settings=settings,
        versions=extras.versions(),
        files=_files(),
        sizes=extras.sizes(),
        # It writes and syncs files to see whether that works: not every few seconds.
        findings=[] if "X-Spooler-Live" in request.headers else extras.findings(),
        tasks=sorted(state().spooler.tasks),
        deeds=deeds().newest(),
    )


def _files() -> dict[str, int]:
    try:
        return engine().spool.counts()
    except FileNotFoundError:
        return {}  # nothing was ever enqueued


def _told(name: str, value: Any) -> str:
    """Return a setting as people read it."""
    if name in ("grace", "retention"):
        return duration(value) if value else "0 s"
    if name == "max_payload":
        return f"{value / 2**20:g} MiB"
    if isinstance(value, Queues):
        return _queues_told(value)
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none"
    if callable(value):
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__name__)}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _queues_told(known: Queues) -> str:
    shares = [f"{name} {weight:g}" for name, weight in known.weights.items()]
    limits = [f"{name} at most {limit}" for name, limit in known.limits.items()]
    parts = [" before ".join(known.order), ", ".join(shares), ", ".join(limits)]
    return "; ".join(part for part in parts if part) or "no order"
