"""The rules for steps find each that was done too often or remembered wrongly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .checker import check
from .facts import STEP_ONCE, STEP_SAME, RowSeen, Snapshot
from .test_checker import broken, history

CLIENT = """
    INTENT a hash 10.0 steps=2 9.0
    ACK a id-a 9.1
"""
KILL = "K 71 9 spooler 10.8"
FIRST = """
    S a 1 71 1000 hash 10.5
    X a 1 71 one aaaa 10.6
    G a 1 71 one aaaa 1 10.7
    X a 1 71 two bbbb 10.75
"""
SECOND = """
    S a 2 72 1000 hash 12.0
    G a 2 72 one aaaa 1 12.1
    X a 2 72 two cccc 12.2
    G a 2 72 two cccc 1 12.3
    E a 2 72 12.5
"""
ROW = RowSeen(
    "a",
    "id-a",
    "succeeded",
    outcomes={1: "crashed", 2: "succeeded"},
    steps={"one": (1, "aaaa"), "two": (2, "cccc")},
)
DONE = Snapshot(rows=(ROW,))


def steps(**kept: tuple[int, str]) -> Snapshot:
    return Snapshot(rows=(replace(ROW, steps=kept),))


def test_only_the_step_in_which_the_kill_fell_may_be_done_again() -> None:
    assert check(history(CLIENT, FIRST + SECOND, KILL), DONE) == []


def test_a_step_that_is_done_again_after_the_task_had_gone_on_with_it_is_a_violation() -> None:
    again = SECOND.replace("G a 2 72 one aaaa 1 12.1", "X a 2 72 one dddd 12.05")
    found = check(history(CLIENT, FIRST + again, KILL), steps(one=(2, "dddd"), two=(2, "cccc")))
    assert broken(found) == {STEP_ONCE}


def test_a_step_that_is_done_again_after_a_later_one_was_finished_is_a_violation() -> None:
    first = FIRST.replace("aaaa 1 10.7", "aaaa 0 10.7") + "G a 1 71 two bbbb 1 10.77"
    again = SECOND.replace("G a 2 72 one aaaa", "X a 2 72 one dddd 12.05\nG a 2 72 one dddd")
    again = again.replace("X a 2 72 two cccc 12.2\n", "").replace("cccc", "bbbb")
    kept = steps(one=(2, "dddd"), two=(1, "bbbb"))
    assert broken(check(history(CLIENT, first + again, KILL), kept)) == {STEP_ONCE}


def test_a_step_that_the_ledger_could_not_take_may_be_done_again_after_a_kill() -> None:
    first = FIRST.replace("aaaa 1 10.7", "aaaa 0 10.7")
    again = SECOND.replace("G a 2 72 one aaaa", "X a 2 72 one dddd 12.05\nG a 2 72 one dddd")
    kept = steps(one=(2, "dddd"), two=(2, "cccc"))
    assert check(history(CLIENT, first + again, KILL), kept) == []


def test_a_step_that_is_done_again_though_nobody_was_killed_is_a_violation() -> None:
    asks = FIRST + "A a 1 71 10.9"
    assert broken(check(history(CLIENT, asks + SECOND), DONE)) == {STEP_ONCE}


def test_a_step_that_is_done_twice_in_one_attempt_is_a_violation() -> None:
    twice = SECOND.replace("X a 2 72 two", "X a 2 72 two eeee 12.15\nX a 2 72 two")
    assert broken(check(history(CLIENT, FIRST + twice, KILL), DONE)) == {STEP_ONCE}


@pytest.mark.parametrize("got", ["bbbb", "dddd"])
def test_another_result_than_that_of_the_last_effect_is_a_violation(got: str) -> None:
    wrong = SECOND.replace("G a 2 72 two cccc", f"G a 2 72 two {got}")
    assert broken(check(history(CLIENT, FIRST + wrong, KILL), DONE)) == {STEP_SAME}


def test_a_result_of_a_step_that_was_never_done_is_a_violation() -> None:
    first = FIRST.replace("X a 1 71 one aaaa 10.6\n", "")
    assert broken(check(history(CLIENT, first + SECOND, KILL), DONE)) == {STEP_SAME}


@pytest.mark.parametrize(
    "kept", [(1, "bbbb"), (1, "cccc"), (2, "bbbb")], ids=["both", "attempt", "result"]
)
def test_a_ledger_that_keeps_another_step_than_the_last_effect_is_a_violation(
    kept: tuple[int, str],
) -> None:
    left = steps(one=(1, "aaaa"), two=kept)
    assert broken(check(history(CLIENT, FIRST + SECOND, KILL), left)) == {STEP_SAME}


def test_a_success_without_all_its_steps_is_a_violation() -> None:
    left = steps(one=(1, "aaaa"))
    assert broken(check(history(CLIENT, FIRST + SECOND, KILL), left)) == {STEP_SAME}
