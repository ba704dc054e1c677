"""Options: right and wrong values, copies that never change, and names that travel."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from flask import Flask

from flask_spooler import OptionError, Spooler, Task
from flask_spooler.options import CHECKS, Options, dereference, reference
from tests.helpers import NOW

UTC = timezone.utc

RIGHT: list[tuple[str, Any, Any]] = [
    ("queue", "mail", "mail"),
    ("queue", "mit Umlaut ü", "mit Umlaut ü"),
    ("queue", "x" * 100, "x" * 100),
    ("priority", -100, -100),
    ("priority", 100, 100),
    ("at", 0, 0),
    ("at", NOW, NOW),
    ("at", datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)),
    ("delay", 0, 0),
    ("delay", 0.5, 0.5),
    ("delay", timedelta(hours=1), timedelta(hours=1)),
    ("max_attempts", 1, 1),
    ("backoff", [1, 2.5], [1.0, 2.5]),
    ("backoff", (0,), [0.0]),
    ("backoff", math.sqrt, math.sqrt),
    ("retry_on", ValueError, (ValueError,)),
    ("retry_on", (ValueError, OSError), (ValueError, OSError)),
    ("discard_on", [KeyError], (KeyError,)),
    ("discard_on", (), ()),
    ("timeout", 0.1, 0.1),
    ("timeout", timedelta(minutes=1), 60.0),
    ("hard_timeout", 60, 60.0),
    ("expires", 60, 60),
    ("expires", timedelta(0), timedelta(0)),
    ("expires", NOW, NOW),
    ("unique", "key", "key"),
    ("unique", "x" * 500, "x" * 500),
    ("on_duplicate", "return", "return"),
    ("on_duplicate", "replace", "replace"),
    ("on_duplicate", "refuse", "refuse"),
    ("tags", ["user:5", "import", "user:5"], ("import", "user:5")),
    ("tags", ("x" * 100,), ("x" * 100,)),
    ("tags", {"é"}, ("é",)),
    ("tags", [], ()),
]

WRONG: dict[str, list[Any]] = {
    "queue": [
        "",
        "a/b",
        "/",
        "..",
        ".hidden",
        "x" * 101,
        "a\nb",
        "a\0b",
        "\x1b[31m",
        "\udcff",
        5,
        b"mail",
    ],
    "priority": [101, -101, 1.0, "5", True, float("nan")],
    "at": [-1, float("nan"), float("inf"), 1e12, "now", True, datetime(2030, 1, 1), []],
    "delay": [-1, float("nan"), float("inf"), 1e12, "5", True, timedelta(seconds=-1)],
    "max_attempts": [0, -1, 1.5, "3", True],
    "backoff": [[], [-1], [float("nan")], [float("inf")], ["1"], [True], 5, "12", {1: 2}],
    "retry_on": [5, "ValueError", (ValueError, 5), ValueError(), int, [object]],
    "discard_on": [5, "ValueError", (ValueError, 5), ValueError(), int],
    "timeout": [0, -1, float("nan"), float("inf"), "5", True, timedelta(0)],
    "hard_timeout": [0, -1, float("nan"), "5", True],
    "expires": [-1, float("nan"), float("inf"), "5", True, timedelta(-1), datetime(2030, 1, 1)],
    "unique": ["", "x" * 501, 5, b"key", True],
    "on_duplicate": ["", "keep", True, 1, ["return"]],
    "tags": [
        "user:5",
        5,
        [5],
        [""],
        ["x" * 101],
        [" a"],
        ["a\nb"],
        [None],
        [str(n) for n in range(21)],
    ],
}


def test_every_option_has_right_and_wrong_values_here() -> None:
    assert {name for name, *_ in RIGHT} == set(WRONG) == set(CHECKS)
    assert set(CHECKS) == set(Options.__dataclass_fields__)


@pytest.mark.parametrize(("name", "value", "expected"), RIGHT)
def test_a_right_value_is_kept(name: str, value: Any, expected: Any) -> None:
    found = getattr(Options().but(**{name: value}), name)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value"), [(name, each) for name in WRONG for each in WRONG[name]]
)
def test_a_wrong_value_is_refused_with_what_was_expected(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=rf"^expected {name} to be .+, got: ") as caught:
        Options().but(**{name: value})
    assert caught.value.option == name


def test_an_unknown_option_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(OptionError, match=r"max_attempts.*got: 'max_retries'"):
        Options().but(max_retries=3)


def test_a_copy_changes_nothing_in_what_it_was_copied_from() -> None:
    first = Options().but(queue="mail", priority=3)
    second = first.but(priority=5)
    assert (first.priority, second.priority, second.queue) == (3, 5, "mail")
    with pytest.raises(AttributeError):
        first.priority = 9  # type: ignore[misc]


def test_of_at_and_delay_the_later_wish_counts() -> None:
    assert Options().but(at=NOW).but(delay=5).at is None
    assert Options().but(delay=5).but(at=NOW).delay is None
    both = Options().but(at=NOW, delay=5)
    assert (both.at, both.delay) == (NOW, 5)


@pytest.mark.parametrize(
    ("expires", "expected"),
    [
        (None, None),
        (60, NOW + 60),
        (0, NOW),
        (999_999_999, NOW + 999_999_999),
        (1_000_000_000, 1_000_000_000.0),
        (NOW + 60, NOW + 60),
        (timedelta(hours=1), NOW + 3600),
        (datetime.fromtimestamp(NOW + 60, UTC), NOW + 60),
    ],
)
def test_expires_is_a_time_or_a_length_of_time(expires: Any, expected: float | None) -> None:
    assert Options().but(expires=expires).expires_at(NOW) == expected


def double(attempt: int) -> float:
    return 2.0 * attempt


class Outer:
    class Broken(Exception):
        pass


@pytest.mark.parametrize("thing", [double, Outer.Broken, ValueError, collections.OrderedDict])
def test_what_can_be_imported_by_name_travels_by_name(thing: Any) -> None:
    assert dereference(reference("backoff", thing)) is thing


def test_what_cannot_be_imported_by_name_is_refused() -> None:
    def local(attempt: int) -> float:
        return 1.0

    things: list[Any] = [lambda attempt: 1.0, local, math.sqrt.__call__, 5]
    for thing in things:
        with pytest.raises(OptionError, match="top of a module"):
            reference("backoff", thing)


def test_a_name_that_was_taken_over_by_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before: Callable[[int], float] = double
    monkeypatch.setitem(globals(), "double", math.sqrt)
    with pytest.raises(OptionError):
        reference("backoff", before)


@pytest.fixture
def work(spooler: Spooler, app: Flask) -> Task[..., Any]:
    @spooler.task(queue="mail", backoff=[1, 2], retry_on=ValueError)
    def work(**anything: Any) -> None: ...

    return work


def test_using_makes_a_copy_of_the_task(work: Task[..., Any]) -> None:
    urgent = work.using(priority=9)
    assert (work.options.priority, urgent.options.priority) == (0, 9)
    assert urgent.name == work.name
    assert urgent.using(queue="other").options.priority == 9


def test_options_of_the_task_stay_with_the_code_and_those_of_using_travel(
    work: Task[..., Any],
) -> None:
    own = work.job((), {}, NOW)
    assert (own.queue, own.backoff, own.retry_on, own.discard_on) == ("mail", None, None, None)
    brought = work.using(backoff=[3], retry_on=OSError, discard_on=Outer.Broken).job((), {}, NOW)
    assert brought.backoff == [3.0]
    assert brought.retry_on == ["builtins:OSError"]
    assert brought.discard_on == [f"{__name__}:Outer.Broken"]
    assert work.using(backoff=double).job((), {}, NOW).backoff == f"{__name__}:double"


def test_options_that_travelled_count_before_those_of_the_code(work: Task[..., Any]) -> None:
    own = work.job((), {}, NOW)
    assert work.backoff(own) == [1.0, 2.0]
    assert work.retries(own, ValueError())
    assert not work.retries(own, OSError())
    copy = work.using(backoff=double, retry_on=OSError, discard_on=FileNotFoundError)
    job = copy.job((), {}, NOW)
    assert work.backoff(job) is double
    assert work.retries(job, PermissionError())
    assert not work.retries(job, FileNotFoundError())
    assert not work.retries(job, ValueError())


def test_by_default_every_exception_is_retried_but_no_exit(spooler: Spooler, app: Flask) -> None:
    @spooler.task
    def plain() -> None: ...

    job = plain.job((), {}, NOW)
    assert plain.retries(job, Exception())
    assert not plain.retries(job, KeyboardInterrupt())
    assert not plain.retries(job, SystemExit())


def test_a_lambda_given_to_the_decorator_is_fine_and_to_using_refused(
    spooler: Spooler, app: Flask
) -> None:
    @spooler.task(backoff=lambda attempt: 3.0)
    def plain() -> None: ...

    job = plain.job((), {}, NOW)
    assert job.backoff is None
    with pytest.raises(OptionError, match="top of a module"):
        plain.using(backoff=lambda attempt: 3.0).enqueue()


def test_at_and_delay_together_are_refused(work: Task[..., Any]) -> None:
    with pytest.raises(OptionError, match="one at a time"):
        work.using(at=NOW, delay=5).job((), {}, NOW)


def test_a_soft_limit_beyond_the_hard_one_is_refused_wherever_the_two_meet(
    spooler: Spooler,
) -> None:
    expected = "^expected timeout to be at most hard_timeout, 5 s, which kills .*, got: 10.0$"
    with pytest.raises(OptionError, match=expected):
        spooler.task(timeout=10, hard_timeout=5)
    with pytest.raises(OptionError, match=expected):
        Options().but(hard_timeout=5).but(timeout=10)
    with pytest.raises(OptionError, match=expected):
        Options().but(timeout=10).but(hard_timeout=timedelta(seconds=5))
    for limits in ({"timeout": 5}, {"timeout": None}, {"timeout": 9, "hard_timeout": 10}):
        assert Options().but(hard_timeout=5).but(**limits).hard_timeout in (5, 10)


def test_max_attempts_come_from_using_or_task_or_configuration(
    app: Flask, spooler: Spooler
) -> None:
    @spooler.task
    def plain() -> None: ...

    @spooler.task(max_attempts=2)
    def own() -> None: ...

    assert plain.job((), {}, NOW).max_attempts == 5
    assert own.job((), {}, NOW).max_attempts == 2
    assert own.using(max_attempts=9).job((), {}, NOW).max_attempts == 9


@pytest.mark.parametrize("name", ["queue", "priority"])
def test_none_means_the_default_for_every_option(work: Task[..., Any], name: str) -> None:
    assert getattr(Options().but(**{name: None}), name) == getattr(Options(), name)
    assert work.using(**{name: None}).enqueue().state == "queued"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("at", 10**400),
        ("delay", 10**400),
        ("timeout", 10**400),
        ("expires", 10**400),
        ("backoff", [10**400]),
        ("max_attempts", 2**63),
        ("unique", "\udcff"),
    ],
)
def test_numbers_too_large_and_text_that_is_no_utf8_are_refused(
    work: Task[..., Any], name: str, value: Any
) -> None:
    with pytest.raises(OptionError):
        work.using(**{name: value}).enqueue()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("dealy", "did you mean delay?"),
        ("max_retries", "did you mean max_attempts, which counts the first run too?"),
        ("eta", "did you mean at?"),
        ("colour", "got: 'colour'"),
    ],
)
def test_an_option_of_another_name_is_told_what_it_is_here(name: str, meant: str) -> None:
    with pytest.raises(OptionError) as refused:
        Options().but(**{name: 1})
    assert str(refused.value).endswith(meant)
