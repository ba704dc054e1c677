"""The thread beside the app: one a web worker, and a stop takes nothing that it has accepted."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from server import Server, wait_until

Start = Callable[..., Server]
End = Callable[[Server], None]

SLOW = ("--module", "slow_app:app")
MANY = 200


def stopped(number: int) -> End:
    """The master is told to stop, as by `kill` or a supervisor."""
    return lambda server: server.stop(number)


def group_stopped(number: int) -> End:
    """Every process is told to stop, as by Ctrl-C in a terminal or by systemd."""

    def end(server: Server) -> None:
        server.send_to_all(number)
        server.wait_for_end()

    return end


STOPS = [
    pytest.param(stopped(signal.SIGTERM), id="SIGTERM"),
    pytest.param(stopped(signal.SIGINT), id="SIGINT"),
    pytest.param(group_stopped(signal.SIGINT), id="ctrl-c"),
    pytest.param(group_stopped(signal.SIGTERM), id="systemd"),
]


def notified(server: Server, number: int) -> bool:
    """Send one notification; tell whether the server has accepted it."""
    try:
        answer = server.post("/task", json.dumps({"n": number}).encode())
    except OSError:
        return False
    if answer.status != 202:
        return False
    assert answer.json == {"success": "OK"}
    return True


def handled(server: Server) -> set[int]:
    return {int(n) for n in re.findall(r"Notification handled: \{'n': (\d+)\}", server.log)}


def kept_as_jobs(server: Server) -> set[int]:
    """The notifications that the spool will deliver."""
    jobs = [job for job in server.rows() if job["task"] == "tasks.notify"]
    return {
        job["kwargs"]["notification"]["n"] for job in jobs if job["state"] in ("queued", "running")
    }


def threads(server: Server) -> dict[int, list[str]]:
    """Ask until both web workers have said what threads they have."""
    found: dict[int, list[str]] = {}

    def ask() -> bool:
        answer = server.get("/threads").json
        found[answer["pid"]] = answer["names"]
        return len(found) == 2

    wait_until(ask)
    return found


def test_each_web_worker_has_the_thread_once_and_nobody_else_has_it(start_server: Start) -> None:
    server = start_server(options=SLOW)
    assert all(names.count("notification") == 1 for names in threads(server).values())
    for number in range(20):
        assert notified(server, number)
    found = threads(server)
    assert sorted(found) == sorted(server.pids("worker"))
    assert all(names.count("notification") == 1 for names in found.values())
    others = (*server.pids("spooler"), *server.pids("mule"))
    # The mule has one more for a moment, while the server looks at itself at its start.
    wait_until(lambda: all(len(list(Path(f"/proc/{pid}/task").iterdir())) == 1 for pid in others))


def test_each_web_worker_has_the_thread_once_after_a_reload(start_server: Start) -> None:
    server = start_server(options=SLOW)
    before = set(threads(server))
    server.send(signal.SIGHUP)
    server.seen("spawned uWSGI worker 2", times=2)
    wait_until(server.answers)
    found = threads(server)
    assert not before & set(found)
    assert all(names.count("notification") == 1 for names in found.values())


def test_notifications_are_delivered_once_and_in_order_within_a_worker(
    start_server: Start,
) -> None:
    server = start_server(environment={"WEB_PROCESSES": "1"})
    for number in range(MANY):
        assert notified(server, number)
    wait_until(lambda: handled(server) == set(range(MANY)))
    numbers = re.findall(r"Notification handled: \{'n': (\d+)\}", server.log)
    assert [int(number) for number in numbers] == list(range(MANY))


@pytest.mark.parametrize("end", [STOPS[0], STOPS[2]])
def test_a_stop_hands_on_to_the_spool_what_the_thread_could_not_deliver(
    start_server: Start, end: End
) -> None:
    server = start_server(options=SLOW)
    accepted = {number for number in range(MANY) if notified(server, number)}
    assert accepted == set(range(MANY))
    end(server)
    delivered, kept = handled(server), kept_as_jobs(server)
    assert delivered | kept == accepted
    assert kept, "so many could not be delivered within the grace"
    server.start()
    wait_until(lambda: handled(server) == accepted)


@pytest.mark.parametrize("end", STOPS)
def test_a_stop_in_the_middle_of_requests_loses_nothing_that_was_accepted(
    start_server: Start, end: End
) -> None:
    server = start_server(options=SLOW)
    with notifying(server) as accepted:
        wait_until(lambda: len(accepted) > MANY)
        end(server)
    delivered, kept = handled(server), kept_as_jobs(server)
    assert not accepted - delivered - kept
    server.start()
    wait_until(lambda: accepted <= handled(server), timeout=60)


def test_a_reload_in_the_middle_of_requests_loses_nothing_that_was_accepted(
    start_server: Start,
) -> None:
    server = start_server(options=SLOW)
    with notifying(server, go_on=True) as accepted:
        wait_until(lambda: len(accepted) > MANY)
        server.send(signal.SIGHUP)
        server.seen("spawned uWSGI worker 2", times=2, timeout=30)
        at_reload = len(accepted)
        wait_until(lambda: len(accepted) > at_reload + 10)
    wait_until(lambda: accepted <= handled(server), timeout=30)


@contextmanager
def notifying(server: Server, go_on: bool = False) -> Iterator[set[int]]:
    """Send notifications without a pause from two threads; give the accepted ones.

    They end with the server, or with the body when they `go_on` while it reloads.
    """
    accepted: set[int] = set()
    done = threading.Event()

    def send(first: int) -> None:
        number = first
        while not done.is_set():
            if notified(server, number):
                accepted.add(number)
            elif not go_on:
                return
            number += 2

    senders = [threading.Thread(target=send, args=(first,)) for first in (0, 1)]
    for sender in senders:
        sender.start()
    try:
        yield accepted
    finally:
        done.set()
        for sender in senders:
            sender.join()
