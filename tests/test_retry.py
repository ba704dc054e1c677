"""Backoff policies: bounded, never negative, longer with each attempt."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_spooler import SPOOL_OK, SPOOL_RETRY, Discard, OptionError, Retry, exponential
from flask_spooler.retry import SpoolAnswer, backoff_seconds, check_backoff, listed

attempts = st.integers(1, 10_000)
firsts = st.floats(0, 1e6)
chances = st.floats(0, 1, exclude_max=True)


@given(attempts, firsts, st.floats(0, 1e9), st.floats(0, 10), chances)
def test_an_exponential_wait_is_never_negative_and_never_over_the_longest(
    attempt: int, first: float, longest: float, jitter: float, chance: float
) -> None:
    wait = exponential(first, longest, jitter)(attempt, rng=lambda: chance)
    assert 0 <= wait <= longest


@given(attempts, firsts, st.floats(0, 10))
def test_without_jitter_a_wait_is_never_shorter_than_the_one_before(
    attempt: int, first: float, jitter: float
) -> None:
    wait = exponential(first, 1e12, jitter)
    assert wait(attempt, rng=lambda: 0.0) <= wait(attempt + 1, rng=lambda: 0.0)


@given(st.integers(1, 30), st.floats(0.001, 1000), st.floats(0, 3), chances)
def test_jitter_only_lengthens_and_at_most_by_its_share(
    attempt: int, first: float, jitter: float, chance: float
) -> None:
    policy = exponential(first, 1e30, jitter)
    base = policy(attempt, rng=lambda: 0.0)
    assert base == first * 2.0 ** (attempt - 1)
    assert base <= policy(attempt, rng=lambda: chance) <= base * (1 + jitter)


def test_jobs_that_failed_together_do_not_come_back_together() -> None:
    waits = {exponential()(3) for _ in range(50)}
    assert len(waits) > 40
    assert all(4 <= wait <= 5 for wait in waits)


def test_the_default_begins_at_one_second_and_ends_at_an_hour() -> None:
    assert [exponential()(n, rng=lambda: 0.0) for n in (1, 2, 3, 50, 10_000)] == [
        1.0,
        2.0,
        4.0,
        3600.0,
        3600.0,
    ]


@given(attempts, st.lists(st.floats(0, 1e8), min_size=1, max_size=10))
def test_a_list_is_waited_in_turn_and_its_last_entry_repeats(
    attempt: int, seconds: list[float]
) -> None:
    expected = seconds[attempt - 1] if attempt <= len(seconds) else seconds[-1]
    assert listed(seconds)(attempt) == expected
    assert backoff_seconds(seconds, attempt) == expected


def test_a_policy_of_ones_own_is_asked_with_the_attempt() -> None:
    assert backoff_seconds(lambda attempt: attempt * 10, 3) == 30.0
    assert isinstance(backoff_seconds(lambda attempt: attempt, 3), float)


@pytest.mark.parametrize("answer", [-1, -0.001, float("nan"), float("inf"), "5", None, [5]])
def test_a_policy_that_answers_no_time_is_refused(answer: Any) -> None:
    with pytest.raises(OptionError, match="backoff"):
        backoff_seconds(lambda attempt: answer, 1)


@given(st.lists(st.floats(0, 1e8) | st.integers(0, 10**8), min_size=1))
def test_a_checked_list_is_a_list_of_floats(seconds: list[float]) -> None:
    checked = check_backoff(tuple(seconds))
    assert isinstance(checked, list)
    assert checked == seconds
    assert all(type(value) is float for value in checked)


@pytest.mark.parametrize(
    ("delay", "seconds"), [(None, None), (0, 0), (2.5, 2.5), (timedelta(minutes=1), 60.0)]
)
def test_a_retry_carries_its_delay_in_seconds(delay: Any, seconds: float | None) -> None:
    assert Retry(delay).delay == seconds


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_a_retry_with_an_impossible_delay_is_refused(delay: Any) -> None:
    with pytest.raises(OptionError, match="Retry"):
        Retry(delay)


def test_retry_and_discard_say_why() -> None:
    assert str(Retry(reason="the line is busy")) == "the line is busy"
    assert str(Retry()) == "the task asked to be run again"
    assert str(Discard("no such customer")) == "no such customer"
    assert str(Discard()) == "the task discarded itself"


def test_the_answers_are_those_that_uwsgi_knows_and_told_from_plain_numbers() -> None:
    assert (SPOOL_OK, SPOOL_RETRY) == (-2, -1)
    assert isinstance(SPOOL_OK, SpoolAnswer)
    assert isinstance(SPOOL_RETRY, SpoolAnswer)
    plain: int = -2
    assert plain is not SPOOL_OK
