"""Steps on a running server: jobs whose process is killed go on where they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jobs
import pytest
from jobs import notes
from server import Server, client, ended, outcomes, wait_until

Start = Callable[..., Server]


@pytest.mark.parametrize("inside", [False, True], ids=["after", "inside"])
def test_a_task_of_ten_steps_killed_at_each_of_them_does_each_once(
    start_server: Start, tmp_path: Path, inside: bool
) -> None:
    """Ten jobs; the process of each is killed at another step, after it or within it."""
    server = start_server(processes=5)
    with client(jobs.spooler, server.directory):
        handles = [jobs.ten_steps.enqueue(str(tmp_path / f"out-{n}"), n, inside) for n in range(10)]
        found = [ended(handle, timeout=60) for handle in handles]
    assert [job["state"] for job in found] == ["succeeded"] * 10
    assert [job["result"] for job in found] == [list(range(10))] * 10
    for number, job in enumerate(found):
        assert outcomes(job) == ["crashed", "succeeded"]
        effects = Counter(int(step) for _, step in notes(tmp_path / f"out-{number}"))
        assert effects == {n: 2 if inside and n == number else 1 for n in range(10)}
        assert [step["name"] for step in job["steps"]] == [f"step {n}" for n in range(10)]


def test_a_job_that_gets_a_step_further_each_time_is_not_given_up_for_its_crashes(
    start_server: Start, tmp_path: Path
) -> None:
    """Its process is killed ten times, once after each step, where three in a row are the end."""
    server = start_server(processes=2)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory):
        job = ended(jobs.dies_after_each_step.enqueue(str(out)), timeout=90)
    assert (job["state"], job["result"]) == ("succeeded", list(range(10)))
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["crashed"] * 10 + ["succeeded"]
    assert [int(step) for _, step in notes(out)] == list(range(10))


def test_a_job_goes_on_with_its_steps_after_the_whole_server_was_killed(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1)
    out, gate = tmp_path / "out", tmp_path / "gate"
    with client(jobs.spooler, server.directory):
        handle = jobs.steps_with_a_gate.enqueue(str(out), str(gate))
        wait_until(lambda: len(handle.as_dict()["steps"]) == 1)
        server.kill()
        gate.touch()
        server.start()
        job = ended(handle, timeout=60)
    assert outcomes(job) == ["interrupted", "succeeded"]
    assert [words[0] for words in notes(out)] == ["before", "after"]
