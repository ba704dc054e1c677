"""The order between queues and their limits, as pure functions of who waits."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_spooler.config import read_config
from flask_spooler.errors import ConfigError
from flask_spooler.queues import Queues, Waiting, read_queues

NAMES = ("a", "b", "c", "d", "e")

Heads = dict[str, list[Waiting]]


def crowd(**sizes: int) -> Heads:
    """So many jobs of each queue, all of one priority, due one after the other in turns."""
    numbers = itertools.count(1)
    return {
        queue: [
            Waiting(0, float(number), number, f"{queue}-{place}", "work")
            for place, number in zip(range(size), numbers, strict=False)
        ]
        for queue, size in sizes.items()
    }


def ids(jobs: list[Waiting]) -> list[str]:
    return [job.id for job in jobs]


def queue_of(job: Waiting) -> str:
    return job.id.partition("-")[0]


@st.composite
def heads(draw: st.DrawFn) -> Heads:
    """The first jobs of some queues, each queue in its own order, as the ledger gives them."""
    found: Heads = {}
    numbers = itertools.count(1)
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=0, max_size=5))
    for queue in names:
        facts = draw(
            st.lists(st.tuples(st.integers(-100, 100), st.integers(0, 5)), min_size=1, max_size=6)
        )
        found[queue] = sorted(
            Waiting(urgency, float(due), number, f"{queue}-{number}", "work")
            for (urgency, due), number in zip(facts, numbers, strict=False)
        )
    return found


@st.composite
def settings(draw: st.DrawFn) -> Queues:
    """Any of the three ways, with or without limits."""
    limits = draw(st.dictionaries(st.sampled_from(NAMES), st.integers(1, 4)))
    way = draw(st.sampled_from(["none", "list", "dict"]))
    if way == "list":
        order = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
        return Queues(order=tuple(order), limits=limits)
    if way == "dict":
        weights = st.dictionaries(st.sampled_from(NAMES), st.floats(0.001, 1000), min_size=1)
        return Queues(weights=draw(weights), limits=limits)
    return Queues(limits=limits)


rooms = st.integers(0, 40)
seeds = st.integers(0, 2**32)


@given(settings(), heads(), rooms, seeds)
def test_whatever_is_set_as_many_are_chosen_as_fit_and_each_one_once(
    queues: Queues, heads: Heads, room: int, seed: int
) -> None:
    before = {queue: list(head) for queue, head in heads.items()}
    chosen = queues.choose(heads, room, random.Random(seed))
    assert len(chosen) == min(room, sum(map(len, heads.values())))
    assert len(set(ids(chosen))) == len(chosen)
    assert heads == before, "what the caller has handed over was changed"


@given(settings(), heads(), rooms, seeds)
def test_whatever_is_set_the_jobs_of_one_queue_keep_their_order(
    queues: Queues, heads: Heads, room: int, seed: int
) -> None:
    chosen = queues.choose(heads, room, random.Random(seed))
    for queue, head in heads.items():
        mine = [job for job in chosen if queue_of(job) == queue]
        assert mine == head[: len(mine)]


@given(heads(), rooms)
def test_without_a_setting_priority_and_due_time_count_across_all_queues(
    heads: Heads, room: int
) -> None:
    everybody = sorted(job for head in heads.values() for job in head)
    assert Queues().choose(heads, room) == everybody[:room]


@given(st.permutations(NAMES), st.integers(1, 5), heads(), rooms)
def test_in_a_strict_order_nobody_is_chosen_while_an_earlier_queue_has_somebody(
    order: list[str], named: int, heads: Heads, room: int
) -> None:
    names = tuple(order[:named])
    chosen = Queues(order=names).choose(heads, room)
    place = {name: number for number, name in enumerate(names)}
    places = [place.get(queue_of(job), len(names)) for job in chosen]
    assert places == sorted(places)
    for queue, head in heads.items():
        left_out = len([job for job in chosen if queue_of(job) == queue]) < len(head)
        worst = places[-1] if places else -1
        assert not (left_out and place.get(queue, len(names)) < worst)


@given(heads(), rooms)
def test_in_a_strict_order_queues_that_are_not_named_come_last_by_priority_and_due_time(
    heads: Heads, room: int
) -> None:
    chosen = Queues(order=("a",)).choose(heads, room)
    others = [job for job in chosen if queue_of(job) != "a"]
    everybody = sorted(job for queue, head in heads.items() if queue != "a" for job in head)
    assert others == everybody[: len(others)]
    assert chosen[: len(chosen) - len(others)] == heads.get("a", [])[:room]


@pytest.mark.parametrize("room", [1, 4, 50])
def test_by_shares_three_of_four_starts_are_of_the_queue_with_weight_three(room: int) -> None:
    queues, dice, starts = Queues(weights={"a": 3.0, "b": 1.0}), random.Random(3), Counter[str]()
    for _ in range(8_000 // room):
        heads = crowd(a=room, b=room)
        starts.update(queue_of(job) for job in queues.choose(heads, min(room, 4), dice))
    # Five standard deviations; without weights it would be a half.
    total = sum(starts.values())
    assert abs(starts["a"] - 0.75 * total) < 5 * (0.75 * 0.25 * total) ** 0.5


def test_by_shares_a_queue_without_a_weight_has_weight_one() -> None:
    queues, dice = Queues(weights={"a": 2.0}), random.Random(4)
    chosen = [queues.choose(crowd(a=1, b=1, c=1), 1, dice)[0] for _ in range(8_000)]
    starts = Counter(map(queue_of, chosen))
    assert abs(starts["a"] - 4_000) < 5 * 2_000**0.5
    assert abs(starts["b"] - 2_000) < 5 * 1_500**0.5


def test_by_shares_no_queue_starves_however_small_its_weight() -> None:
    queues, dice = Queues(weights={"a": 999.0, "b": 1.0}), random.Random(5)
    chosen = [queues.choose(crowd(a=1, b=1), 1, dice)[0] for _ in range(20_000)]
    assert 0 < Counter(map(queue_of, chosen))["b"] < 60


def test_by_shares_a_queue_that_is_alone_gets_everything() -> None:
    queues = Queues(weights={"a": 1.0, "b": 100.0})
    assert ids(queues.choose(crowd(a=3), 2)) == ["a-0", "a-1"]
    assert len(queues.choose(crowd(a=50, b=1), 51, random.Random(6))) == 51


def test_by_shares_chance_is_there_without_a_seed_too() -> None:
    queues = Queues(weights={"a": 1.0, "b": 1.0})
    assert {queue_of(queues.choose(crowd(a=1, b=1), 1)[0]) for _ in range(200)} == {"a", "b"}


@given(
    settings(),
    st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9)),
    st.integers(0, 20),
)
def test_with_those_inside_a_queue_never_has_more_than_its_limit(
    queues: Queues, queue: str, inside: dict[str, int], wanted: int
) -> None:
    room = queues.room(queue, inside, wanted)
    assert 0 <= room <= wanted
    limit = queues.limits.get(queue)
    if limit is None:
        assert room == wanted
    else:
        assert room == 0 or inside.get(queue, 0) + room <= limit


@given(settings(), heads(), st.integers(1, 6), seeds)
def test_a_pool_that_works_a_backlog_off_exceeds_no_limit_and_ends_it(
    queues: Queues, heads: Heads, pool: int, seed: int
) -> None:
    dice = random.Random(seed)
    left = {queue: list(head) for queue, head in heads.items()}
    running: list[Waiting] = []
    total = sum(map(len, left.values()))
    started: list[Waiting] = []
    while len(started) < total or running:
        inside = Counter(map(queue_of, running))
        may_start = {
            queue: head[: queues.room(queue, inside, pool - len(running))]
            for queue, head in left.items()
        }
        let_in = queues.choose(
            {queue: head for queue, head in may_start.items() if head}, pool - len(running), dice
        )
        assert let_in or running, "somebody waits, nobody runs, and nobody is let in"
        for job in let_in:
            left[queue_of(job)].remove(job)
        started += let_in
        running += let_in
        for queue, number in Counter(map(queue_of, running)).items():
            assert number <= queues.limits.get(queue, pool)
        if running:
            running.pop(dice.randrange(len(running)))
    for queue, head in heads.items():
        assert [job for job in started if queue_of(job) == queue] == head


RIGHT: list[tuple[Any, Queues]] = [
    ([], Queues()),
    ({}, Queues()),
    (["urgent", "default"], Queues(order=("urgent", "default"))),
    (
        ["urgent", {"name": "reports", "limit": 1}],
        Queues(order=("urgent", "reports"), limits={"reports": 1}),
    ),
    ([{"name": "reports"}], Queues(order=("reports",))),
    ({"mail": 3, "default": 1}, Queues(weights={"mail": 3.0, "default": 1.0})),
    ({"mail": 0.5}, Queues(weights={"mail": 0.5})),
    (
        {"mail": 3, "reports": {"weight": 1, "limit": 2}},
        Queues(weights={"mail": 3.0, "reports": 1.0}, limits={"reports": 2}),
    ),
    ({"reports": {"limit": 2}}, Queues(weights={"reports": 1.0}, limits={"reports": 2})),
]


@pytest.mark.parametrize(("value", "expected"), RIGHT, ids=[str(n) for n in range(len(RIGHT))])
def test_a_configuration_reads_the_same_from_python_and_from_the_environment(
    value: Any, expected: Queues
) -> None:
    assert read_queues(value) == expected
    environment = {"FLASK_SPOOLER_QUEUES": json.dumps(value)}
    assert read_config({}, environment, Path("/nowhere")).queues == expected


WRONG: dict[str, Any] = {
    "a plain string": "urgent,default",
    "a number": 3,
    "true": True,
    "a set": {"urgent"},
    "a number in a list": ["urgent", 1],
    "none in a list": [None],
    "a list in a list": [["urgent"]],
    "an empty name in a list": [""],
    "a name twice": ["urgent", "urgent"],
    "a name twice, once with a limit": ["urgent", {"name": "urgent", "limit": 1}],
    "an entry without a name": [{"limit": 1}],
    "an entry whose name is no text": [{"name": ["urgent"]}],
    "an entry with a weight in a list": [{"name": "urgent", "weight": 1}],
    "a misspelt limit": [{"name": "urgent", "limits": 1}],
    "a limit of nothing": [{"name": "urgent", "limit": 0}],
    "a negative limit": [{"name": "urgent", "limit": -1}],
    "half a job as a limit": [{"name": "urgent", "limit": 1.5}],
    "a limit in words": [{"name": "urgent", "limit": "1"}],
    "true as a limit": [{"name": "urgent", "limit": True}],
    "none as a limit": [{"name": "urgent", "limit": None}],
    "no weight at all": {"mail": 0},
    "a negative weight": {"mail": -1},
    "a weight in words": {"mail": "3"},
    "true as a weight": {"mail": True},
    "none as a weight": {"mail": None},
    "an infinite weight": {"mail": float("inf")},
    "a weight that is no number": {"mail": float("nan")},
    "a weight beyond all bounds": {"mail": 10**400},
    "a list as a weight": {"mail": [3]},
    "an empty name in a dict": {"": 1},
    "a name that is no text": {1: 1},
    "a misspelt key of a share": {"mail": {"share": 3}},
    "a name in a dict's entry": {"mail": {"name": "mail", "weight": 3}},
    "a limit of nothing in a dict": {"mail": {"limit": 0}},
    "no weight in a dict's entry": {"mail": {"weight": 0, "limit": 1}},
    "true as a limit in a dict": {"mail": {"limit": True}},
}


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_configuration_is_refused_by_one_sentence_with_key_and_expectation(
    value: Any,
) -> None:
    with pytest.raises(ConfigError) as refused:
        read_config({"SPOOLER_QUEUES": value}, {}, Path("/nowhere"))
    sentence = str(refused.value)
    assert sentence.startswith("expected SPOOLER_QUEUES to be a list of queue names ")
    assert "a dict of weights" in sentence
    assert '"limit": 1' in sentence
    assert sentence.endswith(f"got: {value!r}")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"mail": 0}, "; the weight of 'mail' is a number above 0 (to hold it back, pause the"),
        ({"a": 1, "mail": {"weight": "3"}}, "; the weight of 'mail' is a number above 0"),
        ({"mail": {"limit": 0}}, "; the limit of 'mail' is a whole number from 1, got: "),
        ([{"name": "mail", "limit": 1.5}], "; the limit of 'mail' is a whole number from 1, got: "),
    ],
    ids=["weight", "text", "limit", "in a list"],
)
def test_a_wrong_number_is_named_with_its_queue(value: Any, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_config({"SPOOLER_QUEUES": value}, {}, Path("/nowhere"))
    assert said in str(refused.value)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner)
    | st.fixed_dictionaries({"name": inner}, optional={"limit": inner}),
    max_leaves=6,
))  # fmt: skip
def test_any_json_is_either_queues_that_work_or_refused_as_a_value(value: Any) -> None:
    try:
        queues = read_queues(value)
    except ValueError:
        return
    assert all(limit >= 1 for limit in queues.limits.values())
    assert all(weight > 0 for weight in queues.weights.values())
    names = [*queues.order, *queues.weights, "another"]
    waiting = {name: [Waiting(0, 0.0, 1, "x", "work")] for name in names}
    assert len(queues.choose(waiting, len(waiting), random.Random(7))) == len(waiting)
