"""A development server and a uWSGI server on one spool: the uWSGI server runs the jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from server import Server

from tests.flask_run import RUNS, flask_runs_in


def test_a_development_server_stands_back_while_a_uwsgi_server_is_there(
    tmp_path: Path, start_server: Callable[..., Server]
) -> None:
    with flask_runs_in(tmp_path) as start_flask:
        development = start_flask("--debug", "--no-reload")
        development.runs()

        server = start_server(processes=1)
        assert server.process is not None
        development.seen(f"uWSGI server {server.process.pid} runs the jobs of")
        job = server.succeeded(server.get("/uwsgi_spool?duration=0").json["id"])
        assert job["attempt"] == 1
        assert "Working in uwsgi spool" in server.log
        assert "another server works on this spool" not in server.log

        server.stop()
        development.runs(times=2)
        assert development.ended(development.enqueue("add", 1, 2))["result"] == 3
        assert development.log.count(RUNS) == 2
