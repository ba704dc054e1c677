"""The dashboard without a browser: who gets in, what an answer carries, what the actions do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, Request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_spooler import JobHandle, Spooler, current_job
from flask_spooler.dashboard.base import NAME
from flask_spooler.ledger import Ledger
from flask_spooler.ledger.deeds import Deed, Deeds
from flask_spooler.state import AppState

TOKEN = "the token of the tests"
READ_TOKEN = "the token for looking"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
READER = {"Authorization": f"Bearer {READ_TOKEN}"}
HOME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def app(memory: Any, spooler: Spooler) -> Flask:
    made = Flask("tests")
    made.config.update(
        SPOOLER_DIRECTORY=memory / "spool",
        SPOOLER_DURABILITY="process",
        SPOOLER_EAGER=True,
        SPOOLER_DASHBOARD_TOKEN=TOKEN,
        SPOOLER_DASHBOARD_READ_TOKEN=READ_TOKEN,
    )
    spooler.init_app(made)
    return made


@pytest.fixture
def jobs(app: Flask, spooler: Spooler) -> Iterator[dict[str, JobHandle]]:
    """One job in each state that a test can make without a server."""

    @spooler.task(name="tests.add")
    def add(left: int, right: int = 2, password: str = "") -> int:
        return left + right

    @spooler.task(name="tests.fail", max_attempts=1)
    def fail(text: str) -> None:
        current_job.progress(1, 2, note=text)
        raise ValueError(text)

    with app.app_context():
        yield {
            "succeeded": add.enqueue(1, password="hunter2"),
            "dead": fail.enqueue("<script>alert(1)</script>"),
            "scheduled": add.using(delay=3600).enqueue(3),
        }


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def state_of(app: Flask) -> AppState:
    found: AppState = app.extensions["spooler"]
    return found


def addresses(app: Flask) -> list[tuple[str, str]]:
    """Every method and address of the dashboard, with something for each variable part."""
    values = {"job_id": "0" * 29, "queue": "default", "action": "retry", "what": "log.txt",
              "name": "dashboard.css", "rest": "no/where"}  # fmt: skip
    found = []
    for rule in app.url_map.iter_rules():
        if not rule.endpoint.startswith(f"{NAME}."):
            continue
        given = {name: values[name] for name in rule.arguments}
        if rule.endpoint.endswith("hold"):
            given["action"] = "pause"
        with app.test_request_context():
            path = app.url_map.bind("localhost").build(rule.endpoint, given, force_external=False)
        found += [(method, path) for method in sorted((rule.methods or set()) - {"HEAD"})]
    return found


def opened(client: FlaskClient, token: str = TOKEN) -> FlaskClient:
    """A browser that has followed the link."""
    assert client.get(f"/spooler/?token={token}").status_code == 303
    return client


def test_without_a_token_every_route_but_healthz_is_403(app: Flask, client: FlaskClient) -> None:
    known = addresses(app)
    assert len(known) > 35
    for method, path in known:
        for headers in ({}, HOME, {"Authorization": "Bearer no"}, {"Cookie": f"{NAME}=1.2"}):
            status = client.open(path, method=method, headers=headers).status_code
            expected = 200 if path.endswith("/healthz") and method in ("GET", "OPTIONS") else 403
            assert status == expected, (method, path, headers)


def test_nobody_gets_in_where_nothing_is_configured(memory: Any) -> None:
    app = Flask("closed")
    app.config.update(SPOOLER_DIRECTORY=memory / "other", SPOOLER_DURABILITY="process")
    Spooler(app)
    for method, path in addresses(app):
        headers = {"Authorization": "Bearer "} | HOME
        if not path.endswith("/healthz"):
            assert app.test_client().open(path, method=method, headers=headers).status_code == 403
    answer = app.test_client().get("/spooler/")
    assert "SPOOLER_DASHBOARD_TOKEN" in answer.text
    assert "make run" in answer.text


def test_a_program_is_told_what_is_wrong_with_its_token(client: FlaskClient, memory: Any) -> None:
    def told(client: FlaskClient, headers: dict[str, str]) -> str:
        answer = client.get("/spooler/api/jobs", headers=headers)
        assert answer.status_code == 403
        found: str = answer.get_json()["error"]["message"]
        return found

    assert "a token is needed" in told(client, {})
    assert "not the right one" in told(client, {"Authorization": "Bearer no"})
    assert "not the right one" in told(client, {"Authorization": "Bearer "})
    closed = Flask("closed")
    closed.config.update(SPOOLER_DIRECTORY=memory / "other", SPOOLER_DURABILITY="process")
    Spooler(closed)
    assert "SPOOLER_DASHBOARD_TOKEN" in told(closed.test_client(), {"Authorization": "Bearer no"})


def test_with_a_read_token_every_action_is_403(app: Flask, client: FlaskClient) -> None:
    browser = opened(app.test_client(), READ_TOKEN)
    for method, path in addresses(app):
        if method in ("GET", "OPTIONS"):
            continue
        assert client.open(path, method=method, headers=READER).status_code == 403, path
        assert browser.open(path, method=method, headers=HOME).status_code == 403, path
    assert browser.get("/spooler/").status_code == 200
    assert 'method="post"' not in "".join(browser.get(f"/spooler/{page}").text for page in PAGES)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "null"},
    ],
)
def test_posts_that_do_not_come_from_the_dashboard_are_403(
    client: FlaskClient, app: Flask, headers: dict[str, str]
) -> None:
    browser = opened(client)
    for method, path in addresses(app):
        if method not in ("GET", "OPTIONS"):
            assert browser.open(path, method=method, headers=headers).status_code == 403, path
    assert state_of(app).engine.ledger.paused() == []


@pytest.mark.parametrize(
    "headers", [HOME, {"Sec-Fetch-Site": "none"}, {"Origin": "http://localhost"}]
)
def test_posts_of_the_dashboard_itself_act(
    client: FlaskClient, app: Flask, headers: dict[str, str]
) -> None:
    answer = opened(client).post("/spooler/queues/default/pause", headers=headers)
    assert answer.status_code == 303
    assert state_of(app).engine.ledger.paused() == ["default"]


def test_the_link_leaves_a_cookie_and_a_clean_address(client: FlaskClient) -> None:
    answer = client.get(f"/spooler/jobs?state=dead&token={TOKEN}")
    assert (answer.status_code, answer.location) == (303, "/spooler/jobs?state=dead")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Path=/spooler/" in cookie
    assert TOKEN not in cookie
    assert client.get("/spooler/jobs").status_code == 200


def test_a_wrong_token_leaves_no_cookie_and_is_not_repeated(client: FlaskClient) -> None:
    answer = client.get("/spooler/?token=guessed-token")
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers
    assert "guessed-token" not in answer.text


def test_a_cookie_ends_and_cannot_be_prolonged(client: FlaskClient) -> None:
    opened(client)
    cookie = client.get_cookie("spooler_dashboard", path="/spooler/")
    assert cookie is not None
    until, _, signature = cookie.value.partition(".")
    for forged in (f"{int(until) + 1}.{signature}", f"1.{signature}", f"{until}.", signature, ""):
        client.set_cookie("spooler_dashboard", forged, path="/spooler/")
        assert client.get("/spooler/").status_code == 403


def test_the_token_can_be_typed(client: FlaskClient) -> None:
    form = {"token": TOKEN, "next": "/spooler/dead"}
    assert client.post("/spooler/login", data=form).status_code == 403
    wrong = client.post("/spooler/login", data={"token": "no"}, headers=HOME)
    assert wrong.status_code == 403
    answer = client.post("/spooler/login", data=form, headers=HOME)
    assert (answer.status_code, answer.location) == (303, "/spooler/dead")
    assert client.get("/spooler/dead").status_code == 200


@pytest.mark.parametrize("away", ["//evil.example", "https://evil.example", "/elsewhere", "\\\\e"])
def test_no_form_leads_to_another_site(client: FlaskClient, away: str) -> None:
    form = {"token": TOKEN, "next": away}
    answer = client.post("/spooler/login", data=form, headers=HOME)
    assert answer.location == "/spooler/"
    held = client.post("/spooler/queues/default/pause", data={"next": away}, headers=HOME)
    assert held.location == "/spooler/queues"


def test_servers_on_two_ports_of_a_host_do_not_take_each_others_cookie(
    client: FlaskClient,
) -> None:
    for port in (8080, 8081):
        answer = client.get(f"/spooler/?token={TOKEN}", base_url=f"http://localhost:{port}")
        assert answer.headers["Set-Cookie"].startswith(f"spooler_dashboard_{port}=")
        assert client.get("/spooler/", base_url=f"http://localhost:{port}").status_code == 200


def test_leaving_takes_the_cookie_away(client: FlaskClient) -> None:
    opened(client).get("/spooler/?leave=1")
    assert client.get("/spooler/").status_code == 403


@pytest.mark.parametrize(
    ("answered", "looks", "acts"),
    [("operate", 200, 303), ("view", 200, 403), (None, 403, 403), ("admin", 403, 403),
     (True, 403, 403), (RuntimeError("broken"), 403, 403)],
    ids=["operate", "view", "nobody", "unknown", "true", "broken"],
)  # fmt: skip
def test_the_callback_decides_and_fails_closed(
    memory: Any, answered: Any, looks: int, acts: int
) -> None:
    def decide(request: Request) -> Any:
        assert request.path.startswith("/ops/")
        if isinstance(answered, Exception):
            raise answered
        return answered

    app = Flask("tests")
    app.config.update(SPOOLER_DIRECTORY=memory / "spool", SPOOLER_DURABILITY="process",
                      SPOOLER_DASHBOARD_ACCESS=decide,
                      SPOOLER_DASHBOARD_PREFIX="/ops/jobs")  # fmt: skip
    Spooler(app)
    client = app.test_client()
    assert client.get("/ops/jobs/").status_code == looks
    assert client.post("/ops/jobs/queues/default/pause", headers=HOME).status_code == acts
    if acts == 303:
        assert "decide" in client.get("/ops/jobs/system").text


def test_every_answer_keeps_itself_to_itself(client: FlaskClient, app: Flask) -> None:
    for method, path in addresses(app):
        answer = client.open(path, method=method, headers=BEARER)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        if "/static/" not in path:
            assert answer.headers["Cache-Control"] == "no-store"


PAGES = ["", "jobs", "dead", "queues", "workers", "performance", "system", "enqueue"]


@pytest.mark.parametrize("name", PAGES)
def test_pages_have_no_inline_script_or_style(
    client: FlaskClient, jobs: dict[str, JobHandle], name: str
) -> None:
    pages = [f"/spooler/{name}"]
    if name == "jobs":
        pages += [f"/spooler/jobs/{job.id}" for job in jobs.values()]
    for page in pages:
        text = client.get(page, headers=BEARER).text
        assert "</html>" in text
        assert not re.search(r"<style|\sstyle=|\son\w+=\"|<script(?! src=\"/spooler/static/)", text)
        assert "alert(1)</script>" not in text


def test_secrets_are_masked_on_every_page_and_in_the_api(
    client: FlaskClient, jobs: dict[str, JobHandle]
) -> None:
    job_id = jobs["succeeded"].id
    page, api = f"jobs/{job_id}", f"api/jobs/{job_id}"
    for path in ("jobs", "api/jobs", page, api, f"{page}/raw/arguments.json"):
        text = client.get(f"/spooler/{path}", headers=BEARER).text
        assert "hunter2" not in text, path


def test_secrets_cannot_be_guessed_by_searching(
    client: FlaskClient, jobs: dict[str, JobHandle]
) -> None:
    assert client.get("/spooler/api/jobs?q=hunter", headers=BEARER).json["jobs"] == []  # type: ignore[index]
    found = client.get("/spooler/api/jobs?q=left", headers=BEARER).json
    assert found is not None
    assert len(found["jobs"]) == 2


def test_tags_are_shown_linked_and_searched(
    app: Flask, client: FlaskClient, jobs: dict[str, JobHandle]
) -> None:
    add = app.extensions["spooler"].spooler.tasks["tests.add"]
    job = add.using(tags=["user:5", "<b>"]).enqueue(1)
    page = client.get(f"/spooler/jobs/{job.id}", headers=BEARER).text
    assert "tag=user:5" in page
    assert "&lt;b&gt;" in page
    for query in ("tag=user:5", "q=user:5"):
        listed = client.get(f"/spooler/jobs?{query}", headers=BEARER).text
        assert job.id in listed
        assert jobs["dead"].id not in listed
        found = client.get(f"/spooler/api/jobs?{query}", headers=BEARER).json
        assert [each["id"] for each in found["jobs"]] == [job.id]
        assert found["jobs"][0]["tags"] == ["<b>", "user:5"]
    assert "Understood as exactly this tag" in listed
    assert client.get("/spooler/api/jobs?tag=user", headers=BEARER).json["jobs"] == []
    assert client.get(f"/spooler/api/jobs/{job.id}", headers=BEARER).json["tags"] == [
        "<b>",
        "user:5",
    ]


def test_finished_steps_are_shown_with_their_attempt(
    app: Flask, spooler: Spooler, client: FlaskClient
) -> None:
    @spooler.task(name="tests.steps")
    def steps() -> None:
        for name in ("collect <all>", "write"):
            current_job.step(name, str)

    job = steps.enqueue()
    page = client.get(f"/spooler/jobs/{job.id}", headers=BEARER).text
    assert "Steps done" in page
    assert "collect &lt;all&gt;" in page
    shown = client.get(f"/spooler/api/jobs/{job.id}", headers=BEARER).json["steps"]
    assert [(step["name"], step["attempt"]) for step in shown] == [
        ("collect <all>", 1),
        ("write", 1),
    ]


def test_a_running_job_is_being_stopped_when_asked_to_but_not_when_replaced(
    app: Flask, spooler: Spooler, client: FlaskClient
) -> None:
    shown: list[bool] = []

    def look() -> None:
        pages = [client.get(f"/spooler/{name}", headers=BEARER).text for name in ("", "workers")]
        assert all("tests.watched" in page for page in pages)
        shown.extend("being stopped" in page for page in pages)

    @spooler.task(name="tests.watched", unique="one")
    def watched() -> None:
        spooler.tasks["tests.watched"].using(on_duplicate="replace", delay=60).enqueue()
        look()
        with state_of(app).engine.ledger.transaction() as rows:
            rows.ask_cancel(current_job.id)
        look()

    watched.enqueue()
    assert shown == [False, False, True, True]


def test_the_settings_on_the_system_page_hold_no_secret(client: FlaskClient) -> None:
    text = client.get("/spooler/system", headers=BEARER).text
    assert "SPOOLER_DASHBOARD_TOKEN" in text
    assert TOKEN not in text
    assert READ_TOKEN not in text


def done(answer: TestResponse) -> TestResponse:
    assert answer.status_code == 303, answer.text
    return answer


def test_a_job_that_is_cancelled_and_retried_before_its_time_waits_for_it_and_says_so(
    client: FlaskClient, jobs: dict[str, JobHandle]
) -> None:
    job = jobs["scheduled"]
    browser = opened(client)
    page = f"/spooler/jobs/{job.id}"
    due = job.record.due_at
    for action in ("cancel", "retry"):
        done(browser.post(f"{page}/{action}", headers=HOME))
    assert (job.state, job.record.due_at) == ("scheduled", due)
    assert "The job waits for its time again." in browser.get(page).text


def test_a_dead_job_is_retried_cancelled_and_deleted(
    client: FlaskClient, app: Flask, jobs: dict[str, JobHandle]
) -> None:
    job = jobs["dead"]
    browser = opened(client)
    page = f"/spooler/jobs/{job.id}"
    done(browser.post(f"{page}/retry", headers=HOME))
    assert job.state == "queued"
    assert "queued again" in browser.get(page).text
    assert "queued again" not in browser.get(page).text
    done(browser.post(f"{page}/cancel", headers=HOME))
    assert job.state == "cancelled"
    asked = browser.post(f"{page}/delete", headers=HOME)
    assert (asked.status_code, job.state) == (200, "cancelled")
    assert "Delete this job?" in asked.text
    done(browser.post(f"{page}/delete", headers=HOME, data={"confirm": "1"}))
    assert browser.get(page).status_code == 404
    deeds = browser.get("/spooler/system").text
    assert deeds.count(f"<code>{job.id}</code>") == 3


def test_what_was_done_is_written_down_with_who_did_it(
    client: FlaskClient, jobs: dict[str, JobHandle]
) -> None:
    job_id = jobs["scheduled"].id
    client.post(f"/spooler/api/jobs/{job_id}/cancel", headers=BEARER)
    text = client.get(f"/spooler/jobs/{job_id}", headers=BEARER).text
    assert "<b>cancel</b> by token" in text
    assert "API, 127.0.0.1" in text


def test_what_cannot_be_done_is_said_and_not_written_down(
    client: FlaskClient, jobs: dict[str, JobHandle]
) -> None:
    job_id = jobs["succeeded"].id
    browser = opened(client)
    done(browser.post(f"/spooler/jobs/{job_id}/retry", headers=HOME))
    text = browser.get(f"/spooler/jobs/{job_id}").text
    assert "must be dead, cancelled or expired" in text
    assert "Nobody has touched it" in text


def test_a_job_is_enqueued_again_with_the_same_arguments(
    client: FlaskClient, app: Flask, jobs: dict[str, JobHandle]
) -> None:
    answer = done(opened(client).post(f"/spooler/jobs/{jobs['succeeded'].id}/again", headers=HOME))
    fresh = state_of(app).spooler.get(answer.location.rpartition("/")[2])
    assert fresh.record.kwargs == jobs["succeeded"].record.kwargs
    assert (fresh.state, fresh.result) == ("succeeded", 3)


def test_the_form_enqueues_a_job(client: FlaskClient, app: Flask, jobs: dict[str, Any]) -> None:
    form = {"task": "tests.add", "arguments": '{"left": 40}', "queue": "mail", "priority": "7"}
    answer = done(opened(client).post("/spooler/enqueue", data=form, headers=HOME))
    job = state_of(app).spooler.get(answer.location.rpartition("/")[2])
    assert (job.result, job.record.queue, job.record.priority) == (42, "mail", 7)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("arguments", '{"left": "many"}', "left to be an int"), ("arguments", "[1]", "JSON object"),
     ("arguments", '{"left": 1', "JSON object"), ("arguments", "{}", "missing a required"),
     ("arguments", '{"left": 1, "nope": 2}', "nope"), ("task", "tests.gone", "no task is named"),
     ("priority", "high", "from -100 to 100"), ("priority", "1000", "from -100 to 100"),
     ("delay", "soon", "number of seconds"), ("at", "2030-01-01", "with a time zone"),
     ("queue", "a/b", "printable characters")],
)  # fmt: skip
def test_a_wrong_field_is_told_beside_it_and_nothing_typed_is_lost(
    client: FlaskClient, jobs: dict[str, Any], field: str, value: str, said: str
) -> None:
    form = {"task": "tests.add", "arguments": '{"left": 40}', "queue": "mail", "priority": "7",
            "delay": "", "at": ""}  # fmt: skip
    form[field] = value
    answer = opened(client).post("/spooler/enqueue", data=form, headers=HOME)
    assert answer.status_code == 200
    problem = re.search(rf'id="wrong-{field}">(.*?)</span>', answer.text, re.DOTALL)
    assert problem is not None, answer.text
    assert said in problem[1]
    for name, typed in form.items():
        assert f">{typed}</" in answer.text or f'value="{typed}"' in answer.text.replace(
            "&#34;", '"'
        ) or typed.replace('"', "&#34;") in answer.text, name  # fmt: skip


def test_ticked_jobs_are_acted_on_together(client: FlaskClient, jobs: dict[str, JobHandle]) -> None:
    browser = opened(client)
    ids = [job.id for job in jobs.values()]
    done(browser.post("/spooler/jobs/many", data={"action": "cancel", "id": ids}, headers=HOME))
    assert jobs["scheduled"].state == "cancelled"
    told = browser.get("/spooler/jobs").text
    assert "1 job cancelled; 2 left alone" in told
    asked = browser.post("/spooler/jobs/many", data={"action": "delete", "id": ids}, headers=HOME)
    assert "Delete 3 jobs?" in asked.text
    assert jobs["dead"].state == "dead"


def test_all_that_match_are_asked_for_first_and_then_done(
    client: FlaskClient, app: Flask, jobs: dict[str, JobHandle], spooler: Spooler
) -> None:
    spooler.find_task("tests.fail").enqueue_many([("again",)] * 30)
    browser = opened(client)
    form = {"action": "delete", "scope": "all", "state": "dead"}
    asked = browser.post("/spooler/jobs/many", data=form, headers=HOME)
    assert "Delete 31 jobs?" in asked.text
    before = re.search(r'name="before" value="(\d+)"', asked.text)
    assert before is not None
    later = spooler.find_task("tests.fail").enqueue("came later")
    form |= {"confirm": "1", "before": before[1], "number": "31"}
    done(browser.post("/spooler/jobs/many", data=form, headers=HOME))
    assert "31 jobs deleted" in browser.get("/spooler/jobs").text
    assert later.state == "dead"
    assert jobs["succeeded"].state == "succeeded"


def test_many_steps_are_needed_for_many_jobs(
    client: FlaskClient, jobs: dict[str, JobHandle], spooler: Spooler, monkeypatch: Any
) -> None:
    spooler.find_task("tests.fail").enqueue_many([("again",)] * 30)
    monkeypatch.setattr("flask_spooler.dashboard.many.BUDGET", 0.0)
    monkeypatch.setattr("flask_spooler.dashboard.many.PIECE", 10)
    body: dict[str, Any] = {"action": "retry", "filter": {"state": "dead"}}
    steps, retried = 0, 0
    while True:
        answer = client.post("/spooler/api/jobs/many", json=body, headers=BEARER)
        assert answer.status_code == 200, answer.text
        step = json.loads(answer.text)
        steps, retried = steps + 1, retried + step["done"]
        if step["next"] is None:
            break
        body["before"] = step["next"]
    assert retried == 31
    assert steps > 3


def test_a_page_that_has_not_changed_is_304(client: FlaskClient, jobs: dict[str, Any]) -> None:
    browser = opened(client)
    for name in ("", "jobs", "dead", f"jobs/{jobs['dead'].id}"):
        tag = browser.get(f"/spooler/{name}").headers["ETag"]
        again = browser.get(f"/spooler/{name}", headers={"If-None-Match": tag})
        assert (again.status_code, again.data) == (304, b""), name
    tag = browser.get("/spooler/jobs").headers["ETag"]
    browser.post(f"/spooler/jobs/{jobs['dead'].id}/retry", headers=HOME)
    browser.get("/spooler/jobs")
    assert browser.get("/spooler/jobs", headers={"If-None-Match": tag}).status_code == 200


def test_a_refresh_shows_the_same_rows_and_counts_new_ones(
    client: FlaskClient, jobs: dict[str, JobHandle], spooler: Spooler
) -> None:
    browser = opened(client)
    top = re.search(r'data-top="(\d+)"', browser.get("/spooler/jobs").text)
    assert top is not None
    spooler.find_task("tests.add").enqueue_many([(1,), (2,)])
    text = browser.get(f"/spooler/jobs?before={int(top[1]) + 1}&after={top[1]}").text
    assert re.findall(r'data-key="([^"]{29})"', text) == [
        jobs[name].id for name in ("scheduled", "dead", "succeeded")
    ]
    assert ">2 new</a>" in text


@pytest.mark.parametrize(
    "query",
    ["state=asleep", "before=%00", "before='", "since=yesterday", "since=9e99", "until=-1",
     "q=" + "x" * 201, "since=1e400d", "before=" + "9" * 50],
)  # fmt: skip
def test_a_filter_that_means_nothing_is_said_to(client: FlaskClient, query: str) -> None:
    assert client.get(f"/spooler/jobs?{query}", headers=BEARER).status_code == 400
    assert client.get(f"/spooler/api/jobs?{query}", headers=BEARER).status_code == 400


def test_a_ledger_in_trouble_is_a_page_too(
    client: FlaskClient, app: Flask, jobs: dict[str, Any]
) -> None:
    ledger = state_of(app).engine.ledger
    ledger.path.unlink()
    ledger.path.write_text("this is no database, but it is long enough to be looked at" * 100)
    for name in ("", "jobs", "dead", "queues"):
        answer = client.get(f"/spooler/{name}", headers=BEARER)
        assert answer.status_code == 503, name
        assert "No job is lost" in answer.text
    assert client.get("/spooler/healthz").status_code == 503
    assert client.get("/spooler/api/stats", headers=BEARER).json["error"]["message"]  # type: ignore[index]


def test_an_unknown_address_is_404_and_a_wrong_method_405(client: FlaskClient) -> None:
    assert client.get("/spooler/nowhere", headers=BEARER).status_code == 404
    answer = client.get("/spooler/queues/default/pause", headers=BEARER)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert client.delete("/spooler/api/jobs", headers=BEARER).json == {
        "error": {"field": None, "message": "The method is not allowed for the requested URL."}
    }


def test_what_the_doctor_found_is_on_the_system_page(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        SimpleNamespace(name="master", ok=True, problem=None, fix=None),
        SimpleNamespace(name="clock", ok=False, problem="it is <b>late</b>", fix="set it"),
    ]
    monkeypatch.setattr("flask_spooler.dashboard.extras.findings", lambda: found)
    text = client.get("/spooler/system", headers=BEARER).text
    assert "1 of 2 are well" in text
    assert "it is &lt;b&gt;late&lt;/b&gt;" in text
    refreshed = client.get("/spooler/system", headers=BEARER | {"X-Spooler-Live": "1"}).text
    assert "are well" not in refreshed


def test_importing_the_library_imports_no_page() -> None:
    program = (
        "import sys, flask_spooler; print(sorted(name for name in sys.modules"
        " if name.startswith('flask_spooler.dashboard.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    known = ["access", "base", "routes"]
    assert done.stdout.strip() == str([f"flask_spooler.dashboard.{name}" for name in known])


def test_only_the_newest_deeds_are_kept(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_spooler.ledger.deeds.KEPT", 3)
    deeds = Deeds(ledger)
    for number in range(5):
        deeds.write([Deed(float(number), "token", "retry", f"job {number}")])
    assert [deed.target for deed in deeds.newest()] == ["job 4", "job 3", "job 2"]
    assert deeds.of("job 0") == []


def test_one_blueprint_serves_several_apps(memory: Any) -> None:
    for number in range(2):
        app = Flask(f"app{number}")
        app.config.update(SPOOLER_DIRECTORY=memory / f"spool{number}",
                          SPOOLER_DURABILITY="process", SPOOLER_DASHBOARD_TOKEN=TOKEN,
                          SPOOLER_DASHBOARD_PREFIX=f"/jobs{number}")  # fmt: skip
        Spooler(app)
        text = app.test_client().get(f"/jobs{number}/", headers=BEARER).text
        assert f"app{number}" in text
        assert f'href="/jobs{number}/queues"' in text


def test_below_another_path_all_links_and_cookies_follow(app: Flask) -> None:
    client = app.test_client()
    answer = client.get(f"/spooler/?token={TOKEN}", base_url="http://localhost/shop")
    assert answer.location == "/shop/spooler/"
    assert "Path=/shop/spooler/" in answer.headers["Set-Cookie"]
    text = client.get("/spooler/", base_url="http://localhost/shop").text
    assert 'href="/shop/spooler/jobs"' in text
