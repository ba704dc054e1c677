"""The handle of a job: always fresh, and it waits without waiting for itself."""

from __future__ import annotations

import math
import os
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from flask_spooler import JobHandle, JobNotFound, JobStateError, OptionError, WaitTimeout
from flask_spooler._uwsgi import process
from flask_spooler.current import CurrentJob, running
from flask_spooler.engine import SpoolEngine
from flask_spooler.errors import WaitInsideTask
from flask_spooler.record import Change, ErrorInfo, Progress
from tests.helpers import NOW, make_job, settle


@pytest.fixture
def job(engine: SpoolEngine) -> JobHandle:
    return JobHandle(engine, engine.submit(make_job(kwargs={"path": "a.png"})))


def start(engine: SpoolEngine, job: JobHandle) -> None:
    with engine.ledger.transaction() as rows:
        rows.start(job.id, "window", NOW, process(os.getpid()), "boot")


def finish(
    engine: SpoolEngine,
    job: JobHandle,
    state: str = "succeeded",
    result: bytes | None = b'{"a": [1]}',
    error: ErrorInfo | None = None,
) -> None:
    outcome = "succeeded" if state == "succeeded" else "failed"
    change = Change(
        outcome=outcome, state=state, due_at=NOW, ended_at=NOW + 1, result=result, error=error
    )
    with engine.ledger.transaction() as rows:
        assert settle(rows, job.id, job.attempt, change)


def test_every_attribute_is_as_fresh_as_the_ledger(engine: SpoolEngine, job: JobHandle) -> None:
    assert (job.state, job.attempt, job.result, job.error, job.progress) == (
        "queued",
        0,
        None,
        None,
        None,
    )
    start(engine, job)
    with engine.ledger.transaction() as rows:
        rows.progress(job.id, Progress(2, 5, "half-way"))
    assert (job.state, job.attempt) == ("running", 1)
    assert job.progress == {"done": 2, "total": 5, "note": "half-way"}
    finish(engine, job)
    assert (job.state, job.result) == ("succeeded", {"a": [1]})


def test_an_error_has_type_message_and_traceback(engine: SpoolEngine, job: JobHandle) -> None:
    start(engine, job)
    finish(engine, job, "dead", None, ErrorInfo("ValueError", "it broke", "Traceback …"))
    assert job.error == {"type": "ValueError", "message": "it broke", "traceback": "Traceback …"}
    assert job.result is None


def test_a_whole_job_is_the_documented_json(engine: SpoolEngine, job: JobHandle) -> None:
    start(engine, job)
    finish(engine, job)
    whole = job.as_dict()
    assert whole["kwargs"] == {"path": "a.png"}
    assert whole["result"] == {"a": [1]}
    assert whole["attempts"] == [
        {
            "number": 1,
            "outcome": "succeeded",
            "started_at": NOW,
            "finished_at": NOW + 1,
            "error": None,
        }
    ]
    assert (whole["enqueued_at"], whole["started_at"], whole["finished_at"]) == (NOW, NOW, NOW + 1)


def test_every_attribute_of_a_job_that_is_gone_says_so(engine: SpoolEngine) -> None:
    gone = JobHandle(engine, make_job().id)
    for name in ("state", "attempt", "result", "error", "progress", "record"):
        with pytest.raises(JobNotFound):
            getattr(gone, name)
    for act in (gone.as_dict, gone.wait, gone.cancel, gone.retry):
        with pytest.raises(JobNotFound):
            act()


def test_two_handles_of_one_job_are_equal(engine: SpoolEngine, job: JobHandle) -> None:
    assert job == JobHandle(engine, job.id)
    assert len({job, JobHandle(engine, job.id)}) == 1
    assert job != JobHandle(engine, make_job().id)
    assert job != job.id
    assert repr(job) == f"<Job {job.id}>"


def test_waiting_for_a_job_that_has_ended_returns_at_once(
    engine: SpoolEngine, job: JobHandle
) -> None:
    job.cancel()
    assert job.wait() == job.wait(timeout=0) == "cancelled"


def test_waiting_ends_when_the_job_ends(engine: SpoolEngine, job: JobHandle) -> None:
    start(engine, job)
    timer = threading.Timer(0.05, finish, (engine, job))
    timer.start()
    assert job.wait(timeout=60) == "succeeded"
    timer.join()


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_waiting_gives_up_after_its_timeout_and_leaves_the_job_alone(
    job: JobHandle, timeout: float
) -> None:
    started = time.monotonic()
    with pytest.raises(WaitTimeout, match=f"still queued after {timeout:g} s") as caught:
        job.wait(timeout)
    assert isinstance(caught.value, TimeoutError)
    assert timeout <= time.monotonic() - started < timeout + 2
    assert job.state == "queued"


@pytest.mark.parametrize("timeout", [-1, -0.5, -math.inf])
def test_waiting_for_less_than_no_time_looks_once(
    job: JobHandle, timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it has waited"))
    with pytest.raises(WaitTimeout, match="still queued after 0 s"):
        job.wait(timeout)
    job.cancel()
    assert job.wait(timeout) == "cancelled"


def test_waiting_inside_a_task_is_refused_even_for_a_job_that_has_ended(job: JobHandle) -> None:
    job.cancel()
    current = CurrentJob(make_job(), 1, lambda job_id, progress: True)
    with running(current), pytest.raises(WaitInsideTask, match="refused inside a task"):
        job.wait(timeout=0)


def test_a_handle_cancels_and_retries(job: JobHandle) -> None:
    with pytest.raises(JobStateError):
        job.retry()
    job._engine.clock = lambda: NOW
    assert job.cancel() == "cancelled"
    job.retry()
    assert job.state == "queued"


@pytest.mark.parametrize(
    "timeout",
    ["5", True, timedelta(seconds=5), math.nan],
    ids=["text", "true", "delta", "nan"],
)
def test_waiting_takes_seconds_and_says_so(job: JobHandle, timeout: Any) -> None:
    expected = r"expected wait\(timeout=…\) to be a number of seconds, or None, got: "
    with pytest.raises(OptionError, match=expected):
        job.wait(timeout=timeout)
