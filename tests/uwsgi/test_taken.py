"""Jobs that spoolers take by themselves: kills, stops, reloads and drains in the middle of them."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import apsw
import jobs
from jobs import notes
from server import Server, client, ended, outcomes, wait_until
from standstill import Standstill

from flask_spooler import JobHandle, operations
from flask_spooler.state import AppState

Start = Callable[..., Server]


def starts(path: Path) -> list[list[str]]:
    return [line for line in notes(path) if line[0] == "start"]


def occupied(path: Path, spoolers: int = 1) -> None:
    """Let each spooler have a job for 0.4 s, so that what is enqueued next will be taken."""
    for _ in range(spoolers):
        jobs.hold.enqueue(str(path), 0.4)
    wait_until(lambda: len(starts(path)) == spoolers)


def occupied_until_released(path: Path, spoolers: int = 1) -> None:
    """Let each spooler have a job until `running_taken` lets it go, however busy the machine is."""
    for _ in range(spoolers):
        jobs.hold_until.enqueue(str(path), str(path.with_name("go")))
    wait_until(lambda: len(starts(path)) == spoolers)


def taken(server: Server) -> set[str]:
    """The jobs that spoolers have taken."""
    return {path.name for path in (server.directory / "taken").iterdir()}


def running_taken(server: Server, out: Path, *handles: JobHandle) -> list[int]:
    """Let the spoolers go on, and wait until they run all of these; return their processes."""
    out.with_name("go").touch()
    ids = {handle.id for handle in handles}
    wait_until(lambda: ids <= {line[2] for line in starts(out)})
    assert ids <= taken(server), "this test is about jobs that were taken"
    return [int(line[3]) for line in starts(out) if line[2] in ids]


def all_ended(state: AppState) -> bool:
    counts = state.engine.ledger.counts()
    return not any(of["queued"] + of["running"] for of in counts.values())


def test_a_taken_job_whose_spooler_is_killed_is_tried_again_as_a_crash(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory):
        occupied_until_released(tmp_path / "blocker")
        handle = jobs.hold.enqueue(str(out), 1.0)
        behind = jobs.write.enqueue(str(tmp_path / "behind"))
        (pid,) = running_taken(server, out, handle)
        killed = time.time()
        os.kill(pid, signal.SIGKILL)
        job = ended(handle)
        assert ended(behind)["state"] == "succeeded"
    assert job["state"] == "succeeded"
    assert outcomes(job) == ["crashed", "succeeded"]
    assert str(pid) in job["attempts"][0]["error"]["message"]
    first, again = starts(out)
    assert killed < float(again[1]) < killed + 5
    assert (first[4], again[4]) == ("1", "2")
    wait_until(lambda: server.files() == [])


def test_a_job_that_kills_its_spooler_after_it_was_taken_is_dead_after_three_runs(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1)
    deadly, out = tmp_path / "deadly", tmp_path / "out"
    with client(jobs.spooler, server.directory):
        occupied(tmp_path / "blocker")
        handle = jobs.kill_itself.enqueue(str(deadly))
        behind = jobs.write.enqueue_many([(str(out),)] * 50)
        job = ended(handle, 40)
        for other in behind:
            assert ended(other)["state"] == "succeeded"
    assert job["state"] == "dead"
    assert outcomes(job) == ["crashed"] * 3
    runs = [float(line[1]) for line in notes(deadly)]
    assert len(runs) == 3
    assert runs[2] - runs[1] > 1.9, "the second crash in a row must wait for its lease"
    assert len(notes(out)) == 50
    wait_until(lambda: server.files() == [f"dead/{job['id']}"])


def test_spoolers_killed_one_after_another_through_a_backlog_lose_no_job_and_invent_no_run(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=4)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process") as state:
        handles = jobs.hold.using(max_attempts=50).enqueue_many([(str(out), 0.01)] * 400)
        for number in range(1, 7):
            wait_until(lambda number=number: len(starts(out)) > 40 * number)
            pid = next(int(line[3]) for line in reversed(starts(out)))
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: pid not in server.living())
        wait_until(lambda: all_ended(state), 60)
        for handle in handles:
            assert handle.state == "succeeded"
        runs = Counter(line[2] for line in starts(out))
        for handle in handles:
            ends = outcomes(handle)
            assert runs[handle.id] <= len(ends)
            assert set(ends[:-1]) <= {"crashed"}
            assert ends[-1] == "succeeded"
    assert sum(runs.values()) <= 400 + 6
    wait_until(lambda: server.files() == [])


def test_everything_killed_while_taken_jobs_run_interrupts_them_and_all_run(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=2)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory) as state:
        occupied_until_released(tmp_path / "blocker", spoolers=2)
        long = jobs.hold.using(max_attempts=1).enqueue_many([(str(out), 1.0)] * 2)
        behind = jobs.write.enqueue_many([(str(tmp_path / "behind"),)] * 50)
        running_taken(server, out, *long)
        server.kill()
        assert [handle.state for handle in long] == ["running"] * 2
        assert taken(server) == {handle.id for handle in long}
        server.start()
        for handle in (*long, *behind):
            assert ended(handle)["state"] == "succeeded"
        assert [outcomes(handle) for handle in long] == [["interrupted", "succeeded"]] * 2
        assert all_ended(state)
    assert len(notes(tmp_path / "behind")) == 50
    wait_until(lambda: server.files() == [])


def test_a_stop_waits_for_the_taken_job_and_starts_no_further_one(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=2)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory):
        occupied_until_released(tmp_path / "blocker", spoolers=2)
        long = jobs.hold.enqueue_many([(str(out), 1.5)] * 2)
        waiting = jobs.write.enqueue_many([(str(tmp_path / "behind"),)] * 20)
        running_taken(server, out, *long)
        server.stop()
        assert [outcomes(handle) for handle in long] == [["succeeded"]] * 2
        assert {handle.state for handle in waiting} == {"queued"}
        assert taken(server) == set()
        server.start()
        for handle in waiting:
            assert ended(handle)["state"] == "succeeded"
    assert len(notes(tmp_path / "behind")) == 20


def test_a_reload_amid_taken_jobs_charges_none_and_runs_all(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=2)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process") as state:
        handles = jobs.hold.using(max_attempts=1).enqueue_many([(str(out), 0.02)] * 200)
        wait_until(lambda: len(starts(out)) > 30)
        server.send(signal.SIGHUP)
        wait_until(lambda: all_ended(state), 30)
        assert {handle.state for handle in handles} == {"succeeded"}
        ends = Counter(tuple(outcomes(handle)) for handle in handles)
    assert set(ends) <= {("succeeded",), ("interrupted", "succeeded")}
    assert ends["interrupted", "succeeded"] <= 2
    wait_until(lambda: server.files() == [])


def test_a_drain_ends_the_going_on_at_once(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server(processes=2)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process") as state:
        handles = jobs.hold.enqueue_many([(str(out), 0.1)] * 40)
        wait_until(lambda: len(starts(out)) > 5)
        assert operations.drain(state.engine, time.time() + 60) == 1
        drained = time.time()
        wait_until(lambda: operations.running(state.engine) == 0)
        assert all(float(line[1]) < drained + 0.05 + standstill.seconds for line in starts(out))
        begun = len(starts(out))
        assert begun < 15
        assert Counter(handle.state for handle in handles) == {
            "succeeded": begun,
            "queued": 40 - begun,
        }
        operations.drain(state.engine, 0)
        for handle in handles:
            assert ended(handle)["state"] == "succeeded"


def test_urgent_jobs_whose_time_comes_start_on_time_though_all_are_busy_with_a_backlog(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server(processes=2)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process") as state:
        jobs.hold.enqueue_many([(str(out), 0.01)] * 600)
        urgent = jobs.write.using(priority=10)
        due = [urgent.using(delay=0.3 + n * 0.05).enqueue(str(tmp_path / "due")) for n in range(20)]
        for handle in due:
            handle.wait(60)
        assert state.engine.ledger.counts()["default"]["queued"] > 20
        late = [(handle.record.started_at or 0) - handle.record.due_at for handle in due]
    assert min(late) >= 0
    assert sorted(late)[10] < 0.1, late
    assert max(late) < 1.0 + standstill.seconds, late


def test_what_an_untidy_job_leaves_behind_is_gone_for_the_job_that_is_taken_after_it(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1)
    with client(jobs.spooler, server.directory):
        before = ended(jobs.look_around.enqueue())["result"]
        occupied(tmp_path / "blocker")
        jobs.untidy.enqueue("x")
        after = jobs.look_around.enqueue()
        last = jobs.write.enqueue(str(tmp_path / "out"))
        assert ended(after)["result"] == before
        assert ended(last)["state"] == "succeeded"
        # Waking still works in that process: a job for an idle pool does not wait for a scan.
        assert ended(jobs.write.enqueue(str(tmp_path / "out")))["state"] == "succeeded"


def test_running_taken_jobs_are_cancelled_and_limited_in_time_like_any_other(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory):
        occupied(tmp_path / "blocker")
        late = jobs.too_slow.enqueue(str(tmp_path / "late"))
        stuck = jobs.hangs_in_c.using(hard_timeout=1, max_attempts=1).enqueue(str(tmp_path / "c"))
        endless = jobs.hold.using(priority=-1).enqueue(str(out), 60)
        assert ended(late)["state"] == "dead"
        assert outcomes(late) == ["timed_out"]
        assert ended(stuck)["state"] == "dead"
        assert outcomes(stuck) == ["timed_out"]
        wait_until(lambda: starts(out))
        endless.cancel()
        assert ended(endless)["state"] == "cancelled"


def test_who_comes_behind_an_expired_job_starts_at_once(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server(processes=1)
    waits = []
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process"):
        for _ in range(4):
            blocker = jobs.hold.enqueue(str(tmp_path / "blocker"), 0.3)
            wait_until(lambda blocker=blocker: blocker.state == "running")
            late = jobs.write.using(expires=0.1).enqueue(str(tmp_path / "late"))
            behind = jobs.write.enqueue(str(tmp_path / "behind"))
            assert ended(behind)["state"] == "succeeded"
            assert late.state == "expired"
            waits.append((behind.record.started_at or 0) - (blocker.record.finished_at or 0))
    assert notes(tmp_path / "late") == []
    assert max(waits) < 0.3 + standstill.seconds, waits


def test_a_job_whose_end_was_kept_in_done_can_be_taken_by_another_spooler_afterwards(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=2, environment={"FLASK_SPOOLER_GRACE": "0"})
    out, blocker = tmp_path / "out", tmp_path / "blocker"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process") as state:
        occupied_until_released(tmp_path / "first", spoolers=2)
        slow = jobs.hold.using(timeout=1, max_attempts=1)
        handles = slow.enqueue_many([(str(out), 60)] * 2)
        running_taken(server, out, *handles)
        somebody = apsw.Connection(str(state.engine.spool.ledger))
        somebody.set_busy_timeout(300)
        somebody.execute("BEGIN IMMEDIATE")
        done = server.directory / "done"
        wait_until(lambda: all((done / handle.id).exists() for handle in handles), 20)
        somebody.execute("ROLLBACK")
        somebody.close()
        for handle in handles:
            assert ended(handle)["state"] == "dead"
        ran = {handle: pid for handle in handles for pid in who_ran(out, handle)}

        short = jobs.hold.enqueue(str(blocker), 0.8)
        jobs.hold.enqueue(str(blocker), 2.0)
        wait_until(lambda: len(starts(blocker)) == 2)
        (free_first,) = who_ran(blocker, short)
        again = next(handle for handle in handles if ran[handle] != free_first)
        operations.revive(state.engine, again.id)
        wait_until(lambda: who_ran(out, again) == [ran[again], free_first])
        assert taken(server) == {again.id}
        assert ended(again)["state"] == "dead"
        assert outcomes(again) == ["timed_out"] * 2


def who_ran(path: Path, handle: JobHandle) -> list[int]:
    """The processes that ran this job, one for each attempt."""
    return [int(line[3]) for line in starts(path) if line[2] == handle.id]


def test_a_spooler_that_starts_afresh_after_some_tasks_ends_between_two_taken_jobs(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1, options=("--spooler-max-tasks", "1"))
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process") as state:
        handles = jobs.hold.enqueue_many([(str(out), 0.1)] * 30)
        wait_until(lambda: all_ended(state), 60)
        assert {handle.state for handle in handles} == {"succeeded"}
        assert [outcomes(handle) for handle in handles] == [["succeeded"]] * 30
    # uWSGI counts one task for each stay, which is a second, and ends the process after it.
    assert "maximum number of tasks reached" in server.log
    by = Counter(line[3] for line in starts(out))
    assert 1 < len(by) < 15, by
    assert [line[2] for line in starts(out)] == [handle.id for handle in handles]
    wait_until(lambda: server.files() == [])
