"""Nights without a server: `spooler_jobs` has the clock of the jobs in hand."""

from __future__ import annotations

import doctest
from datetime import date, datetime, time, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from nightly import create_app, files, nights, shop
from nightly.jobs import MADE_UP, make_report, night, plan, plan_next, report
from nightly.nights import ONE_DAY, last_whole_day, moment_after

from flask_spooler.testing import SpoolerJobs

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return create_app(TESTING=True, DATA_DIRECTORY=tmp_path)


def yesterday() -> date:
    return last_whole_day(datetime.now(timezone.utc), BERLIN)


def test_the_examples_in_the_docstrings_are_true() -> None:
    found = doctest.testmod(nights)
    assert (found.failed, found.attempted > 0) == (0, True)


def test_every_night_of_the_year_has_one_moment_also_where_the_clocks_change() -> None:
    first = date(2027, 1, 1)
    moments = [moment_after(first + n * ONE_DAY, time(2, 30), BERLIN) for n in range(365)]
    apart = [(b.timestamp() - a.timestamp()) / 3600 for a, b in pairwise(moments)]
    assert {round(hours) for hours in apart} <= {23, 24, 25}
    assert round(sum(apart)) == 364 * 24
    local = {moment.astimezone(timezone.utc).astimezone(BERLIN).time() for moment in moments}
    assert local == {time(2, 30), time(3, 30)}


def test_a_week_of_nights_makes_a_report_each(app: Flask, spooler_jobs: SpoolerJobs) -> None:
    with app.app_context():
        plan_next()
        for _ in range(2):  # a second deploy
            plan_next()
        ran = spooler_jobs.run_pending(until=timedelta(days=7))
        assert len(ran) == 14, "each night and its report"
        made = list(files.by_day())
        assert len(made) == 7
        days = [date.fromisoformat(day) for day in made]
        assert {later - earlier for later, earlier in pairwise(days)} == {ONE_DAY}
        assert [job.state for job in spooler_jobs.all_enqueued(night)].count("scheduled") == 1


def test_nights_that_were_missed_are_made_up_for(app: Flask, spooler_jobs: SpoolerJobs) -> None:
    with app.app_context():
        plan(yesterday() - 3 * ONE_DAY)
        spooler_jobs.run_pending()
        assert len(files.by_day()) in (3, 4)  # yesterday's is due only once it is 02:30
        assert [job.state for job in spooler_jobs.all_enqueued(night)].count("scheduled") == 1


def test_an_old_night_that_is_run_again_runs_alone(app: Flask, spooler_jobs: SpoolerJobs) -> None:
    old = yesterday() - 20 * ONE_DAY
    with app.app_context():
        for number in range(MADE_UP + 1):
            report(yesterday() - number * ONE_DAY)
        plan_next()
        spooler_jobs.run_pending()
        coming = spooler_jobs.assert_enqueued(night)
        again = night.enqueue(old)
        assert len(spooler_jobs.run_pending()) == 2, "the old night and its report"
        waiting = [job for job in spooler_jobs.all_enqueued(night) if job.state == "scheduled"]
        assert waiting == [coming]
        spooler_jobs.assert_enqueued(make_report, day=old)
        assert (again.state, files.next_job()) == ("succeeded", coming.id)


def test_after_months_without_a_server_a_week_is_made_up_for(
    app: Flask, spooler_jobs: SpoolerJobs
) -> None:
    with app.app_context():
        plan(yesterday() - 90 * ONE_DAY)
        spooler_jobs.run_pending()
        assert len(files.by_day()) == 1 + MADE_UP


def test_a_report_that_fails_does_not_end_the_series(
    app: Flask, spooler_jobs: SpoolerJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> str:
        raise OSError("No space left on device")

    with app.app_context():
        monkeypatch.setattr(files, "write_csv", full)
        plan_next()
        spooler_jobs.run_pending(until=timedelta(days=3), expected=OSError)
        assert {job.state for job in spooler_jobs.all_enqueued(make_report)} == {"dead"}
        assert [job.state for job in spooler_jobs.all_enqueued(night)].count("scheduled") == 1
        monkeypatch.undo()
        spooler_jobs.run_pending(until=timedelta(days=1))
        assert len(files.by_day()) == 1


def test_figures_are_collected_once_for_all_attempts_of_a_report(
    app: Flask, spooler_jobs: SpoolerJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[files.Figures] = []

    def full_once(_: date, figures: files.Figures) -> str:
        seen.append(figures)
        if len(seen) == 1:
            raise OSError("No space left on device")
        return "written"

    monkeypatch.setattr(files, "write_pdf", full_once)
    with app.app_context():
        shop.seed([yesterday()])
        job = report(yesterday())
        spooler_jobs.run_pending(expected=OSError)
        monkeypatch.setattr(shop, "collect", lambda day: [])
        spooler_jobs.run_pending(until="all")
    assert (job.state, job.attempt) == ("succeeded", 2)
    assert seen[0] == seen[1] != []


def test_another_time_in_the_settings_moves_the_night_that_is_planned(
    app: Flask, spooler_jobs: SpoolerJobs
) -> None:
    with app.app_context():
        day = yesterday() + ONE_DAY
        first = plan(day)
        assert plan(day) == first
        app.config["REPORT_AT"] = time(4, 15)
        moved = plan(day)
        assert (first.state, moved.state) == ("cancelled", "scheduled")
        due = datetime.fromtimestamp(moved.as_dict()["due_at"], BERLIN)
        assert due.time() == time(4, 15)


def test_the_button_makes_a_report_of_a_day_that_is_over(
    app: Flask, spooler_jobs: SpoolerJobs
) -> None:
    visitor = app.test_client()
    answers = [visitor.post("/reports", data={"day": str(yesterday())}) for _ in range(2)]
    assert answers[0].location == answers[1].location, "pressed twice, it is one job"
    job = spooler_jobs.assert_enqueued(make_report, day=yesterday())
    assert job.tags == [f"day:{yesterday()}", "report"]
    assert "waits" in visitor.get(answers[0].location).text
    spooler_jobs.run_pending()
    assert "done" in visitor.get(answers[0].location).text
    with visitor.get(f"/reports/{yesterday()}.pdf") as answer:
        assert answer.data.startswith(b"%PDF")
    for wrong in ("", "tomorrow", str(yesterday() + ONE_DAY)):
        assert visitor.post("/reports", data={"day": wrong}).status_code == 400
    assert visitor.get("/reports/../shop.db").status_code == 404


def test_a_series_that_a_person_has_cancelled_is_seen_and_can_be_planned_again(
    app: Flask, spooler_jobs: SpoolerJobs
) -> None:
    visitor = app.test_client()
    assert "No report is planned" in visitor.get("/").text
    visitor.post("/nights")
    assert "No report is planned" not in visitor.get("/").text
    spooler_jobs.assert_enqueued(night).cancel()
    assert "No report is planned" in visitor.get("/").text
    visitor.post("/nights")
    assert "No report is planned" not in visitor.get("/").text
