"""Arguments: every kind of parameter and type survives, and a wrong call is refused at once."""

from __future__ import annotations

import collections
import enum
import functools
import math
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, Union
from uuid import UUID

import msgspec
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from flask_spooler import Spooler
from flask_spooler.arguments import Arguments, check_function
from flask_spooler.arguments.hints import words
from flask_spooler.errors import ArgumentError, NotATask, PayloadTooLarge, SpoolerError
from tests.shapes import (
    BERLIN,
    HOME,
    ID,
    INDIA,
    NOON,
    TYPED,
    Address,
    Bill,
    Box,
    Colour,
    Customer,
    Former,
    Level,
    Mood,
    Odd,
    Person,
    Point,
    Size,
    Small,
    T,
    UserId,
    canon,
    refused,
    round_trip,
    short,
    typed,
)

if TYPE_CHECKING:
    from nowhere import Elsewhere  # type: ignore[import-not-found]


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


@pytest.mark.parametrize(("hint", "value"), TYPED, ids=short)
def test_a_value_comes_back_as_what_it_was(hint: Any, value: Any) -> None:
    assert canon(round_trip(typed(hint), value)) == canon(value)


def test_an_int_where_a_float_is_annotated_comes_back_as_that_float() -> None:
    assert canon(round_trip(typed(float), 5)) == canon(5.0)
    assert canon(round_trip(typed(list[float]), [5, 0.5])) == canon([5.0, 0.5])
    assert "9007199254740993" in refused(typed(float), 2**53 + 1)


@pytest.mark.parametrize("fold", [0, 1])
def test_a_time_in_a_named_zone_keeps_its_clock_and_offset(fold: int) -> None:
    given = datetime(2030, 10, 27, 2, 30, fold=fold, tzinfo=BERLIN)
    assert round_trip(typed(datetime), given).isoformat() == given.isoformat()


@pytest.mark.parametrize(
    "value",
    [
        datetime(2030, 10, 27, 2, 30, fold=1),
        NOON.replace(tzinfo=timezone(timedelta(seconds=30))),
    ],
)
def test_a_time_that_text_cannot_keep_is_refused(value: datetime) -> None:
    assert re.search("fold|whole minutes", refused(typed(datetime), value))


def test_a_default_of_none_may_be_given_although_the_annotation_leaves_it_out() -> None:
    def work(value: int = None) -> Any:  # type: ignore[assignment]  # noqa: RUF013
        return value

    assert round_trip(work, None) is None
    assert round_trip(work, 5) == 5
    assert "int | None" in refused(work, "5")


SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (str, st.text(st.characters(exclude_categories=("Cs",)))),
    (bytes, st.binary()),
    (datetime, st.datetimes().map(lambda each: each.replace(fold=0))),
    # Berlin's first offsets from UTC had seconds.
    (datetime, st.datetimes(datetime(1900, 1, 1), timezones=st.sampled_from([INDIA, BERLIN]))),
    (date, st.dates()),
    (time, st.times().map(lambda each: each.replace(fold=0))),
    (timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (Decimal, st.decimals()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Path, st.text("abc/.").map(Path)),
    (Address, st.builds(Address, st.text("ab"), st.dates())),
]
Typed = tuple[Any, st.SearchStrategy[Any]]


def wrapped(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    """Give the types that hold other types, each with its values."""
    return st.one_of(
        inner.map(lambda each: (list[each[0]], st.lists(each[1], max_size=3))),  # type: ignore[name-defined]
        inner.map(
            lambda each: (dict[str, each[0]], st.dictionaries(st.text("ab"), each[1], max_size=3))
        ),  # type: ignore[name-defined]
        inner.map(lambda each: (tuple[each[0], ...], st.lists(each[1], max_size=3).map(tuple))),  # type: ignore[name-defined]
        inner.map(lambda each: (Optional[each[0]], st.none() | each[1])),  # noqa: UP045
        inner.map(lambda each: (Box[each[0]], each[1].map(Box))),  # type: ignore[name-defined]
        st.tuples(inner, inner).map(
            lambda both: (tuple[both[0][0], both[1][0]], st.tuples(both[0][1], both[1][1]))  # type: ignore[name-defined]
        ),
    )


typed_values = st.recursive(st.sampled_from(SCALARS), wrapped, max_leaves=4)


@given(typed_values.flatmap(lambda each: st.tuples(st.just(each[0]), each[1])))
def test_any_value_of_its_annotated_type_comes_back_exactly(pair: tuple[Any, Any]) -> None:
    hint, value = pair
    assert canon(round_trip(typed(hint), value)) == canon(value)


@given(
    typed_values.map(lambda each: each[0]) | st.just(Any) | st.just(int | str),
    typed_values.flatmap(lambda each: each[1]) | st.floats() | st.text() | st.sets(st.integers()),
)
def test_no_value_under_any_annotation_arrives_changed_in_silence(hint: Any, value: Any) -> None:
    try:
        arrives = round_trip(typed(hint), value)
    except ArgumentError:
        return
    assert canon(arrives) == canon(value) or is_promoted(value, arrives)


def is_promoted(value: Any, arrives: Any) -> bool:
    """Whether ints are the floats that are annotated, or a member its value, and nothing else."""
    if isinstance(value, enum.Enum) and type(arrives) in (int, str):
        return bool(arrives == value)
    return value == arrives and repr(canon(value)).count("'int'") > repr(canon(arrives)).count(
        "'int'"
    )


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


NOT_PLAIN = [NOON, ID, Decimal(1), Colour.RED, b"bytes", {1, 2}, {1: 2}, (1,), Point(1, 2), HOME]


@pytest.mark.parametrize("value", NOT_PLAIN, ids=short)
@pytest.mark.parametrize("wrap", [lambda each: each, lambda each: [each], lambda each: {"k": each}])
def test_a_rich_value_without_an_annotation_is_refused_and_an_annotation_asked_for(
    value: Any, wrap: Callable[[Any], Any]
) -> None:
    assert "annotate the parameter" in refused(plain, wrap(value))


@pytest.mark.parametrize("hint", [Any, Customer, list[Customer], Customer | None])
def test_an_object_that_json_cannot_say_is_refused_and_its_key_asked_for(hint: Any) -> None:
    value = [Customer()] if hint == list[Customer] else Customer()
    assert "pass its key and load it in the task" in refused(typed(hint), value)


def test_a_row_of_the_database_is_refused_although_it_is_a_dataclass() -> None:
    class Base(MappedAsDataclass, DeclarativeBase): ...

    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.registry.configure()
    assert "pass its key and load it in the task" in refused(typed(User), User(5))
    assert "expected value[0] to be a User" in refused(typed(list[User]), [User(5)])


def test_nothing_is_imported_for_types_that_nobody_uses() -> None:
    program = (
        "import sys; from flask_spooler.arguments import Arguments\n"
        "def work(path: str): pass\n"
        "Arguments('work', work).freeze(('a',), {})\n"
        "print(sorted({'pydantic', 'attrs', 'attr', 'sqlalchemy'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("value", [print, Point, open, object()], ids=short)
def test_functions_and_classes_are_no_arguments(value: Any) -> None:
    assert "cannot be written as JSON" in refused(plain, value)


@pytest.mark.parametrize(
    ("hint", "value", "said"),
    [
        (str | datetime, "x", "str | datetime cannot be told apart in JSON"),
        (Path | str, "x", "Path | str cannot be told apart in JSON"),
        (Address | Person, HOME, "make each a msgspec.Struct with a tag"),
        (list[str | date], [], "list[str | date] cannot be told apart"),
        (Odd, Odd.PAIR, "pass the name of the member"),
        (Literal[Colour.RED], Colour.RED, "Literal may only contain"),
        (collections.OrderedDict, collections.OrderedDict(), "cannot be read from JSON"),
    ],
    ids=short,
)
def test_an_annotation_that_cannot_travel_is_refused_with_the_way_out(
    hint: Any, value: Any, said: str
) -> None:
    message = refused(typed(hint), value)
    assert said in message
    assert "value" in message


def test_a_member_of_an_enum_of_plain_values_arrives_as_its_value() -> None:
    for hint, value in [(int, Level.LOW), (str, Mood.GOOD)]:
        arrives = round_trip(typed(hint), value)
        assert type(arrives) is hint
        assert arrives == value.value
        arrives = round_trip(typed(hint | None), value)
        assert (type(arrives), arrives) == (hint, value.value)
    for hint, value in [
        (int, True),
        (Any, Level.LOW),
        (list[int], [Level.LOW]),
        (float, Level.LOW),
    ]:
        refused(typed(hint), value)


def test_a_subclass_would_arrive_as_its_base_and_is_refused() -> None:
    ordered = collections.OrderedDict(a=1)
    for hint, value in [(Address, Former("a", date.min)), (dict, ordered), (Any, ordered)]:
        refused(typed(hint), value)


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
        assert "JSON has no such number" in refused(typed(hint), value)


def test_a_value_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert "a to be plain JSON, got: [[...]] (list); it contains itself" in refused(plain, endless)
    assert "it contains itself" in refused(typed(list[Any]), endless)


def test_text_that_is_no_utf8_is_refused() -> None:
    for function in (plain, typed(str), typed(dict[str, str])):
        refused(function, {"k": "\udcff"} if function is not plain else "\udcff")


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(refused(typed(int), "x" * 10_000)) < 300
    assert len(refused(typed(int), ["x" * 10_000] * 3)) < 300


def test_a_value_whose_repr_fails_is_refused_all_the_same() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "<Broken>" in refused(plain, Broken())


def test_a_function_that_has_changed_since_refuses_the_old_arguments_with_a_sentence() -> None:
    frozen = Arguments("tests.work", plain).freeze(("text", 5), {"c": 6})
    for changed in (typed(int), nothing, keyword_only):
        with pytest.raises(ArgumentError, match=r"tests\.work"):
            Arguments("tests.work", changed).thaw(frozen)

    def narrowed(a: int, b: int, c: int) -> None: ...

    with pytest.raises(ArgumentError, match="expected a to be an int, got: 'text'"):
        Arguments("tests.work", narrowed).thaw(frozen)


def test_a_function_that_got_a_parameter_with_a_default_takes_the_old_arguments() -> None:
    def grown(a: str, new: int = 9, b: int = 0) -> Any:
        return a, new, b

    frozen = Arguments("tests.work", plain).freeze(("text", 5), {})
    args, kwargs = Arguments("tests.work", grown).thaw(frozen)
    assert grown(*args, **kwargs) == ("text", 9, 5)


@pytest.mark.parametrize(
    ("hint", "written", "said"),
    [
        (int, b'"a"', "expected value to be an int, got: 'a'"),
        (Person, b'{"name": "", "homes": [{"street": 5}]}', "value.homes[0].street: expected str"),
        (dict[int, str], b'{"a": "b"}', "a key of value: expected int, got str"),
        (Bill, b'{"prices": [{"amount": -1}]}', "value.prices[0].amount: Input should be"),
        (Bill, b"{}", "value.prices: Field required"),
        (Small, b"0", "Expected int >= 1"),
        (Person, b'{"name": "", "hones": []}', "value.hones: there is no such field"),
        (list[Size], b'[{"width": 1, "height": 1, "x": 1}]', "value[0].x: there is no such field"),
        (Bill, b'{"prices": [], "nope": 1}', "value.nope: there is no such field"),
    ],
)  # fmt: skip
def test_json_that_a_person_wrote_is_refused_with_the_place_of_the_mistake(
    hint: Any, written: bytes, said: str
) -> None:
    arguments = Arguments("tests.work", typed(hint))
    with pytest.raises(ArgumentError) as caught:
        arguments.read(b'{"value": %b}' % written)
    assert said in str(caught.value)
    with pytest.raises(ArgumentError) as caught:
        arguments.from_text("value", written.decode())
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("hint", "text", "expected"),
    [
        (int, "5", 5),
        (str, "5", "5"),
        (str, '"5"', "5"),
        (str, "null", "null"),
        (str | None, "null", None),
        (float, "5", 5.0),
        (bool, "true", True),
        (Any, "5", 5),
        (Any, "[1, 2]", [1, 2]),
        (Any, "plain text", "plain text"),
        (Any, "NaN", "NaN"),
        (Any, "", ""),
        (datetime, "2030-01-02T12:30:15.123456Z", NOON),
        (datetime, '"2030-01-02T12:30:15.123456Z"', NOON),
        (datetime, "2030-01-02", datetime(2030, 1, 2)),
        (datetime, "2030-01-02T10:00", datetime(2030, 1, 2, 10)),
        (date, "2030-01-02", date(2030, 1, 2)),
        (date | None, "2030-01-02", date(2030, 1, 2)),
        (timedelta, "90", timedelta(seconds=90)),
        (timedelta, "P1D", timedelta(days=1)),
        (UUID, str(ID), ID),
        (Decimal, "1.50", Decimal("1.50")),
        (bytes, "née", "née".encode()),
        (bytes, "55", b"55"),
        (bytes, '"aGVsbG8="', b"hello"),
        (bytearray, "a", bytearray(b"a")),
        (Colour, "red", Colour.RED),
        (Colour, "RED", Colour.RED),
        (Level, "2", Level.HIGH),
        (Level, "HIGH", Level.HIGH),
        (Path, "/tmp/a", Path("/tmp/a")),
        (Path | None, "null", None),
        (list[date], '["2030-01-02"]', [date(2030, 1, 2)]),
        (set[int], "[1, 2]", {1, 2}),
        (Address, '{"street": "a", "since": "2030-01-02"}', Address("a", date(2030, 1, 2))),
        (Bill, '{"prices": []}', Bill(prices=[])),
    ],
)
def test_text_means_what_the_annotation_makes_of_it(hint: Any, text: str, expected: Any) -> None:
    found = Arguments("tests.work", typed(hint)).from_text("value", text)
    assert canon(found) == canon(expected)


@pytest.mark.parametrize(
    ("hint", "text", "said"),
    [
        (int, "x", "expected value to be an int, got: 'x'"),
        (bool, "yes", "expected value to be a bool, got: 'yes'"),
        (
            datetime,
            "tomorrow",
            "expected value to be a datetime, got: 'tomorrow'; Invalid isoformat",
        ),
        (UUID, "x", "expected value to be a UUID, got: 'x'; Invalid UUID"),
        (Colour, "green", "expected value to be a Colour, got: 'green'"),
        (list[int], "1,2", "expected value to be a list[int], got: '1,2'"),
        (list[int], "[1,", "expected value to be a list[int], got: '[1,'"),
        (Any, "\udcff", "surrogates"),
        (datetime | str, "x", "cannot be told apart"),
        (Address, "a", """, got: 'a'; write it as JSON: {"street": …, "since": …}"""),
        (Bill | None, "a", 'write it as JSON: {"prices": …'),
        (Size, "5", '; write it as JSON: {"width": …, "height": …}'),
        (dict[str, int], "a=5", '; write it as JSON: {"…": …}'),
        (list[int], "1,2", "; write it as JSON: […]"),
        (Point, "1,2", "; write it as JSON: […]"),
    ],
)
def test_text_that_means_nothing_is_refused_with_what_was_expected(
    hint: Any, text: str, said: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        Arguments("tests.work", typed(hint)).from_text("value", text)
    assert said in str(caught.value)


def test_values_by_name_are_put_where_the_call_wants_them() -> None:
    arguments = Arguments("tests.work", positional_only)
    assert arguments.placed({"c": 3, "b": 2, "a": 1}) == ((1, 2), {"c": 3})
    with pytest.raises(ArgumentError, match="b goes by position, after a: give that too"):
        arguments.placed({"b": 2})
    several = Arguments("tests.work", everything)
    assert several.placed({"c": 3, "rest": [5, 6], "b": 2, "a": 1}) == ((1, 2, 5, 6), {"c": 3})


def unresolved(value: Elsewhere, size: int = 5, *, when: Optional[datetime] = None) -> Any:  # noqa: UP045
    return value, size, when


def test_an_annotation_that_cannot_be_resolved_is_told_and_spoils_no_other() -> None:
    said = refused(unresolved, 5)
    assert "value: its annotation Elsewhere cannot be resolved" in said
    assert "outside of `if TYPE_CHECKING:`" in said
    assert Arguments("tests.work", unresolved).from_text("when", "2030-01-02") == datetime(
        2030, 1, 2
    )
    assert "expected size to be an int" in refused(functools.partial(unresolved, 5), size="x")


def test_a_partial_function_checks_what_is_left_of_its_parameters() -> None:
    partial = functools.partial(unresolved, 5)
    assert round_trip(partial, size=6, when=NOON) == (5, 6, NOON)


def test_a_decorated_function_is_checked_by_what_it_wraps() -> None:
    @functools.wraps(keyword_only)
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    assert "expected b to be an int" in refused(wrapper, b="5")


class Machine:
    def run(self, speed: int) -> Any:
        return speed

    def __call__(self, speed: int) -> Any:
        return speed


@pytest.mark.parametrize("function", [Machine().run, Machine()], ids=["bound", "callable"])
def test_bound_methods_and_callable_objects_are_checked_too(function: Callable[..., Any]) -> None:
    assert round_trip(function, 5) == 5
    assert "expected speed to be an int" in refused(function, "5")


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (Machine.run, "got: a method; a job has no object to call it on"),
        (lambda: None, "one without a name that a job could carry; add name='…'"),
        (functools.partial(plain, 5), "add name='…'"),
        (Machine(), "add name='…'"),
        (classmethod(plain), "put the task's decorator outermost"),
        (5, "expected 5 to be a function or an async def function, got: 5"),
    ],
    ids=["method", "lambda", "partial", "object", "classmethod", "number"],
)
def test_what_cannot_be_a_task_is_refused_when_it_is_decorated(thing: Any, said: str) -> None:
    with pytest.raises(NotATask) as caught:
        Spooler().task(thing)
    assert said in str(caught.value)
    assert isinstance(caught.value, (SpoolerError, TypeError))


def test_a_name_makes_tasks_of_lambdas_and_partial_functions() -> None:
    assert check_function(lambda: None, "tests.nothing") == "tests.nothing"
    partial = Spooler().task(name="tests.half")(functools.partial(plain, 5))
    assert partial.name == "tests.half"
    assert partial.arguments.freeze((), {"b": 6}) == b'{"b":6}'


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is new in 3.12")
def test_type_parameters_and_aliases_of_newer_pythons_are_understood() -> None:
    names: dict[str, Any] = {}
    program = (
        "type Ids = list[int]\ndef work[T](value: Ids, other: T) -> object: return value, other"
    )
    exec(program, names)
    assert round_trip(names["work"], [5], "x") == ([5], "x")
    assert "expected value[0] to be an int" in refused(names["work"], ["5"], "x")


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (int, "int"),
        (None, "None"),
        (dict[str, list[int] | None], "dict[str, list[int] | None]"),
        (Optional[int], "int | None"),  # noqa: UP045
        (Union[int, str], "int | str"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Box[date], "Box[date]"),
        (UserId, "UserId"),
        (list[T], "list[T]"),  # type: ignore[valid-type]
        (Callable[[int], str], "Callable"),
        (Annotated[str, "note"], "Annotated[str, 'note']"),
    ],
)
def test_types_are_said_as_they_are_written(hint: Any, said: str) -> None:
    assert words(hint).startswith(said)


@pytest.mark.parametrize("call", ["a.png", b"a.png", 5, None, {"a"}], ids=str)
def test_a_call_among_many_that_is_no_tuple_and_no_dict_is_refused(app: Flask, call: Any) -> None:
    many = app.extensions["spooler"].spooler.task(name="tests.many")(plain)
    with pytest.raises(ArgumentError, match=r"many: calls\[0\]: expected a tuple of positional or"):
        many.enqueue_many([call])
    assert len(many.enqueue_many([["a", 1], ("a",), {"a": 5}])) == 3


@pytest.mark.parametrize("calls", [None, 5, "a.png", b"a.png", {"path": "a.png"}], ids=str)
def test_what_is_no_list_of_calls_is_refused_with_the_name_of_the_task(
    app: Flask, calls: Any
) -> None:
    many = app.extensions["spooler"].spooler.task(name="tests.many")(plain)
    with pytest.raises(
        ArgumentError, match=r"^cannot enqueue tests\.many: expected a list of"
    ) as e:
        many.enqueue_many(calls)
    assert str(e.value).endswith(f"got: {calls!r}")


def test_the_wrong_one_among_many_calls_is_named(app: Flask) -> None:
    def resize(path: str, width: int = 300) -> None: ...

    many = app.extensions["spooler"].spooler.task(name="tests.many")(resize)
    with pytest.raises(ArgumentError, match=r"many: calls\[1\]: expected width"):
        many.enqueue_many([("a",), ("b", "wide"), ("c", 5, 5)])
    with pytest.raises(ArgumentError, match=r"many: calls\[2\]: .*too many positional"):
        many.enqueue_many(("x", 5, 5) if n == 2 else ("x",) for n in range(4))
    app.extensions["spooler"].engine.max_payload = 100
    with pytest.raises(
        PayloadTooLarge, match=r"the arguments of tests\.many in calls\[3\] are more"
    ):
        many.enqueue_many([("a" * (1_000 if n == 3 else 1),) for n in range(4)])
    assert app.extensions["spooler"].engine.ledger.find() == []


def test_a_function_of_c_without_a_signature_cannot_become_a_task() -> None:
    with pytest.raises(NotATask, match=r"max to be a function .*; wrap it in a function"):
        check_function(max, None)


def test_a_job_of_the_former_function_says_that_it_cannot_be_run() -> None:
    frozen = Arguments("work", lambda old: None).freeze((1,), {})
    with pytest.raises(
        ArgumentError, match=r"^cannot run work: it was enqueued when the task took"
    ):
        Arguments("work", lambda new: None).thaw(frozen)
