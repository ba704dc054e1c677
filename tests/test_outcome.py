"""The outcome table of `outcome.py`, row by row."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_spooler import outcome as module
from flask_spooler.outcome import (
    MOST_INTERRUPTIONS,
    AskedAgain,
    Cancelled,
    Crashed,
    Discarded,
    Failed,
    Interrupted,
    Outcome,
    Policy,
    Succeeded,
    TimedOut,
    judge,
)
from flask_spooler.record import ErrorInfo, Output, Progress, Row, Step, Unwritten
from tests.helpers import NOW

ERROR = ErrorInfo("ValueError", "it does not work", "Traceback …")
POLICY = Policy(max_attempts=5, max_crashes=3, wait=lambda attempt: 100.0 + attempt)
DUE = NOW - 60


def row(charged: int = 1, crashes: int = 0, interruptions: int = 0) -> Row:
    return Row(
        id="x" * 20,
        task="tests.work",
        queue="default",
        state="running",
        window="window",
        due_at=DUE,
        expires_at=None,
        started_at=NOW - 5,
        max_attempts=5,
        attempt=7,
        charged=charged,
        crashes=crashes,
        interruptions=interruptions,
        cancel_asked=0,
        pid=1,
        pid_started=1,
        boot="boot",
        unique_key=None,
    )


FIRST, LAST = row(charged=1), row(charged=5)

# outcome, row, the attempt is, charged, the job is then, due
TABLE = [
    (Succeeded(b"5"), FIRST, "succeeded", True, "succeeded", DUE),
    (Succeeded(None), LAST, "succeeded", True, "succeeded", DUE),
    (Failed(ERROR, again=True), FIRST, "failed", True, "retrying", NOW + 101),
    (Failed(ERROR, again=True), row(charged=4), "failed", True, "retrying", NOW + 104),
    (Failed(ERROR, again=True), LAST, "failed", True, "dead", DUE),
    (Failed(ERROR, again=False), FIRST, "failed", True, "dead", DUE),
    (Failed(ERROR, again=False), LAST, "failed", True, "dead", DUE),
    (TimedOut(ERROR), FIRST, "timed_out", True, "retrying", NOW + 101),
    (TimedOut(ERROR), LAST, "timed_out", True, "dead", DUE),
    (TimedOut(ERROR, again=False), FIRST, "timed_out", True, "dead", DUE),
    (AskedAgain(None, ERROR), FIRST, "failed", True, "retrying", NOW + 101),
    (AskedAgain(7.0, ERROR), FIRST, "failed", True, "retrying", NOW + 7),
    (AskedAgain(0.0, ERROR), FIRST, "failed", True, "retrying", NOW),
    (AskedAgain(7.0, ERROR), LAST, "failed", True, "dead", DUE),
    (Discarded(ERROR), FIRST, "failed", True, "dead", DUE),
    (Cancelled(), FIRST, "cancelled", True, "cancelled", DUE),
    (Cancelled(), LAST, "cancelled", True, "cancelled", DUE),
    (Crashed(ERROR), FIRST, "crashed", True, "retrying", NOW),
    (Crashed(ERROR), row(crashes=1), "crashed", True, "retrying", NOW),
    (Crashed(ERROR), row(crashes=2), "crashed", True, "dead", DUE),
    (Crashed(ERROR), LAST, "crashed", True, "dead", DUE),
    (Interrupted(ERROR), FIRST, "interrupted", False, "retrying", NOW),
    (Interrupted(ERROR), LAST, "interrupted", False, "retrying", NOW),
    (Interrupted(ERROR), row(interruptions=8), "interrupted", False, "retrying", NOW),
    (Interrupted(ERROR), row(interruptions=9), "interrupted", False, "dead", DUE),
]


@pytest.mark.parametrize(("outcome", "before", "name", "charged", "state", "due"), TABLE)
def test_each_outcome_becomes_what_its_row_of_the_table_says(
    outcome: Outcome, before: Row, name: str, charged: bool, state: str, due: float
) -> None:
    change = judge(outcome, before, POLICY, NOW)
    assert (change.outcome, change.charged, change.state) == (name, charged, state)
    assert change.due_at == due
    assert change.ended_at == NOW


def test_the_tables_of_code_and_tests_speak_of_the_same_outcomes() -> None:
    documented = dict(re.findall(r"^([A-Z]\w+)  +(\w+)  ", module.__doc__ or "", re.MULTILINE))
    tested = {type(outcome).__name__: name for outcome, _, name, *_ in TABLE}
    assert documented == tested
    assert set(tested) == {kind.__name__ for kind in Outcome.__args__}


def test_a_result_and_an_error_are_carried_over() -> None:
    assert judge(Succeeded(b"[1]"), FIRST, POLICY, NOW).result == b"[1]"
    assert judge(Succeeded(b"[1]"), FIRST, POLICY, NOW).error is None
    assert judge(Cancelled(), FIRST, POLICY, NOW).error is None
    for outcome, before, *_ in TABLE:
        if not isinstance(outcome, (Succeeded, Cancelled)):
            assert judge(outcome, before, POLICY, NOW).error == ERROR


def test_what_was_not_written_is_carried_over_whatever_the_outcome() -> None:
    progress = Progress(2, 5)
    for outcome, before, *_ in TABLE:
        unwritten = Unwritten(progress, Output("said"), (Step("one", 1, NOW, 0.0, b"1"),))
        change = judge(outcome, before, POLICY, NOW, unwritten)
        assert (change.progress, change.output, change.steps) == msgspec.structs.astuple(unwritten)
        assert judge(outcome, before, POLICY, NOW).progress is None


def test_crashes_count_in_a_row_until_an_attempt_ends_by_itself() -> None:
    before = row(crashes=1, interruptions=3)
    assert judge(Crashed(ERROR), before, POLICY, NOW).crashes == 2
    assert judge(Failed(ERROR, again=True), before, POLICY, NOW).crashes == 0
    assert judge(TimedOut(ERROR), before, POLICY, NOW).crashes == 0
    assert judge(AskedAgain(None, ERROR), before, POLICY, NOW).crashes == 0


def test_an_interruption_forgets_no_crash_but_a_crash_ends_a_row_of_interruptions() -> None:
    before = row(crashes=1, interruptions=3)
    interrupted = judge(Interrupted(ERROR), before, POLICY, NOW)
    assert (interrupted.crashes, interrupted.interruptions) == (1, 4)
    assert judge(Crashed(ERROR), before, POLICY, NOW).interruptions == 0
    assert judge(Failed(ERROR, again=True), before, POLICY, NOW).interruptions == 0


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_a_job_that_always_crashes_is_dead_after_max_crashes(limit: int) -> None:
    policy = Policy(max_attempts=100, max_crashes=limit, wait=lambda attempt: 0.0)
    before = row()
    for number in range(1, limit + 1):
        change = judge(Crashed(ERROR), before, policy, NOW)
        assert change.state == ("dead" if number == limit else "retrying")
        before = row(crashes=change.crashes)


def test_a_job_that_is_always_interrupted_is_dead_after_ten_in_a_row() -> None:
    before = row()
    states = []
    for _ in range(10):
        change = judge(Interrupted(ERROR), before, POLICY, NOW)
        states.append(change.state)
        before = row(interruptions=change.interruptions)
    assert MOST_INTERRUPTIONS == 10
    assert states == ["retrying"] * 9 + ["dead"]


errors = st.just(ERROR)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Succeeded, st.none() | st.binary()),
    st.builds(Failed, errors, st.booleans()),
    st.builds(TimedOut, errors),
    st.builds(AskedAgain, st.none() | st.floats(0, 1e9), errors),
    st.builds(Discarded, errors),
    st.builds(Cancelled),
    st.builds(Crashed, errors),
    st.builds(Interrupted, errors),
)


@given(
    outcomes,
    st.builds(row, st.integers(1, 20), st.integers(0, 20), st.integers(0, 20)),
    st.builds(Policy, st.integers(1, 20), st.integers(1, 20), st.just(lambda attempt: 1.0)),
)
def test_a_job_is_tried_again_only_while_its_limits_allow_it(
    outcome: Outcome, before: Row, policy: Policy
) -> None:
    change = judge(outcome, before, policy, NOW)
    assert change.state in ("succeeded", "retrying", "dead", "cancelled")
    if change.state == "retrying":
        assert change.due_at >= NOW
        assert before.charged < policy.max_attempts or change.outcome == "interrupted"
        assert change.crashes < policy.max_crashes or change.outcome == "interrupted"
        assert change.interruptions < MOST_INTERRUPTIONS
