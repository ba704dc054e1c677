"""The operations API is what its description says: fuzzed, and walked by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
)

import flask_spooler.dashboard
from flask_spooler import Spooler
from flask_spooler.dashboard.base import NAME

TOKEN = "the token of the tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
DESCRIPTION = json.loads(
    Path(flask_spooler.dashboard.__file__).with_name("openapi.json").read_text()
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """An app with jobs in several states, which the fuzzing will find by its own guesses."""
    spooler = Spooler()

    @spooler.task(name="tests.add", max_attempts=1)
    def add(left: int, right: int = 2) -> int:
        if left < 0:
            raise ValueError(f"{left} is less than nothing")
        return left + right

    made = Flask("tests")
    made.config.update(
        SPOOLER_DIRECTORY=tmp_path_factory.mktemp("fuzzed") / "spool",
        SPOOLER_DURABILITY="process",
        SPOOLER_EAGER=True,
        SPOOLER_DASHBOARD_TOKEN=TOKEN,
    )
    spooler.init_app(made)
    return made


@pytest.fixture
def ids(app: Flask) -> list[str]:
    """Some jobs that have succeeded, that are dead, and that wait."""
    add = app.extensions["spooler"].spooler.find_task("tests.add")
    with app.app_context():
        ended = [add.enqueue(left).id for left in (1, 2, -1, -2)]
        return [*ended, *(add.using(delay=3600).enqueue(5).id for _ in range(2))]


@pytest.fixture(scope="module")
def schema(app: Flask) -> Any:
    return schemathesis.openapi.from_wsgi("/spooler/api/openapi.json", app, headers=BEARER)


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    ignored_auth,
]


OPERATIONS = sorted(
    (path, method) for path, item in DESCRIPTION["paths"].items() for method in item
)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_request_gets_an_answer_that_the_description_does_not_allow(
    schema: Any, ids: list[str], path: str, method: str
) -> None:
    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=requests_of(schema[path][method]),
        known=strategies.sampled_from([*ids, None]),
    )
    def fuzz(case: Any, known: str | None) -> None:
        if known is not None and "job_id" in case.path_parameters:
            case.path_parameters["job_id"] = known
        case.call_and_validate(headers=BEARER, checks=CHECKS)

    fuzz()


def requests_of(operation: Any) -> Any:
    """Requests as the description allows them, and others."""
    return strategies.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )


def test_every_route_of_the_api_is_described_and_every_description_is_a_route(app: Flask) -> None:
    described = {
        (method.upper(), path) for path, item in DESCRIPTION["paths"].items() for method in item
    }
    found = set()
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith("/spooler/api/"):
            continue
        text = rule.rule.removeprefix("/spooler/api")
        for name in ("job_id", "queue"):
            text = text.replace(f"<{name}>", f"{{{name}}}")
        choices = ["retry", "cancel", "delete"] if rule.endpoint == f"{NAME}.api_act" else [""]
        choices = ["pause", "resume"] if rule.endpoint == f"{NAME}.api_hold" else choices
        for choice in choices:
            whole = text.partition("<any")[0] + choice
            found |= {(method, whole) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    assert found == described


def test_a_job_goes_through_the_api(app: Flask) -> None:
    client = app.test_client()

    def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        answer = client.open(f"/spooler/api/{path}", method=method, json=body, headers=BEARER)
        return answer.status_code, answer.json

    status, made = call("POST", "jobs", {"task": "tests.add", "kwargs": {"left": -5}})
    assert (status, made["state"]) == (202, "queued")
    status, job = call("GET", f"jobs/{made['id']}")
    assert (job["state"], job["kwargs"], job["error"]["type"]) == (
        "dead",
        {"left": -5},
        "ValueError",
    )
    assert "Traceback" in job["error"]["traceback"]
    assert call("POST", f"jobs/{made['id']}/cancel")[0] == 409
    assert call("POST", f"jobs/{made['id']}/retry") == (200, {"id": made["id"], "state": "queued"})
    assert call("POST", f"jobs/{made['id']}/cancel")[1]["state"] == "cancelled"
    assert call("POST", f"jobs/{made['id']}/delete")[1]["state"] == "deleted"
    assert call("GET", f"jobs/{made['id']}")[0] == 404
    status, told = call("POST", "jobs", {"task": "tests.add", "kwargs": {"left": "x"}})
    assert (status, told["error"]["field"]) == (400, "kwargs")


def test_the_body_that_the_documentation_shows_is_what_the_route_takes(app: Flask) -> None:
    page = Path(__file__).parents[1] / "docs" / "http.md"
    [shown] = re.findall(r"^```json\n(.+?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    body = json.loads(shown)
    described = DESCRIPTION["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert {*body, "at"} == set(described["schema"]["properties"])
    spooler = app.extensions["spooler"].spooler

    @spooler.task(name=body["task"], tags=["picture"])
    def resize(path: str, width: int = 300) -> None: ...

    client = app.test_client()
    made = client.post("/spooler/api/jobs", json=body, headers=BEARER)
    assert (made.status_code, made.json["state"]) == (202, "scheduled"), made.text
    job = client.get(f"/spooler/api/jobs/{made.json['id']}", headers=BEARER).json
    assert {name: job[name] for name in ("task", "kwargs", "queue", "priority", "tags")} == {
        "task": body["task"],
        "kwargs": body["kwargs"],
        "queue": body["queue"],
        "priority": body["priority"],
        "tags": sorted(["picture", *body["tags"]]),
    }
    assert job["due_at"] - job["enqueued_at"] == body["delay"]


@pytest.mark.parametrize(
    ("request_", "field", "message"),
    [
        ("GET jobs?limit=500", "limit", "expected a whole number from 1 to 200, got: '500'"),
        ("GET jobs?before=x", "before",
         "expected the id of a job, or what another page said is next, got: 'x'"),
        (f"GET jobs?q={'x' * 201}", "q", "expected at most 200 characters, got: 201"),
        ("GET jobs?since=2030-01-01T00:00:00+02:00", "since",
         "expected unix seconds, ISO 8601 with a zone, or a length of time such as 1h "
         "(whose + is %2B in a URL), got: '2030-01-01T00:00:00 02:00'"),
        ("GET jobs?sate=dead", "sate", "expected one of state, queue, task, tag, error, q, since, "
         "until, before, limit, got: 'sate'"),
        ("GET jobs/{id}/log?after=-1", "after", "expected the number of a part, from 0, got: '-1'"),
        ('POST jobs {"priority": 500}', "priority",
         "expected a whole number from -100 to 100, got: 500"),
        ('POST jobs {"delay": "soon"}', "delay",
         "expected a finite number of seconds from 0, got: 'soon'"),
        ('POST jobs {"at": "soon"}', "at",
         "expected unix seconds before the year 10000, got: 'soon'"),
        ('POST jobs {"tags": "user:5"}', "tags", "expected a list of up to 20 strings of 1 to 100 "
         "printable characters, got: 'user:5'"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)  # fmt: skip
def test_an_error_says_what_was_expected_and_what_came(
    app: Flask, ids: list[str], request_: str, field: str, message: str
) -> None:
    method, path, *body = request_.split(" ", 2)
    url = f"/spooler/api/{path.format(id=ids[0]) if '{' in path else path}"
    whole = {"task": "tests.add", "kwargs": {"left": 1}, **json.loads("".join(body) or "{}")}
    answer = app.test_client().open(
        url, method=method, json=whole if body else None, headers=BEARER
    )
    assert (answer.status_code, answer.json["error"]) == (
        400,
        {"field": field, "message": message},
    )


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_what_can_be_no_queue_is_400_and_leaves_no_trace(app: Flask, action: str) -> None:
    client = app.test_client()
    answer = client.post(f"/spooler/api/queues/.maill/{action}", headers=BEARER)
    assert (answer.status_code, answer.json["error"]["field"]) == (400, "queue")
    assert client.get("/spooler/api/stats", headers=BEARER).json["paused"] == []
    assert client.post(f"/spooler/api/queues/later/{action}", headers=BEARER).status_code == 200
    client.post("/spooler/api/queues/later/resume", headers=BEARER)


def test_pages_of_the_list_hold_every_job_once(app: Flask) -> None:
    client, seen, before = app.test_client(), [], ""
    made = [client.post("/spooler/api/jobs", json={"task": "tests.add", "kwargs": {"left": left}},
                        headers=BEARER).json["id"] for left in range(7)]  # type: ignore[index]  # fmt: skip
    while True:
        answer = client.get(f"/spooler/api/jobs?limit=2{before}", headers=BEARER)
        found = json.loads(answer.text)
        seen += [job["id"] for job in found["jobs"]]
        if found["next"] is None:
            break
        before = f"&before={found['next']}"
    assert seen[:7] == made[::-1]
    assert len(seen) == len(set(seen))
