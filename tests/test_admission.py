"""May a job run now, and what became of an attempt whose end nobody wrote down."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_spooler.admission import (
    LONGEST_LEASE,
    PUT_OFF_UNKNOWN,
    Close,
    Decision,
    PutAway,
    Start,
    Wait,
    admit,
    autopsy,
)
from flask_spooler.job import FINAL, Job
from flask_spooler.outcome import Cancelled, Crashed, Interrupted, TimedOut
from flask_spooler.record import Row
from tests.helpers import NOW, make_job

JOB = make_job()
ROW = Row(
    id=JOB.id,
    task=JOB.task,
    queue="default",
    state="queued",
    window="window",
    due_at=NOW,
    expires_at=None,
    started_at=None,
    max_attempts=5,
    attempt=0,
    charged=0,
    crashes=0,
    interruptions=0,
    cancel_asked=0,
    pid=4711,
    pid_started=1,
    boot="boot",
    unique_key=None,
)


def row(**changes: object) -> Row:
    return msgspec.structs.replace(ROW, **changes)


def decided(row: Row, job: Job = JOB, *, known: bool = True, held: bool = False) -> Decision:
    return admit(row, job, NOW, known=known, held=held)


def test_a_due_job_of_a_known_task_starts_without_a_lease() -> None:
    assert decided(ROW) == Start(0.0)
    assert decided(row(state="retrying", attempt=2, charged=2)) == Start(0.0)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_job_that_has_ended_is_put_away_whatever_else_holds(state: str) -> None:
    ended = row(state=state, cancel_asked=1, expires_at=NOW - 1, due_at=NOW + 60)
    assert decided(ended, known=False, held=True) == PutAway(state)


def test_a_job_that_was_cancelled_is_closed_even_when_it_is_not_due() -> None:
    cancelled = row(cancel_asked=1, due_at=NOW + 60, expires_at=NOW - 1)
    assert decided(cancelled, known=False, held=True) == Close("cancelled")


@pytest.mark.parametrize("expires_at", [NOW, NOW - 1])
def test_a_job_whose_time_is_over_expires(expires_at: float) -> None:
    assert decided(row(expires_at=expires_at), known=False, held=True) == Close("expired")


def test_a_job_that_expires_later_starts() -> None:
    assert decided(row(expires_at=NOW + 0.1)) == Start(0.0)


def test_a_job_waits_for_the_time_in_its_row_which_a_persons_retry_brings_forward() -> None:
    later = msgspec.structs.replace(JOB, due_at=NOW + 5)
    assert decided(row(due_at=NOW + 5), later) == Wait(NOW + 5)
    assert decided(row(due_at=NOW), later) == Start(0.0)


def test_a_job_of_an_unknown_task_waits_and_says_why() -> None:
    decision = decided(ROW, known=False, held=True)
    assert isinstance(decision, Wait)
    assert decision.due == NOW + PUT_OFF_UNKNOWN
    assert decision.why is not None
    assert decision.why.type == "UnknownTask"
    assert "tests.work" in decision.why.message
    assert "spooler-import, import its module, or cancel" in decision.why.message


def test_a_job_of_a_task_that_was_made_in_a_function_is_told_the_way_out() -> None:
    decision = decided(ROW, msgspec.structs.replace(JOB, task="shop.view.<locals>.work"))
    assert isinstance(decision, Start), "it is known where it was made"
    decision = decided(
        ROW, msgspec.structs.replace(JOB, task="shop.view.<locals>.work"), known=False
    )
    assert isinstance(decision, Wait)
    assert decision.why is not None
    assert "to the top of a module" in decision.why.message


def test_a_job_of_a_paused_queue_waits_without_a_new_time() -> None:
    assert decided(row(due_at=NOW - 60), held=True) == Wait(NOW - 60)


@pytest.mark.parametrize(
    ("crashes", "interruptions", "lease"),
    [(0, 0, 0), (1, 0, 2), (0, 1, 2), (2, 0, 4), (1, 1, 4), (3, 2, 32), (9, 9, LONGEST_LEASE)],
)
def test_from_the_second_strike_in_a_row_the_lease_doubles(
    crashes: int, interruptions: int, lease: float
) -> None:
    assert decided(row(crashes=crashes, interruptions=interruptions)) == Start(lease)


@given(st.integers(0, 1000), st.integers(0, 9))
def test_a_lease_is_never_negative_nor_too_long(crashes: int, interruptions: int) -> None:
    decision = decided(row(crashes=crashes, interruptions=interruptions))
    assert isinstance(decision, Start)
    assert 0 <= decision.lease <= LONGEST_LEASE


def test_a_job_that_crashed_a_thousand_times_in_a_row_still_gets_a_lease() -> None:
    assert decided(row(crashes=1500)) == Start(LONGEST_LEASE)


@given(
    state=st.sampled_from(["scheduled", "queued", "retrying", "running", *FINAL]),
    cancel=st.integers(0, 1),
    expires=st.none() | st.floats(NOW - 10, NOW + 10),
    due=st.floats(NOW - 10, NOW + 10),
    known=st.booleans(),
    held=st.booleans(),
)
def test_a_job_starts_only_when_nothing_speaks_against_it(
    state: str, cancel: int, expires: float | None, due: float, known: bool, held: bool
) -> None:
    before = row(state=state, cancel_asked=cancel, expires_at=expires, due_at=due)
    starts = isinstance(decided(before, known=known, held=held), Start)
    free = state not in FINAL and not cancel and known and not held
    assert starts == (free and due <= NOW and (expires is None or expires > NOW))


RAN = row(state="running", attempt=2, started_at=NOW - 10)


def test_an_attempt_that_was_to_be_cancelled_counts_as_cancelled() -> None:
    asked = msgspec.structs.replace(RAN, cancel_asked=1)
    for lives in (True, False):
        assert autopsy(asked, JOB, NOW, server_lives=lives) == Cancelled()


def test_an_attempt_whose_server_was_stopped_counts_as_interrupted() -> None:
    job = make_job(hard_timeout=1.0)
    outcome = autopsy(RAN, job, NOW, server_lives=False)
    assert isinstance(outcome, Interrupted)
    assert "stopped or reloaded while attempt 2 ran in process 4711" in outcome.error.message


@pytest.mark.parametrize(("limit", "kind"), [(10.0, TimedOut), (9.0, TimedOut), (11.0, Crashed)])
def test_an_attempt_that_ran_longer_than_its_hard_timeout_counts_as_timed_out(
    limit: float, kind: type
) -> None:
    outcome = autopsy(RAN, make_job(hard_timeout=limit), NOW, server_lives=True)
    assert type(outcome) is kind


def test_an_attempt_whose_process_died_for_no_known_reason_counts_as_crashed() -> None:
    outcome = autopsy(RAN, JOB, NOW, server_lives=True)
    assert isinstance(outcome, Crashed)
    assert outcome.error.type == "ProcessDied"
    assert "process 4711" in outcome.error.message


def test_an_attempt_without_a_known_start_ran_for_no_time() -> None:
    unknown = msgspec.structs.replace(RAN, started_at=None)
    outcome = autopsy(unknown, make_job(hard_timeout=1.0), NOW, server_lives=True)
    assert isinstance(outcome, Crashed)
