"""`prepare_spooler_args`: bytes in every place, and what uWSGI would cut or obey is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_spooler import prepare_spooler_args
from flask_spooler.errors import ArgumentError
from flask_spooler.packets import LONGEST_VALUE, RESERVED

names = st.text(st.characters(exclude_categories=("Cs",)), max_size=20).filter(
    lambda name: name not in RESERVED
)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=50)
others = st.none() | st.booleans() | st.integers() | st.lists(st.integers() | texts, max_size=4)


@given(st.dictionaries(names, texts | st.binary(max_size=50) | others, max_size=6))
def test_every_key_and_value_becomes_bytes_that_say_what_they_were(given: dict[str, Any]) -> None:
    packet = prepare_spooler_args(**given)
    assert len(packet) == len(given)
    for name, value in given.items():
        data = packet[name.encode()]
        assert type(data) is bytes
        if isinstance(value, bytes):
            assert data == value
        elif isinstance(value, str):
            assert data.decode() == value
        else:
            assert json.loads(data) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, b"5"),
        (2.5, b"2.5"),
        (True, b"true"),
        (None, b"null"),
        ("5", b"5"),
        ("née", "née".encode()),
        ("", b""),
        (b"\x00\xff", b"\x00\xff"),
        ([1, "a"], b'[1, "a"]'),
        ({"a": 1}, b'{"a": 1}'),
    ],
)
def test_bytes_stay_strings_become_utf8_and_the_rest_becomes_json(
    value: Any, expected: bytes
) -> None:
    assert prepare_spooler_args(value=value) == {b"value": expected}


def test_no_arguments_make_an_empty_packet() -> None:
    assert prepare_spooler_args() == {}


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_name_that_would_act_on_the_spooler_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"{name!r} would act on the spooler"):
        prepare_spooler_args(**{name: "1"})


@pytest.mark.parametrize("name", ["spooler", "priority", "at", "body"])
def test_the_names_that_uwsgi_documents_are_reserved(name: str) -> None:
    assert name in RESERVED


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), object(), {1, 2}, {"a": b"bytes"}, [float("nan")]]
)
def test_what_is_neither_bytes_text_nor_json_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ArgumentError, match="value=") as caught:
        prepare_spooler_args(value=value)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("make", [lambda size: b"x" * size, lambda size: "x" * size])
def test_a_value_too_long_for_uwsgi_is_refused_and_never_cut(make: Any) -> None:
    longest = LONGEST_VALUE - 4 - len("value")
    assert len(prepare_spooler_args(value=make(longest))[b"value"]) == longest
    for size in (LONGEST_VALUE + 1, LONGEST_VALUE + 2, 70_000):
        with pytest.raises(ArgumentError, match=r"value takes .* bytes, uWSGI carries 65,535"):
            prepare_spooler_args(value=make(size))


def test_a_long_text_counts_in_bytes_and_not_in_letters() -> None:
    with pytest.raises(ArgumentError, match="80,000 bytes"):
        prepare_spooler_args(value="ü" * 40_000)


def test_arguments_too_long_together_are_refused() -> None:
    values = {f"value{number}": b"x" * 10_000 for number in range(6)}
    assert len(prepare_spooler_args(**values)) == 6
    with pytest.raises(ArgumentError, match="together"):
        prepare_spooler_args(**values, value6=b"x" * 10_000)


def test_the_limit_of_all_together_counts_what_uwsgi_writes() -> None:
    exact = {"a": b"x" * 32_000, "b": b"x" * (65_535 - 32_000 - 2 * 5)}
    assert prepare_spooler_args(**exact)
    with pytest.raises(ArgumentError, match="65,536 bytes together"):
        prepare_spooler_args(**(exact | {"b": exact["b"] + b"x"}))


@pytest.mark.parametrize("value", ["\udcff", "endless"])
def test_text_that_is_no_utf8_and_endless_lists_are_refused_by_name(value: str) -> None:
    endless: list[Any] = []
    endless.append(endless)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ArgumentError, match="value"):
        prepare_spooler_args(value=deep if value == "endless" else value)
