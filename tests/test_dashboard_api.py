"""The operations API is what its description says: fuzzed, and walked by hand."""

from __future__ import annotations

import json
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
