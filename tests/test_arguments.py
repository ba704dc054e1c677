"""Arguments: every kind of parameter and type survives, and a wrong call is refused at once."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Optional, TypedDict, Union
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_spooler.arguments import Arguments
from flask_spooler.errors import ArgumentError


def short(value: Any) -> str:
    """Name a case, in every process of a parallel run alike."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))[:40]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Address:
    street: str
    since: date


class Size(TypedDict):
    width: int
    height: float


class Point(NamedTuple):
    x: int
    y: int


class Order(msgspec.Struct):
    id: UUID
    lines: list[Decimal]


def round_trip(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call the function with what its frozen arguments become."""
    arguments = Arguments("tests.work", function)
    frozen = arguments.freeze(args, kwargs)
    assert isinstance(msgspec.json.decode(frozen), dict)
    positional, named = arguments.thaw(frozen)
    return function(*positional, **named)


def refused(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        Arguments("tests.work", function).freeze(args, kwargs)
    assert isinstance(caught.value, TypeError)
    assert str(caught.value).startswith("cannot enqueue tests.work: ")
    return str(caught.value)


def plain(a: Any, b: Any = 2, c: Any = None) -> Any:
    return a, b, c


def positional_only(a: int, b: int = 2, /, c: int = 3) -> Any:
    return a, b, c


def variable(a: int, *rest: int) -> Any:
    return a, rest


def keyword_only(a: int = 1, *, b: int, c: int = 3) -> Any:
    return a, b, c


def keywords(a: int = 1, **more: int) -> Any:
    return a, more


def everything(a: int, /, b: int, *rest: int, c: int, d: int = 4, **more: int) -> Any:
    return a, b, rest, c, d, more


def nothing() -> str:
    return "called"


CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
    (nothing, (), {}),
    (plain, (1,), {}),
    (plain, (1, 5), {"c": 6}),
    (plain, (), {"c": 6, "a": 1}),
    (positional_only, (1,), {}),
    (positional_only, (1, 5), {}),
    (positional_only, (1, 5), {"c": 6}),
    (positional_only, (1,), {"c": 6}),
    (variable, (1,), {}),
    (variable, (1, 2, 3), {}),
    (keyword_only, (), {"b": 2}),
    (keyword_only, (7,), {"b": 2, "c": 9}),
    (keywords, (), {"x": 1, "y": 2}),
    (keywords, (5,), {"x": 1}),
    (everything, (1, 2), {"c": 3}),
    (everything, (1, 2, 3, 4), {"c": 5, "d": 6, "e": 7}),
    (everything, (1,), {"b": 2, "c": 3, "z": 9}),
]


@pytest.mark.parametrize(("function", "args", "kwargs"), CALLS)
def test_a_call_means_the_same_after_its_journey(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    assert round_trip(function, *args, **kwargs) == function(*args, **kwargs)


numbers = st.integers(-1000, 1000)


@given(
    numbers, numbers, st.lists(numbers), numbers, st.dictionaries(st.sampled_from("efgh"), numbers)
)
def test_any_call_of_any_kind_of_parameters_means_the_same_after_its_journey(
    a: int, b: int, rest: list[int], c: int, more: dict[str, int]
) -> None:
    assert round_trip(everything, a, b, *rest, c=c, **more) == everything(a, b, *rest, c=c, **more)


NAMES = ["priority", "spooler", "at", "body", "id", "task", "queue"]
OTHER_NAMES = ["self", "args", "kwargs", "function", "name", "delay", "timeout", "format", "unique"]


@pytest.mark.parametrize("name", NAMES + OTHER_NAMES)
def test_an_argument_may_bear_any_name(name: str) -> None:
    assert round_trip(keywords, **{name: 5}) == (1, {name: 5})


def test_parameters_may_bear_the_names_of_options_and_of_uwsgi() -> None:
    def work(
        priority: str, spooler: str, at: str, body: str, id: str, task: str, queue: str
    ) -> Any:
        return priority, spooler, at, body, id, task, queue

    assert round_trip(work, *NAMES) == tuple(NAMES)


def test_defaults_are_left_to_the_function_on_the_day_it_runs() -> None:
    assert Arguments("tests.work", plain).freeze((1,), {}) == b'{"a":1}'


NOON = datetime(2030, 1, 2, 12, 30, 15, 123456, tzinfo=timezone.utc)
ID = UUID("12345678-1234-5678-1234-567812345678")

TYPED: list[tuple[Any, Any]] = [
    (datetime, NOON),
    (datetime, NOON.replace(tzinfo=None)),
    (datetime, NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))),
    (date, date(2030, 1, 2)),
    (time, time(12, 30)),
    (timedelta, timedelta(days=1, seconds=0.5)),
    (UUID, ID),
    (Decimal, Decimal("3.140")),
    (Colour, Colour.BLUE),
    (Level, Level.HIGH),
    (bytes, b"\x00\xff nothing that UTF-8 knows"),
    (bytearray, bytearray(b"abc")),
    (str, "née \U0001f600 \0 \n"),
    (int, 2**63 - 1),
    (float, 0.1),
    (float, -0.0),
    (bool, True),
    (None, None),
    (list[int], [1, 2]),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (set[int], {1, 2, 3}),
    (frozenset[str], frozenset({"a"})),
    (dict[str, datetime], {"a": NOON}),
    (dict[int, str], {5: "a"}),
    (Address, Address("Elm St", date(2030, 1, 2))),
    (Size, {"width": 5, "height": 2.5}),
    (Point, Point(1, 2)),
    (Order, Order(ID, [Decimal("1.10"), Decimal("2")])),
    (list[Address], [Address("Elm St", date(2030, 1, 2))]),
    (Optional[datetime], None),  # noqa: UP045
    (Optional[datetime], NOON),  # noqa: UP045
    (datetime | None, None),
    (Union[int, str], 5),
    (Union[int, str], "5"),
    (Literal["a", "b"], "b"),
    (Any, {"a": [1, 2.5, None, True, "x"]}),
]


def typed(hint: Any) -> Callable[..., Any]:
    def work(value):  # type: ignore[no-untyped-def]
        return value

    work.__annotations__ = {"value": hint}
    return work


@pytest.mark.parametrize(("hint", "value"), TYPED, ids=short)
def test_a_value_comes_back_as_what_its_annotation_says(hint: Any, value: Any) -> None:
    found = round_trip(typed(hint), value)
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value) or isinstance(value, (set, frozenset, datetime))


@given(st.datetimes(timezones=st.just(timezone.utc)), st.decimals(allow_nan=False), st.binary())
def test_typed_values_survive_exactly(moment: datetime, number: Decimal, data: bytes) -> None:
    def work(moment: datetime, number: Decimal, data: bytes) -> Any:
        return moment, number, data

    assert round_trip(work, moment, number, data) == (moment, number, data)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(json_values)
def test_any_plain_value_survives_without_an_annotation(value: Any) -> None:
    assert round_trip(plain, value) == (value, 2, None)


def test_annotated_variable_arguments_come_back_as_their_type() -> None:
    def work(*days: date, **ids: UUID) -> Any:
        return days, ids

    day = date(2030, 1, 2)
    assert round_trip(work, day, day, x=ID) == ((day, day), {"x": ID})


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "said"),
    [
        (plain, (), {}, "'a'"),
        (plain, (1, 2, 3, 4), {}, "too many positional"),
        (plain, (1,), {"d": 5}, "'d'"),
        (plain, (1,), {"a": 5}, "multiple values"),
        (nothing, (1,), {}, "too many positional"),
        (positional_only, (), {"a": 1}, "'a'"),
        (keyword_only, (1, 2), {}, "too many positional"),
        (keyword_only, (), {}, "'b'"),
        (keywords, (), {"more": 1}, "'more'"),
    ],
)
def test_a_call_that_does_not_fit_the_signature_is_refused_and_the_signature_shown(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    assert said in refused(function, *args, **kwargs)


def test_a_keyword_that_would_meet_a_positional_only_parameter_is_refused() -> None:
    def work(a: int, /, **more: int) -> None: ...

    assert "'a'" in refused(work, 1, a=2)


WRONG: list[tuple[Any, Any]] = [
    (int, "5"),
    (int, 5.5),
    (int, True),
    (int, None),
    (str, 5),
    (str, None),
    (bool, 1),
    (float, "1.0"),
    (datetime, "yesterday"),
    (datetime, date(2030, 1, 2)),
    (date, "2030"),
    (UUID, "nonsense"),
    (Decimal, "one"),
    (Colour, "green"),
    (Literal["a"], "b"),
    (list[int], ["a"]),
    (list[int], 5),
    (tuple[int, str], (1,)),
    (Address, {"street": "Elm St"}),
    (Address, 5),
    (Size, {"width": "wide", "height": 1.0}),
    (Order, {"id": str(ID)}),
    (Optional[int], "5"),  # noqa: UP045
    (Union[int, list[int]], "5"),
    (dict[str, int], {"a": "b"}),
    (int, object()),
    (int, 2**5 * 1.5j),
]


@pytest.mark.parametrize(("hint", "value"), WRONG, ids=short)
def test_a_value_that_does_not_fit_its_annotation_is_refused_by_name(hint: Any, value: Any) -> None:
    said = refused(typed(hint), value)
    assert "value=" in said
    assert "does not fit" in said


NOT_PLAIN = [NOON, ID, Decimal(1), Colour.RED, b"bytes", {1, 2}, {1: 2}, object(), Point, print]


@pytest.mark.parametrize("value", NOT_PLAIN, ids=short)
@pytest.mark.parametrize("wrap", [lambda each: each, lambda each: [each], lambda each: {"k": each}])
def test_a_rich_value_without_an_annotation_is_refused_and_an_annotation_asked_for(
    value: Any, wrap: Callable[[Any], Any]
) -> None:
    assert "annotate the parameter" in refused(plain, wrap(value))


class Measure(msgspec.Struct):
    value: float


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_refused_wherever_it_hides(number: float) -> None:
    hidden: list[tuple[Any, Any]] = [
        (Any, number),
        (Any, [1, [number]]),
        (Any, {"a": {"b": number}}),
        (float, number),
        (Optional[float], number),  # noqa: UP045
        (list[float], [1.0, number]),
        (dict[str, float], {"a": number}),
        (tuple[float, ...], (number,)),
        (Measure, Measure(number)),
        (Size, {"width": 1, "height": number}),
    ]
    for hint, value in hidden:
        assert "value=" in refused(typed(hint), value)


def test_a_value_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert "a=" in refused(plain, endless)
    assert "value=" in refused(typed(list[Any]), endless)


def test_text_that_is_no_utf8_is_refused() -> None:
    for function in (plain, typed(str), typed(dict[str, str])):
        refused(function, {"k": "\udcff"} if function is not plain else "\udcff")


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(refused(typed(int), "x" * 10_000)) < 300


def test_a_function_that_has_changed_since_refuses_the_old_arguments_with_a_sentence() -> None:
    frozen = Arguments("tests.work", plain).freeze(("text", 5), {"c": 6})
    for changed in (typed(int), nothing, keyword_only):
        with pytest.raises(ArgumentError, match=r"tests\.work"):
            Arguments("tests.work", changed).thaw(frozen)

    def narrowed(a: int, b: int, c: int) -> None: ...

    with pytest.raises(ArgumentError, match="a does not fit int any more"):
        Arguments("tests.work", narrowed).thaw(frozen)


def test_a_function_that_got_a_parameter_with_a_default_takes_the_old_arguments() -> None:
    def grown(a: str, new: int = 9, b: int = 0) -> Any:
        return a, new, b

    frozen = Arguments("tests.work", plain).freeze(("text", 5), {})
    args, kwargs = Arguments("tests.work", grown).thaw(frozen)
    assert grown(*args, **kwargs) == ("text", 9, 5)


@pytest.mark.parametrize(
    ("hint", "text", "expected"),
    [
        (int, "5", 5),
        (str, "5", "5"),
        (str, "null", "null"),
        (float, "5", 5),
        (Any, "5", 5),
        (Any, "[1, 2]", [1, 2]),
        (Any, "plain text", "plain text"),
        (datetime, '"2030-01-02T00:00:00Z"', "2030-01-02T00:00:00Z"),
        (datetime, "2030-01-02T00:00:00Z", "2030-01-02T00:00:00Z"),
        (Any, "NaN", "NaN"),
        (Any, "", ""),
    ],
)
def test_text_is_read_as_json_where_that_fits_and_kept_as_text_otherwise(
    hint: Any, text: str, expected: Any
) -> None:
    found = Arguments("tests.work", typed(hint)).from_text("value", text)
    assert found == expected
    assert type(found) is type(expected)


def test_an_annotation_that_cannot_be_resolved_takes_plain_values() -> None:
    def unresolved(value: NoSuchName) -> Any:  # type: ignore[name-defined]  # noqa: F821
        return value

    assert round_trip(unresolved, [1]) == [1]
    assert "annotate" in refused(unresolved, NOON)
    assert round_trip(typed(object), [1]) == [1]


@pytest.mark.parametrize("value", [b"abc", NOON, ID, Decimal(5)], ids=short)
def test_a_value_that_is_no_string_is_refused_where_a_string_is_expected(value: Any) -> None:
    refused(typed(str), value)
