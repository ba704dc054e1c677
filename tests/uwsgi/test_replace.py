"""`on_duplicate="replace"` on a running server: the newer job runs, the older one is not lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jobs
import pytest
from jobs import notes
from server import Server, client, ended, wait_until

Start = Callable[..., Server]


@pytest.mark.parametrize("delay", [0, 60], ids=["queued", "scheduled"])
def test_a_job_that_is_replaced_while_it_waits_is_cancelled_and_never_runs(
    server: Server, tmp_path: Path, delay: float
) -> None:
    out, go = tmp_path / "out", tmp_path / "go"
    alone = jobs.write.using(unique="waits", on_duplicate="replace")
    with client(jobs.spooler, server.directory):
        busy = [jobs.hold_until.enqueue(str(tmp_path / "busy"), str(go)) for _ in range(2)]
        wait_until(lambda: len(notes(tmp_path / "busy")) == 2)
        older = alone.using(delay=delay).enqueue(str(out), "older")
        newer = alone.enqueue(str(out), "newer")
        assert older.state == "cancelled"
        assert alone.using(on_duplicate="return").enqueue(str(out)) == newer
        go.touch()
        assert [ended(job)["state"] for job in [*busy, newer]] == ["succeeded"] * 3
        assert older.error["type"] == "Replaced"
        assert newer.id in older.error["message"]
    assert [words[0] for words in notes(out)] == ["newer"]
    wait_until(lambda: f"dead/{older.id}" in server.files())


@pytest.mark.parametrize(
    ("end", "state", "outcome"), [("", "succeeded", "succeeded"), ("fail", "cancelled", "failed")]
)
def test_a_job_that_is_replaced_while_it_runs_is_let_finish_and_not_tried_again(
    server: Server, tmp_path: Path, end: str, state: str, outcome: str
) -> None:
    """Of the three attempts that it would have had."""
    alone = jobs.say_and_wait.using(unique="runs", on_duplicate="replace", max_attempts=3)
    with client(jobs.spooler, server.directory):
        older = alone.enqueue(str(tmp_path / "older"), "older", end)
        wait_until(lambda: older.state == "running")
        newer = alone.enqueue(str(tmp_path / "newer"), "newer")
        assert alone.using(on_duplicate="return").enqueue("", "nobody") == newer
        (tmp_path / "newer").touch()
        assert ended(newer)["state"] == "succeeded"
        assert older.state == "running"
        (tmp_path / "older").touch()
        job = ended(older)
    assert job["state"] == state
    assert [attempt["outcome"] for attempt in job["attempts"]] == [outcome]


def test_what_was_replaced_before_the_server_was_killed_does_not_run_after_it(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=2)
    out, go = tmp_path / "out", tmp_path / "go"
    runs = jobs.hold_until.using(unique="runs", on_duplicate="replace")
    waits = jobs.write.using(unique="waits", on_duplicate="replace")
    with client(jobs.spooler, server.directory):
        older = [waits.using(delay=60).enqueue(str(out)), runs.enqueue(str(out), str(go))]
        wait_until(lambda: len(notes(out)) == 1)
        newer = [waits.enqueue(str(out)), runs.enqueue(str(out), str(go))]
        server.kill()
        go.touch()
        server.start()
        assert [ended(job)["state"] for job in newer] == ["succeeded"] * 2
        assert [ended(job)["state"] for job in older] == ["cancelled"] * 2
        assert [a["outcome"] for a in older[1].as_dict()["attempts"]] == ["cancelled"]
        free = [task.using(on_duplicate="refuse", delay=60) for task in (runs, waits)]
        assert [task.enqueue(str(out), "").state for task in free] == ["scheduled"] * 2
    wait_until(lambda: {f"dead/{job.id}" for job in older} <= set(server.files()))
    started = [words[2] for words in notes(out)]
    assert started.count(older[0].id) == 0
    assert started.count(older[1].id) == 1
    assert {job.id for job in newer} <= set(started)
