"""The blueprint: which address leads where, and what stands around every answer.

Owns the guard in front of all routes but ``healthz``, the headers behind them, and the two shapes
of an error: a page for people, JSON below ``api/``. The same blueprint serves every app of the
process.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import re
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    g,
    make_response,
    redirect,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from ..errors import JobNotFound, JobStateError, LedgerError, OptionError, SpoolerError
from . import access
from .base import NAME, BadRequest, config, is_api, prefix

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
CHOICES: Final = {"theme": ("light", "dark", "auto"), "live": ("0", "2", "5", "15")}
"""What a reader may choose for their own browser; kept in cookies, an action of nobody."""

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
RETRY_AFTER: Final = "5"

_CLOCK = re.compile(rb"<time\b[^>]* data-clock\b[^>]*>[^<]*</time>")
_TIMES = re.compile(rb"(<time\b[^>]*>)[^<]*(</time>)")

blueprint = Blueprint(NAME, __name__)


def mount(app: Flask, at: str) -> None:
    """Serve the dashboard under this prefix of an app; once, whoever asks."""
    if NAME not in app.blueprints:
        app.register_blueprint(blueprint, url_prefix=at)


@blueprint.before_request
def guard() -> ResponseReturnValue | None:
    """Let nobody in without access, nobody act who may only look, and no other site act at all."""
    if request.endpoint == f"{NAME}.healthz":
        return None
    g.spooler_visitor = who = access.visitor(config(), request)
    if request.method in access.SAFE:
        if request.endpoint != f"{NAME}.static" and (entered := _exchange_token(who)):
            return entered
        return None if who else refuse()
    if request.endpoint == f"{NAME}.login" and access.comes_from_here(request):
        return None  # which looks at the token itself
    if who is None:
        return refuse()
    if not who.by_bearer and not access.comes_from_here(request):
        return refuse("This request was not made by a page of the dashboard, so it does nothing.")
    return None if who.may_operate else refuse("This access is for looking only.")


@blueprint.after_request
def finish(response: Response) -> Response:
    """Send the headers that keep a page to itself, and 304 for a page that has not changed."""
    kept = response.headers.get("Cache-Control") if request.endpoint == f"{NAME}.static" else None
    response.headers.update(HEADERS)
    if kept:
        response.headers["Cache-Control"] = kept
    elif response.mimetype == "text/html" and response.status_code == 200:
        # How long ago something was is told by the browser: it makes no page a new one.
        still = _TIMES.sub(rb"\1\2", _CLOCK.sub(b"", response.get_data()))
        response.set_etag(hashlib.sha256(still).hexdigest()[:24])
        response.make_conditional(request)
    return response


def page(template: str, **values: Any) -> str:
    """Return a page; templates are read when the first one is asked for."""
    from .render import page as rendered

    return rendered(template, **values)


def json_error(status: int, field: str | None, message: str) -> Response:
    """Return an error of the API."""
    from .api import error

    return error(status, field, message)


def refuse(reason: str | None = None) -> ResponseReturnValue:
    """Answer 403, and tell a person how to get in."""
    if is_api():
        return json_error(403, None, reason or _how_to_get_in())
    tokens = (config().dashboard_token, config().dashboard_read_token)
    shown = page(
        "refused.html",
        reason=reason,
        is_open=access.is_open(config()),
        with_token=any(token is not None for token in tokens),
        login=url_for(f"{NAME}.login"),
        next=request.root_path + request.path
        if request.method in access.SAFE
        else url_for(f"{NAME}.overview"),
    )
    return make_response(shown, 403)


def _how_to_get_in() -> str:
    """Say what is wrong with how a program asks."""
    if not access.is_open(config()):
        return "the dashboard is closed: set SPOOLER_DASHBOARD_TOKEN to a word of your own"
    if access.bearer_of(request) is not None:
        return "this token is not the right one"
    return "a token is needed: Authorization: Bearer …"


def _exchange_token(who: access.Visitor | None) -> ResponseReturnValue | None:
    """Take a token, or what a reader chose, out of the address."""
    given = request.args.get("token")
    chosen = {name: request.args.get(name) for name in CHOICES}
    chosen = {name: value for name, value in chosen.items() if value in CHOICES[name]}
    leaving = who is not None and "leave" in request.args
    if given is None and not leaving and (who is None or not chosen):
        return None
    rest = [
        item
        for item in request.args.items(multi=True)
        if item[0] not in ("token", "leave", *chosen)
    ]
    clean = request.root_path + request.path + (f"?{urlencode(rest)}" if rest else "")
    answer = redirect(clean, 303)
    if given is not None:
        cookie = access.cookie_for(config(), given, time.time())
        if cookie is None:
            return refuse("This token is not the right one.")
        keep_cookie(answer, cookie)
    if leaving:
        answer.delete_cookie(access.cookie_name(request), path=_cookie_path())
    for name, value in chosen.items():
        answer.set_cookie(
            f"spooler_{name}",
            value or "",
            max_age=31_536_000,
            path=_cookie_path(),
            samesite="Strict",
        )
    return answer


def keep_cookie(answer: Any, cookie: str) -> None:
    """Let the browser keep its access: out of reach of scripts and of other sites."""
    answer.set_cookie(
        access.cookie_name(request),
        cookie,
        max_age=access.COOKIE_SECONDS,
        path=_cookie_path(),
        secure=request.is_secure,
        httponly=True,
        samesite="Strict",
    )


def _cookie_path() -> str:
    return request.root_path + prefix() + "/"


def login() -> ResponseReturnValue:
    """Take the token that a person has typed."""
    cookie = access.cookie_for(config(), request.form.get("token", "").strip(), time.time())
    if cookie is None:
        return refuse("This token is not the right one.")
    wanted = request.form.get("next", "")
    home = url_for(f"{NAME}.overview")
    # Only an address of our own: with two slashes it would be another host's.
    answer = redirect(wanted if wanted.startswith(home) else home, 303)
    keep_cookie(answer, cookie)
    return answer


def unknown(rest: str) -> ResponseReturnValue:
    """Answer for every address below the prefix that leads nowhere: 404, or 405 for the method."""
    adapter = current_app.create_url_adapter(request)
    assert adapter is not None
    allowed = []
    for method in METHODS:
        with contextlib.suppress(HTTPException):
            if adapter.match(method=method)[0] != request.endpoint:
                allowed.append(method)
    raise MethodNotAllowed(allowed) if allowed else NotFound()


def _error(status: int, title: str, text: str, field: str | None = None) -> ResponseReturnValue:
    if is_api():
        return json_error(status, field, text)
    if getattr(g, "spooler_visitor", None) is None:
        return f"{text}\n", status, {"Content-Type": "text/plain; charset=utf-8"}
    return make_response(page("trouble.html", title=title, text=text), status)


@blueprint.errorhandler(HTTPException)
def _http_error(error: HTTPException) -> ResponseReturnValue:
    if error.response is not None or error.code is None or error.code < 400:
        return error.get_response()
    if error.code == 404:
        return _error(404, "Nothing here", "No page has this address.")
    answer = make_response(_error(error.code, error.name, error.description or error.name))
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        answer.headers["Allow"] = ", ".join(error.valid_methods)
    return answer


@blueprint.errorhandler(BadRequest)
def _bad_request(error: BadRequest) -> ResponseReturnValue:
    return _error(error.status, "Not understood", str(error), error.field)


@blueprint.errorhandler(OptionError)
def _bad_option(error: OptionError) -> ResponseReturnValue:
    return _error(400, "Not understood", str(error), error.option)


@blueprint.errorhandler(JobNotFound)
def _no_job(error: JobNotFound) -> ResponseReturnValue:
    return _error(404, "No such job", str(error), "id")


@blueprint.errorhandler(JobStateError)
def _wrong_state(error: JobStateError) -> ResponseReturnValue:
    return _error(409, "Not possible now", str(error))


@blueprint.errorhandler(SpoolerError)
def _library_error(error: SpoolerError) -> ResponseReturnValue:
    title, text = "Not possible now", str(error)
    if isinstance(error, LedgerError):
        title, text = "The ledger does not answer", f"No job is lost by that: {error}"
    answer = make_response(_error(503, title, text))
    answer.headers["Retry-After"] = RETRY_AFTER
    return answer


def _route(rule: str, name: str, view: str | Callable[..., Any], *methods: str) -> None:
    """Let a rule lead to a view; one of another module is imported when it is first asked for."""

    def imported(**arguments: Any) -> Any:
        module, _, function = str(view).partition(".")
        found = getattr(importlib.import_module(f".{module}", __package__), function)
        return found(**arguments)

    blueprint.add_url_rule(
        rule, name, view if callable(view) else imported, methods=methods or ("GET",)
    )


_route("/", "overview", "pages.overview")
_route("/jobs", "jobs", "pages.jobs")
_route("/jobs/<job_id>", "job", "pages.job")
_route("/jobs/<job_id>/raw/<what>", "raw", "pages.raw")
_route("/queues", "queues", "pages.queues")
_route("/workers", "workers", "pages.workers")
_route("/dead", "dead", "pages.dead")
_route("/performance", "performance", "pages.performance")
_route("/system", "system", "pages.system")
_route("/enqueue", "enqueue", "acts.enqueue_form")
_route("/enqueue", "do_enqueue", "acts.enqueue", "POST")
_route("/jobs/many", "many", "acts.many", "POST")
_route("/jobs/<job_id>/<any(retry, cancel, delete, again):action>", "act", "acts.act", "POST")
_route("/queues/<queue>/<any(pause, resume):action>", "hold", "acts.hold", "POST")
_route("/login", "login", login, "POST")
_route("/static/<name>", "static", "render.static_file")
_route("/healthz", "healthz", "extras.healthz")
_route("/metrics", "metrics", "extras.metrics")
_route("/api/openapi.json", "api_description", "api.description")
_route("/api/jobs", "api_jobs", "api.jobs")
_route("/api/jobs", "api_enqueue", "api.enqueue", "POST")
_route("/api/jobs/many", "api_many", "api.many", "POST")
_route("/api/jobs/<job_id>", "api_job", "api.job")
_route("/api/jobs/<job_id>/log", "api_log", "api.log")
_route("/api/jobs/<job_id>/<any(retry, cancel, delete):action>", "api_act", "api.act", "POST")
_route("/api/queues", "api_queues", "api.queues")
_route("/api/queues/<queue>/<any(pause, resume):action>", "api_hold", "api.hold", "POST")
_route("/api/stats", "api_stats", "api.stats")
_route("/api/tasks", "api_tasks", "api.tasks")
_route("/<path:rest>", "unknown", unknown, *METHODS)
