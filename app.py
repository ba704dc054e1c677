"""The reference app: each route starts the same kind of work in another way.

Everything here is JSON, errors too: ``{"error": {"field": …, "message": …}}``.
"""

from __future__ import annotations

import math
from typing import Any

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

import tasks
from flask_spooler import ArgumentError, EnqueueError, JobNotFound, OptionError
from flask_spooler.errors import LedgerError, PayloadTooLarge
from flask_spooler.record import without_secrets
from flask_spooler.schedule import parse_at, parse_seconds

LONGEST = 86_400.0
RETRY_AFTER = 5


class BadInput(Exception):
    """A request that cannot be carried out; becomes a 400."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


app = Flask(__name__)
app.config.from_mapping(SPOOLER_FOREIGN_PACKETS=["uwsgidecorators", "uwsgi_tasks"])
app.config.from_prefixed_env()
tasks.spooler.init_app(app)
tasks.notifications.start_in_workers()


@app.get("/")
def in_a_thread() -> ResponseReturnValue:
    """Run the work in a plain thread."""
    name = tasks.start_thread(_seconds("duration", "5"))
    return {"started": True, "thread_name": name}, 202


@app.get("/uwsgi_thread")
def in_a_uwsgi_thread() -> ResponseReturnValue:
    """Run the work in a thread made by uWSGI's decorator."""
    duration = _seconds("duration", "5")
    if not tasks.INSIDE_UWSGI:
        return _unavailable("uWSGI's threads exist only inside uWSGI: uwsgi --ini uwsgi.ini")
    tasks.uwsgi_task(duration)
    return {"started": True}, 202


@app.route("/uwsgi_spool", methods=["GET", "POST"])
def in_the_spooler() -> ResponseReturnValue:
    """Run the work in the spooler: durable, and its fate can be asked for."""
    duration = _seconds("duration", "5")
    if "at" in request.args and "delay" in request.args:
        raise BadInput("at", "expected at or delay, got both")
    task = tasks.spool_task
    if "at" in request.args:
        task = task.using(at=_checked("at", parse_at, request.args["at"]))
    if "delay" in request.args:
        task = task.using(delay=_seconds("delay"))
    job = task.enqueue(duration=duration)
    url = f"/jobs/{job.id}"
    body = {"started": True, "id": job.id, "state": job.enqueued_as, "status_url": url}
    return jsonify(body), 202, {"Location": url}


@app.get("/uwsgi_tasks")
def in_uwsgi_tasks() -> ResponseReturnValue:
    """Run the work in the spooler through the uwsgi-tasks library."""
    duration = _seconds("duration", "5")
    text = request.args.get("fail", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadInput("fail", f"expected a whole number from 0 to 999999999, got: {text!r}")
    if not tasks.INSIDE_UWSGI:
        return _unavailable("uwsgi-tasks needs a spooler: uwsgi --ini uwsgi.ini")
    try:
        tasks.uwsgi_tasks_task(duration, int(text))
    except ValueError as error:  # what uwsgi.spool raises when it cannot write
        return _no_room(error)
    return {"started": True}, 202


@app.post("/task")
def in_the_background_thread() -> ResponseReturnValue:
    """Give a notification to the long-lived thread."""
    try:
        notification = request.get_json(force=True, silent=True)
    except RecursionError:
        raise BadInput("body", "expected JSON of less depth: it is nested too deeply") from None
    if not isinstance(notification, dict):
        raise BadInput("body", "expected a JSON object")
    try:
        tasks.notifications.submit(notification)
    except (ArgumentError, PayloadTooLarge) as error:
        raise BadInput("body", str(error)) from None
    return {"success": "OK"}, 202


@app.get("/jobs/<job_id>")
def job_status(job_id: str) -> ResponseReturnValue:
    """Return what is known of a job, for whoever holds its id."""
    return without_secrets(tasks.spooler.get(job_id).as_dict())


def _seconds(field: str, default: str | None = None) -> float:
    text = request.args.get(field, default) or ""
    seconds = _checked(field, lambda text: parse_seconds(field, text), text)
    if field == "duration" and seconds > LONGEST:
        raise BadInput(field, f"expected at most {LONGEST:.0f} seconds, got: {text!r}")
    return int(seconds) if seconds.is_integer() and math.isfinite(seconds) else seconds


def _checked(field: str, parse: Any, text: str) -> float:
    try:
        return parse(text)  # type: ignore[no-any-return]
    except OptionError as error:
        raise BadInput(field, f"expected {error.expected}, got: {text!r}") from None


def _error(status: int, field: str | None, message: str) -> tuple[Any, int]:
    return jsonify(error={"field": field, "message": message}), status


def _unavailable(message: str) -> ResponseReturnValue:
    answer, status = _error(503, None, message)
    answer.headers["Retry-After"] = str(RETRY_AFTER)
    return answer, status


@app.errorhandler(BadInput)
def _bad_input(error: BadInput) -> ResponseReturnValue:
    return _error(400, error.field, error.message)


@app.errorhandler(JobNotFound)
def _not_found(error: JobNotFound) -> ResponseReturnValue:
    return _error(404, "id", str(error))


@app.errorhandler(LedgerError)
def _no_answer(error: Exception) -> ResponseReturnValue:
    app.logger.error("%s", error)
    return _unavailable("the ledger cannot be read now; ask again later")


@app.errorhandler(EnqueueError)
def _no_room(error: Exception) -> ResponseReturnValue:
    app.logger.error("%s", error)
    return _unavailable("the spool cannot be used now; nothing was enqueued, try again later")


@app.errorhandler(HTTPException)
def _http_error(error: HTTPException) -> ResponseReturnValue:
    return _error(error.code or 500, None, error.description or error.name)
