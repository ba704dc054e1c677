"""Who enters the window, how many of them, and who is woken: one place for each idle spooler."""

from __future__ import annotations

import errno
import os
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from flask_spooler import _uwsgi, operations
from flask_spooler._uwsgi import Process
from flask_spooler.engine import SpoolEngine
from flask_spooler.housekeeper import Housekeeper
from flask_spooler.ledger import Ledger
from flask_spooler.queues import Queues, read_queues
from flask_spooler.record import Change, ErrorInfo
from flask_spooler.spool import TAKEN, WAITING, Spool
from flask_spooler.window import Promoted
from tests.helpers import KEY, files, known, make_job

Fresh = Callable[..., SpoolEngine]

BOOT = "boot"


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Whoever was woken, in order, instead of a signal."""
    found: list[int] = []
    monkeypatch.setattr(_uwsgi, "wake", found.extend)
    return found


@pytest.fixture
def with_queues(spool: Spool) -> Fresh:
    """Make an engine for a value of `SPOOLER_QUEUES`."""
    return lambda value=(): SpoolEngine(spool, key=KEY, queues=read_queues(value))


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch, woken: list[int]) -> Callable[[int], list[int]]:
    """Say how many spoolers there are, under numbers that no process has."""

    def of(number: int) -> list[int]:
        pids = [2**22 + each for each in range(1, number + 1)]
        monkeypatch.setattr(_uwsgi, "spooler_pids", lambda: pids)
        return pids

    return of


Pool = Callable[[int], list[int]]


def submit(engine: SpoolEngine, *queues: str, **options: object) -> list[str]:
    """Enqueue one job for each named queue, all at one time."""
    return [engine.submit(make_job(queue=queue, **options)) for queue in queues]


def in_window(engine: SpoolEngine) -> list[str]:
    return [file.job_id for file in engine.spool.window()]


def fill(engine: SpoolEngine) -> Promoted:
    with engine.ledger.transaction() as rows:
        return engine.window.fill(rows)


def first(engine: SpoolEngine) -> str | None:
    with engine.ledger.transaction() as rows:
        waiting = engine.window.first(rows, rows.seen())
    return waiting and waiting.id


def start(engine: SpoolEngine, job_id: str, pid: int) -> None:
    """Let a spooler start a job that is in the window."""
    window = engine.ledger.in_window()[job_id].window
    assert window is not None
    with engine.ledger.transaction() as rows:
        rows.start(job_id, window, time.time(), Process(pid, 1), BOOT)


def finish(engine: SpoolEngine, job_id: str) -> None:
    """End a running job, its file included."""
    with engine.ledger.transaction() as rows:
        row = rows.known(job_id)
        now = time.time()
        change = Change(outcome="succeeded", state="succeeded", due_at=now, ended_at=now)
        assert rows.settle(row, change)
    assert row.window is not None
    engine.spool.finish(row.window)


def test_the_window_has_one_place_for_each_idle_spooler(engine: SpoolEngine, pool: Pool) -> None:
    ids = submit(engine, *["q"] * 5)
    pool(3)
    fill(engine)
    assert in_window(engine) == ids[:3]
    fill(engine)
    assert in_window(engine) == ids[:3]


def test_a_busy_spooler_has_no_place_in_the_window(engine: SpoolEngine, pool: Pool) -> None:
    one, two, _ = pool(3)
    ids = submit(engine, *["q"] * 5)
    start(engine, ids[0], one)
    start(engine, ids[1], two)
    fill(engine)
    assert in_window(engine) == ids[:3]  # two that run, and one for the third spooler
    finish(engine, ids[0])
    fill(engine)
    assert in_window(engine) == ids[1:4]


def test_outside_a_server_nobody_enters_and_nobody_is_first(engine: SpoolEngine) -> None:
    submit(engine, "q")
    assert fill(engine) == Promoted(0, [])
    assert first(engine) is None


def test_as_many_idle_spoolers_are_woken_as_files_are_ready(
    engine: SpoolEngine, pool: Pool
) -> None:
    submit(engine, "q", "q")
    pids = pool(4)
    promoted = fill(engine)
    assert promoted == Promoted(2, pids[:2])
    assert fill(engine) == Promoted(2, []), "nobody new came in, so nobody is woken again"


def test_a_spooler_that_lets_others_in_does_not_wake_itself_by_a_signal(
    engine: SpoolEngine, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(engine, "q", "q")
    (other,) = pool(1)
    monkeypatch.setattr(_uwsgi, "spooler_pids", lambda: [os.getpid(), other])
    assert fill(engine) == Promoted(2, [other])


def test_a_new_job_wakes_one_idle_spooler_more_than_files_were_ready(
    engine: SpoolEngine, pool: Pool, woken: list[int]
) -> None:
    pids = pool(3)
    submit(engine, "q")
    assert woken == pids[:1]
    woken.clear()
    submit(engine, "q")
    assert woken == pids[:2]


def test_a_new_job_passes_nobody_who_waits_though_spoolers_are_idle(
    engine: SpoolEngine, pool: Pool
) -> None:
    first_of_all = submit(engine, "q", "q")  # from outside the server, where nobody is let in
    pool(3)
    new = submit(engine, "q", "q")
    assert in_window(engine) == [*first_of_all, new[0]]
    assert engine.spool.has(WAITING, new[1])


def test_whose_turn_it_is_is_nobodys_while_a_file_is_ready_in_the_window(
    engine: SpoolEngine, pool: Pool
) -> None:
    (one,) = pool(1)
    ids = submit(engine, "q", "q")
    assert first(engine) is None
    start(engine, ids[0], one)
    assert first(engine) == ids[1]


def test_the_turn_goes_by_priority_then_due_time_then_enqueue(
    engine: SpoolEngine, pool: Pool
) -> None:
    due = time.time() - 10
    ids = [
        engine.submit(make_job(priority=priority, enqueued_at=at, due_at=at))
        for priority, at in [(0, due), (0, due - 1), (5, due), (5, due), (0, due)]
    ]
    pool(1)
    order = []
    for _ in ids:
        job_id = first(engine)
        assert job_id is not None
        order.append(job_id)
        with engine.ledger.transaction() as rows:
            rows.close(job_id, "cancelled", due, None)
    assert order == [ids[2], ids[3], ids[1], ids[0], ids[4]]


def test_paused_queues_and_a_draining_server_have_no_turn(engine: SpoolEngine, pool: Pool) -> None:
    mail, other = submit(engine, "mail", "other")
    pool(2)
    operations.pause(engine, "mail")
    assert first(engine) == other
    fill(engine)
    assert in_window(engine) == [other]
    start(engine, other, 2**22 + 1)
    assert first(engine) is None
    operations.pause(engine, "mail", paused=False)
    with engine.ledger.transaction() as rows:
        rows.drain(_uwsgi.boot_name(), time.time() + 60)
    assert first(engine) is None
    fill(engine)
    assert in_window(engine) == [other]
    with engine.ledger.transaction() as rows:
        rows.drain(_uwsgi.boot_name(), 0)
    assert first(engine) == mail


def test_jobs_that_wait_for_their_time_have_no_turn(engine: SpoolEngine, pool: Pool) -> None:
    now = time.time()
    engine.submit(make_job(enqueued_at=now, due_at=now + 60, priority=100))
    pool(1)
    assert first(engine) is None
    fill(engine)
    assert in_window(engine) == []


def test_a_strict_order_holds_for_the_window_and_for_the_turn(
    with_queues: Fresh, pool: Pool
) -> None:
    engine = with_queues(["urgent", "usual"])
    other, usual, late, urgent = submit(engine, "other", "usual", "usual", "urgent")
    pool(3)
    fill(engine)
    assert in_window(engine) == [urgent, usual, late]
    for number, job_id in enumerate((urgent, usual, late), 1):
        start(engine, job_id, 2**22 + number)
    finish(engine, usual)
    assert first(engine) == other
    (more,) = submit(engine, "urgent")
    assert in_window(engine)[-1] == more, "it passes who waits in a later queue"
    assert engine.spool.has(WAITING, other)


def test_a_limit_counts_those_that_run_and_those_in_the_window(
    with_queues: Fresh, pool: Pool
) -> None:
    engine = with_queues([{"name": "reports", "limit": 2}, "usual"])
    reports, usual = submit(engine, *["reports"] * 4), submit(engine, *["usual"] * 2)
    pids = pool(4)
    fill(engine)
    assert in_window(engine) == [*reports[:2], *usual]
    for job_id, pid in zip([*reports[:2], *usual], pids, strict=True):
        start(engine, job_id, pid)
    finish(engine, usual[0])
    assert first(engine) is None, "two reports run"
    finish(engine, reports[0])
    assert first(engine) == reports[2]
    fill(engine)
    assert Counter(in_window(engine)) == Counter([reports[1], reports[2], usual[1]])


def test_a_limit_of_a_queue_at_its_limit_lets_the_others_use_the_rest(
    with_queues: Fresh, pool: Pool
) -> None:
    engine = with_queues({"reports": {"weight": 1000, "limit": 1}, "usual": 1})
    reports, usual = submit(engine, *["reports"] * 9), submit(engine, *["usual"] * 9)
    pool(4)
    fill(engine)
    inside = set(in_window(engine))
    assert len(inside) == 4
    assert inside == {reports[0], *usual[:3]}


def test_a_new_job_stays_outside_while_its_queue_is_at_its_limit(
    with_queues: Fresh, pool: Pool
) -> None:
    engine = with_queues([{"name": "reports", "limit": 1}])
    pool(4)
    inside, outside = submit(engine, "reports", "reports")
    assert in_window(engine) == [inside]
    assert engine.spool.has(WAITING, outside)
    (other,) = submit(engine, "other")
    assert in_window(engine) == [inside, other], "who waits for a limit holds nobody up"


def test_several_jobs_at_once_stay_within_the_limit(with_queues: Fresh, pool: Pool) -> None:
    engine = with_queues({"reports": {"limit": 2}})
    pool(4)
    engine.submit_many([make_job(queue="reports") for _ in range(6)])
    assert len(in_window(engine)) == 2


@pytest.mark.parametrize(
    "value",
    [
        [{"name": "a", "limit": 2}, "b", {"name": "c", "limit": 1}],
        {"a": {"weight": 5, "limit": 2}, "c": {"limit": 1}},
    ],
    ids=["strict", "shares"],
)
def test_through_hundreds_of_enqueues_starts_and_ends_limits_and_order_hold(
    with_queues: Fresh, pool: Pool, value: object
) -> None:
    """What a pool of four does, step by step in a seeded order, with all ways in."""
    engine, pids, dice = with_queues(value), pool(4), random.Random(11)
    limits = {"a": 2, "c": 1}
    enqueued: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    entered: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    queue_of: dict[str, str] = {}
    ended = 0
    while ended < 150:
        rows = engine.ledger.in_window()
        running = {row.id: row.pid for row in rows.values() if row.state == "running"}
        ready = [row.id for row in rows.values() if row.state == "queued"]
        idle = [pid for pid in pids if pid not in running.values()]
        step = dice.choice(["enqueue", "enqueue", "start", "end", "fill"])
        if step == "enqueue" and len(queue_of) < 150:
            (job_id,) = submit(engine, queue := dice.choice("aabc"), due_at=1.0)
            enqueued[queue].append(job_id)
            queue_of[job_id] = queue
        elif step == "start" and ready and idle:
            start(engine, dice.choice(ready), idle[0])
        elif step == "end" and running:
            finish(engine, dice.choice(list(running)))
            ended += 1
            fill(engine)
        elif step == "fill":
            fill(engine)
        inside = engine.ledger.in_window()
        for file in engine.spool.window():
            queue = queue_of[file.job_id]
            if file.job_id not in entered[queue]:
                entered[queue].append(file.job_id)
        for queue, number in Counter(row.queue for row in inside.values()).items():
            assert number <= limits.get(queue, 4)
        assert len(inside) <= 4
    assert entered == enqueued, "the jobs of a queue did not enter in the order of their enqueue"


def test_a_file_that_a_dead_spooler_had_taken_enters_the_window_in_its_turn(
    engine: SpoolEngine, pool: Pool
) -> None:
    """It was killed after its rename and before its commit, so the row says that it waits."""
    taken, after = submit(engine, "q", "q")
    assert engine.spool.take(taken) == f"{TAKEN}/{taken}"
    pool(2)
    fill(engine)
    assert in_window(engine) == [taken, after]


def test_a_failure_to_let_one_in_lets_nobody_in_and_loses_nobody(
    engine: SpoolEngine, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = submit(engine, "q", "q")
    pool(2)
    with monkeypatch.context() as patched:
        patched.setattr(
            "flask_spooler.failpoints.armed",
            raise_at("promote.rename", OSError(errno.EIO, "Input/output error")),
        )
        with pytest.raises(OSError, match="Input/output"):
            fill(engine)
    fill(engine)
    assert in_window(engine) == ids


def raise_at(point: str, error: OSError) -> Callable[[str], None]:
    def armed(reached: str) -> None:
        if reached == point:
            raise error

    return armed


def test_who_became_dead_or_deleted_meanwhile_never_enters(engine: SpoolEngine, pool: Pool) -> None:
    dead, deleted, usual = submit(engine, "q", "q", "q")
    with engine.ledger.transaction() as rows:
        rows.close(dead, "dead", time.time(), ErrorInfo("Test", "it was to end so"))
    operations.cancel(engine, deleted)
    operations.delete(engine, deleted)
    pool(3)
    fill(engine)
    assert in_window(engine) == [usual]


def test_a_due_job_is_let_in_by_the_housekeeper_though_all_spoolers_are_idle(
    engine: SpoolEngine, pool: Pool, woken: list[int]
) -> None:
    now = time.time()
    job_id = engine.submit(make_job(enqueued_at=now, due_at=now + 60))
    (one,) = pool(1)
    keeper = Housekeeper(None, engine, grace=1, retention=86_400)
    keeper.round(now + 59.9)
    assert in_window(engine) == []
    keeper.round(now + 60)
    assert in_window(engine) == [job_id]
    assert one in woken


def test_a_ready_file_whose_wake_up_was_lost_wakes_a_spooler_once_more(
    engine: SpoolEngine, pool: Pool, woken: list[int], ledger: Ledger
) -> None:
    pool(2)
    (job_id,) = submit(engine, "q")
    woken.clear()
    keeper = Housekeeper(None, engine, grace=1, retention=86_400)
    keeper.round(time.time() + 2)
    assert woken
    assert known(ledger, job_id).state == "queued"


def test_with_no_setting_all_queues_share_one_order(engine: SpoolEngine, pool: Pool) -> None:
    ids = [
        engine.submit(make_job(queue=queue, priority=priority))
        for queue, priority in [("a", 0), ("b", 9), ("c", 5), ("a", 7)]
    ]
    pool(4)
    fill(engine)
    assert in_window(engine) == [ids[1], ids[3], ids[2], ids[0]]
    assert files(engine) == [file.name for file in engine.spool.window()]
    assert Queues() == read_queues([])
