"""What the reference app cannot carry out: refused in JSON, and nothing is enqueued."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from server import Answer, Server

WORKING = ("/", "/uwsgi_thread", "/uwsgi_spool", "/uwsgi_tasks")

DURATIONS = ("", "five", "5s", "-1", "-0.001", "nan", "inf", "-inf", "1e999", "86400.5", "86401")
DELAYS = ("", "soon", "-1", "nan", "inf", "1e999")
TIMES = ("", "soon", "nan", "inf", "-1", "1e20", "2030-01-01T00:00:00", "2030-01-01", "2030-13-01Z")
FAILS = ("", "x", "-1", "1.5", "nan", "inf")
BODIES = (b"", b"{", b"[1]", b"7", b"null", b'"text"', b"\xff\xfe")


@pytest.fixture(autouse=True, scope="module")
def _nothing_was_enqueued(server: Server) -> Iterator[None]:
    """Nothing valid is ever asked for in this file: in the end no row may be there."""
    yield
    assert server.rows() == []


@pytest.fixture(autouse=True)
def _nothing_is_there_or_has_run(server: Server) -> Iterator[None]:
    yield
    assert server.files() == []
    assert "Working in" not in server.log
    assert "Notification handled" not in server.log


def assert_refused(answer: Answer, status: int, field: str | None) -> None:
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/json"
    message = answer.json["error"]["message"]
    assert answer.json == {"error": {"field": field, "message": message}}
    assert isinstance(message, str)
    assert message


@pytest.mark.parametrize("duration", DURATIONS)
@pytest.mark.parametrize("path", WORKING)
def test_an_impossible_duration_is_refused_on_every_route(
    server: Server, path: str, duration: str
) -> None:
    assert_refused(server.get(f"{path}?duration={duration}"), 400, "duration")


@pytest.mark.parametrize("delay", DELAYS)
def test_an_impossible_delay_is_refused(server: Server, delay: str) -> None:
    assert_refused(server.get(f"/uwsgi_spool?duration=0&delay={delay}"), 400, "delay")


@pytest.mark.parametrize("at", TIMES)
def test_an_impossible_time_or_one_without_a_zone_is_refused(server: Server, at: str) -> None:
    assert_refused(server.get(f"/uwsgi_spool?duration=0&at={at}"), 400, "at")


def test_a_time_and_a_delay_together_are_refused(server: Server) -> None:
    assert_refused(server.get("/uwsgi_spool?duration=0&at=1900000000&delay=3"), 400, "at")


@pytest.mark.parametrize("fail", FAILS)
def test_an_impossible_number_of_failures_is_refused(server: Server, fail: str) -> None:
    assert_refused(server.get(f"/uwsgi_tasks?duration=0&fail={fail}"), 400, "fail")


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_no_json_object_is_refused(server: Server, body: bytes) -> None:
    assert_refused(server.post("/task", body), 400, "body")


@pytest.mark.parametrize("job_id", ["nobody", "0" * 29, "x" * 1000, "%00", "%C3%A9", "'--"])
def test_an_unknown_job_is_a_404(server: Server, job_id: str) -> None:
    assert_refused(server.get(f"/jobs/{job_id}"), 404, "id")


@pytest.mark.parametrize("path", ["/nowhere", "/jobs", "/jobs/", "/jobs/..%2f..%2fkey", "/task/"])
def test_an_unknown_route_is_a_404_in_json(server: Server, path: str) -> None:
    assert_refused(server.get(path), 404, None)


@pytest.mark.parametrize(("method", "path"), [("GET", "/task"), ("POST", "/"), ("PUT", "/jobs/x")])
def test_a_method_that_a_route_does_not_have_is_a_405_in_json(
    server: Server, method: str, path: str
) -> None:
    assert_refused(server.get(path, method), 405, None)
