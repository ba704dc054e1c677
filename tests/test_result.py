"""What a task or a step returned: JSON, or a sentence that says why not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec
import pytest

from flask_spooler.result import NotJSON, to_json


@dataclass
class Reading:
    value: float | None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "a float, which is not JSON (JSON has no nan: return None, or a str"),
        (-math.inf, "a float, which is not JSON (JSON has no -inf"),
        ({"a": (1, [math.inf])}, "a dict, which is not JSON (at ['a'][1][0] it has inf"),
        ([Reading(None), Reading(math.nan)], "a list, which is not JSON (at [1]['value'] it"),
        ({1.0, math.nan}, "a set, which is not JSON (at ["),
        (["null", msgspec.Raw(b"null"), math.nan], "a list, which is not JSON (at [2] it has nan"),
        (object(), "an object, which is not JSON (Encoding objects"),
    ],
    ids=["nan", "infinity", "deep", "of objects", "in a set", "beside JSON", "object"],
)
def test_what_json_does_not_have_is_refused_and_never_made_null(value: Any, said: str) -> None:
    with pytest.raises(NotJSON) as refused:
        to_json(value)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ([None, 1.5], b"[null,1.5]"),
        (Reading(None), b'{"value":null}'),
        ("null", b'"null"'),
        ({1}, b"[1]"),
        ({1: date(2030, 1, 2)}, b'{"1":"2030-01-02"}'),
        (b"\xff", b'"/w=="'),
    ],
    ids=["None", "an object", "a text", "a set", "a date", "bytes"],
)
def test_what_json_writes_in_another_form_is_taken(value: Any, data: bytes) -> None:
    assert to_json(value) == data


def test_a_result_is_looked_through_however_deep_it_is() -> None:
    deep: Any = None
    for _ in range(500):
        deep = [deep]
    assert to_json(deep).count(b"[") == 500
