"""Metrics, health and spans of a real server: what was done to it is what it tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import jobs
from prometheus_client.parser import text_string_to_metric_families
from server import HERE, Answer, Server, client, ended, wait_until

from flask_spooler import operations
from flask_spooler.job import FINAL, STATES, encode_packet

Start = Callable[..., Server]
Samples = dict[tuple[str, ...], float]

APP = ("--module", "metrics_app:app")


def scrape(server: Server) -> Samples:
    """All samples by their name and the values of their labels, in the order of the labels."""
    answer = server.get("/test/metrics")
    assert answer.status == 200, answer
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def only(samples: Samples, name: str) -> Samples:
    """The samples of one name by the values of their labels."""
    return {tuple(labels): value for (found, *labels), value in samples.items() if found == name}


def healthz(server: Server) -> Answer:
    return server.get("/test/healthz")


def is_well(server: Server) -> bool:
    return healthz(server).status == 200


def counters(samples: Samples) -> Samples:
    ends = ("_total", "_bucket", "_sum", "_count", "_success_timestamp_seconds")
    return {key: value for key, value in samples.items()
            if key[0].endswith(ends) and key[0] != "jobs_count"}  # fmt: skip


def test_the_numbers_add_up_exactly_and_outlive_purges_and_restarts(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(options=APP)
    out = str(tmp_path / "out")
    with client(jobs.spooler, server.directory) as state:
        done = jobs.quick.enqueue_many([()] * 20)
        failed = jobs.always_fails.using(queue="mail").enqueue(out)
        crashed = jobs.end_badly.enqueue("os._exit")
        again = jobs.fail_times.enqueue(out, 1)
        later = jobs.quick.using(delay=3600).enqueue()
        dropped = jobs.quick.using(delay=3600, queue="mail").enqueue()
        assert dropped.cancel() == "cancelled"
        states = [ended(job)["state"] for job in [*done, failed, crashed, again]]
        assert states == ["succeeded"] * 20 + ["dead", "dead", "succeeded"]

        spool = state.engine.spool
        forged = jobs.quick.job((), {}, 0.0)
        spool.write(forged.id, encode_packet(forged, b"the key of somebody else"))
        spool.publish(forged.id, spool.window_name(forged.id))
        wait_until(lambda: scrape(server)["jobs_corrupt_files_total",] == 1)
        wait_until(lambda: scrape(server)["jobs_spool_files", "window"] == 0)

        told = scrape(server)
        quick, always, badly, times = (
            "jobs.quick", "jobs.always_fails", "jobs.end_badly", "jobs.fail_times",
        )  # fmt: skip
        assert only(told, "jobs_enqueued_total") == {
            ("default", quick): 21, ("mail", quick): 1, ("mail", always): 1,
            ("default", badly): 1, ("default", times): 1,
        }  # fmt: skip
        assert only(told, "jobs_finished_total") == {
            ("succeeded", "default", quick): 20,
            ("failed", "mail", always): 3,
            ("crashed", "default", badly): 1,
            ("failed", "default", times): 1,
            ("succeeded", "default", times): 1,
        }  # fmt: skip
        assert only(told, "jobs_count") == {
            (queue, state): {
                ("default", "succeeded"): 21, ("default", "dead"): 1, ("default", "scheduled"): 1,
                ("mail", "dead"): 1, ("mail", "cancelled"): 1,
            }.get((queue, state), 0)
            for queue in ("default", "mail") for state in STATES
        }  # fmt: skip
        for kind in ("run", "wait"):
            assert only(told, f"jobs_{kind}_duration_seconds_count") == {
                ("default", quick): 20, ("mail", always): 3, ("default", badly): 1,
                ("default", times): 2,
            }  # fmt: skip
        assert told["jobs_worker_respawns_total",] == 1
        assert only(told, "jobs_workers") == {("busy",): 0, ("idle",): 2}
        assert only(told, "jobs_spool_files") == {
            ("window",): 0, ("waiting",): 1, ("taken",): 0, ("dead",): 3, ("tmp",): 0, ("done",): 0,
            ("corrupt",): 1,
        }  # fmt: skip
        files = spool.counts()
        assert only(told, "jobs_spool_files") == {(place,): n for place, n in files.items()}
        assert told["jobs_last_success_timestamp_seconds", quick] == max(
            job.record.finished_at or 0.0 for job in done
        )
        (versions,) = only(told, "jobs_info")
        assert all(versions)

        assert operations.purge(state.engine, 4e9, 100, FINAL) == 24
        assert only(scrape(server), "jobs_count")["default", "succeeded"] == 0
        assert counters(scrape(server)) == counters(told)
        server.stop()
        server.start()
        assert counters(scrape(server)) == counters(told)
        assert later.cancel() == "cancelled"


def test_a_running_job_makes_its_spooler_busy_and_every_web_worker_says_so(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(options=APP, environment={"WEB_PROCESSES": "2"})
    with client(jobs.spooler, server.directory):
        job = jobs.hold.enqueue(str(tmp_path / "out"), 2.0)
        wait_until(lambda: job.state == "running")
        workers = [only(scrape(server), "jobs_workers") for _ in range(10)]
        assert workers == [{("busy",): 1, ("idle",): 1}] * 10
        assert ended(job)["state"] == "succeeded"
    assert only(scrape(server), "jobs_workers") == {("busy",): 0, ("idle",): 2}


def test_a_server_is_well_and_says_so_when_its_ledger_cannot_be_used(start_server: Start) -> None:
    server = start_server(options=APP)
    wait_until(lambda: is_well(server))
    server.stop()
    connection = apsw.Connection(str(server.directory / "ledger.db"))
    version = connection.pragma("user_version")
    connection.execute("PRAGMA user_version = 99")
    server.start()
    answer = healthz(server)
    assert (answer.status, answer.text) == (503, "the ledger cannot be used")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    wait_until(lambda: is_well(server))


def test_a_server_without_a_housekeeper_says_so(start_server: Start) -> None:
    server = start_server(ini=str(HERE / "no_mule.ini"))
    answer = healthz(server)
    assert (answer.status, answer.text) == (503, "no housekeeper is alive")


def test_a_run_in_a_spooler_is_linked_to_the_enqueue_of_a_web_worker(
    start_server: Start, tmp_path: Path
) -> None:
    file = tmp_path / "spans"
    environment = {"SPANS": str(file), "FLASK_SPOOLER_TRACING": "true"}
    server = start_server(options=APP, environment=environment)
    job_id = server.get("/uwsgi_spool?duration=0").json["id"]
    server.succeeded(job_id)

    def spans() -> list[dict[str, Any]]:
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    wait_until(lambda: len(spans()) == 2)
    enqueued, ran = sorted(spans(), key=lambda span: str(span["name"]))
    assert (enqueued["name"], ran["name"]) == ("enqueue default", "run default")
    assert enqueued["job"] == ran["job"] == job_id
    assert enqueued["pid"] in server.pids("worker")
    assert ran["pid"] in server.pids("spooler")
    assert ran["links"] == [enqueued["span"]]
    assert (ran["trace"], ran["parent"]) == (enqueued["trace"], enqueued["span"])
