"""The pages that do something: each is a POST, written down, and answered by a way back.

What cannot be undone, and what concerns many, asks first: by a dialog where there are scripts,
by a page where there are none.
"""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import urlencode

from flask import make_response, redirect, request, url_for
from flask.typing import ResponseReturnValue

from .. import operations
from ..errors import ArgumentError, JobNotFound, JobStateError, UnknownTask
from ..job import RUNNING, SCHEDULED
from ..options import queue_name
from . import enqueueing, filters
from . import many as bulk
from .base import NAME, did, engine, search, state
from .notices import Notice, put
from .render import link, page

MOST_TICKED: Final = 500


def act(job_id: str, action: str) -> ResponseReturnValue:
    """Retry, cancel, delete or enqueue again one job."""
    ledger = engine().ledger
    record = ledger.record(job_id)
    if record is None:
        raise JobNotFound(job_id)
    here = link("job", job_id=job_id)
    if action == "again":
        return _again(record, here)
    final = action == "delete" or (action == "cancel" and record.state == RUNNING)
    if final and "confirm" not in request.form:
        return _ask(action, 1, {"job": record})
    try:
        now = bulk.do(engine(), action, job_id)
    except JobStateError as error:
        return put(redirect(_back(here), 303), Notice(str(error), is_trouble=True))
    did(time.time(), action, job_id)
    match action:
        case "retry":
            waits = "waits for its time" if now == SCHEDULED else "is queued"
            notice = Notice(
                f"The job {waits} again.", undo=f"{here}/cancel", undo_label="Cancel it"
            )
        case "cancel" if now == RUNNING:
            notice = Notice("The job is being stopped.")
        case "cancel":
            notice = Notice("The job is cancelled.", undo=f"{here}/retry", undo_label="Retry it")
        case _:
            return put(redirect(link("jobs"), 303), Notice(f"Job {job_id} is deleted."))
    return put(redirect(_back(here), 303), notice)


def _again(record: Any, here: str) -> ResponseReturnValue:
    try:
        job = enqueueing.again(state().spooler, record)
    except (ArgumentError, UnknownTask) as error:
        return put(redirect(here, 303), Notice(str(error), is_trouble=True))
    did(time.time(), "enqueue", job.id, detail=f"again, as {record.id}")
    there = link("job", job_id=job.id)
    notice = Notice(
        "Enqueued again, with the same arguments.", undo=f"{there}/cancel", undo_label="Cancel it"
    )
    return put(redirect(there, 303), notice)


def many() -> ResponseReturnValue:
    """Do the same to the jobs that are ticked, or to all that fit a filter."""
    action = request.form.get("action", "")
    if action not in bulk.ACTIONS:
        return make_response(
            page("trouble.html", title="Which action?", text="Choose retry, cancel or delete."), 400
        )
    if request.form.get("scope") == "all":
        return _all(action)
    job_ids = list(dict.fromkeys(request.form.getlist("id")))[:MOST_TICKED]
    back = _back(link("jobs"))
    if not job_ids:
        return put(
            redirect(back, 303), Notice("Nothing was ticked, so nothing was done.", is_trouble=True)
        )
    asks = action == "delete" or len(job_ids) > bulk.ASK_ABOVE or _stops_any(action, job_ids)
    if asks and "confirm" not in request.form:
        return _ask(action, len(job_ids), {"ids": job_ids})
    step = bulk.to_each(engine(), action, job_ids)
    did(time.time(), action, *step.done, detail="one of those ticked")
    return put(
        redirect(back, 303), Notice(_told(action, len(step.done), step.refused), not step.done)
    )


def _stops_any(action: str, job_ids: list[str]) -> bool:
    return action == "cancel" and any(engine().ledger.state(each) == RUNNING for each in job_ids)


def _all(action: str) -> ResponseReturnValue:
    found = search()
    asked = filters.read(request.form, found, time.time()).settled
    number = found.count(asked.wanted)
    if "confirm" not in request.form:
        if asked.is_free_text:
            return _ask(action, None, {"asked": asked, "before": found.newest() + 1})
        return _ask(action, number, {"asked": asked, "before": found.newest() + 1})
    before = (
        int(request.form["before"])
        if request.form.get("before", "").isdigit()
        else found.newest() + 1
    )
    step = bulk.to_all(engine(), found, action, asked, before)
    told = urlencode(asked.given) or "no filter"
    did(time.time(), action, *step.done, detail=f"all that fit: {told}")
    done = len(step.done) + _whole("done")
    refused = step.refused + _whole("refused")
    back = link("jobs", **asked.given)
    if step.next is None:
        return put(redirect(back, 303), Notice(_told(action, done, refused), not done))
    return page(
        "going_on.html",
        action=action,
        asked=asked,
        done=done,
        refused=refused,
        number=_whole("number") or None,
        next=step.next,
        back=back,
        word=bulk.DONE_WORDS[action],
    )


def _whole(name: str) -> int:
    text = request.form.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _told(action: str, done: int, refused: int) -> str:
    jobs = "1 job" if done == 1 else f"{done:,} jobs"
    told = f"{jobs} {bulk.DONE_WORDS[action]}"
    if refused:
        told += f"; {refused:,} left alone, in whose state that cannot be done"
    return told + "."


def _ask(action: str, number: int | None, what: dict[str, Any]) -> ResponseReturnValue:
    """Answer with the question whether it is really meant, naming how many."""
    known = {"job": None, "ids": [], "asked": None, "before": None, **what}
    return page("ask.html", action=action, number=number, back=_back(link("jobs")), **known)


def hold(queue: str, action: str) -> ResponseReturnValue:
    """Pause a queue, or let it go on."""
    paused = action == "pause"
    operations.pause(engine(), queue_name(queue), paused)
    did(time.time(), action, queue)
    other = "resume" if paused else "pause"
    notice = Notice(
        f"Queue {queue} is paused: what runs goes on, what is enqueued waits."
        if paused
        else f"Queue {queue} goes on.",
        undo=link("hold", queue=queue, action=other),
        undo_label=other.capitalize(),
    )
    return put(redirect(_back(link("queues")), 303), notice)


def enqueue_form() -> ResponseReturnValue:
    """Show the form in which a job is enqueued by hand."""
    form = {name: request.args.get(name, "") for name in enqueueing.FIELDS}
    return _form(form, {})


def enqueue() -> ResponseReturnValue:
    """Enqueue a job; what is wrong is told beside its field, and nothing that was typed is lost."""
    form = {name: request.form.get(name, "") for name in enqueueing.FIELDS}
    wrong: dict[str, str] = {}
    job = enqueueing.from_form(state().spooler, form, wrong)
    if job is None:
        # Not 400, which a browser notes as an error in its console.
        return _form(form, wrong)
    did(time.time(), "enqueue", job.id)
    there = link("job", job_id=job.id)
    notice = Notice("The job is enqueued.", undo=f"{there}/cancel", undo_label="Cancel it")
    return put(redirect(there, 303), notice)


def _form(form: dict[str, str], wrong: dict[str, str]) -> str:
    tasks = enqueueing.described(state().spooler.tasks)
    chosen = form["task"] or next(iter(tasks), "")
    if not form["arguments"] and chosen in tasks:
        form = {**form, "arguments": tasks[chosen].template}
    return page("enqueue.html", tasks=tasks, form={**form, "task": chosen}, wrong=wrong)


def _back(default: str) -> str:
    """Return where the reader came from, when that is a page of ours."""
    wanted = request.form.get("next", "")
    home = url_for(f"{NAME}.overview")
    return wanted if wanted.startswith(home) and "\\" not in wanted else default
