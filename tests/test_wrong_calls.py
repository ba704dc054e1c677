"""Wrong calls, each refused at enqueue by a sentence that names argument and expected type."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pydantic
import pytest
from markupsafe import Markup

from tests.shapes import (
    HOME,
    ID,
    NOON,
    SOME,
    Address,
    Bill,
    Cat,
    Colour,
    Customer,
    Dog,
    Former,
    Level,
    Person,
    Point,
    Price,
    Size,
    Small,
    Wheel,
    refused,
)


class Reading(pydantic.BaseModel):
    value: float = 0.0
    former: list[Reading] = []


class Reports:
    @staticmethod
    def send(order: int, to: str, *, copies: int = 1, when: datetime | None = None) -> None: ...

    @staticmethod
    def file(person: Person, sizes: dict[str, Size], *days: date, **limits: Decimal) -> None: ...

    @staticmethod
    def draw(at: Point, colour: Colour, paths: list[Path], raw: bytes, level: Level) -> None: ...

    @staticmethod
    def charge(
        bill: Bill, wheel: Wheel, share: Small, pet: Cat | Dog, kind: Literal["a"]
    ) -> None: ...

    @staticmethod
    def gauge(is_on: bool, reading: Reading | None = None, rest=None) -> None: ...  # type: ignore[no-untyped-def]


send, file, draw = Reports.send, Reports.file, Reports.draw
charge, gauge = Reports.charge, Reports.gauge

WRONG_CALLS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = [
    (send, (), {}, "missing a required argument: 'order'; it takes (order: int, to: str, *, "),
    (send, (5,), {}, "missing a required argument: 'to'; it takes (order: int, to: str"),
    (send, (5, "a", 3), {}, "too many positional arguments; it takes (order: int, to: str"),
    (send, (5, "a"), {"copy": 3}, "got an unexpected keyword argument 'copy'; it takes (order: int"),
    (send, (5, "a"), {"to": "b"}, "multiple values for argument 'to'; it takes (order: int"),
    (send, (), {"delay": 5, "order": 5, "to": ""}, "unexpected keyword argument 'delay'; it takes ("),
    (send, (5, "a"), {"delay": 5}, "; options go to task.using(delay=…)"),
    (send, (5, "a"), {"copy": 5, "queue": "x", "at": 5}, "'copy'; it takes (order: int, to: str, *, copies: int = 1, when: datetime | None = None); options go to task.using(queue=…, at=…)"),
    (send, ("5", "a"), {}, "expected order to be an int, got: '5' (str); pass int('5')"),
    (send, (5.5, "a"), {}, "expected order to be an int, got: 5.5 (float)"),
    (send, (5.0, "a"), {}, "expected order to be an int, got: 5.0 (float)"),
    (send, (True, "a"), {}, "expected order to be an int, got: True (bool)"),
    (send, (None, "a"), {}, "expected order to be an int, got: None"),
    (send, ([5], "a"), {}, "expected order to be an int, got: [5] (list)"),
    (send, (Colour.RED, "a"), {}, "expected order to be an int, got: <Colour.RED: 'red'> (Colour); pass its .value, or annotate the parameter with Colour"),
    (send, (Customer(), "a"), {}, "expected order to be an int, got: <Customer 5> (Customer); a Customer cannot be written as JSON"),
    (send, (5, 5), {}, "expected to to be a str, got: 5 (int)"),
    (send, (5, b"a"), {}, "expected to to be a str, got: b'a' (bytes); pass b'a'.decode()"),
    (send, (5, None), {}, "expected to to be a str, got: None"),
    (send, (5, Markup("a")), {}, "expected to to be a str, got: Markup('a') (Markup); it would arrive as a str: pass a plain one"),
    (send, (5, Level.LOW), {}, "got: <Level.LOW: 1> (Level); pass its .value, or annotate the parameter with Level"),
    (send, (5, ID), {}, "expected to to be a str, got: UUID("),
    (send, (5, "\udcff"), {}, "expected to to be a str, got: '\\udcff' (str); it has surrogates"),
    (send, (5, "a"), {"copies": "2"}, "expected copies to be an int, got: '2' (str)"),
    (send, (5, "a"), {"when": "2030-01-02"}, "expected when to be datetime | None, got: '2030-01-02' (str); pass datetime.fromisoformat('2030-01-02')"),
    (send, (5, "a"), {"when": date(2030, 1, 2)}, "expected when to be datetime | None, got: datetime.date(2030, 1, 2) (date); pass datetime.combine(…, time())"),
    (send, (5, "a"), {"when": 1.5e9}, "expected when to be datetime | None, got: 1500000000.0 (float)"),
    (file, ("Ann", {}), {}, "expected person to be a Person, got: 'Ann' (str)"),
    (file, ({"name": "Ann"}, {}), {}, "expected person to be a Person, got: {'name': 'Ann'} (dict); pass Person(**…)"),
    (file, (Person(5), {}), {}, "expected person.name to be a str, got: 5 (int)"),
    (file, (Person("", [HOME, Address("a", "b")]), {}), {}, "expected person.homes[1].since to be a date, got: 'b' (str)"),
    (file, (Person("", [Former("a", date.min)]), {}), {}, "expected person.homes[0] to be an Address, got: Former("),
    (file, (Person("", (HOME,)), {}), {}, "expected person.homes to be a list[Address], got: (Address("),
    (file, (Person("", [], {"x": HOME}), {}), {}, "expected the key 'x' of person.by_year to be an int, got: 'x' (str)"),
    (file, (Person("", [], {5: HOME, 6: None}), {}), {}, "expected person.by_year[6] to be an Address, got: None"),
    (file, (SOME, {"a": {"width": "5", "height": 1.0}}), {}, "expected sizes['a']['width'] to be an int, got: '5' (str); pass int('5')"),
    (file, (SOME, {"a": {"width": 5}}), {}, "expected sizes['a'] to be a Size, got: {'width': 5} (dict); Object missing required field height"),
    (file, (SOME, {"a": {"width": 5, "height": 1.0, "depth": 2}}), {}, "expected sizes['a'] to be a Size, got: {'width': 5, 'height': 1.0, 'depth': 2} (dict); there is no key 'depth' in it"),
    (file, (SOME, {}, date(2030, 1, 2), NOON), {}, "expected days[1] to be a date, got: datetime.datetime(2030, 1, 2, 12"),
    (file, (SOME, {}), {"most": 1.5}, "expected most to be a Decimal, got: 1.5 (float); pass Decimal('1.5')"),
    (file, (SOME, {}), {"most": "1.5"}, "expected most to be a Decimal, got: '1.5' (str); pass Decimal('1.5')"),
    (file, (SOME, {}), {"person": SOME}, "multiple values for argument 'person'"),
    (draw, ((1, 2), Colour.RED, [], b"", Level.LOW), {}, "expected at to be a Point, got: (1, 2) (tuple)"),
    (draw, (Point(1, "2"), Colour.RED, [], b"", Level.LOW), {}, "expected at.y to be an int, got: '2' (str)"),
    (draw, (Point(1, 2), "red", [], b"", Level.LOW), {}, "expected colour to be a Colour, got: 'red' (str); pass Colour('red')"),
    (draw, (Point(1, 2), "green", [], b"", Level.LOW), {}, "expected colour to be a Colour, got: 'green' (str)"),
    (draw, (Point(1, 2), Colour.RED, ["a"], b"", Level.LOW), {}, "expected paths[0] to be a Path, got: 'a' (str); pass Path('a')"),
    (draw, (Point(1, 2), Colour.RED, [], "text", Level.LOW), {}, "expected raw to be bytes, got: 'text' (str); pass 'text'.encode()"),
    (draw, (Point(1, 2), Colour.RED, [], bytearray(), Level.LOW), {}, "expected raw to be bytes, got: bytearray(b'') (bytearray)"),
    (draw, (Point(1, 2), Colour.RED, [], b"", 1), {}, "expected level to be a Level, got: 1 (int); pass Level(1)"),
    (charge, ({}, Wheel(17), 1, Cat(""), "a"), {}, "expected bill to be a Bill, got: {} (dict); pass Bill(**…)"),
    (charge, (Bill.model_construct(prices=[Price.model_construct(amount=-1)]), Wheel(17), 1, Cat(""), "a"), {}, "expected bill.prices[0].amount to fit Bill; Input should be greater than 0, got: -1"),
    (charge, (Bill(prices=[], secret="x"), Wheel(17), 1, Cat(""), "a"), {}, "expected bill.secret to fit Bill; SecretStr('**********') is another one when it is read back, as pydantic masks secrets: pass its key and load it in the task"),
    (charge, (Bill(prices=[]), Wheel(17, 5), 1, Cat(""), "a"), {}, "expected wheel.maker to be a str, got: 5 (int)"),
    (charge, (Bill(prices=[]), Wheel(17), 6, Cat(""), "a"), {}, "expected share to be Annotated[int, Meta(ge=1, le=5)], got: 6 (int); Expected int <= 5"),
    (charge, (Bill(prices=[]), Wheel(17), 1, Dog(5), "a"), {}, "expected pet.name to be a str, got: 5 (int)"),
    (charge, (Bill(prices=[]), Wheel(17), 1, "Rex", "a"), {}, "expected pet to be Cat | Dog, got: 'Rex' (str)"),
    (charge, (Bill(prices=[]), Wheel(17), 1, Cat(""), "b"), {}, "expected kind to be Literal['a'], got: 'b' (str)"),
    (gauge, ("true",), {}, "expected is_on to be a bool, got: 'true' (str); pass True or False"),
    (gauge, (1,), {}, "expected is_on to be a bool, got: 1 (int); pass True or False"),
    (gauge, (True, Reading(former=[Reading(value=math.nan)])), {}, "expected reading.former[0].value to fit Reading; got: nan; JSON has no such number: pass None, or a str"),
    (gauge, (True, None, [10**5000]), {}, "expected rest[0] to be plain JSON, got: <int> (int); it has more digits than Python turns into text: pass hex(…) of it, a str"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "said"),
    WRONG_CALLS,
    ids=[str(n) for n in range(len(WRONG_CALLS))],
)
def test_a_wrong_call_is_refused_by_task_argument_and_expected_type(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    assert said in refused(function, *args, **kwargs)


@pytest.mark.parametrize(
    ("args", "expected"),
    [(("five", "a"), "order to be an int, got: 'five' (str)"),
     ((5, b"\xff"), "to to be a str, got: b'\\xff' (bytes); it would arrive as '/w==' (str)")],
    ids=["int", "decode"],
)  # fmt: skip
def test_no_way_out_is_offered_that_would_raise(args: tuple[Any, ...], expected: str) -> None:
    assert refused(send, *args).endswith(expected)


def test_a_model_that_contains_itself_is_refused() -> None:
    reading = Reading()
    reading.former.append(reading)
    assert "reading" in refused(gauge, True, reading)


def test_there_are_at_least_fifty_wrong_calls() -> None:
    assert len(WRONG_CALLS) >= 50
