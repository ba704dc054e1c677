"""Orders, shares, limits and pauses of queues on a running server, and what a restart keeps."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jobs
from jobs import notes
from server import Server, client, ended, wait_until
from standstill import Standstill

from flask_spooler import operations

Start = Callable[..., Server]


def queues(value: Any) -> dict[str, str]:
    """The environment of a server with this `SPOOLER_QUEUES`."""
    return {"FLASK_SPOOLER_QUEUES": json.dumps(value)}


def occupied(path: Path) -> None:
    """Let the only spooler have a job for half a second, so that others come to wait."""
    jobs.hold.using(queue="blockers").enqueue(str(path), 0.5)
    wait_until(lambda: len(notes(path)) == 1)


def words(path: Path) -> list[str]:
    return [line[0] for line in notes(path)]


def spans(path: Path) -> dict[str, tuple[float, float]]:
    """From when to when each `hold` ran that has ended."""
    found: dict[str, list[float]] = {}
    for _, when, job_id, *_ in notes(path):
        found.setdefault(job_id, []).append(float(when))
    return {job_id: (times[0], times[-1]) for job_id, times in found.items() if len(times) > 1}


def most_at_once(found: list[tuple[float, float]]) -> int:
    edges = sorted([(since, 1) for since, _ in found] + [(until, -1) for _, until in found])
    return max(itertools.accumulate(step for _, step in edges))


def test_a_strict_order_is_kept_also_over_a_restart(start_server: Start, tmp_path: Path) -> None:
    server = start_server(processes=1, environment=queues(["urgent", "usual"]))
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process"):
        occupied(tmp_path / "blocker")
        for queue in ("other", "usual", "urgent"):
            jobs.write.using(queue=queue).enqueue_many([(str(out), queue)] * 20)
        last = jobs.write.using(queue="other").enqueue(str(out), "other")
        server.stop()
        assert words(out) == []
        server.start()
        ended(last, 30)
    assert words(out) == ["urgent"] * 20 + ["usual"] * 20 + ["other"] * 21


def test_shares_are_kept_while_both_queues_have_jobs_that_wait(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=2, environment=queues({"mail": 3, "default": 1}))
    out, blocker, go = (tmp_path / name for name in ("out", "blocker", "go"))
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process"):
        for _ in range(2):
            jobs.hold_until.using(queue="blockers").enqueue(str(blocker), str(go))
        wait_until(lambda: len(notes(blocker)) == 2)
        default = jobs.write.enqueue_many([(str(out), "default")] * 400)
        mail = jobs.write.using(queue="mail").enqueue_many([(str(out), "mail")] * 400)
        go.touch()
        for job in (default[-1], mail[-1]):
            ended(job, 60)
    first = Counter(words(out)[:400])
    # Five standard deviations around 300 of 400.
    assert abs(first["mail"] - 300) < 45, first
    of_mail = [line[2] for line in notes(out) if line[0] == "mail"]
    assert len(set(of_mail)) == 400
    assert [job.id for job in mail][:300] == sorted(of_mail)[:300]


def test_shares_are_kept_where_a_second_server_came_to_the_same_spool(
    start_server: Start, tmp_path: Path
) -> None:
    shares = queues({"mail": 3, "default": 1})
    server, _ = (start_server(processes=1, environment=shares) for _ in range(2))
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process"):
        together = time.time() + 2
        for queue in ("default", "mail"):
            jobs.write.using(queue=queue, at=together).enqueue_many([(str(out), queue)] * 240)
        wait_until(lambda: len(words(out)) == 480, 60)
    first = Counter(words(out)[:240])
    # Five standard deviations around 180 of 240.
    assert abs(first["mail"] - 180) < 34, first
    assert len({line[2] for line in notes(out)}) == 480


def test_a_limit_of_one_is_never_exceeded_while_other_queues_use_the_rest(
    start_server: Start, tmp_path: Path
) -> None:
    limited = {"reports": {"weight": 5, "limit": 1}, "usual": 1}
    server = start_server(processes=4, environment=queues(limited))
    reports, usual = tmp_path / "reports", tmp_path / "usual"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process"):
        slow = jobs.hold.using(queue="reports").enqueue_many([(str(reports), 0.15)] * 12)
        quick = jobs.hold.using(queue="usual").enqueue_many([(str(usual), 0.05)] * 60)
        for _ in range(4):  # these come one by one, while spoolers may be idle
            slow.append(jobs.hold.using(queue="reports").enqueue(str(reports), 0.1))
        wait_until(lambda: len(spans(reports)) >= 4)
        server.stop()
        server.start()
        for job in (*slow, *quick):
            assert ended(job, 30)["state"] == "succeeded"
    assert len(spans(reports)) == 16
    assert most_at_once(list(spans(reports).values())) == 1
    assert most_at_once([*spans(reports).values(), *spans(usual).values()]) == 4


def test_a_limit_is_used_to_the_full(start_server: Start, tmp_path: Path) -> None:
    limited = [{"name": "reports", "limit": 2}]
    server = start_server(processes=3, environment=queues(limited))
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process"):
        for job in jobs.hold.using(queue="reports").enqueue_many([(str(out), 0.1)] * 10):
            ended(job, 30)
    assert most_at_once(list(spans(out).values())) == 2


def test_of_two_queues_with_a_backlog_the_paused_one_starts_nothing_until_it_is_resumed(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=2)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process") as state:
        for _ in range(5):
            for queue in ("mail", "other"):
                jobs.hold.using(queue=queue).enqueue_many([(str(out), 0.005)] * 50)
        wait_until(lambda: len(notes(out)) > 60)
        operations.pause(state.engine, "mail")
        paused = state.engine.ledger.find(queue="mail", limit=1_000)
        begun = {record.id for record in paused if record.attempt}
        assert 0 < len(begun) < 250

        def left(queue: str) -> int:
            counts = state.engine.ledger.counts()[queue]
            return counts["queued"] + counts["running"]

        wait_until(lambda: left("other") == 0, 30)
        server.stop()
        server.start()
        assert ended(jobs.write.using(queue="other").enqueue(str(tmp_path / "o")))["attempt"] == 1
        now = state.engine.ledger.find(queue="mail", limit=1_000)
        assert {record.id for record in now if record.attempt} == begun
        operations.pause(state.engine, "mail", paused=False)
        wait_until(lambda: left("mail") == 0, 30)
        ends = Counter(record.state for record in state.engine.ledger.find(limit=1_000))
    assert ends == {"succeeded": 501}
    runs = Counter(line[2] for line in notes(out) if line[0] == "start")
    assert set(runs.values()) == {1}


def test_an_urgent_job_overtakes_two_thousand_by_all_but_one_for_each_spooler(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server(processes=2, environment=queues(["urgent"]))
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process") as state:
        jobs.hold.enqueue_many([(str(tmp_path / "out"), 0.001)] * 2_000)
        wait_until(lambda: state.engine.ledger.counts()["default"]["succeeded"] > 200, 30)
        shown = []
        for options in ({"priority": 10}, {"queue": "urgent"}):
            job = jobs.quick.using(**options).enqueue()
            finished = state.engine.ledger.counts()["default"]["succeeded"]
            ended(job)
            shown.append((job.record, finished))
        left = state.engine.ledger.counts()["default"]["queued"]
        found = state.engine.ledger.find(queue="default", limit=3_000)
    assert left > 200, "the backlog was too short for this test"
    for record, _ in shown:
        assert record.started_at is not None
        assert record.started_at - record.enqueued_at < 1.0 + standstill.seconds
    # Who was started after the enqueue had returned, and before the urgent one.
    starts = sorted(each.started_at for each in found if each.started_at)
    for record, finished in shown:
        before = sum(start < record.started_at for start in starts)
        assert before - finished <= 4, "two that ran, and one more for each of the two spoolers"


def test_a_packet_of_another_library_is_not_starved_by_an_endless_backlog(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1, options=("--module", "foreign_app:app"))
    out, foreign = tmp_path / "out", tmp_path / "foreign"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process") as state:
        jobs.hold.enqueue_many([(str(out), 0.02)] * 1_000)
        wait_until(lambda: len(notes(out)) > 10)
        for number in range(2):
            path = f"/foreign/uwsgi_tasks?path={quote(str(foreign))}&word={number}"
            assert server.get(path).status == 200
            wait_until(lambda number=number: len(notes(foreign)) > number, 5)
        assert state.engine.ledger.counts()["default"]["queued"] > 100
    assert notes(foreign) == [["uwsgi_tasks", "0"], ["uwsgi_tasks", "1"]]
