"""One `Spooler`, several apps: which of them is meant, and that none is kept alive."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
from flask import Flask, current_app

from flask_spooler import Spooler, Task
from flask_spooler.errors import AppUnclear, NotInitialised, SpoolerTaken


@pytest.fixture
def where(spooler: Spooler) -> Task[[], str]:
    @spooler.task(name="where")
    def where() -> str:
        return current_app.name

    return where


def create_app(spooler: Spooler, directory: Path, name: str) -> Flask:
    app = Flask(name)
    app.config.update(
        SPOOLER_DIRECTORY=directory / name, SPOOLER_DURABILITY="process", SPOOLER_EAGER=True
    )
    spooler.init_app(app)
    return app


def test_each_app_of_a_factory_has_its_own_spool_and_runs_its_own_jobs(
    spooler: Spooler, where: Task[[], str], memory: Path
) -> None:
    apps = [create_app(spooler, memory, name) for name in ("first", "second")]
    for app in apps:
        with app.app_context():
            job = where.enqueue()
            assert job.result == app.name
            assert spooler.get(job.id) == job
            assert spooler.engine.spool.root == memory / app.name


def test_a_job_may_enqueue_to_the_spool_it_came_from(
    spooler: Spooler, where: Task[[], str], memory: Path
) -> None:
    @spooler.task(name="outer")
    def outer() -> str:
        found: str = where.enqueue().result
        return found

    first, second = (create_app(spooler, memory, name) for name in ("first", "second"))
    with second.app_context():
        assert outer.enqueue().result == "second"
    with first.app_context():
        assert outer.enqueue().result == "first"


def test_outside_a_context_several_apps_are_one_too_many(
    spooler: Spooler, where: Task[[], str], memory: Path
) -> None:
    with pytest.raises(NotInitialised, match=r"no app yet: call spooler\.init_app\(app\)"):
        where.enqueue()
    first = create_app(spooler, memory, "first")
    assert where.enqueue().result == "first"
    assert first.name == "first"
    create_app(spooler, memory, "second")
    gc.collect()
    with pytest.raises(AppUnclear, match=r"has met several apps.*with app\.app_context"):
        where.enqueue()


def test_within_another_app_that_one_is_named(
    spooler: Spooler, where: Task[[], str], memory: Path
) -> None:
    kept = [create_app(spooler, memory, name) for name in ("first", "second")]
    other = create_app(Spooler(), memory, "other")
    with other.app_context(), pytest.raises(AppUnclear, match="current app, 'other', is none"):
        where.enqueue()
    assert len(kept) == 2


def test_a_second_spooler_for_an_app_is_refused(
    spooler: Spooler, where: Task[[], str], memory: Path
) -> None:
    app = create_app(spooler, memory, "first")
    with pytest.raises(SpoolerTaken, match=r"'first' has a Spooler already: import that one"):
        Spooler(app)
    assert where.enqueue().result == "first"


def test_the_only_app_of_a_script_is_kept_for_it(
    spooler: Spooler, where: Task[[], str], memory: Path
) -> None:
    create_app(spooler, memory, "alone")
    gc.collect()
    assert where.enqueue().result == "alone"


def test_apps_that_nobody_has_any_more_are_not_kept(
    spooler: Spooler, where: Task[[], str], memory: Path
) -> None:
    def use(name: str) -> weakref.ref[Flask]:
        app = create_app(spooler, memory, name)
        with app.app_context():
            assert where.enqueue().result == name
        return weakref.ref(app)

    apps = [use(f"app-{number}") for number in range(5)]
    gc.collect()
    assert [app() for app in apps] == [None] * 5
