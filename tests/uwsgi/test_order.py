"""Who comes first: the oldest, the more urgent, and nobody from a paused queue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jobs
from jobs import notes
from server import Server, client, ended, wait_until

from flask_spooler import operations

Start = Callable[..., Server]


def test_with_one_spooler_jobs_start_in_exactly_the_order_of_their_enqueue(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1)
    out = str(tmp_path / "out")
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process"):
        blocker = jobs.hold.enqueue(str(tmp_path / "blocker"), 0.5)
        wait_until(lambda: blocker.state == "running")
        many = [jobs.write.enqueue(out) for _ in range(300)]
        ended(many[-1], 60)
    assert [line[2] for line in notes(out)] == [job.id for job in many]


def test_an_urgent_job_overtakes_all_but_those_in_the_window(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1)
    out = str(tmp_path / "out")
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process"):
        blocker = jobs.hold.enqueue(str(tmp_path / "blocker"), 1)
        wait_until(lambda: blocker.state == "running")
        behind = jobs.write.enqueue_many([(out, "usual")] * 200)
        urgent = jobs.write.using(priority=10).enqueue(out, "urgent")
        ended(behind[-1], 60)
        ended(urgent)
    order = [line[0] for line in notes(out)]
    assert order.index("urgent") <= 2
    assert len(order) == 201


def test_a_paused_queue_starts_nothing_until_it_is_resumed_even_after_a_restart(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=2)
    out = str(tmp_path / "out")
    with client(jobs.spooler, server.directory) as state:
        assert ended(jobs.write.using(queue="mail").enqueue(out, "first"))["state"] == "succeeded"
        server.flask("spooler", "pause", "mail")
        held = jobs.write.using(queue="mail").enqueue(out, "mail")
        assert ended(jobs.write.enqueue(out, "other"))["state"] == "succeeded"
        server.stop()
        server.start()
        assert ended(jobs.write.enqueue(out, "other"))["state"] == "succeeded"
        assert held.state == "queued"
        operations.pause(state.engine, "mail", paused=False)
        assert ended(held)["state"] == "succeeded"
    assert [line[0] for line in notes(out)] == ["first", "other", "other", "mail"]
