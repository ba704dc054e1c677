"""Jobs as text for people."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_spooler.job import STATES
from flask_spooler.record import Attempt, Record
from flask_spooler.tables import ago, clock, duration, job_page, job_table, stats_page
from tests.helpers import NOW

RECORD = Record(
    id="1" * 29,
    task="tasks.resize",
    queue="mail",
    priority=3,
    state="queued",
    attempt=1,
    max_attempts=5,
    enqueued_at=NOW - 90,
    due_at=NOW + 30,
    expires_at=None,
    started_at=None,
    finished_at=None,
    unique_key=None,
    tags=None,
    pid=None,
    progress_done=None,
    progress_total=None,
    progress_note=None,
    error_type=None,
    error_message=None,
    traceback=None,
    kwargs_size=2,
    kwargs=b"{}",
    result=None,
)


def record(**changes: Any) -> Record:
    return msgspec.structs.replace(RECORD, **changes)


def page(attempts: list[Attempt] | None = None, **changes: Any) -> str:
    return job_page(record(**changes).as_dict(attempts or []), NOW)


def test_a_table_has_one_line_for_each_job() -> None:
    lines = job_table([record(id="a" * 29), record(id="b" * 29)], NOW).splitlines()
    assert lines[0].split()[:4] == ["ID", "STATE", "TASK", "QUEUE"]
    assert [line.split()[0] for line in lines[1:]] == ["a" * 29, "b" * 29]
    for text in ("queued", "tasks.resize", "mail", "1 min 30 s ago"):
        assert text in lines[1]


@pytest.mark.parametrize("state", STATES)
def test_the_due_time_is_shown_only_while_the_job_waits_for_it(state: str) -> None:
    shown = job_table([record(state=state, due_at=NOW + 45)], NOW)
    assert ("in 45 s" in shown) == (state in ("scheduled", "retrying"))


def test_of_an_error_the_table_shows_the_first_line_and_the_page_everything() -> None:
    broken = {"error_type": "ValueError", "error_message": "first\nsecond", "traceback": "line 1"}
    table = job_table([record(**broken)], NOW)
    assert "ValueError: first" in table
    assert "second" not in table
    whole = page(**broken)
    assert "second" in whole
    assert "line 1" in whole


def test_a_page_shows_arguments_progress_times_and_attempts() -> None:
    attempt = Attempt(1, "failed", NOW - 5, NOW - 3, "ValueError", "it broke", None)
    shown = page(
        [attempt],
        kwargs=json.dumps({"path": "ü.png", "width": 5}).encode(),
        progress_done=2.0,
        progress_total=5.0,
        progress_note="half-way",
        started_at=NOW - 5,
    )
    for text in (
        'path="ü.png", width=5',
        "2 of 5, half-way",
        "2027-01-15 08:00:30.000Z (in 30 s)",
        "mail, priority 3",
        "1 (at most 5 are charged)",
        "failed",
        "2.0 s",
        "ValueError: it broke",
    ):
        assert text in shown


@pytest.mark.parametrize("outcome", ["crashed", "interrupted"])
def test_of_an_attempt_that_could_not_say_when_it_ended_the_time_is_a_bound(outcome: str) -> None:
    attempt = Attempt(1, outcome, NOW - 30_000, NOW, "Interrupted", "the server stopped", None)
    assert "at most 8 h 20 min" in page([attempt])


def test_a_result_is_shown_only_of_a_job_that_succeeded() -> None:
    assert '{"a": [1]}' in page(state="succeeded", result=b'{"a":[1]}')
    assert "Result" not in page(state="dead")


def test_arguments_too_large_for_the_row_are_said_to_be_in_the_file() -> None:
    assert "70,000 bytes, kept in the job file only" in page(kwargs=None, kwargs_size=70_000)


MARKUP = "[bold]x[/bold] [red] [/] \\[y]"


@pytest.mark.parametrize(
    "changes",
    [
        {"kwargs": json.dumps({"path": MARKUP}).encode()},
        {"error_type": "ValueError", "error_message": MARKUP},
        {"error_type": "ValueError", "error_message": "x", "traceback": MARKUP},
        {"progress_done": 1.0, "progress_note": MARKUP},
        {"state": "succeeded", "result": json.dumps(MARKUP).encode()},
        {"task": MARKUP},
        {"queue": MARKUP},
    ],
    ids=lambda changes: next(reversed(changes)),
)
def test_a_page_shows_markup_as_it_is(changes: dict[str, Any]) -> None:
    assert MARKUP.partition("\\")[0] in page(**changes)


def test_a_table_shows_markup_in_errors_as_it_is() -> None:
    shown = job_table([record(error_type="ValueError", error_message=MARKUP)], NOW)
    assert f"ValueError: {MARKUP}" in shown


@pytest.mark.parametrize("name", ["task", "queue"])
def test_a_table_shows_markup_in_names_as_it_is(name: str) -> None:
    assert "[bold]x[/bold]" in job_table([record(**{name: "[bold]x[/bold]"})], NOW)


def test_stats_show_each_queue_and_the_places_that_hold_files() -> None:
    queues = {
        "mail": dict.fromkeys(STATES, 0) | {"queued": 1234},
        "default": dict.fromkeys(STATES, 0) | {"dead": 7},
    }
    files = {"window": 3, "waiting": 1231, "dead": 0}
    shown = stats_page(
        {"queues": queues, "files": files, "paused": ["mail"], "oldest_queued_seconds": 61.0}
    )
    lines = shown.splitlines()
    assert lines[0].split() == ["QUEUE", *(state.upper() for state in STATES)]
    assert lines[1].split() == ["default", "0", "0", "0", "0", "0", "7", "0", "0"]
    assert lines[2].split() == ["mail", "0", "1,234", "0", "0", "0", "0", "0", "0"]
    assert "Files: window 3, waiting 1,231; the oldest waits 1 min 1 s." in shown
    assert "dead 0" not in shown


@pytest.mark.parametrize(("dead", "told"), [(2, " (of cancelled and expired jobs too)"), (3, "")])
def test_stats_say_why_there_are_more_files_of_dead_jobs_than_such_jobs(
    dead: int, told: str
) -> None:
    queues = {"default": dict.fromkeys(STATES, 0) | {"dead": dead, "cancelled": 3 - dead}}
    stats = {"queues": queues, "files": {"dead": 3}, "paused": [], "oldest_queued_seconds": None}
    assert f"Files: dead 3{told}; no job is overdue." in stats_page(stats)


def test_stats_say_when_there_is_nothing() -> None:
    assert (
        stats_page({"queues": {}, "files": {}, "paused": [], "oldest_queued_seconds": None})
        == "No jobs yet."
    )
    counts = {"default": dict.fromkeys(STATES, 0)}
    shown = stats_page(
        {"queues": counts, "files": {"dead": 0}, "paused": [], "oldest_queued_seconds": None}
    )
    assert "Files: none; no job is overdue." in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (1, "1.0 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (86_400 * 400, "400 d"),
    ],
)
def test_a_length_of_time_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_any_two_times_can_be_told_apart_in_words(when: float, now: float) -> None:
    shown = ago(when, now)
    assert shown.endswith(" ago") == (when <= now)
    assert shown.startswith("in ") == (when > now)
    assert "-" not in shown
    assert shown not in (" ago", "in ")


def test_a_time_of_day_is_utc_with_milliseconds() -> None:
    assert clock(0.0) == "1970-01-01 00:00:00.000Z"
    assert clock(NOW + 0.25) == "2027-01-15 08:00:00.250Z"
