"""Fifty values of every type that a task may take, the same in every process."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, NamedTuple, Optional, Union
from uuid import UUID

import msgspec

from tests.shapes import (
    BERLIN,
    INDIA,
    Address,
    Bill,
    Box,
    Cat,
    Colour,
    Dog,
    Level,
    Loose,
    Mood,
    Order,
    Person,
    Point,
    Price,
    Right,
    Size,
    UserId,
    Wheel,
)

HOW_MANY = 50

Make = Callable[[Random], Any]


class Sample(NamedTuple):
    """An annotation, and values of it."""

    hint: Any
    values: list[Any]


def text(chance: Random) -> str:
    letters = string.printable + "éßΩ中\U0001f600\0\u2028"
    return "".join(chance.choices(letters, k=chance.randrange(12)))


def whole(chance: Random) -> int:
    return chance.choice((-1, 1)) * chance.getrandbits(chance.choice((1, 8, 31, 53, 63, 64, 200)))


def real(chance: Random) -> float:
    return chance.choice((-1, 1)) * chance.random() * 10.0 ** chance.randrange(-300, 300)


def decimal(chance: Random) -> Decimal:
    digits = tuple(chance.choices(range(10), k=chance.randrange(1, 40)))
    return Decimal((chance.randrange(2), digits, chance.randrange(-50, 50)))


def day(chance: Random) -> date:
    return date.fromordinal(chance.randrange(1, date.max.toordinal()))


def naive(chance: Random) -> datetime:
    moment = datetime.combine(day(chance), time(chance.randrange(24), chance.randrange(60)))
    return moment.replace(microsecond=chance.choice((0, 1, 500_000, 999_999)))


def aware(chance: Random) -> datetime:
    zone = chance.choice((timezone.utc, INDIA, BERLIN, timezone(timedelta(hours=-12))))
    moment = naive(chance)
    return moment.replace(year=1950 + moment.year % 100, month=1, day=5, tzinfo=zone)


def clock(chance: Random) -> time:
    return naive(chance).time().replace(tzinfo=chance.choice((None, timezone.utc, INDIA)))


def length(chance: Random) -> timedelta:
    return timedelta(microseconds=chance.choice((-1, 1)) * chance.getrandbits(55))


def uuid(chance: Random) -> UUID:
    return UUID(int=chance.getrandbits(128))


def raw(chance: Random) -> bytes:
    return chance.randbytes(chance.randrange(40))


def path(chance: Random) -> Path:
    return Path(*chance.choices(("/", "tmp", "née", "..", "a b"), k=chance.randrange(4)))


def many(make: Make) -> Callable[[Random], list[Any]]:
    return lambda chance: [make(chance) for _ in range(chance.randrange(5))]


def named(make: Make) -> Callable[[Random], dict[str, Any]]:
    return lambda chance: {text(chance): make(chance) for _ in range(chance.randrange(5))}


def plain(chance: Random, depth: int = 0) -> Any:
    simple: Sequence[Make] = (text, whole, real, lambda _: None, lambda _: True)
    nested: Sequence[Make] = (
        many(lambda inner: plain(inner, depth + 1)),
        named(lambda inner: plain(inner, depth + 1)),
    )
    return chance.choice([*simple, *(nested if depth < 3 else ())])(chance)


def address(chance: Random) -> Address:
    return Address(text(chance), day(chance))


def person(chance: Random) -> Person:
    years = {whole(chance): address(chance) for _ in range(3)}
    return Person(text(chance), many(address)(chance), years)


def price(chance: Random) -> Price:
    return Price(amount=Decimal(chance.randrange(1, 10**9)) / 100, day=day(chance))


def bill(chance: Random) -> Bill:
    return Bill(prices=many(price)(chance), remark=chance.choice((None, text(chance))))


def size(chance: Random) -> Size:
    return {"width": whole(chance), "height": real(chance)}


def loose(chance: Random) -> Loose:
    keys = chance.sample(["width", "name"], chance.randrange(3))
    return {key: whole(chance) if key == "width" else text(chance) for key in keys}  # type: ignore[return-value]


def right(chance: Random) -> Right:
    return Right(chance.randrange(4))


def pet(chance: Random) -> Cat | Dog:
    return chance.choice((Cat, Dog))(text(chance))


def either(chance: Random) -> int | str | list[float]:
    makers: Sequence[Make] = (whole, text, many(real))
    return chance.choice(makers)(chance)  # type: ignore[no-any-return]


def deep(chance: Random) -> Any:
    return {
        uuid(chance): [(day(chance), {path(chance)}), (day(chance), {path(chance)})]
        for _ in range(2)
    }


MAKERS: dict[str, tuple[Any, Make]] = {
    "any": (Any, plain),
    "none": (None, lambda _: None),
    "bool": (bool, lambda chance: chance.random() < 0.5),
    "int": (int, whole),
    "float": (float, real),
    "str": (str, text),
    "bytes": (bytes, raw),
    "bytearray": (bytearray, lambda chance: bytearray(raw(chance))),
    "decimal": (Decimal, decimal),
    "uuid": (UUID, uuid),
    "date": (date, day),
    "naive datetime": (datetime, naive),
    "aware datetime": (datetime, aware),
    "time": (time, clock),
    "timedelta": (timedelta, length),
    "path": (Path, path),
    "enum": (Colour, lambda chance: chance.choice(list(Colour))),
    "int enum": (Level, lambda chance: chance.choice(list(Level))),
    "str enum": (Mood, lambda chance: Mood.GOOD),
    "flag": (Right, right),
    "literal": (Literal["a", 1, None], lambda chance: chance.choice(("a", 1, None))),
    "new type": (UserId, whole),
    "annotated": (Annotated[int, msgspec.Meta(ge=1, le=5)], lambda chance: chance.randint(1, 5)),
    "optional": (Optional[datetime], lambda chance: chance.choice((None, aware(chance)))),  # noqa: UP045
    "union": (Union[int, str, list[float]], either),
    "list": (list[Decimal], many(decimal)),
    "tuple": (tuple[int, str, date], lambda chance: (whole(chance), text(chance), day(chance))),
    "tuple of any length": (tuple[UUID, ...], lambda chance: tuple(many(uuid)(chance))),
    "set": (set[int], lambda chance: set(many(whole)(chance))),
    "frozenset": (frozenset[str], lambda chance: frozenset(many(text)(chance))),
    "dict": (dict[str, datetime], named(aware)),
    "dict by number": (dict[int, bytes], lambda chance: {whole(chance): raw(chance)}),
    "dict by date": (dict[date, bool], lambda chance: {day(chance): True}),
    "dataclass": (Address, address),
    "nested dataclass": (Person, person),
    "generic dataclass": (Box[date], lambda chance: Box(day(chance))),
    "typed dict": (Size, size),
    "typed dict, not total": (Loose, loose),
    "named tuple": (Point, lambda chance: Point(whole(chance), whole(chance))),
    "struct": (Order, lambda chance: Order(uuid(chance), many(decimal)(chance))),
    "tagged structs": (Union[Cat, Dog], pet),
    "attrs": (Wheel, lambda chance: Wheel(chance.randint(4, 99), text(chance))),
    "pydantic": (Bill, bill),
    "list of pydantic": (list[Price], many(price)),
    "nested containers": (dict[UUID, list[tuple[date, set[Path]]]], deep),
}  # fmt: skip


def sample(name: str) -> Sample:
    """Return the values of this name: chance begins alike in every process."""
    hint, make = MAKERS[name]
    chance = Random(name)
    return Sample(hint, [make(chance) for _ in range(HOW_MANY)])
