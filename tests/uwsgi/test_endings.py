"""However a task ends, the job ends in a state that says so, and the pool goes on."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import jobs
import pytest
from server import Server, client, ended, outcomes

import flask_spooler
from flask_spooler.errors import PayloadTooLarge

FAILED = {
    "sys.exit": "SystemExit",
    "KeyboardInterrupt": "KeyboardInterrupt",
    "RecursionError": "RecursionError",
    "MemoryError": "MemoryError",
    "GeneratorExit": "GeneratorExit",
    "unprintable": "UnprintableError",
    "not JSON": "TypeError",
    "too large": "PayloadTooLarge",
    "surrogate": "ValueError",
}


@pytest.mark.parametrize("way", FAILED)
def test_a_task_that_ends_badly_is_dead_with_its_error_and_the_next_one_runs(
    server: Server, way: str
) -> None:
    with client(jobs.spooler, server.directory):
        job = ended(jobs.end_badly.enqueue(way))
        assert job["state"] == "dead"
        assert outcomes(job) == ["failed"]
        assert job["error"]["type"] == FAILED[way]
        assert job["error"]["message"] is not None
        assert ended(jobs.end_badly.enqueue("well"))["state"] == "succeeded"


@pytest.mark.parametrize("way", ["os._exit", "abort"])
def test_a_task_that_ends_its_process_is_a_crash_and_the_next_one_runs(
    server: Server, way: str
) -> None:
    with client(jobs.spooler, server.directory):
        job = ended(jobs.end_badly.enqueue(way))
        assert job["state"] == "dead"
        assert outcomes(job) == ["crashed"]
        assert ended(jobs.end_badly.enqueue("well"))["state"] == "succeeded"


def test_a_task_that_closes_every_descriptor_does_not_run_twice_and_the_pool_goes_on(
    server: Server,
) -> None:
    with client(jobs.spooler, server.directory):
        job = ended(jobs.end_badly.using(max_attempts=3).enqueue("closed spool file"), 60)
        assert job["state"] in ("succeeded", "dead")
        assert ended(jobs.end_badly.enqueue("well"), 60)["state"] == "succeeded"


RESULTS: dict[str, Any] = {
    "none": None,
    "true": True,
    "minus two": -2,
    "minus one": -1,
    "zero": 0,
    "empty": "",
    "list": [1, "2", None],
    "nested": {"a": {"b": [1.5]}},
    "bytes": base64.b64encode(b"\x00\xff").decode(),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_any_json_value_is_a_result_and_never_a_code(server: Server, kind: str) -> None:
    with client(jobs.spooler, server.directory):
        job = ended(jobs.many_results.enqueue(kind))
    assert job["state"] == "succeeded"
    assert job["attempt"] == 1
    assert job["result"] == RESULTS[kind]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_600, 70_000, 2**20, 12_000_000])
def test_values_of_any_size_arrive_whole(server: Server, size: int) -> None:
    data = bytes(i % 256 for i in range(1021)) * (size // 1021 + 1)
    with client(jobs.spooler, server.directory):
        job = ended(jobs.keep.enqueue(data=data[:size]), 60)
    assert job["result"][:3] == [size, 0, hashlib.sha256(data[:size]).hexdigest()]


def test_arguments_beyond_the_limit_are_refused_and_leave_nothing(server: Server) -> None:
    with client(jobs.spooler, server.directory) as state:
        before = state.engine.spool.counts()
        with pytest.raises(PayloadTooLarge, match="SPOOLER_MAX_PAYLOAD"):
            jobs.keep.enqueue(data=bytes(13_000_000))
        assert state.engine.spool.counts() == before


def test_nul_and_every_plane_of_unicode_arrive_whole(server: Server) -> None:
    text = '\x00 \x7f ü 漢 \U0001f600 \u2028 \\ " </script>'
    with client(jobs.spooler, server.directory):
        job = ended(jobs.keep.enqueue(text=text))
    assert job["result"][1:3] == [len(text), hashlib.sha256(text.encode()).hexdigest()]


def test_text_that_is_no_unicode_is_refused_with_a_sentence(server: Server) -> None:
    with (
        client(jobs.spooler, server.directory),
        pytest.raises(flask_spooler.ArgumentError, match="text"),
    ):
        jobs.keep.enqueue(text="\ud800")


def test_arguments_named_like_reserved_keys_are_arguments(server: Server) -> None:
    names = {"spooler": "/tmp/x", "at": "1", "body": "b", "id": "../x", "task": "t", "queue": "q"}
    with client(jobs.spooler, server.directory):
        job = ended(jobs.keep.enqueue(priority=7, **names))
    assert job["state"] == "succeeded"
    assert job["result"][3:] == [7, *names.values()]
    assert (job["queue"], job["priority"]) == ("default", 0)
