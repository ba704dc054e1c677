"""The reference app without uWSGI: every route, and every bad input."""

from __future__ import annotations

import importlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_spooler._uwsgi import Process
from flask_spooler.engine import SpoolEngine
from flask_spooler.record import Change, ErrorInfo
from tests.helpers import settle, wait_until

FailAt = Callable[[str, BaseException], None]


class Reference(SimpleNamespace):
    """The app and the tasks module of one test, fresh, with a spool of their own."""

    app: Flask
    tasks: Any
    client: FlaskClient
    engine: SpoolEngine

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, the newest first."""
        return [record.as_dict() for record in self.engine.ledger.find()]


@pytest.fixture
def reference(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reference]:
    # The app reads its configuration when it is imported, as uWSGI would import it.
    monkeypatch.setenv("SPOOLER_DIRECTORY", str(memory / "spool"))
    monkeypatch.setenv("FLASK_SPOOLER_DURABILITY", "process")
    for name in ("app", "tasks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module("app")
    tasks = module.tasks
    for name in ("app", "tasks"):
        monkeypatch.delitem(sys.modules, name)
    engine = module.app.extensions["spooler"].engine
    engine.prepare()  # a server does that at its start
    found = Reference(app=module.app, tasks=tasks, client=module.app.test_client(), engine=engine)
    yield found
    tasks.notifications.stop()


def assert_error(answer: TestResponse, status: int, field: str | None) -> str:
    """Check the one shape of every error, and return its message."""
    assert answer.status_code == status, answer.text
    assert answer.is_json
    assert answer.json is not None
    assert set(answer.json) == {"error"}
    assert set(answer.json["error"]) == {"field", "message"}
    assert answer.json["error"]["field"] == field
    message: str = answer.json["error"]["message"]
    assert message
    return message


def test_the_app_uses_the_directory_of_its_environment(reference: Reference, memory: Path) -> None:
    assert reference.engine.spool.root == memory / "spool"
    assert reference.client.get("/uwsgi_spool").status_code == 202
    assert (memory / "spool" / "waiting").is_dir()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_spooled_work_answers_202_with_id_state_and_where_to_look(
    reference: Reference, method: str
) -> None:
    answer = reference.client.open("/uwsgi_spool?duration=3", method=method)
    assert answer.status_code == 202
    (job,) = reference.jobs()
    assert answer.json == {
        "started": True,
        "id": job["id"],
        "state": "queued",
        "status_url": f"/jobs/{job['id']}",
    }
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert (job["task"], job["kwargs"]) == ("tasks.spool_task", {"duration": 3})


@pytest.mark.parametrize(
    ("given", "kept"),
    [("", 5), ("?duration=0", 0), ("?duration=0.25", 0.25), ("?duration=1e3", 1000)],
)
def test_the_duration_is_kept_as_it_was_given(
    reference: Reference, given: str, kept: float
) -> None:
    assert reference.client.get(f"/uwsgi_spool{given}").status_code == 202
    assert reference.jobs()[0]["kwargs"] == {"duration": kept}


@pytest.mark.parametrize("where", ["delay=60", "at={unix}", "at={iso}", "at={zulu}"])
def test_work_for_later_is_scheduled_for_exactly_that_time(
    reference: Reference, where: str
) -> None:
    unix = int(time.time()) + 60
    iso = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix))
    query = where.format(unix=unix, iso=f"{iso}%2B00:00", zulu=f"{iso}Z")
    answer = reference.client.get(f"/uwsgi_spool?{query}")
    assert answer.status_code == 202
    assert answer.json is not None
    assert answer.json["state"] == "scheduled"
    (job,) = reference.jobs()
    if query.startswith("delay"):
        assert job["due_at"] == job["enqueued_at"] + 60
    else:
        assert job["due_at"] == unix


def test_a_time_in_the_past_means_now(reference: Reference) -> None:
    answer = reference.client.get("/uwsgi_spool?at=1000000000")
    assert answer.json is not None
    assert answer.json["state"] == "queued"


BAD_SECONDS = ["abc", "", "-1", "-0.001", "nan", "inf", "-inf", "1e400", "5s", "0x10", "[5]", "%00"]
ROUTES_WITH_DURATION = ["/", "/uwsgi_thread", "/uwsgi_spool", "/uwsgi_tasks"]


@pytest.mark.parametrize("text", [*BAD_SECONDS, "86400.001", "86401", "1e300"])
@pytest.mark.parametrize("route", ROUTES_WITH_DURATION)
def test_a_bad_duration_is_refused_by_every_route_and_enqueues_nothing(
    reference: Reference, route: str, text: str
) -> None:
    message = assert_error(reference.client.get(f"{route}?duration={text}"), 400, "duration")
    assert message.startswith("expected ")
    assert reference.jobs() == []


def test_the_longest_duration_is_a_day(reference: Reference) -> None:
    assert reference.client.get("/uwsgi_spool?duration=86400").status_code == 202


@pytest.mark.parametrize("text", BAD_SECONDS)
def test_a_bad_delay_is_refused_and_enqueues_nothing(reference: Reference, text: str) -> None:
    assert_error(reference.client.get(f"/uwsgi_spool?delay={text}"), 400, "delay")
    assert reference.jobs() == []


BAD_TIMES = [
    "",
    "soon",
    "nan",
    "inf",
    "-1",
    "1e300",
    "2030-01-01",
    "2030-01-01T00:00:00",
    "2030-13-01T00:00:00Z",
    "2030-01-01T25:00:00Z",
    "Z",
    "99999-01-01T00:00:00Z",
    "253402300801",
]


@pytest.mark.parametrize("text", BAD_TIMES)
def test_a_bad_time_is_refused_and_enqueues_nothing(reference: Reference, text: str) -> None:
    message = assert_error(reference.client.get(f"/uwsgi_spool?at={text}"), 400, "at")
    assert repr(text) in message
    assert reference.jobs() == []


def test_a_time_without_a_zone_is_refused_with_that_reason(reference: Reference) -> None:
    answer = reference.client.get("/uwsgi_spool?at=2030-01-01T00:00:00")
    assert "time zone" in assert_error(answer, 400, "at")


def test_a_zone_whose_plus_the_url_has_made_a_space_is_refused_with_that_reason(
    reference: Reference,
) -> None:
    answer = reference.client.get("/uwsgi_spool?at=2030-01-01T00:00:00+02:00")
    assert "whose + is %2B in a URL" in assert_error(answer, 400, "at")


def test_at_and_delay_together_are_refused(reference: Reference) -> None:
    answer = reference.client.get("/uwsgi_spool?at=2000000000&delay=5")
    assert "both" in assert_error(answer, 400, "at")
    assert reference.jobs() == []


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "", "²", "9999999999"])
def test_a_bad_number_of_failures_is_refused(reference: Reference, text: str) -> None:
    answer = reference.client.get(f"/uwsgi_tasks?duration=1&fail={text}")
    message = assert_error(answer, 400, "fail")
    assert message == f"expected a whole number from 0 to 999999999, got: {text!r}"


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"5", b'"text"', b"null", b"{", b"{'a': 1}", b"\xff\xfe", b"a=1"]
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", None])
def test_a_notification_that_is_no_json_object_is_refused(
    reference: Reference, body: bytes, kind: str | None
) -> None:
    answer = reference.client.post("/task", data=body, content_type=kind)
    assert "JSON object" in assert_error(answer, 400, "body")
    assert reference.jobs() == []


def test_a_notification_is_delivered_by_the_background_thread(
    reference: Reference, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = reference.client.post("/task", json={"to": "ann"})
    assert (answer.status_code, answer.json) == (202, {"success": "OK"})
    seen = ""

    def delivered() -> bool:
        nonlocal seen
        seen += capsys.readouterr().out
        return "Notification handled: {'to': 'ann'}" in seen

    wait_until(delivered)
    assert reference.jobs() == []


def test_notifications_that_a_stop_leaves_undone_become_jobs(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = reference.tasks.notifications
    monkeypatch.setattr(thread, "grace", 0.0)
    monkeypatch.setattr(thread, "handle", lambda: wait_until(lambda: thread.stopping))
    for number in range(3):
        assert reference.client.post("/task", json={"n": number}).status_code == 202
    thread.stop()
    wait_until(lambda: len(reference.jobs()) == 3)
    sent = [job["kwargs"]["notification"]["n"] for job in reversed(reference.jobs())]
    assert sent == [0, 1, 2]
    assert {job["task"] for job in reference.jobs()} == {"tasks.notify"}


def test_a_notification_that_comes_after_the_stop_becomes_a_job(reference: Reference) -> None:
    reference.client.post("/task", json={"n": 1})
    reference.tasks.notifications.stop()
    assert reference.client.post("/task", json={"n": 2}).status_code == 202
    assert [job["kwargs"] for job in reference.jobs()] == [{"notification": {"n": 2}}]


def test_a_notification_too_large_for_a_job_is_refused_with_size_and_limit(
    reference: Reference, capsys: pytest.CaptureFixture[str]
) -> None:
    reference.engine.max_payload = 1_000
    answer = reference.client.post("/task", json={"text": "x" * 2_000})
    message = assert_error(answer, 400, "body")
    assert re.search(r"^2,0\d\d bytes for the arguments of tasks\.notify .*\(1,000\)", message)
    assert reference.client.post("/task", json={"text": "x" * 900}).status_code == 202
    reference.tasks.notifications.stop()
    assert "x" * 1_000 not in capsys.readouterr().out


@pytest.mark.parametrize(
    "body", ['{"a":' + "[" * 5_000 + "]" * 5_000 + "}", '{"a":' * 5_000 + "1" + "}" * 5_000]
)
def test_a_notification_nested_too_deeply_is_refused(reference: Reference, body: str) -> None:
    assert "nested too deeply" in assert_error(
        reference.client.post("/task", data=body), 400, "body"
    )
    assert reference.jobs() == []


def test_a_notification_that_cannot_become_a_job_takes_no_other_with_it_and_is_logged_whole(
    reference: Reference, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    thread = reference.tasks.notifications
    monkeypatch.setattr(thread, "grace", 0.0)
    monkeypatch.setattr(thread, "handle", lambda: wait_until(lambda: thread.stopping))
    for text in ("one", "two" * 1_000, "three"):
        assert reference.client.post("/task", json={"text": text}).status_code == 202
    reference.engine.max_payload = 1_000
    thread.stop()
    wait_until(lambda: "Notification lost" in caplog.text)
    kept = [job["kwargs"]["notification"]["text"] for job in reversed(reference.jobs())]
    assert kept == ["one", "three"]
    (lost,) = [each.getMessage() for each in caplog.records if each.name == "tasks"]
    assert '{"text": "' + "two" * 1_000 + '"}' in lost
    assert "1,000" in lost


def full_disk(times: int) -> Callable[[str], None]:
    """A failpoint at which the first writes fail."""
    left = iter(range(times))

    def armed(reached: str) -> None:
        if reached == "write.write" and next(left, None) is not None:
            raise OSError(28, "No space left on device")

    return armed


def test_the_hand_over_is_tried_again_while_there_is_time(
    reference: Reference, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    thread = reference.tasks.notifications
    monkeypatch.setattr(thread, "grace", 30.0)
    monkeypatch.setattr(thread, "pause", 0.01)
    monkeypatch.setattr(thread, "handle", lambda: wait_until(lambda: thread.stopping))
    for number in range(3):
        assert reference.client.post("/task", json={"n": number}).status_code == 202
    # The loop is over, so the shutdown is not to deliver anything itself.
    monkeypatch.setattr(thread, "shutdown", lambda: thread._to_the_spool([]))
    monkeypatch.setattr("flask_spooler.failpoints.armed", full_disk(5))
    thread.stop()
    assert len(reference.jobs()) == 3
    assert "Notification lost" not in caplog.text


def test_a_notification_that_fails_on_a_full_disk_is_tried_again_by_the_thread(
    reference: Reference, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    thread = reference.tasks.notifications
    monkeypatch.setattr(thread, "pause", 0.01)
    monkeypatch.setattr(reference.tasks.notify, "function", _refuse)
    monkeypatch.setattr("flask_spooler.failpoints.armed", full_disk(3))
    assert reference.client.post("/task", json={"n": 1}).status_code == 202
    wait_until(lambda: len(reference.jobs()) == 1)
    assert reference.jobs()[0]["kwargs"] == {"notification": {"n": 1}}
    assert caplog.text.count("No space left on device") >= 3


def _refuse(notification: dict[str, Any]) -> None:
    raise ValueError("nobody takes it")


def test_the_factory_makes_threads_by_name_and_knows_no_others(reference: Reference) -> None:
    made = reference.tasks.BackgroundThreadFactory.create("notification")
    assert isinstance(made, reference.tasks.NotificationThread)
    with pytest.raises(ValueError, match=r"one of .*'notification'.*, got: 'mail'"):
        reference.tasks.BackgroundThreadFactory.create("mail")


def test_a_plain_thread_works_without_uwsgi_and_says_its_name(
    reference: Reference, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = reference.client.get("/?duration=0")
    assert answer.status_code == 202
    assert answer.json is not None
    assert answer.json["started"] is True
    assert re.match(r"Thread-\d+", answer.json["thread_name"])
    wait_until(lambda: "Working in a thread... 1/1" in capsys.readouterr().out)


@pytest.mark.parametrize("route", ["/uwsgi_thread", "/uwsgi_tasks"])
def test_a_route_whose_engine_is_missing_answers_503(reference: Reference, route: str) -> None:
    answer = reference.client.get(f"{route}?duration=1")
    assert "uwsgi --ini uwsgi.ini" in assert_error(answer, 503, None)
    assert int(answer.headers["Retry-After"]) > 0


def test_a_job_is_shown_without_its_arguments_and_tracebacks(reference: Reference) -> None:
    job_id = reference.client.get("/uwsgi_spool?duration=3").json["id"]  # type: ignore[index]
    error = ErrorInfo("ValueError", "it does not work", "a secret traceback")
    with reference.engine.ledger.transaction() as rows:
        rows.start(job_id, "window", time.time(), Process(1, 1), "boot")
        now = time.time()
        change = Change(outcome="failed", state="retrying", due_at=now, ended_at=now, error=error)
        assert settle(rows, job_id, 1, change)
    answer = reference.client.get(f"/jobs/{job_id}")
    assert answer.status_code == 200
    job = answer.json
    assert job is not None
    assert job["id"] == job_id
    assert job["state"] == "retrying"
    assert job["error"] == {"type": "ValueError", "message": "it does not work"}
    assert job["attempts"][0]["error"] == {"type": "ValueError", "message": "it does not work"}
    assert "secret" not in answer.text
    assert not {"kwargs", "traceback"} & set(job)
    documented = (
        "id task queue priority state attempt max_attempts result error progress"
        " enqueued_at due_at started_at finished_at attempts"
    )
    assert set(documented.split()) <= set(job)
    assert set(job["attempts"][0]) == {"number", "outcome", "started_at", "finished_at", "error"}


@pytest.mark.parametrize(
    "job_id", ["nobody", "x" * 10_000, "..%2Fledger.db", "%00", "%ff", "a%0Ab", "%3Cscript%3E", "'"]
)
def test_an_unknown_job_is_a_404(reference: Reference, job_id: str) -> None:
    answer = reference.client.get(f"/jobs/{job_id}")
    assert answer.status_code == 404
    assert answer.is_json
    assert answer.json is not None
    assert answer.json["error"]["message"]


def test_an_unknown_job_is_named_in_the_error(reference: Reference) -> None:
    assert "nobody" in assert_error(reference.client.get("/jobs/nobody"), 404, "id")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/jobs/", 404),
        ("GET", "/jobs/a/b", 404),
        ("POST", "/", 405),
        ("GET", "/task", 405),
        ("DELETE", "/uwsgi_spool", 405),
        ("POST", "/jobs/nobody", 405),
    ],
)
def test_every_other_error_has_the_same_shape(
    reference: Reference, method: str, path: str, status: int
) -> None:
    assert_error(reference.client.open(path, method=method), status, None)


@pytest.mark.parametrize(
    "point", ["write.write", "ledger.begin", "publish.rename", "ledger.commit"]
)
def test_a_full_spool_answers_503_and_leaves_nothing_half_written(
    reference: Reference, fail_at: FailAt, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    reference.engine.prepare()
    fail_at(point, OSError(28, "No space left on device"))
    answer = reference.client.get("/uwsgi_spool")
    message = assert_error(answer, 503, None)
    assert str(reference.engine.spool.root) not in message
    assert int(answer.headers["Retry-After"]) > 0
    monkeypatch.setattr("flask_spooler.failpoints.armed", None)
    assert reference.jobs() == []
    assert set(reference.engine.spool.counts().values()) == {0}
    assert reference.client.get("/uwsgi_spool").status_code == 202


def test_a_broken_ledger_answers_503_also_for_readers(reference: Reference) -> None:
    reference.engine.prepare()
    reference.engine.spool.ledger.write_bytes(b"a letter, not a database. " * 200)
    assert_error(reference.client.get(f"/jobs/{'0' * 29}"), 503, None)
    assert_error(reference.client.get("/uwsgi_spool"), 503, None)


def test_a_job_of_the_app_carries_what_the_request_asked_for(reference: Reference) -> None:
    reference.client.get("/uwsgi_spool?duration=0.5&priority=9&queue=x&id=y&spooler=z")
    (job,) = reference.jobs()
    assert (job["queue"], job["priority"]) == ("default", 0)
    assert msgspec.json.encode(job["kwargs"]) == b'{"duration":0.5}'
