"""The rules for unique keys find two holders, wrong answers, and replaced jobs that are lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .checker import check
from .facts import (
    FINAL_ONCE,
    KEY_ANSWER,
    NO_LOSS,
    ONE_HOLDER,
    REPLACED,
    FileSeen,
    Limits,
    RowSeen,
)
from .facts import Snapshot as Left
from .logs import History
from .test_checker import broken, history

SUCCEEDED = {1: "succeeded"}
A = RowSeen("a", "id-a", "succeeded", outcomes=SUCCEEDED, ended=11.0, key="k")
B = RowSeen("b", "id-b", "succeeded", outcomes=SUCCEEDED, ended=13.0, key="k")
WAITED = RowSeen("a", "id-a", "cancelled", "Replaced", ended=9.5, key="k", by="id-b")
BURIED = (FileSeen("dead", "id-a"),)


def judged(found: History, left: Left) -> set[str]:
    return broken(check(found, left, Limits(late=60.0)))


def asked(policy: str, *more: str) -> str:
    """Two enqueues with one key; the second with this policy."""
    intents = f"""
        INTENT a hash 9.0 key=k policy=return 9.0
        ACK a id-a 9.1
        INTENT b hash 9.0 key=k policy={policy} 9.2
    """
    return "\n".join([intents, *more])


def ran(token: str, at: float, end: float, attempt: int = 1, pid: int = 71) -> str:
    return f"S {token} {attempt} {pid} 1000 hash {at}\nE {token} {attempt} {pid} {end}\n"


def test_a_second_enqueue_that_returns_the_holder_is_no_violation() -> None:
    found = judged(history(asked("return", "ACK b id-a 9.3"), ran("a", 10.5, 10.9)), Left((A,)))
    assert found == set()


def test_a_second_enqueue_that_is_refused_by_the_holder_is_no_violation() -> None:
    client = asked("refuse", "DUPLICATE b id-a 9.3")
    assert judged(history(client, ran("a", 10.5, 10.9)), Left((A,))) == set()


def test_a_job_that_is_made_when_the_first_has_ended_is_no_violation() -> None:
    client = asked("return", "ACK b id-b 11.2").replace("return 9.2", "return 11.1")
    job = ran("a", 10.5, 10.9) + ran("b", 12.0, 12.5)
    assert judged(history(client, job), Left((A, B))) == set()


def test_two_jobs_that_held_a_key_at_the_same_time_are_a_violation() -> None:
    job = ran("a", 10.5, 10.9) + ran("b", 12.0, 12.5)
    found = judged(history(asked("return", "ACK b id-b 9.3"), job), Left((A, B)))
    assert found == {ONE_HOLDER}


def test_a_run_while_another_job_holds_the_key_is_a_violation() -> None:
    """Of an enqueue that was killed only its run tells that it had a key."""
    job = ran("b", 10.3, 10.4) + ran("a", 10.5, 10.9, pid=72)
    found = judged(history(asked("return"), job), Left((A, replace(B, ended=10.45))))
    assert found == {ONE_HOLDER}


@pytest.mark.parametrize(
    ("first", "second", "fine"),
    [
        ("holds", "holds", False),
        ("holds", "without", False),
        ("holds", "replaced", False),
        ("holds", None, True),
    ],
    ids=["two holders", "without", "replaced by nobody", "alone"],
)
def test_what_is_seen_at_one_look_at_the_ledger_is_judged(
    first: str, second: str | None, fine: bool
) -> None:
    client = asked("return", "ACK b id-b 11.2").replace("return 9.2", "return 11.1")
    client += f"\nBESIDE 7 k a {first} 10.0"
    client += f"\nBESIDE 7 k b {second} 10.0" if second else ""
    job = ran("a", 10.5, 10.9) + ran("b", 12.0, 12.5)
    found = judged(history(client, job), Left((A, B)))
    assert found == (set() if fine else {ONE_HOLDER})


def test_a_job_whose_enqueue_was_killed_may_run_without_its_key() -> None:
    client = asked("return", "BESIDE 7 k a holds 10.0", "BESIDE 7 k b without 10.0")
    job = ran("a", 10.5, 10.9) + ran("b", 10.6, 10.7, pid=72)
    left = Left((A, replace(B, key=None, ended=10.8)))
    assert judged(history(client, job), left) == set()


@pytest.mark.parametrize(
    ("policy", "answer"), [("return", "ACK"), ("refuse", "DUPLICATE")], ids=["return", "refuse"]
)
def test_an_answer_that_names_a_job_that_does_not_exist_is_a_violation(
    policy: str, answer: str
) -> None:
    client = asked(policy, f"{answer} b id-z 9.3")
    found = judged(history(client, ran("a", 10.5, 10.9)), Left((A,)))
    assert KEY_ANSWER in found


@pytest.mark.parametrize(
    ("policy", "answer"), [("return", "ACK"), ("refuse", "DUPLICATE")], ids=["return", "refuse"]
)
def test_a_key_that_is_not_free_after_the_end_of_its_job_is_a_violation(
    policy: str, answer: str
) -> None:
    client = asked(policy, f"FINAL a succeeded 11.05\n{answer} b id-a 11.2")
    client = client.replace(f"{policy} 9.2", f"{policy} 11.1")
    found = judged(history(client, ran("a", 10.5, 10.9)), Left((A,)))
    assert found == {KEY_ANSWER}


def test_an_answer_that_was_not_asked_for_is_a_violation() -> None:
    client = asked("return", "DUPLICATE b id-a 9.3")
    found = judged(history(client, ran("a", 10.5, 10.9)), Left((A,)))
    assert found == {KEY_ANSWER}


def test_an_answer_that_names_a_job_of_another_key_is_a_violation() -> None:
    client = asked("refuse", "DUPLICATE b id-a 9.3").replace("key=k policy=return", "steps=0")
    found = judged(history(client, ran("a", 10.5, 10.9)), Left((replace(A, key=None),)))
    assert found == {KEY_ANSWER}


def test_a_job_of_who_was_given_another_is_a_violation() -> None:
    job = ran("a", 10.5, 10.9) + ran("b", 12.0, 12.5)
    found = judged(history(asked("return", "ACK b id-a 9.3"), job), Left((A, B)))
    assert KEY_ANSWER in found


def replaced_while_waiting() -> History:
    client = asked("replace", "ACK b id-b 9.6").replace("replace 9.2", "replace 9.4")
    return history(client, ran("b", 12.0, 12.5))


def test_a_job_that_was_replaced_while_it_waited_is_no_loss() -> None:
    assert judged(replaced_while_waiting(), Left((WAITED, B), BURIED)) == set()


@pytest.mark.parametrize(
    "row",
    [
        replace(WAITED, by="id-z"),
        replace(WAITED, by="id-a"),
        replace(WAITED, by=None),
        replace(WAITED, reason="", by=None),
    ],
    ids=["by one that does not exist", "by itself", "by nobody", "without a reason"],
)
def test_a_job_that_is_cancelled_and_replaced_by_none_is_lost(row: RowSeen) -> None:
    found = judged(replaced_while_waiting(), Left((row, B), BURIED))
    assert found == {NO_LOSS, REPLACED}


def test_a_replaced_job_that_has_vanished_is_lost() -> None:
    assert NO_LOSS in judged(replaced_while_waiting(), Left((B,)))


def test_a_replaced_job_without_its_file_is_a_violation() -> None:
    assert judged(replaced_while_waiting(), Left((WAITED, B))) == {FINAL_ONCE}


RUNNING = "S a 1 71 1000 hash 9.15\n"
RAN = replace(A, state="cancelled", key=None, outcomes={1: "cancelled"})


def replaced_while_running(end: str) -> History:
    client = asked("replace", "BESIDE 7 k b holds 9.5", "BESIDE 7 k a replaced 9.5")
    client += "\nACK b id-b 9.3"
    return history(client, RUNNING + end + ran("b", 10.5, 10.7, pid=72), "K 71 9 spooler 9.2")


def test_a_running_job_that_lost_its_key_may_end_in_any_way() -> None:
    assert judged(replaced_while_running(""), Left((RAN, B), BURIED)) == set()
    succeeded = replace(RAN, state="succeeded", outcomes=SUCCEEDED)
    assert judged(replaced_while_running("E a 1 71 11.0\n"), Left((succeeded, B))) == set()


def test_a_running_job_that_keeps_its_key_beside_the_one_that_replaced_it_is_a_violation() -> None:
    left = Left((replace(RAN, key="k"), B), BURIED)
    assert ONE_HOLDER in judged(replaced_while_running(""), left)


def test_a_replaced_job_that_is_tried_again_is_a_violation() -> None:
    again = ran("a", 9.8, 9.9, attempt=2, pid=73)
    outcomes = {1: "crashed", 2: "succeeded"}
    row = replace(RAN, state="succeeded", outcomes=outcomes, starts={1: 9.14, 2: 9.79})
    found = judged(replaced_while_running(again), Left((row, B)))
    assert found == {REPLACED}


def test_a_job_that_was_started_just_before_it_was_replaced_may_say_so_after_it() -> None:
    found = replaced_while_running("")
    late = replace(found, job=(replace(found.job[0], at=9.35), *found.job[1:]))
    kill = (replace(found.killer[0], at=9.4),)
    row = replace(RAN, starts={1: 9.28})
    assert judged(replace(late, killer=kill), Left((row, B), BURIED)) == set()


def test_a_job_that_has_lost_its_key_to_nobody_is_a_violation() -> None:
    found = judged(
        history(asked("return", "ACK b id-a 9.3"), ran("a", 10.5, 10.9)),
        Left((replace(A, key=None),)),
    )
    assert found == {REPLACED}
