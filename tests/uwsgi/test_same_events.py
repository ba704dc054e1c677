"""What a test sees of jobs is what a server does with them: the same events in the same order."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scenarios
from server import Server, client, wait_until
from standstill import Standstill

from flask_spooler import JobTimeout, operations
from flask_spooler.job import FINAL
from flask_spooler.testing import spooler_jobs

HOUR = 3600.0
WAITS = (2.0, 10.0)
"""Backoffs in seconds on the server; the longer one where the machine has stood still."""

Seen = tuple[list[dict[str, Any]], list[str]]
"""The events, and the states in which the jobs ended."""


@pytest.fixture
def in_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """All scenarios by hand, with a backoff of an hour."""
    file = tmp_path / "in-test"
    monkeypatch.setenv(scenarios.VARIABLE, str(file))
    monkeypatch.setenv(scenarios.WAIT, str(HOUR))
    with spooler_jobs(scenarios.app) as jobs:
        made = scenarios.enqueue_all(HOUR)
        begun = time.monotonic()
        jobs.run_pending(until="all", expected=(ConnectionError, JobTimeout))
        assert time.monotonic() - begun < 60, "an hour went by as one"
        states = [job.state for job in made]
    monkeypatch.delenv(scenarios.VARIABLE)
    return scenarios.events(file), states


@pytest.fixture
def on_server(
    tmp_path: Path,
    start_server: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
    standstill: Standstill,
) -> Seen:
    """All scenarios on a server, with a backoff that is short.

    Events are half a backoff apart. Had the machine stood still for a part of that, an order that
    differs would say nothing: then they run again, further apart.
    """
    for wait in WAITS:
        before = standstill.seconds
        seen = run_all(tmp_path / f"wait-{wait:g}", start_server, monkeypatch, wait)
        if standstill.seconds - before < wait / 4:
            break
    return seen


def run_all(
    place: Path, start_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, wait: float
) -> Seen:
    """Run all scenarios on a server with one spooler.

    It has `TESTING` set, by mistake, and works on its directory all the same.
    """
    place.mkdir()
    file = place / "events"
    server = start_server(
        directory=place / "spool",
        processes=1,
        spooler_import="scenarios",
        environment={
            scenarios.VARIABLE: str(file),
            scenarios.WAIT: str(wait),
            "FLASK_TESTING": "true",
        },
    )
    with client(scenarios.spooler, server.directory) as state:
        for queue in ("one", "two"):
            operations.pause(state.engine, queue)
        with monkeypatch.context() as patches:
            patches.setenv(scenarios.VARIABLE, str(file))
            made = scenarios.enqueue_all(wait)
        with state.engine.ledger.transaction() as rows:  # both at one moment
            rows.pause("one", False)
            rows.pause("two", False)
        state.engine.ring()

        def states() -> list[str]:
            return [job.state for job in made]

        wait_until(lambda: set(states()) <= FINAL, timeout=60)
        return scenarios.events(file), states()


def test_the_events_of_a_test_are_those_of_a_server_in_the_same_order(
    in_test: Seen, on_server: Seen
) -> None:
    assert in_test[1] == on_server[1]
    assert apart(in_test[0]) == apart(on_server[0])
    signals = {event["signal"] for event in in_test[0]}
    assert signals >= {
        *("job-enqueued", "job-started", "job-succeeded", "job-retrying", "job-dead"),
        *("job-cancelled", "job-expired"),
    }


def apart(events: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The events of enqueuers and spooler, and those of the housekeeper.

    It looks for what has expired once a second, while the spooler goes on.
    """
    housekeeper = [event for event in events if event["signal"] == "job-expired"]
    return [event for event in events if event not in housekeeper], housekeeper
