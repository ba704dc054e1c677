"""When a job is due, from what people write."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_spooler.errors import OptionError
from flask_spooler.schedule import LATEST, due_time, parse_at, parse_seconds, seconds_of, unix_time
from tests.helpers import NOW

moments = st.floats(0, LATEST, exclude_max=True)
lengths = st.floats(0, LATEST - 2**34, exclude_max=True)
zones = st.timezones() | st.builds(
    timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23))
)
aware = st.datetimes(datetime(1970, 1, 3), datetime(9999, 12, 30), timezones=zones)
numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(10**15), 10**15)


def test_a_job_is_due_now_when_nothing_else_was_said() -> None:
    assert due_time(None, None, NOW) == NOW


@given(moments, moments)
def test_a_time_in_the_past_means_now(at: float, now: float) -> None:
    assert due_time(at, None, now) == max(at, now)


@given(lengths, st.floats(0, 1e10))
def test_a_delay_counts_from_now(delay: float, now: float) -> None:
    assert due_time(None, delay, now) == now + delay >= now


@given(st.timedeltas(timedelta(0), timedelta(days=10_000)))
def test_a_timedelta_is_its_seconds(length: timedelta) -> None:
    assert due_time(None, length, NOW) == NOW + length.total_seconds()


@given(aware)
def test_an_aware_datetime_is_the_same_moment_in_every_zone(moment: datetime) -> None:
    elsewhere = moment.astimezone(timezone(timedelta(hours=-7)))
    assert unix_time("at", moment) == unix_time("at", elsewhere) == moment.timestamp()


@given(st.datetimes())
def test_a_naive_datetime_is_refused_and_a_zone_asked_for(moment: datetime) -> None:
    with pytest.raises(OptionError, match="time zone"):
        unix_time("at", moment)


@given(st.none() | numbers, st.none() | numbers)
def test_whatever_is_given_the_due_time_is_finite_and_not_before_now_or_refused(
    at: float | None, delay: float | None
) -> None:
    try:
        due = due_time(at, delay, NOW)
    except OptionError:
        return
    assert NOW <= due < float("inf")
    assert at is None or delay is None


def test_at_and_delay_together_are_refused() -> None:
    for at, delay in ((NOW, 5), (0, 0)):
        with pytest.raises(OptionError, match="one at a time"):
            due_time(at, delay, NOW)


WRONG_NUMBERS: list[Any] = [-1, -0.1, float("nan"), float("inf"), LATEST, 1e300, True, "5", [], b""]


@pytest.mark.parametrize("value", WRONG_NUMBERS)
def test_what_is_no_time_or_length_is_refused_under_the_name_of_its_option(value: Any) -> None:
    with pytest.raises(OptionError, match=r"^expected since to be"):
        unix_time("since", value)
    with pytest.raises(OptionError, match=r"^expected grace to be"):
        seconds_of("grace", value)


@given(moments)
def test_unix_seconds_are_read_as_they_are_written(when: float) -> None:
    assert parse_at(repr(when)) == when


@given(aware)
def test_an_iso_time_is_read_with_its_zone(moment: datetime) -> None:
    whole = moment.replace(microsecond=0)
    offset = whole.utcoffset()
    assert offset is not None
    if offset.total_seconds() % 60 == 0:
        assert parse_at(whole.isoformat()) == whole.timestamp()


@pytest.mark.parametrize("text", ["2030-01-01T00:00:00Z", "2030-01-01T00:00:00z"])
def test_the_z_that_everybody_writes_means_utc(text: str) -> None:
    assert parse_at(text) == parse_at("2030-01-01T00:00:00+00:00") == 1893456000.0


@given(st.text())
def test_reading_any_text_gives_a_time_or_an_option_error(text: str) -> None:
    try:
        found = parse_at(text)
    except OptionError:
        pass
    else:
        assert -1e12 < found < 1e12
    try:
        length = parse_seconds("delay", text)
    except OptionError:
        pass
    else:
        assert 0 <= length < LATEST


@pytest.mark.parametrize("text", ["", "5s", "0x10", "nan", "inf", "-1", "1e400", "1 2", "five"])
def test_a_wrong_number_of_seconds_is_refused_and_shown(text: str) -> None:
    with pytest.raises(OptionError, match=r"^expected delay to be a finite number of seconds"):
        parse_seconds("delay", text)


@given(lengths)
def test_seconds_are_read_as_they_are_written(seconds: float) -> None:
    assert parse_seconds("delay", repr(seconds)) == seconds


@pytest.mark.parametrize("moment", [datetime(2028, 2, 29), datetime(2038, 1, 19, 3, 14, 8)])
def test_leap_days_and_times_beyond_2038_are_times_like_others(moment: datetime) -> None:
    text = moment.replace(tzinfo=timezone.utc).isoformat()
    assert datetime.fromtimestamp(parse_at(text), timezone.utc).replace(tzinfo=None) == moment
