"""Types and values of every kind that a task may take, and how tests look at them."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest

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


class Mood(str, enum.Enum):
    GOOD = "good"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Odd(enum.Enum):
    PAIR = (1, 2)


@dataclass
class Address:
    street: str
    since: date


@dataclass
class Former(Address):
    until: date = date(2031, 1, 1)


@dataclass
class Person:
    name: str
    homes: list[Address] = field(default_factory=list)
    by_year: dict[int, Address] = field(default_factory=dict)


T = TypeVar("T")


@dataclass(frozen=True)
class Box(Generic[T]):
    content: T


class Size(TypedDict):
    width: int
    height: float


class Loose(TypedDict, total=False):
    width: int
    name: str


@attrs.define
class Wheel:
    inches: int = attrs.field(validator=attrs.validators.gt(3))
    maker: str = ""


class Price(pydantic.BaseModel):
    amount: Decimal = pydantic.Field(gt=0)
    day: date = date(2030, 1, 1)


class Bill(pydantic.BaseModel):
    prices: list[Price]
    note: str | None = pydantic.Field(None, alias="remark")
    secret: pydantic.SecretStr | None = None


class Cat(msgspec.Struct, tag=True):
    name: str


class Dog(msgspec.Struct, tag=True):
    name: str


UserId = NewType("UserId", int)
Small = Annotated[int, msgspec.Meta(ge=1, le=5)]


class Customer:
    """As one from an ORM: nothing that could be written as JSON."""

    def __repr__(self) -> str:
        return "<Customer 5>"


class Point(NamedTuple):
    x: int
    y: int


class Order(msgspec.Struct):
    id: UUID
    lines: list[Decimal]


NOON = datetime(2030, 1, 2, 12, 30, 15, 123456, tzinfo=timezone.utc)
ID = UUID("12345678-1234-5678-1234-567812345678")

HOME = Address("Elm St", date(2030, 1, 2))
SOME = Person("Ann", [HOME], {2030: HOME})

BERLIN = ZoneInfo("Europe/Berlin")
INDIA = timezone(timedelta(hours=5, minutes=30))

TYPED: list[tuple[Any, Any]] = [
    (datetime, NOON),
    (datetime, NOON.replace(tzinfo=None)),
    (datetime, NOON.astimezone(INDIA)),
    (datetime, datetime.max),
    (date, date(2030, 1, 2)),
    (time, time(12, 30)),
    (time, time(12, 30, 1, 5, tzinfo=INDIA)),
    (timedelta, timedelta(days=1, seconds=0.5)),
    (timedelta, timedelta(microseconds=-1)),
    (UUID, ID),
    (Decimal, Decimal("3.140")),
    (Decimal, Decimal("-0")),
    (Decimal, Decimal("NaN")),
    (Decimal, Decimal("1E+400")),
    (Colour, Colour.BLUE),
    (Level, Level.HIGH),
    (Mood, Mood.GOOD),
    (Right, Right.READ | Right.WRITE),
    (bytes, b"\x00\xff nothing that UTF-8 knows"),
    (bytearray, bytearray(b"abc")),
    (str, "née \U0001f600 \0 \n"),
    (int, 2**63 - 1),
    (int, 2**200),
    (Any, -(2**70)),
    (float, 0.1),
    (float, -0.0),
    (float, 5e-324),
    (bool, True),
    (None, None),
    (list, [1, "a", None]),
    (list[int], [1, 2]),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (tuple[()], ()),
    (set[int], {1, 2, 3}),
    (frozenset[str], frozenset({"a"})),
    (set[tuple[int, float]], {(1, 0.5), (2, 1.5)}),
    (dict[str, datetime], {"a": NOON}),
    (dict[int, str], {5: "a"}),
    (dict[date, list[UUID]], {date(2030, 1, 2): [ID]}),
    (dict[Level, int], {Level.LOW: 5}),
    (Sequence[int], [1, 2]),
    (Iterable[UUID], [ID]),
    (Mapping[str, Decimal], {"a": Decimal("1.0")}),
    (Address, Address("Elm St", date(2030, 1, 2))),
    (Person, Person("Ann", [Address("a", date(2030, 1, 2))], {2030: Address("b", date.max)})),
    (Box[date], Box(date(2030, 1, 2))),
    (Size, {"width": 5, "height": 2.5}),
    (Loose, {"name": "a"}),
    (Point, Point(1, 2)),
    (Order, Order(ID, [Decimal("1.10"), Decimal("2")])),
    (Wheel, Wheel(17, "x")),
    (Price, Price(amount=Decimal("1.50"))),
    (Bill, Bill(prices=[Price(amount=Decimal(1))], remark="x")),
    (list[Bill] | None, [Bill(prices=[])]),
    (Union[Cat, Dog], Dog("Rex")),
    (list[Address], [Address("Elm St", date(2030, 1, 2))]),
    (Path, Path("/tmp/née")),
    (PurePosixPath, PurePosixPath("a")),
    (dict[str, Path | None], {"a": Path("b"), "c": None}),
    (Optional[datetime], None),  # noqa: UP045
    (Optional[datetime], NOON),  # noqa: UP045
    (datetime | None, None),
    (Union[int, str], 5),
    (Union[int, str], "5"),
    (int | float, 5),
    (int | float, 5.0),
    (Decimal | int, Decimal(5)),
    (Literal["a", "b"], "b"),
    (Literal[1, None], None),
    (UserId, UserId(5)),
    (Small, 5),
    (Any, {"a": [1, 2.5, None, True, "x"]}),
    (object, ["x"]),
]


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


def typed(hint: Any) -> Callable[..., Any]:
    def work(value):  # type: ignore[no-untyped-def]
        return value

    work.__annotations__ = {"value": hint}
    return work


def canon(value: Any) -> Any:
    """Say what a value is, types and all; written apart from what it tests."""
    kind = type(value).__qualname__
    if isinstance(value, (list, tuple)):
        return kind, [canon(each) for each in value]
    if isinstance(value, dict):
        return kind, [(canon(key), canon(each)) for key, each in value.items()]
    if isinstance(value, (set, frozenset)):
        return kind, sorted(repr(canon(each)) for each in value)
    if isinstance(value, (datetime, time)):
        return kind, value.isoformat()
    if is_dataclass(value):
        return kind, [canon(getattr(value, each.name)) for each in fields(value)]
    return kind, repr(value)
