"""Rows: what may change, in what order they come, and what two processes do to each other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from flask_spooler import interrupts
from flask_spooler._uwsgi import Process
from flask_spooler.errors import LedgerError
from flask_spooler.job import FINAL, STATES, new_id
from flask_spooler.ledger import Ledger, Transaction
from flask_spooler.record import Change, ErrorInfo, Progress, Row
from tests.helpers import NOW, in_child, known, make_job, next_jobs, settle, wait_until

ME = Process(4711, 1)
KEPT_BESIDE = {f"ledger.db{ending}" for ending in ("-wal", "-shm", ".lock", ".turn")}
WHY = ErrorInfo("Test", "for a reason", "a traceback")


@pytest.fixture
def ledger(memory: Path) -> Ledger:
    return Ledger(memory / "ledger.db")


def add(ledger: Ledger, state: str = "queued", window: str | None = None, **changes: object) -> str:
    """Insert a job and bring it into a state by the ways that lead there."""
    job = make_job(**changes)
    with ledger.transaction() as rows:
        first = state if state == "scheduled" else "queued"
        assert rows.insert(job, first, window)
        if state in ("running", "retrying", "succeeded"):
            rows.start(job.id, "window", NOW, ME, "boot")
        if state in ("retrying", "succeeded"):
            assert settle(rows, job.id, 1, change(state))
        if state in ("dead", "cancelled", "expired"):
            assert rows.close(job.id, state, NOW, WHY)
    assert ledger.state(job.id) == state
    return job.id


def change(state: str, **more: object) -> Change:
    facts: dict[str, object] = {"outcome": "succeeded" if state == "succeeded" else "failed"}
    facts |= {"state": state, "due_at": NOW + 5, "ended_at": NOW + 1, **more}
    return Change(**facts)  # type: ignore[arg-type]


def row_of(ledger: Ledger, job_id: str) -> Row:
    with ledger.transaction() as rows:
        row = rows.row(job_id)
    assert row is not None
    return row


def test_inserting_a_job_twice_adds_one_row_and_changes_nothing(ledger: Ledger) -> None:
    job = make_job(priority=3, kwargs={"a": 1})
    with ledger.transaction() as rows:
        assert rows.insert(job, "queued", None)
        assert not rows.insert(make_job(id=job.id, priority=9), "scheduled", "window")
    record = known(ledger, job.id)
    assert (record.state, record.priority, record.kwargs) == ("queued", 3, b'{"a":1}')
    assert len(ledger.find()) == 1


def test_a_job_that_is_not_known_has_no_row_record_state_or_attempts(ledger: Ledger) -> None:
    assert ledger.record("nobody") is None
    assert ledger.state("nobody") is None
    assert ledger.attempts("nobody") == []
    with ledger.transaction() as rows:
        assert rows.row("nobody") is None


def test_starting_counts_the_attempt_and_names_the_process(ledger: Ledger) -> None:
    job_id = add(ledger)
    with ledger.transaction() as rows:
        rows.start(job_id, "window", NOW + 1, ME, "boot")
    row = row_of(ledger, job_id)
    assert (row.state, row.attempt, row.charged, row.window) == ("running", 1, 1, "window")
    assert (row.process, row.boot, row.started_at) == (ME, "boot", NOW + 1)


def test_settling_keeps_the_attempt_with_its_outcome_and_error(ledger: Ledger) -> None:
    job_id = add(ledger, "running")
    with ledger.transaction() as rows:
        assert settle(rows, job_id, 1, change("retrying", error=WHY, crashes=2, interruptions=1))
    row = row_of(ledger, job_id)
    assert (row.state, row.due_at, row.window, row.pid) == ("retrying", NOW + 5, None, None)
    assert (row.charged, row.crashes, row.interruptions) == (1, 2, 1)
    (attempt,) = ledger.attempts(job_id)
    assert (attempt.number, attempt.outcome) == (1, "failed")
    assert (attempt.started_at, attempt.finished_at) == (NOW, NOW + 1)
    assert (attempt.error_type, attempt.error_message, attempt.traceback) == (
        "Test",
        "for a reason",
        "a traceback",
    )


def test_an_uncharged_attempt_is_counted_but_not_charged(ledger: Ledger) -> None:
    job_id = add(ledger, "running")
    with ledger.transaction() as rows:
        settle(rows, job_id, 1, change("retrying", charged=False))
    assert (row_of(ledger, job_id).attempt, row_of(ledger, job_id).charged) == (1, 0)


def test_an_attempt_is_settled_once_and_only_under_its_own_number(ledger: Ledger) -> None:
    job_id = add(ledger, "running")
    with ledger.transaction() as rows:
        assert not settle(rows, job_id, 2, change("dead"))
        assert settle(rows, job_id, 1, change("retrying"))
        assert not settle(rows, job_id, 1, change("succeeded"))
        rows.start(job_id, "window", NOW, ME, "boot")
        assert not settle(rows, job_id, 1, change("succeeded"))
    assert row_of(ledger, job_id).state == "running"
    assert [attempt.outcome for attempt in ledger.attempts(job_id)] == ["failed"]


def test_a_success_keeps_its_result_and_last_progress_and_forgets_earlier_errors(
    ledger: Ledger,
) -> None:
    job_id = add(ledger, "running")
    with ledger.transaction() as rows:
        settle(rows, job_id, 1, change("retrying", error=WHY))
        rows.start(job_id, "window", NOW, ME, "boot")
        settle(rows, job_id, 2, change("succeeded", result=b"[1]", progress=Progress(2, 2, "done")))
    record = known(ledger, job_id)
    assert (record.state, record.result, record.error) == ("succeeded", b"[1]", None)
    assert record.progress == {"done": 2, "total": 2, "note": "done"}
    assert record.finished_at == NOW + 1


def test_progress_of_an_earlier_attempt_is_forgotten_when_the_next_one_starts(
    ledger: Ledger,
) -> None:
    job_id = add(ledger, "running")
    with ledger.transaction() as rows:
        rows.progress(job_id, Progress(1.5, 3.0))
    assert known(ledger, job_id).progress == {"done": 1.5, "total": 3, "note": None}
    with ledger.transaction() as rows:
        settle(rows, job_id, 1, change("retrying"))
        rows.start(job_id, "window", NOW, ME, "boot")
    assert known(ledger, job_id).progress is None


def start_anyway(rows: Transaction, job_id: str) -> None:
    """Start a job that cannot be started: it has no new row to return."""
    with pytest.raises(TypeError):
        rows.start(job_id, "window", NOW, ME, "boot")


TRANSITIONS: dict[str, Callable[[Transaction, str], object]] = {
    "start": start_anyway,
    "settle": lambda rows, job_id: settle(rows, job_id, 1, change("retrying")),
    "close": lambda rows, job_id: rows.close(job_id, "cancelled", NOW, None),
    "put_off": lambda rows, job_id: rows.put_off(job_id, NOW + 9, NOW, WHY),
    "requeue": lambda rows, job_id: rows.requeue(job_id),
    "end_lost": lambda rows, job_id: rows.end_lost(job_id, NOW, WHY),
    "ask_cancel": lambda rows, job_id: rows.ask_cancel(job_id),
    "enter_window": lambda rows, job_id: rows.enter_window(job_id, "window"),
    "ripen": lambda rows, job_id: rows.ripen(NOW + 1e6, 100),
    "insert": lambda rows, job_id: rows.insert(make_job(id=job_id), "queued", None),
}


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("state", sorted(FINAL))
def test_nothing_but_a_persons_retry_leaves_a_final_state(
    ledger: Ledger, state: str, transition: str
) -> None:
    job_id = add(ledger, state)
    before = row_of(ledger, job_id), known(ledger, job_id)
    with ledger.transaction() as rows:
        TRANSITIONS[transition](rows, job_id)
    assert (row_of(ledger, job_id), known(ledger, job_id)) == before


@pytest.mark.parametrize("state", STATES)
def test_only_dead_cancelled_and_expired_jobs_can_be_revived(ledger: Ledger, state: str) -> None:
    job_id = add(ledger, state)
    with ledger.transaction() as rows:
        assert rows.revive(job_id, NOW + 9, NOW + 9) == (state in ("dead", "cancelled", "expired"))
    if state in ("dead", "cancelled", "expired"):
        row = row_of(ledger, job_id)
        assert (row.state, row.due_at) == ("queued", NOW + 9)
        assert known(ledger, job_id).finished_at is None
    else:
        assert ledger.state(job_id) == state


def test_a_revived_job_goes_on_counting_attempts_while_its_limits_start_anew(
    ledger: Ledger,
) -> None:
    job_id = add(ledger, "running", expires_at=NOW + 100)
    with ledger.transaction() as rows:
        rows.ask_cancel(job_id)
        settle(rows, job_id, 1, change("dead", error=WHY, crashes=3, interruptions=2))
        rows.revive(job_id, NOW, NOW)
    row = row_of(ledger, job_id)
    assert (row.attempt, row.charged, row.crashes, row.interruptions) == (1, 0, 0, 0)
    assert (row.cancel_asked, row.expires_at) == (0, None)
    with ledger.transaction() as rows:
        rows.start(job_id, "window", NOW, ME, "boot")
    assert (row_of(ledger, job_id).attempt, row_of(ledger, job_id).charged) == (2, 1)


@pytest.mark.parametrize("state", ["scheduled", "queued", "retrying"])
def test_a_job_that_does_not_run_can_be_closed_and_leaves_the_window(
    ledger: Ledger, state: str
) -> None:
    job_id = add(ledger, state)
    with ledger.transaction() as rows:
        rows.enter_window(job_id, "window")
        assert rows.close(job_id, "expired", NOW + 3, WHY)
    record = known(ledger, job_id)
    assert (record.state, record.finished_at, record.error_type) == ("expired", NOW + 3, "Test")
    assert ledger.in_window() == {}


def test_a_running_job_is_not_closed_but_asked_to_stop(ledger: Ledger) -> None:
    job_id = add(ledger, "running")
    with ledger.transaction() as rows:
        assert not rows.close(job_id, "cancelled", NOW, None)
        rows.ask_cancel(job_id)
    assert (row_of(ledger, job_id).state, row_of(ledger, job_id).cancel_asked) == ("running", 1)


def test_the_end_of_an_attempt_takes_back_the_wish_to_cancel_it(ledger: Ledger) -> None:
    job_id = add(ledger, "running")
    with ledger.transaction() as rows:
        rows.ask_cancel(job_id)
        assert not settle(rows, job_id, 1, change("retrying"))
        assert settle(rows, job_id, 1, change("dead"))
    assert row_of(ledger, job_id).cancel_asked == 0


@pytest.mark.parametrize(
    ("state", "due", "expected"),
    [
        ("queued", NOW + 9, "scheduled"),
        ("queued", NOW, "queued"),
        ("scheduled", NOW - 1, "queued"),
        ("retrying", NOW + 9, "retrying"),
        ("retrying", NOW, "queued"),
    ],
)
def test_a_job_put_off_waits_in_the_state_that_says_why(
    ledger: Ledger, state: str, due: float, expected: str
) -> None:
    job_id = add(ledger, state)
    with ledger.transaction() as rows:
        rows.put_off(job_id, due, NOW, None)
    assert (row_of(ledger, job_id).state, row_of(ledger, job_id).due_at) == (expected, due)


def test_the_next_jobs_are_those_of_the_highest_priority_and_among_them_the_oldest_due(
    ledger: Ledger,
) -> None:
    wanted = {
        "low and early": add(ledger, priority=-5, due_at=NOW - 100),
        "middle and late": add(ledger, due_at=NOW),
        "middle and early": add(ledger, due_at=NOW - 50),
        "high and late": add(ledger, priority=5, due_at=NOW),
        "same instant, later id": add(ledger, due_at=NOW),
    }
    order = [
        "high and late",
        "middle and early",
        "middle and late",
        "same instant, later id",
        "low and early",
    ]
    with ledger.transaction() as rows:
        assert next_jobs(rows, 10) == [wanted[name] for name in order]
        assert next_jobs(rows, 2) == [wanted[name] for name in order[:2]]
        assert next_jobs(rows, 0) == []


def test_only_queued_jobs_outside_the_window_are_next(ledger: Ledger) -> None:
    for state in set(STATES) - {"queued"}:
        add(ledger, state)
    add(ledger, window="already there")
    with ledger.transaction() as rows:
        assert next_jobs(rows, 10) == []
        assert not rows.anyone_waits()
        waiting = add_within(rows)
        assert next_jobs(rows, 10) == [waiting]
        assert rows.anyone_waits()


def add_within(rows: Transaction, **changes: object) -> str:
    job = make_job(**changes)
    rows.insert(job, "queued", None)
    return job.id


def test_jobs_of_a_paused_queue_are_not_next_until_it_goes_on(ledger: Ledger) -> None:
    mail, other = add(ledger, queue="mail", priority=100), add(ledger)
    with ledger.transaction() as rows:
        rows.pause("mail", True)
        assert rows.holds("mail", "boot", NOW)
        assert not rows.holds("default", "boot", NOW)
        assert next_jobs(rows, 10) == [other]
        rows.pause("default", True)
        assert rows.held("boot", NOW) == (False, {"default", "mail"})
        assert next_jobs(rows, 10) == []
        rows.pause("mail", False)
        assert not rows.holds("mail", "boot", NOW)
        assert next_jobs(rows, 10) == [mail]


def test_jobs_ripen_when_their_time_has_come_the_oldest_first(ledger: Ledger) -> None:
    ids = [add(ledger, "scheduled", due_at=NOW + each) for each in (3, 1, 2, 10)]
    retrying = add(ledger, "retrying")
    with ledger.transaction() as rows:
        assert rows.ripen(NOW, 10) == 0
        assert rows.ripen(NOW + 5, 2) == 2
    assert [ledger.state(each) for each in ids] == ["scheduled", "queued", "queued", "scheduled"]
    with ledger.transaction() as rows:
        assert rows.ripen(NOW + 5, 10) == 2
        assert rows.ripen(NOW + 5, 10) == 0
    assert ledger.state(ids[0]) == ledger.state(retrying) == "queued"
    assert ledger.state(ids[3]) == "scheduled"


def test_the_next_due_time_is_that_of_the_first_job_that_waits_for_it(ledger: Ledger) -> None:
    assert ledger.next_due() is None
    add(ledger, "queued", due_at=NOW - 100)
    assert ledger.next_due() is None
    add(ledger, "scheduled", due_at=NOW + 60)
    add(ledger, "retrying")
    assert ledger.next_due() == NOW + 5
    with ledger.transaction() as rows:
        assert rows.is_first_due(NOW + 5)
        assert not rows.is_first_due(NOW + 6)


def test_there_is_work_when_a_job_is_due_or_may_enter_the_window(ledger: Ledger) -> None:
    assert not ledger.has_work(NOW)
    add(ledger, "scheduled", due_at=NOW + 60)
    add(ledger, window="window")
    add(ledger, "dead")
    assert not ledger.has_work(NOW)
    assert ledger.has_work(NOW + 60)
    add(ledger)
    assert ledger.has_work(NOW)


def test_ready_jobs_are_those_in_the_window_that_do_not_run(ledger: Ledger) -> None:
    ready = add(ledger, window="one")
    running = add(ledger, "running")
    add(ledger)
    with ledger.transaction() as rows:
        assert rows.seen() == (1, {ME.pid}, {"default": 2})
    assert set(ledger.in_window()) == {ready, running}


def test_only_a_queued_job_enters_the_window(ledger: Ledger) -> None:
    for state in STATES:
        job_id = add(ledger, state)
        with ledger.transaction() as rows:
            rows.enter_window(job_id, "entered")
        assert (row_of(ledger, job_id).window == "entered") == (state == "queued")


def test_the_holder_of_a_unique_key_is_the_unfinished_job_of_that_task(ledger: Ledger) -> None:
    holder = add(ledger, unique="key")
    add(ledger, "dead", unique="other")
    with ledger.transaction() as rows:
        assert rows.holder_of("tests.work", "key") == holder
        assert rows.holder_of("tests.other", "key") is None
        assert rows.holder_of("tests.work", "other") is None
        rows.close(holder, "cancelled", NOW, None)
        assert rows.holder_of("tests.work", "key") is None


def test_two_unfinished_jobs_never_hold_one_unique_key(ledger: Ledger) -> None:
    first = add(ledger, unique="key")
    second = add(ledger, unique="key")
    keys = {record.id: record.unique_key for record in ledger.find()}
    assert keys == {first: "key", second: None}


def test_jobs_are_found_newest_first_and_by_every_filter(ledger: Ledger) -> None:
    first = add(ledger)
    mail = add(ledger, queue="mail")
    other = add(ledger, "dead", task="tests.other")
    assert [record.id for record in ledger.find()] == [other, mail, first]
    assert [record.id for record in ledger.find(limit=2)] == [other, mail]
    assert [record.id for record in ledger.find(before=mail)] == [first]
    assert [record.id for record in ledger.find(queue="mail")] == [mail]
    assert [record.id for record in ledger.find(task="tests.other")] == [other]
    assert [record.id for record in ledger.find(state="queued", queue="mail")] == [mail]
    assert ledger.find(state="dead", queue="mail") == []


def test_the_overdue_are_waiting_jobs_whose_time_is_over(ledger: Ledger) -> None:
    late = [add(ledger, state, expires_at=NOW) for state in ("queued", "scheduled", "retrying")]
    add(ledger, "running", expires_at=NOW)
    add(ledger, "dead", expires_at=NOW)
    add(ledger, window="window", expires_at=NOW)
    add(ledger, expires_at=NOW + 1)
    add(ledger)
    with ledger.transaction() as rows:
        assert set(rows.overdue(NOW, 10)) == set(late)
        assert len(rows.overdue(NOW, 2)) == 2
        assert rows.overdue(NOW - 1, 10) == []


def test_ended_jobs_are_found_by_age_and_state_the_oldest_first(ledger: Ledger) -> None:
    succeeded, dead = add(ledger, "succeeded"), add(ledger, "dead")
    for state in set(STATES) - FINAL:
        add(ledger, state)
    assert ledger.ended_before(NOW + 2, 10, FINAL) == [dead, succeeded]
    assert ledger.ended_before(NOW + 2, 1, FINAL) == [dead]
    assert ledger.ended_before(NOW + 2, 10, frozenset({"succeeded"})) == [succeeded]
    assert ledger.ended_before(NOW, 10, FINAL) == []


def test_a_deleted_job_leaves_neither_row_nor_attempts(ledger: Ledger) -> None:
    job_id, other = add(ledger, "succeeded"), add(ledger, "succeeded")
    with ledger.transaction() as rows:
        rows.delete(job_id)
    assert ledger.record(job_id) is None
    assert ledger.attempts(job_id) == []
    assert len(ledger.attempts(other)) == 1


def test_jobs_are_counted_by_queue_and_state(ledger: Ledger) -> None:
    add(ledger, queue="mail")
    add(ledger, queue="mail")
    add(ledger, "running")
    counts = ledger.counts()
    assert counts["mail"] == dict.fromkeys(STATES, 0) | {"queued": 2}
    assert counts["default"] == dict.fromkeys(STATES, 0) | {"running": 1}
    assert set(counts) == {"mail", "default"}


def test_the_oldest_queued_job_says_since_when_one_waits(ledger: Ledger) -> None:
    assert ledger.oldest_queued() == {}
    add(ledger, "scheduled", due_at=NOW - 500)
    add(ledger, due_at=NOW)
    add(ledger, due_at=NOW - 7)
    add(ledger, due_at=NOW - 9, priority=-100)
    add(ledger, due_at=NOW - 3, priority=100)
    add(ledger, queue="mail", due_at=NOW - 2)
    add(ledger, queue="mail", window="ready", due_at=NOW - 4)
    assert ledger.oldest_queued() == {"default": NOW - 9, "mail": NOW - 4}


def test_a_failed_transaction_keeps_nothing_and_runs_its_undos_in_reverse(ledger: Ledger) -> None:
    undone: list[int] = []

    def fail_half_way() -> None:
        with ledger.transaction() as rows:
            rows.insert(make_job(), "queued", None)
            rows.on_rollback(new_id(), lambda: undone.append(1))
            rows.on_rollback(new_id(), lambda: undone.append(2))
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail_half_way()
    assert undone == [2, 1]
    assert ledger.find() == []
    add(ledger)


def test_a_committed_transaction_runs_no_undo(ledger: Ledger) -> None:
    undone: list[int] = []
    with ledger.transaction() as rows:
        rows.on_rollback(new_id(), lambda: undone.append(1))
    assert undone == []


def test_a_transaction_gives_up_on_a_locked_ledger_after_its_patience(ledger: Ledger) -> None:
    add(ledger)
    other = apsw.Connection(str(ledger.path))
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    ledger.patience = 0.05
    with pytest.raises(LedgerError, match="locked"), ledger.transaction():
        raise AssertionError("the body must not run")
    assert 0.05 <= time.monotonic() - started < 1.0
    other.execute("ROLLBACK")
    other.close()
    add(ledger)


def test_a_transaction_waits_for_another_one_to_end(ledger: Ledger) -> None:
    add(ledger)
    other = Ledger(ledger.path)
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with other.transaction():
            inside.set()
            leave.wait(5)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(5)
    threading.Timer(0.05, leave.set).start()
    add(ledger)
    assert leave.is_set()
    holder.join()


def test_threads_of_one_process_never_mix_their_transactions(ledger: Ledger) -> None:
    failures = 0

    def work(number: int) -> None:
        nonlocal failures
        for step in range(30):
            try:
                with ledger.transaction() as rows:
                    rows.insert(make_job(queue=f"q{number}"), "queued", None)
                    if step % 3 == 0:
                        raise RuntimeError("take it back")
            except RuntimeError:
                failures += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == 40
    assert {queue: counts["queued"] for queue, counts in ledger.counts().items()} == dict.fromkeys(
        ("q0", "q1", "q2", "q3"), 20
    )


def transact(path: Path, number: int) -> None:
    """Insert, start and settle 200 jobs, one transaction for each step of three."""
    ledger = Ledger(path)
    for _ in range(200):
        job = make_job(queue=f"q{number}")
        ledger.patience = 60
        with ledger.transaction() as rows:
            assert rows.insert(job, "queued", None)
            rows.start(job.id, "window", NOW, ME, "boot")
            assert settle(rows, job.id, 1, change("succeeded"))


def test_four_processes_with_two_hundred_transactions_each_lose_nothing(ledger: Ledger) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=transact, args=(ledger.path, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    counts = ledger.counts()
    assert {queue: of["succeeded"] for queue, of in counts.items()} == dict.fromkeys(
        ("q0", "q1", "q2", "q3"), 200
    )
    assert integrity(ledger) == "ok"


def integrity(ledger: Ledger) -> str:
    connection = apsw.Connection(str(ledger.path))
    found: str = connection.execute("PRAGMA integrity_check").get
    connection.close()
    return found


def test_a_forked_child_uses_a_connection_of_its_own(ledger: Ledger) -> None:
    add(ledger)
    mine = ledger._connection._open

    def child() -> None:
        add(ledger, queue="child")
        assert ledger._connection._open is not mine

    assert in_child(child) == 0
    add(ledger, queue="parent")
    assert ledger._connection._open is mine
    assert set(ledger.counts()) == {"default", "child", "parent"}
    assert integrity(ledger) == "ok"


def test_a_child_forked_within_a_transaction_does_not_end_it(ledger: Ledger) -> None:
    with ledger.transaction() as rows:
        rows.insert(make_job(), "queued", None)
        assert in_child(lambda: None) == 0
        rows.insert(make_job(), "queued", None)
    assert len(ledger.find()) == 2


def test_a_process_killed_within_a_transaction_leaves_nothing_of_it(ledger: Ledger) -> None:
    add(ledger)

    def child() -> None:
        with ledger.transaction() as rows:
            rows.insert(make_job(), "queued", None)
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(child) == -signal.SIGKILL
    assert len(ledger.find()) == 1
    add(ledger)
    assert integrity(ledger) == "ok"


def test_a_deleted_ledger_is_noticed_and_made_anew(ledger: Ledger) -> None:
    lost = add(ledger)
    ledger.path.unlink()
    assert ledger.record(lost) is None
    kept = add(ledger)
    assert [record.id for record in Ledger(ledger.path).find()] == [kept]


def test_a_ledger_made_anew_is_another_generation_so_that_the_files_are_surveyed_again(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    for _ in range(20):
        before = ledger.generation()
        ledger.path.unlink()
        assert ledger.generation() != before


def test_a_ledger_set_aside_is_kept_and_a_new_one_begun(ledger: Ledger) -> None:
    lost = add(ledger)
    kept = ledger.set_aside()
    assert kept.exists()
    assert not ledger.path.exists()
    assert ledger.record(lost) is None
    add(ledger)
    assert [record.id for record in Ledger(kept).find()] == [lost]


@pytest.mark.parametrize("left", ["-wal", "-shm"])
def test_what_a_deleted_ledger_left_beside_it_does_not_spoil_the_next_one(
    ledger: Ledger, left: str
) -> None:
    Path(f"{ledger.path}{left}").write_bytes(b"of another file" * 1000)
    kept = add(ledger)
    assert [record.id for record in ledger.find()] == [kept]
    assert integrity(ledger) == "ok"


def test_a_ledger_is_private_and_leaves_no_half_made_files(ledger: Ledger) -> None:
    add(ledger)
    assert ledger.path.stat().st_mode & 0o777 == 0o600
    names = {path.name for path in ledger.path.parent.iterdir()}
    assert {name for name in names if name not in KEPT_BESIDE} == {"ledger.db"}


def test_damage_is_told_apart_from_a_ledger_that_is_only_busy(ledger: Ledger) -> None:
    add(ledger)
    other = apsw.Connection(str(ledger.path))
    other.execute("BEGIN IMMEDIATE")
    busy = failure(ledger)
    other.execute("ROLLBACK")
    other.close()
    ledger.path.unlink()
    ledger.path.write_bytes(b"a letter, not a database. " * 200)
    assert (busy.beyond_use, failure(ledger).beyond_use) == (False, True)


def failure(ledger: Ledger) -> LedgerError:
    try:
        with ledger.transaction():
            raise AssertionError("the body must not run")
    except LedgerError as error:
        return error


def test_a_replaced_ledger_is_noticed(ledger: Ledger, memory: Path) -> None:
    add(ledger)
    other = Ledger(memory / "other.db")
    kept = add(other)
    with other.transaction() as rows:
        rows._run("SELECT 1")
    connection = apsw.Connection(str(other.path))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    os.rename(other.path, ledger.path)
    assert [record.id for record in ledger.find()] == [kept]


def test_closing_a_deleted_ledger_leaves_its_successor_alone(ledger: Ledger) -> None:
    add(ledger)
    ledger.path.unlink()
    successor = Ledger(ledger.path)
    kept = add(successor)
    assert [record.id for record in ledger.find()] == [kept]
    assert [record.id for record in Ledger(ledger.path).find()] == [kept]
    add(successor)
    assert len(ledger.find()) == 2
    assert integrity(ledger) == "ok"


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(ledger: Ledger) -> None:
    connection = apsw.Connection(str(ledger.path))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LedgerError, match=r"schema 99.*upgrade"):
        add(ledger)
    connection = apsw.Connection(str(ledger.path))
    assert connection.pragma("user_version") == 99
    connection.close()


def test_a_file_that_is_no_database_is_a_ledger_error_and_left_alone(ledger: Ledger) -> None:
    ledger.path.write_bytes(b"a letter, not a database. " * 200)
    with pytest.raises(LedgerError, match="not a database"):
        add(ledger)
    assert ledger.path.read_bytes().startswith(b"a letter")


def test_a_ledger_in_a_missing_directory_is_a_ledger_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="missing"):
        Ledger(tmp_path / "missing" / "ledger.db").find()


def test_connections_that_create_the_ledger_at_once_all_succeed(ledger: Ledger) -> None:
    together = threading.Barrier(6)
    errors: list[BaseException] = []

    def create() -> None:
        together.wait()
        try:
            add(Ledger(ledger.path))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(ledger.find()) == 6


def test_an_exception_from_a_signal_is_held_back_until_the_transaction_is_over(
    ledger: Ledger,
) -> None:
    def interrupt(signum: int, frame: object) -> None:
        interrupts.deliver(stop)

    def stop() -> None:
        raise TimeoutError("the time is up")

    def insert_while_interrupted() -> None:
        with ledger.transaction() as rows:
            os.kill(os.getpid(), signal.SIGUSR1)
            wait_until(lambda: interrupts._pending is not None)
            rows.insert(make_job(), "queued", None)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(TimeoutError):
            insert_while_interrupted()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(ledger.find()) == 1


def test_a_drain_belongs_to_one_boot_and_ends_by_itself(ledger: Ledger) -> None:
    with ledger.transaction() as rows:
        rows.register("boot one", NOW, 4)
        rows.register("boot two", NOW + 1, 2)
        rows.register("boot one", NOW + 2, 8)
        assert rows.pool() == 10
        rows.drain("boot one", NOW + 10)
        assert rows.held("boot one", NOW).draining
        assert not rows.held("boot two", NOW).draining
        assert not rows.held("boot one", NOW + 10).draining
        assert rows.holds("any queue", "boot one", NOW)
        assert not rows.holds("any queue", "boot two", NOW)
        rows.drain("boot two", NOW + 10)
        rows.drain("boot two", 0.0)
    assert ledger.is_draining("boot one", NOW)
    assert not ledger.is_draining("boot two", NOW)
    assert ledger.servers() == ["boot one", "boot two"]
    with ledger.transaction() as rows:
        rows.unregister("boot one")
    assert ledger.servers() == ["boot two"]
    assert not ledger.is_draining("boot one", NOW)


def test_a_stop_is_noted_for_a_running_job_only(ledger: Ledger) -> None:
    running, retrying = add(ledger, "running"), add(ledger, "retrying")
    with ledger.transaction() as rows:
        rows.note_stop(ME)
        rows.note_stop(ME._replace(started=2))
    assert (row_of(ledger, running).boot, row_of(ledger, retrying).boot) == ("", "boot")
