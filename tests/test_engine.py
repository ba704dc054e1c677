"""Submit, cancel, revive and repair: file and row together, outside uWSGI."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from flask_spooler import _uwsgi, failpoints, operations, upkeep
from flask_spooler._uwsgi import ABORT, Process, boot, process
from flask_spooler.engine import SpoolEngine
from flask_spooler.errors import (
    EnqueueError,
    JobNotFound,
    JobStateError,
    LedgerError,
    PayloadTooLarge,
)
from flask_spooler.job import encode_packet, open_packet, parse_file
from flask_spooler.ledger import Ledger
from flask_spooler.record import Change, ErrorInfo, Unrecorded
from flask_spooler.spool import Spool
from flask_spooler.upkeep import FORGOTTEN
from flask_spooler.window import LOST
from tests.helpers import KEY, NOW, files, in_child, known, make_job, next_jobs, settle, wait_until

FailAt = Callable[[str, BaseException], None]
NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def put_into_window(engine: SpoolEngine, job_id: str) -> str:
    """Promote a job as a housekeeper inside uWSGI would, and return its name in the window."""
    window = engine.spool.window_name(job_id)
    assert engine.spool.promote(job_id, window)
    with engine.ledger.transaction() as rows:
        rows.enter_window(job_id, window)
    return window


def pool_of(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be so many idle spoolers, under numbers that no process has."""
    pids = [2**22 + each for each in range(1, number + 1)]
    monkeypatch.setattr(_uwsgi, "spooler_pids", lambda: pids)


def start_running(engine: SpoolEngine, job_id: str, by: Process) -> str:
    window = put_into_window(engine, job_id)
    with engine.ledger.transaction() as rows:
        rows.start(job_id, window, NOW, by, "boot")
    return window


def end(engine: SpoolEngine, job_id: str, state: str) -> None:
    """Close a job and put its file where that state belongs."""
    with engine.ledger.transaction() as rows:
        assert rows.close(job_id, state, NOW, ErrorInfo("Test", "it was to end so"))
    assert engine.spool.bury_waiting(job_id)


def test_a_job_submitted_outside_uwsgi_waits_whole_signed_and_with_its_row(
    engine: SpoolEngine,
) -> None:
    job = make_job(kwargs={"path": "a.png"}, priority=3, queue="mail")
    assert engine.submit(job) == job.id
    assert files(engine) == [f"waiting/{job.id}"]
    assert open_packet(parse_file(engine.spool.read("waiting", job.id)), KEY) == job
    record = known(engine.ledger, job.id)
    assert (record.state, record.queue, record.priority) == ("queued", "mail", 3)
    assert record.kwargs == b'{"path":"a.png"}'
    assert stat.S_IMODE((engine.spool.root / "waiting" / job.id).stat().st_mode) == 0o600


def test_a_job_for_later_is_scheduled_and_its_file_carries_the_time(engine: SpoolEngine) -> None:
    job = make_job(due_at=NOW + 60)
    engine.submit(job)
    assert known(engine.ledger, job.id).state == "scheduled"
    assert engine.ledger.next_due() == NOW + 60
    mtime = (engine.spool.root / "waiting" / job.id).stat().st_mtime
    assert NOW + 59.9 < mtime <= NOW + 60


def test_a_spool_makes_its_own_key_when_it_is_given_none(spool: Spool) -> None:
    first, second = SpoolEngine(spool), SpoolEngine(spool)
    job = make_job()
    first.submit(job)
    assert first.key == second.key == spool.key.read()
    assert open_packet(parse_file(spool.read("waiting", job.id)), second.key) == job


def test_submitting_rings_the_housekeeper(engine: SpoolEngine) -> None:
    bell = os.open(engine.spool.doorbell, os.O_RDWR | os.O_NONBLOCK)
    try:
        engine.submit(make_job())
        assert os.read(bell, 10) == b"!"
        engine.submit(make_job(due_at=NOW + 60))
        assert os.read(bell, 10) == b"!"
        engine.submit(make_job(due_at=NOW + 90))
        with pytest.raises(BlockingIOError):
            os.read(bell, 10)
    finally:
        os.close(bell)


def test_ringing_a_full_or_missing_bell_is_no_error(engine: SpoolEngine) -> None:
    bell = os.open(engine.spool.doorbell, os.O_RDWR | os.O_NONBLOCK)
    try:
        while True:
            os.write(bell, b"!" * 65_536)
    except BlockingIOError:
        engine.ring()
    finally:
        os.close(bell)
    engine.ring()
    engine.spool.doorbell.unlink()
    engine.ring()


FAILURES = [
    "write.open",
    "write.write",
    "write.utime",
    "ledger.begin",
    "publish.rename",
    "ledger.commit",
]


@pytest.mark.parametrize("point", FAILURES)
def test_a_submit_that_fails_leaves_nothing_behind_and_works_again_afterwards(
    engine: SpoolEngine, fail_at: FailAt, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    engine.prepare()
    job = make_job(due_at=NOW + 60)
    fail_at(point, NO_SPACE)
    with pytest.raises(EnqueueError, match=r"will not run.*No space left on device"):
        engine.submit(job)
    monkeypatch.setattr(failpoints, "armed", None)
    assert files(engine) == []
    assert engine.ledger.record(job.id) is None
    assert engine.submit(job) == job.id
    assert files(engine) == [f"waiting/{job.id}"]


@pytest.mark.parametrize("point", ["write.fsync", "publish.fsync_directory"])
def test_a_submit_whose_fsync_fails_leaves_nothing_behind(
    tmp_path: Path, fail_at: FailAt, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    engine = SpoolEngine(Spool(tmp_path / "synced", sync=True), key=KEY)
    engine.prepare()
    job = make_job()
    fail_at(point, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(EnqueueError, match="Input/output error"):
        engine.submit(job)
    monkeypatch.setattr(failpoints, "armed", None)
    assert files(engine) == []
    assert engine.ledger.record(job.id) is None
    assert engine.submit(job) == job.id


def test_a_submit_whose_directory_sync_fails_after_the_job_started_returns_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SpoolEngine(Spool(tmp_path / "synced", sync=True), key=KEY)
    job = make_job()

    def started_meanwhile(point: str) -> None:
        if point == "publish.fsync_directory":
            start_running(engine, job.id, process(os.getpid()))
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(failpoints, "armed", started_meanwhile)
    assert engine.submit(job) == job.id
    assert known(engine.ledger, job.id).state == "running"
    assert len(files(engine)) == 1


def test_a_submit_whose_row_is_refused_by_the_ledger_leaves_nothing_behind(
    engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_job()
    engine.submit(first)
    meddler = Ledger(engine.spool.ledger)
    with meddler.transaction() as rows:
        rows._run("CREATE TRIGGER refuse BEFORE INSERT ON jobs BEGIN SELECT raise(FAIL, 'no'); END")
    job = make_job()
    with pytest.raises(EnqueueError, match="will not run"):
        engine.submit(job)
    assert files(engine) == [f"waiting/{first.id}"]


def test_a_submit_into_a_ledger_that_is_no_database_is_an_enqueue_error(
    engine: SpoolEngine,
) -> None:
    engine.spool.ledger.write_bytes(b"this is not a database, it is a text file. " * 100)
    with pytest.raises(EnqueueError, match=r"ledger\.db"):
        engine.submit(make_job())
    assert files(engine) == []


def test_a_submit_into_a_directory_that_cannot_be_made_is_an_enqueue_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    engine = SpoolEngine(Spool(tmp_path / "file" / "spool"), key=KEY)
    with pytest.raises(EnqueueError, match="will not run"):
        engine.submit(make_job())


def test_a_submit_into_a_directory_that_others_use_is_an_enqueue_error_with_a_way_out(
    tmp_path: Path,
) -> None:
    (tmp_path / "letters").mkdir()
    tmp_path.chmod(0o755)
    engine = SpoolEngine(Spool(tmp_path), key=KEY)
    with pytest.raises(EnqueueError, match=r"holds 'letters'.*name one that does not exist yet"):
        engine.submit(make_job())
    assert os.listdir(tmp_path) == ["letters"]


def test_a_submit_into_a_spool_whose_directories_were_removed_is_an_enqueue_error(
    engine: SpoolEngine,
) -> None:
    engine.prepare()
    (engine.spool.root / "tmp").rmdir()
    with pytest.raises(EnqueueError):
        engine.submit(make_job())
    engine.spool.prepare()
    engine.submit(make_job())


POINTS = ["write.open", "write.write", "write.fsync", "ledger.begin", "publish.rename"]
LATER_POINTS = ["ledger.commit", "publish.fsync_directory"]


@pytest.mark.parametrize("point", POINTS + LATER_POINTS)
def test_a_process_killed_while_it_submits_leaves_no_job_or_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    engine = SpoolEngine(Spool(tmp_path / "synced", sync=True), key=KEY)
    engine.submit(make_job())
    before = files(engine)
    job = make_job()

    def kill_there(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(failpoints, "armed", kill_there)
    assert in_child(lambda: engine.submit(job)) == -signal.SIGKILL
    monkeypatch.setattr(failpoints, "armed", None)
    if point in POINTS:
        assert not engine.spool.has("waiting", job.id)
        assert set(files(engine)) - set(before) <= {f"tmp/{job.id}"}
        assert engine.ledger.record(job.id) is None
    else:
        assert open_packet(parse_file(engine.spool.read("waiting", job.id)), KEY) == job
        assert upkeep.adopt(engine, "waiting", job.id) == (point == "ledger.commit")
        assert known(engine.ledger, job.id).state == "queued"


def test_many_jobs_are_published_together_in_their_order(engine: SpoolEngine) -> None:
    jobs = [make_job(kwargs={"n": number}) for number in range(5)]
    jobs.append(make_job(due_at=NOW + 60))
    assert engine.submit_many(jobs) == [job.id for job in jobs]
    assert files(engine) == sorted(f"waiting/{job.id}" for job in jobs)
    for job in jobs:
        assert open_packet(parse_file(engine.spool.read("waiting", job.id)), KEY) == job
    states = [known(engine.ledger, job.id).state for job in jobs]
    assert states == ["queued"] * 5 + ["scheduled"]


def test_one_unique_key_among_many_jobs_makes_one_job(engine: SpoolEngine) -> None:
    earlier = engine.submit(make_job(unique="earlier"))
    jobs = [make_job(unique=key) for key in ("earlier", "new", "new")]
    found = engine.submit_many(jobs)
    assert found == [earlier, jobs[1].id, jobs[1].id]
    assert set(files(engine)) == {f"waiting/{earlier}", f"waiting/{jobs[1].id}"}


def test_one_job_too_large_among_many_keeps_all_of_them_out(engine: SpoolEngine) -> None:
    engine.max_payload = 100
    with pytest.raises(PayloadTooLarge):
        engine.submit_many([make_job(), make_job(kwargs={"a": "x" * 200}), make_job()])
    assert files(engine) == []


BATCH_POINTS = ["write.write", "write.syncfs", "ledger.begin", "publish.rename", "ledger.commit"]


@pytest.mark.parametrize("point", [*BATCH_POINTS, "publish.fsync_directory"])
@pytest.mark.parametrize("at", [1, 3])
def test_many_jobs_of_which_one_fails_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, at: int
) -> None:
    engine = SpoolEngine(Spool(tmp_path / "synced", sync=True), key=KEY)
    engine.prepare()
    passed = 0

    def fail_the_nth_time(reached: str) -> None:
        nonlocal passed
        passed += reached == point
        if reached == point and passed == at:
            raise NO_SPACE

    monkeypatch.setattr(failpoints, "armed", fail_the_nth_time)
    jobs = [make_job() for _ in range(3)]
    once = point in ("write.syncfs", "ledger.begin", "ledger.commit", "publish.fsync_directory")
    if at > 1 and once:
        engine.submit_many(jobs)
        return
    with pytest.raises(EnqueueError, match="No space left"):
        engine.submit_many(jobs)
    monkeypatch.setattr(failpoints, "armed", None)
    assert files(engine) == []
    assert engine.ledger.find() == []
    assert engine.submit_many(jobs) == [job.id for job in jobs]


@pytest.mark.parametrize("point", ["ledger.commit", "publish.fsync_directory"])
def test_many_jobs_that_fail_after_entering_the_window_leave_nothing_behind(
    tmp_path: Path, fail_at: FailAt, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    pool_of(2, monkeypatch)
    engine = SpoolEngine(Spool(tmp_path / "synced", sync=True), key=KEY)
    engine.prepare()
    fail_at(point, NO_SPACE)
    with pytest.raises(EnqueueError, match="will not run"):
        engine.submit_many([make_job() for _ in range(3)])
    assert files(engine) == []


def test_arguments_over_the_limit_are_refused_before_anything_is_written(spool: Spool) -> None:
    engine = SpoolEngine(spool, key=KEY, max_payload=100)
    exact = make_job(kwargs={"a": "x" * 92})
    assert len(bytes(exact.kwargs)) == 100
    engine.submit(exact)
    with pytest.raises(PayloadTooLarge, match=r"^101 bytes for the arguments of"):
        engine.submit(make_job(kwargs={"a": "x" * 93}))
    assert files(engine) == [f"waiting/{exact.id}"]


def test_arguments_of_many_sizes_survive_in_the_file_even_where_the_row_omits_them(
    engine: SpoolEngine,
) -> None:
    for size in (0, 1, 65_535, 65_536, 70_000, 2**20):
        job = make_job(kwargs={"data": "x" * size})
        engine.submit(job)
        found = open_packet(parse_file(engine.spool.read("waiting", job.id)), KEY)
        assert msgspec.json.decode(found.kwargs) == {"data": "x" * size}
        record = known(engine.ledger, job.id)
        assert record.kwargs_size == len(bytes(job.kwargs))
        assert (record.kwargs is None) == (record.kwargs_size > 65_536)


def test_a_unique_key_returns_the_unfinished_job_that_holds_it(engine: SpoolEngine) -> None:
    first = engine.submit(make_job(unique="report"))
    assert engine.submit(make_job(unique="report")) == first
    assert engine.submit(make_job(unique="report", due_at=NOW + 60)) == first
    assert files(engine) == [f"waiting/{first}"]


def test_a_unique_key_is_of_one_task_and_free_again_when_its_job_has_ended(
    engine: SpoolEngine,
) -> None:
    first = engine.submit(make_job(unique="report"))
    other = engine.submit(make_job(unique="report", task="tests.other"))
    assert other != first
    operations.cancel(engine, first)
    assert engine.submit(make_job(unique="report")) not in (first, other)


def test_threads_that_submit_one_unique_key_all_get_the_same_job(spool: Spool) -> None:
    engines = [SpoolEngine(spool, key=KEY) for _ in range(4)]
    together = threading.Barrier(4)
    found: list[str] = []

    def submit(engine: SpoolEngine) -> None:
        together.wait()
        found.append(engine.submit(make_job(unique="one")))

    threads = [threading.Thread(target=submit, args=(each,)) for each in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert files(engines[0]) == [f"waiting/{found[0]}"]


def test_outside_uwsgi_the_window_has_no_room_and_nobody_is_woken(engine: SpoolEngine) -> None:
    engine.submit(make_job())
    assert engine.window.size == 0
    with engine.ledger.transaction() as rows:
        assert engine.window.fill(rows) == (0, [])
        assert engine.window.sleepers(rows, unknown=5) == []
    assert engine.spool.window() == []


@pytest.mark.parametrize("due", [NOW, NOW + 60])
def test_cancelling_a_waiting_job_ends_it_and_keeps_its_file_among_the_dead(
    engine: SpoolEngine, due: float
) -> None:
    job_id = engine.submit(make_job(due_at=due))
    assert operations.cancel(engine, job_id) == "cancelled"
    assert known(engine.ledger, job_id).state == "cancelled"
    assert known(engine.ledger, job_id).finished_at is not None
    assert files(engine) == [f"dead/{job_id}"]


def test_cancelling_a_job_in_the_window_leaves_its_file_to_the_one_who_locks_it(
    engine: SpoolEngine,
) -> None:
    job_id = engine.submit(make_job())
    window = put_into_window(engine, job_id)
    assert operations.cancel(engine, job_id) == "cancelled"
    assert files(engine) == [window]
    assert known(engine.ledger, job_id).state == "cancelled"


def test_cancelling_a_running_job_asks_it_to_stop(engine: SpoolEngine) -> None:
    job_id = engine.submit(make_job())
    start_running(engine, job_id, Process(0, 0))
    assert operations.cancel(engine, job_id) == "running"
    with engine.ledger.transaction() as rows:
        row = rows.row(job_id)
    assert row is not None
    assert (row.state, row.cancel_asked) == ("running", 1)


def test_cancelling_a_running_job_makes_its_process_look(engine: SpoolEngine) -> None:
    signalled: list[int] = []
    before = signal.signal(ABORT, lambda number, frame: signalled.append(number))
    try:
        earlier, running = engine.submit(make_job()), engine.submit(make_job())
        start_running(engine, earlier, Process(os.getpid(), 1))
        operations.cancel(engine, earlier)
        start_running(engine, running, process(os.getpid()))
        assert signalled == []
        operations.cancel(engine, running)
        wait_until(lambda: signalled == [ABORT])
    finally:
        signal.signal(ABORT, before)


def test_cancelling_a_job_that_has_ended_is_refused(engine: SpoolEngine) -> None:
    job_id = engine.submit(make_job())
    operations.cancel(engine, job_id)
    with pytest.raises(JobStateError, match="it is cancelled, and must be unfinished"):
        operations.cancel(engine, job_id)


def test_cancelling_or_reviving_what_does_not_exist_is_refused(engine: SpoolEngine) -> None:
    for job_id in ("nobody", "../ledger.db", "", "x" * 10_000):
        with pytest.raises(JobNotFound):
            operations.cancel(engine, job_id)
        with pytest.raises(JobNotFound):
            operations.revive(engine, job_id)


@pytest.mark.parametrize("state", ["dead", "cancelled", "expired"])
def test_a_dead_cancelled_or_expired_job_can_be_revived(engine: SpoolEngine, state: str) -> None:
    engine.clock = lambda: NOW
    job_id = engine.submit(make_job())
    end(engine, job_id, state)
    operations.revive(engine, job_id)
    record = known(engine.ledger, job_id)
    assert record.state == "queued"
    assert record.finished_at is None
    assert files(engine) == [f"waiting/{job_id}"]


@pytest.mark.parametrize("state", ["dead", "cancelled", "expired"])
def test_a_job_that_never_started_waits_for_its_time_again_when_it_is_revived(
    engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    engine.clock = lambda: NOW
    job_id = engine.submit(make_job(due_at=NOW + 3600))
    with engine.ledger.transaction() as rows:
        assert rows.close(job_id, state, NOW, None)
    assert engine.spool.bury_waiting(job_id)
    assert operations.revive(engine, job_id) == "scheduled"
    record = known(engine.ledger, job_id)
    assert (record.state, record.due_at, record.finished_at) == ("scheduled", NOW + 3600, None)
    assert files(engine) == [f"waiting/{job_id}"]
    file = engine.spool.root / "waiting" / job_id
    assert file.stat().st_mtime == pytest.approx(NOW + 3600, abs=0.05)
    with engine.ledger.transaction() as rows:
        assert rows.ripen(NOW + 3599, 9) == 0
        assert rows.ripen(NOW + 3601, 9) == 1
    pool_of(1, monkeypatch)
    promote_all(engine)
    assert [file.job_id for file in engine.spool.window()] == [job_id]


def test_a_job_that_had_started_runs_at_once_when_it_is_revived(engine: SpoolEngine) -> None:
    engine.clock = lambda: NOW
    job_id = engine.submit(make_job())
    window = start_running(engine, job_id, process(os.getpid()))
    with engine.ledger.transaction() as rows:
        later = Change(outcome="failed", state="retrying", due_at=NOW + 3600, ended_at=NOW)
        assert settle(rows, job_id, 1, later)
    engine.spool.demote(window, job_id, NOW + 3600)
    operations.cancel(engine, job_id)
    assert operations.revive(engine, job_id) == "queued"
    assert known(engine.ledger, job_id).due_at == NOW
    file = engine.spool.root / "waiting" / job_id
    assert file.stat().st_mtime <= time.time()


def test_a_revived_job_can_be_cancelled_and_revived_again(engine: SpoolEngine) -> None:
    job_id = engine.submit(make_job())
    for _ in range(3):
        operations.cancel(engine, job_id)
        operations.revive(engine, job_id)
    assert files(engine) == [f"waiting/{job_id}"]


@pytest.mark.parametrize("due", [NOW, NOW + 60])
def test_reviving_a_job_that_still_waits_is_refused(engine: SpoolEngine, due: float) -> None:
    job_id = engine.submit(make_job(due_at=due))
    with pytest.raises(JobStateError, match="must be dead, cancelled or expired"):
        operations.revive(engine, job_id)


def test_reviving_a_running_or_succeeded_job_is_refused(engine: SpoolEngine) -> None:
    job_id = engine.submit(make_job())
    start_running(engine, job_id, process(os.getpid()))
    with pytest.raises(JobStateError, match="it is running"):
        operations.revive(engine, job_id)
    with engine.ledger.transaction() as rows:
        change = Change(outcome="succeeded", state="succeeded", due_at=NOW, ended_at=NOW)
        assert settle(rows, job_id, 1, change)
    with pytest.raises(JobStateError, match="it is succeeded"):
        operations.revive(engine, job_id)


def promote_all(engine: SpoolEngine) -> None:
    with engine.ledger.transaction() as rows:
        engine.window.fill(rows)


def test_promoting_moves_the_next_jobs_into_the_window_and_no_more_than_fit(
    engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [engine.submit(make_job(due_at=NOW, priority=each)) for each in (0, 5, 1)]
    pool_of(2, monkeypatch)
    promote_all(engine)
    assert [file.job_id for file in engine.spool.window()] == [ids[1], ids[2]]
    assert files(engine)[-1] == f"waiting/{ids[0]}"
    promote_all(engine)
    assert len(engine.spool.window()) == 2
    assert {row.window for row in engine.ledger.in_window().values()} == {
        file.name for file in engine.spool.window()
    }


def test_promoting_finds_a_revived_job_whose_file_is_still_among_the_dead(
    engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = engine.submit(make_job())
    operations.cancel(engine, job_id)
    with engine.ledger.transaction() as rows:
        rows.revive(job_id, NOW, NOW)
    assert files(engine) == [f"dead/{job_id}"]
    pool_of(2, monkeypatch)
    promote_all(engine)
    assert [file.job_id for file in engine.spool.window()] == [job_id]


def test_promoting_takes_note_of_a_file_that_a_dead_promoter_had_moved_already(
    engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = engine.submit(make_job())
    window = engine.spool.window_name(job_id)
    engine.spool.promote(job_id, window)
    pool_of(2, monkeypatch)
    promote_all(engine)
    assert engine.ledger.in_window()[job_id].window == window


def test_promoting_a_job_whose_file_is_gone_makes_it_dead_with_the_reason(
    engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, whole = engine.submit(make_job()), engine.submit(make_job())
    engine.spool.remove("waiting", lost)
    pool_of(2, monkeypatch)
    promote_all(engine)
    assert known(engine.ledger, lost).state == "dead"
    assert known(engine.ledger, lost).error_type == LOST.type
    assert [file.job_id for file in engine.spool.window()] == [whole]


def test_a_submit_goes_straight_into_the_window_only_while_it_has_room(
    engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool_of(2, monkeypatch)
    ids = [engine.submit(make_job()) for _ in range(3)]
    later = engine.submit(make_job(due_at=NOW + 60))
    assert [file.job_id for file in engine.spool.window()] == ids[:2]
    assert set(engine.spool.names("waiting")) == {ids[2], later}


def test_a_submit_does_not_overtake_jobs_that_wait_for_the_window(
    engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = engine.submit(make_job())
    pool_of(5, monkeypatch)
    second = engine.submit(make_job(priority=100))
    third = engine.submit(make_job())
    fourth = engine.submit(make_job())
    assert [file.job_id for file in engine.spool.window()] == [second, first, third, fourth]


def test_a_failed_submit_into_the_window_takes_its_file_back(
    engine: SpoolEngine, fail_at: FailAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.prepare()
    pool_of(2, monkeypatch)
    fail_at("ledger.commit", NO_SPACE)
    with pytest.raises(EnqueueError):
        engine.submit(make_job())
    assert files(engine) == []


@pytest.mark.parametrize(("due", "state"), [(NOW, "queued"), (NOW + 60, "scheduled")])
def test_a_waiting_file_without_a_row_is_adopted_as_it_was_enqueued(
    engine: SpoolEngine, due: float, state: str
) -> None:
    job = make_job(due_at=due, priority=7, kwargs={"path": "a.png"})
    engine.submit(job)
    engine.spool.ledger.unlink()
    assert engine.ledger.record(job.id) is None
    assert upkeep.adopt(engine, "waiting", job.id)
    record = known(engine.ledger, job.id)
    assert (record.state, record.priority, record.due_at) == (state, 7, due)
    assert record.kwargs == b'{"path":"a.png"}'
    assert not upkeep.adopt(engine, "waiting", job.id)


def test_a_dead_file_without_a_row_is_adopted_as_dead_and_can_be_revived(
    engine: SpoolEngine,
) -> None:
    job_id = engine.submit(make_job())
    end(engine, job_id, "dead")
    engine.spool.ledger.unlink()
    assert upkeep.adopt(engine, "dead", job_id)
    record = known(engine.ledger, job_id)
    assert (record.state, record.error_type) == ("dead", FORGOTTEN.type)
    assert record.finished_at is not None
    operations.revive(engine, job_id)
    assert files(engine) == [f"waiting/{job_id}"]


def test_adopting_a_file_that_is_gone_is_no_error(engine: SpoolEngine) -> None:
    assert not upkeep.adopt(engine, "waiting", make_job().id)


def test_adopting_what_is_not_ours_puts_it_into_quarantine(engine: SpoolEngine) -> None:
    job, other, renamed = make_job(), make_job(), make_job()
    contents = {
        job.id: b"",
        other.id: encode_packet(other, b"another key"),
        renamed.id: encode_packet(job, KEY),
        "a file that somebody else put here": b"hello",
    }
    for name, data in contents.items():
        (engine.spool.root / "waiting" / name).write_bytes(data)
        assert not upkeep.adopt(engine, "waiting", name)
    corrupt = list(engine.spool.names("corrupt"))
    left = list(engine.spool.names("waiting"))
    # What has no id for a name is nobody's job: it is left where it lies, and never run.
    assert left == ["a file that somebody else put here"]
    assert len(corrupt) == 3
    assert engine.ledger.find() == []


def test_finding_again_leaves_a_job_alone_whose_file_is_where_its_row_says(
    engine: SpoolEngine,
) -> None:
    job_id = engine.submit(make_job())
    window = put_into_window(engine, job_id)
    upkeep.find_again(engine, job_id)
    assert engine.ledger.in_window()[job_id].window == window


def test_finding_again_lets_a_job_wait_whose_file_waits(engine: SpoolEngine) -> None:
    job_id = engine.submit(make_job())
    window = put_into_window(engine, job_id)
    engine.spool.demote(window, job_id, NOW)
    upkeep.find_again(engine, job_id)
    assert engine.ledger.in_window() == {}
    assert known(engine.ledger, job_id).state == "queued"


def test_finding_again_makes_a_job_dead_whose_file_is_nowhere(engine: SpoolEngine) -> None:
    queued, running = engine.submit(make_job()), engine.submit(make_job())
    put_into_window(engine, queued)
    start_running(engine, running, Process(0, 0))
    for file in engine.spool.window():
        (engine.spool.root / file.name).unlink()
    for job_id in (queued, running):
        upkeep.find_again(engine, job_id)
        assert known(engine.ledger, job_id).state == "dead"
        assert known(engine.ledger, job_id).error_type == LOST.type


def test_finding_again_trusts_a_process_that_still_runs_the_job(engine: SpoolEngine) -> None:
    job_id = engine.submit(make_job())
    window = start_running(engine, job_id, process(os.getpid()))
    (engine.spool.root / window).unlink()
    upkeep.find_again(engine, job_id)
    assert known(engine.ledger, job_id).state == "running"


def test_finding_again_waits_for_a_job_whose_end_is_kept_in_done(engine: SpoolEngine) -> None:
    job_id = engine.submit(make_job())
    window = start_running(engine, job_id, Process(0, 0))
    engine.spool.set_done(window, job_id, b"{}")
    upkeep.find_again(engine, job_id)
    assert known(engine.ledger, job_id).state == "running"


def late(state: str, outcome: str) -> Unrecorded:
    result = b'"ok"' if state == "succeeded" else None
    change = Change(outcome=outcome, state=state, due_at=NOW, ended_at=NOW + 1, result=result)
    return Unrecorded(1, change)


@pytest.mark.parametrize("ledger_survived", [True, False])
@pytest.mark.parametrize(
    ("state", "outcome", "place"),
    [
        ("succeeded", "succeeded", None),
        ("retrying", "failed", "waiting"),
        ("dead", "failed", "dead"),
        ("cancelled", "cancelled", "dead"),
    ],
)
def test_an_end_kept_in_done_is_written_later_and_the_file_put_in_its_place(
    engine: SpoolEngine, ledger_survived: bool, state: str, outcome: str, place: str | None
) -> None:
    job_id = engine.submit(make_job())
    window = start_running(engine, job_id, process(os.getpid()))
    engine.spool.set_done(window, job_id, msgspec.json.encode(late(state, outcome)))
    if not ledger_survived:
        engine.spool.ledger.unlink()
    kept = msgspec.json.decode(engine.spool.outcome(job_id), type=Unrecorded)
    upkeep.record_late(engine, job_id, kept)
    record = known(engine.ledger, job_id)
    assert (record.state, record.attempt) == (state, 1)
    assert record.result == (b'"ok"' if state == "succeeded" else None)
    assert [attempt.outcome for attempt in engine.ledger.attempts(job_id)] == [outcome]
    assert files(engine) == ([f"{place}/{job_id}"] if place else [])


def test_a_boot_outside_uwsgi_is_the_process_itself() -> None:
    assert boot().master == process(os.getpid())


def test_a_ledger_error_is_no_enqueue_error_for_readers(engine: SpoolEngine) -> None:
    engine.spool.ledger.write_bytes(b"this is not a database, it is a text file. " * 100)
    with pytest.raises(LedgerError, match="not usable now"):
        engine.ledger.find()


def test_waiting_jobs_whose_time_is_over_expire_and_their_files_are_kept(
    engine: SpoolEngine,
) -> None:
    late, other = engine.submit(make_job(expires_at=NOW)), engine.submit(make_job())
    assert upkeep.expire(engine, NOW - 1, 10) == 0
    assert upkeep.expire(engine, NOW, 10) == 1
    assert known(engine.ledger, late).state == "expired"
    assert files(engine) == [f"dead/{late}", f"waiting/{other}"]


def test_deleting_an_ended_job_leaves_neither_row_nor_file(engine: SpoolEngine) -> None:
    job_id, other = engine.submit(make_job()), engine.submit(make_job())
    operations.cancel(engine, job_id)
    operations.delete(engine, job_id)
    assert engine.ledger.record(job_id) is None
    assert files(engine) == [f"waiting/{other}"]
    with pytest.raises(JobNotFound):
        operations.delete(engine, job_id)
    with pytest.raises(JobStateError, match="it is queued"):
        operations.delete(engine, other)


def test_purging_deletes_jobs_by_age_and_state_only(engine: SpoolEngine) -> None:
    cancelled, dead, waiting = (engine.submit(make_job()) for _ in range(3))
    end(engine, cancelled, "cancelled")
    end(engine, dead, "dead")
    assert operations.purge(engine, NOW, 10) == 0
    assert operations.purge(engine, NOW + 1, 10, frozenset({"cancelled"})) == 1
    assert files(engine) == [f"dead/{dead}", f"waiting/{waiting}"]
    assert operations.purge(engine, NOW + 1, 10) == 1
    assert [record.id for record in engine.ledger.find()] == [waiting]


def test_a_job_cancelled_in_the_window_is_not_forgotten_before_its_file_is_gone(
    engine: SpoolEngine,
) -> None:
    job_id = engine.submit(make_job())
    window = put_into_window(engine, job_id)
    operations.cancel(engine, job_id)
    with contextlib.suppress(JobStateError):
        operations.delete(engine, job_id)
    assert engine.ledger.record(job_id) is not None or not engine.spool.in_window(window)


def test_pausing_a_queue_holds_its_jobs_until_it_goes_on(engine: SpoolEngine) -> None:
    job_id = engine.submit(make_job(queue="mail"))
    operations.pause(engine, "mail")
    with engine.ledger.transaction() as rows:
        assert next_jobs(rows, 5) == []
    operations.pause(engine, "mail", False)
    with engine.ledger.transaction() as rows:
        assert next_jobs(rows, 5) == [job_id]


def test_a_submit_into_a_paused_queue_stays_out_of_the_window(
    engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool_of(2, monkeypatch)
    operations.pause(engine, "mail")
    engine.submit(make_job(queue="mail"))
    assert engine.spool.window() == []


def test_while_a_server_drains_no_job_enters_the_window(
    engine: SpoolEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool_of(2, monkeypatch)
    with engine.ledger.transaction() as rows:
        rows.register(str(boot()), NOW, 4)
        rows.register("1.1.0", NOW, 4)
    assert operations.drain(engine, time.time() + 60) == 1
    engine.submit(make_job())
    promote_all(engine)
    assert engine.spool.window() == []
    assert operations.drain(engine, 0.0) == 1
    promote_all(engine)
    assert len(engine.spool.window()) == 1


def test_running_jobs_are_those_whose_process_lives(engine: SpoolEngine) -> None:
    for by in (process(os.getpid()), Process(os.getpid(), 1), Process(0, 0)):
        start_running(engine, engine.submit(make_job()), by)
    assert operations.running(engine) == 1
    assert operations.running(engine, "boot")
    assert not operations.running(engine, "another boot")


def test_reviving_a_job_whose_unique_key_is_held_by_another_is_refused(
    engine: SpoolEngine,
) -> None:
    first = engine.submit(make_job(unique="key"))
    operations.cancel(engine, first)
    engine.submit(make_job(unique="key"))
    with pytest.raises(JobStateError):
        operations.revive(engine, first)


@pytest.mark.parametrize("place", ["waiting", "dead"])
def test_a_file_whose_unique_key_is_held_by_another_job_can_be_adopted(
    engine: SpoolEngine, place: str
) -> None:
    first = engine.submit(make_job(unique="key"))
    if place == "dead":
        operations.cancel(engine, first)
    engine.spool.ledger.unlink()
    engine.submit(make_job(unique="key"))
    assert upkeep.adopt(engine, place, first)
    assert known(engine.ledger, first).state == ("queued" if place == "waiting" else "dead")
