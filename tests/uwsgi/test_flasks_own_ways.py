"""Databases, app contexts and coroutines in the processes of a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import servers_in
from jobs import notes
from server import Server, wait_until

Start = Callable[..., Server]


def settings(directory: Path, **environment: str) -> dict[str, Any]:
    return {
        "processes": 1,
        "options": ("--module", "shop_app:app"),
        "spooler_import": "shop_app",
        "flask_app": "shop_app",
        "environment": {"SHOP_DATABASE": str(directory / "shop.db"), **environment},
    }


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("shop")
    with servers_in(directory) as start:
        yield start(**settings(directory))


def enqueued(server: Server, task: str, *arguments: str) -> str:
    done = server.flask("spooler", "enqueue", f"shop_app.{task}", *arguments)
    return done.stdout.split()[0]


def result(server: Server, task: str, *arguments: str) -> Any:
    return server.succeeded(enqueued(server, task, *arguments))["result"]


def test_every_process_has_database_connections_of_its_own(shop: Server) -> None:
    for seen in (result(shop, "connected"), shop.get("/connected").json):
        assert seen["opened_by"] == seen["pid"]


def test_without_fresh_pools_they_would_share_the_masters(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(**settings(tmp_path, KEEP_CONNECTIONS="yes"))
    assert server.process is not None
    for seen in (result(server, "connected"), server.get("/connected").json):
        assert seen["opened_by"] == server.process.pid != seen["pid"]


def test_a_task_that_a_view_defines_is_refused_with_the_way_out(shop: Server) -> None:
    answer = shop.get("/late")
    assert answer.status == 500
    shop.seen("the task 'shop_app.late_view.<locals>.late' is defined while the server runs")
    assert "move it to the top of a module that spooler-import loads" in shop.log


def test_what_one_job_leaves_open_is_not_seen_by_the_next(shop: Server) -> None:
    pid = result(shop, "leave_traces", "order=1")
    seen = result(shop, "look_for_traces")
    assert seen == {"pid": pid, "user": "nobody", "g": False, "new": 0, "orders": 0}


def test_a_view_enqueues_what_it_commits_and_nothing_else(shop: Server) -> None:
    committed = shop.get("/order/7?end=commit").json["id"]
    assert shop.succeeded(committed)["result"] is True
    forgotten = shop.get("/order/8?end=nothing").json["id"]
    assert shop.get(f"/jobs/{forgotten}").status == 404


def test_a_coroutine_has_job_progress_log_and_nested_tasks(shop: Server) -> None:
    job_id = enqueued(shop, "parts", "numbers=[1,2,3]")
    job = shop.succeeded(job_id)
    assert job["result"] == {"ids": [job_id], "nested": 42}
    assert job["progress"] == {"done": 3.0, "total": 3.0, "note": "app"}
    assert "said in a coroutine" in shop.flask("spooler", "show", job_id, "--log").stdout


def test_a_coroutine_times_out_and_does_not_run_on(shop: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job_id = enqueued(shop, "too_long", f"path={out}")
    wait_until(lambda: shop.job(job_id)["state"] == "dead")
    job = shop.job(job_id)
    assert job["attempts"][0]["outcome"] == "timed_out"
    assert job["error"]["type"] == "JobTimeout"
    assert notes(out) == [["start"], ["cancelled"], ["end"]]


def test_a_running_coroutine_can_be_cancelled(shop: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job_id = enqueued(shop, "until_cancelled", f"path={out}")
    wait_until(lambda: notes(out))
    shop.flask("spooler", "cancel", job_id)
    wait_until(lambda: shop.job(job_id)["state"] == "cancelled")
    assert notes(out) == [["start"], ["cancelled"], ["end"]]


def test_one_server_runs_the_jobs_of_two_apps_each_in_its_own(
    start_server: Start, tmp_path: Path
) -> None:
    # The spool of the ini file itself belongs to the reference app, which all spoolers import.
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
    server = start_server(
        processes=1,
        options=("--module", "two_apps:app", "--spooler", str(first), "--spooler", str(second)),
        spooler_import="two_apps",
        environment={"FIRST_DIRECTORY": str(first), "SECOND_DIRECTORY": str(second)},
    )

    def succeeded(prefix: str, job_id: str) -> Any:
        def job() -> Any:
            return server.get(f"{prefix}/jobs/{job_id}").json

        wait_until(lambda: job()["state"] == "succeeded")
        return job()["result"]

    for prefix, app in (("", "first"), ("/second", "second")):
        for delay in (0, 0.3):
            job_id = server.get(f"{prefix}/enqueue?delay={delay}").json["id"]
            ran = succeeded(prefix, job_id)
            assert (ran["app"], ran["spool"]) == (app, app)
            following = succeeded(prefix, ran["following"])
            assert following == {"app": app, "spool": app, "following": None}
    assert "Traceback" not in server.log
