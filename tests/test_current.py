"""`current_job`: there inside a task, an error that says so elsewhere, cheap in inner loops."""

from __future__ import annotations

import contextvars
import threading
from typing import Any

import pytest

from flask_spooler import OptionError, current_job
from flask_spooler.current import CurrentJob, inside_task, running
from flask_spooler.record import Progress
from tests.helpers import make_job


class Reports(list[tuple[str, Progress]]):
    """What was reported, and whether the ledger took it."""

    works = True

    def __call__(self, job_id: str, progress: Progress) -> bool:
        self.append((job_id, progress))
        return self.works


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def current(reports: Reports) -> CurrentJob:
    return CurrentJob(make_job(queue="mail", max_attempts=7), 3, reports)


def test_outside_a_task_there_is_no_current_job(current: CurrentJob) -> None:
    for use in (lambda: current_job.id, lambda: current_job.progress(1)):
        with pytest.raises(RuntimeError, match="works inside a running task"):
            use()
    assert not inside_task()


def test_inside_a_task_the_current_job_is_the_one_that_runs(current: CurrentJob) -> None:
    with running(current):
        assert inside_task()
        assert current_job.id == current.id
        assert (current_job.task, current_job.queue) == ("tests.work", "mail")
        assert (current_job.attempt, current_job.max_attempts) == (3, 7)
        assert repr(current_job) == f"<current job {current.id}, attempt 3>"
    assert not inside_task()


def test_the_current_job_is_left_when_the_task_fails(current: CurrentJob) -> None:
    with pytest.raises(ValueError, match="broke"), running(current):
        raise ValueError("it broke")
    assert not inside_task()


def test_a_task_called_within_a_task_gives_the_outer_one_back(
    current: CurrentJob, reports: Reports
) -> None:
    inner = CurrentJob(make_job(), 1, reports)
    with running(current):
        with running(inner):
            assert current_job.id == inner.id
        assert current_job.id == current.id


def test_another_thread_is_inside_the_task_only_with_its_context(current: CurrentJob) -> None:
    seen: list[bool] = []
    with running(current):
        context = contextvars.copy_context()
        for target in (inside_task, lambda: context.run(inside_task)):
            thread = threading.Thread(target=lambda each=target: seen.append(each()))
            thread.start()
            thread.join()
    assert seen == [False, True]


def test_the_first_report_is_written_at_once(current: CurrentJob, reports: Reports) -> None:
    current.progress(2, 5, "half-way")
    assert reports == [(current.id, Progress(2.0, 5.0, "half-way"))]
    assert current.unwritten is None


def test_a_flood_of_reports_is_kept_in_memory_and_the_newest_wins(
    current: CurrentJob, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(number * 0.001 for number in range(10_000))
    monkeypatch.setattr("flask_spooler.current.time.monotonic", lambda: next(clock))
    for number in range(1, 301):
        current.progress(number, 300)
    assert [progress.done for _, progress in reports] == [1, 101, 201]
    assert current.unwritten == Progress(300.0, 300.0)


def test_a_report_that_could_not_be_written_is_kept(current: CurrentJob, reports: Reports) -> None:
    reports.works = False
    current.progress(2, 5)
    assert current.unwritten == Progress(2.0, 5.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "5", [1]])
def test_what_is_no_finite_number_is_refused_and_reports_nothing(
    current: CurrentJob, reports: Reports, value: Any
) -> None:
    for act in (lambda: current.progress(value), lambda: current.progress(1, value)):
        with pytest.raises(OptionError, match="finite number"):
            act()
    assert reports == []
    assert current.unwritten is None


def test_a_total_may_be_unknown_and_zero_is_a_number(current: CurrentJob) -> None:
    current.progress(0)
    current.progress(0, 0)
    assert current.unwritten == Progress(0.0, 0.0)
