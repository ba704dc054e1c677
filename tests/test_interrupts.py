"""Exceptions from signals are held back while they would do harm, and never lost or late."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from flask_spooler.interrupts import deliver, forget, shielded


class Stop(Exception):
    pass


def stop() -> None:
    raise Stop


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    forget()


def test_without_a_shield_an_action_happens_at_once() -> None:
    with pytest.raises(Stop):
        deliver(stop)


def test_behind_a_shield_an_action_waits_until_the_body_is_done() -> None:
    done: list[str] = []

    def work() -> None:
        with shielded:
            deliver(stop)
            done.append("the whole body")

    with pytest.raises(Stop):
        work()
    assert done == ["the whole body"]


def test_an_action_waits_for_the_outermost_shield() -> None:
    steps: list[str] = []
    with shielded:
        with shielded:
            deliver(lambda: steps.append("action"))
        steps.append("after the inner one")
    assert steps == ["after the inner one", "action"]


def test_an_action_happens_once() -> None:
    steps: list[str] = []
    with shielded:
        deliver(lambda: steps.append("action"))
    with shielded:
        pass
    assert steps == ["action"]


def test_several_actions_happen_in_their_order() -> None:
    steps: list[int] = []
    with shielded:
        deliver(lambda: steps.append(1))
        deliver(lambda: steps.append(2))
    assert steps == [1, 2]


def test_a_forgotten_action_never_happens() -> None:
    with shielded:
        deliver(stop)
        forget()
    deliver(lambda: None)


def test_an_action_happens_even_when_the_body_fails() -> None:
    def work() -> None:
        with shielded:
            deliver(stop)
            raise ValueError("the body's own")

    with pytest.raises(Stop) as caught:
        work()
    assert isinstance(caught.value.__context__, ValueError)


def test_after_an_exception_from_an_action_no_shield_is_left_up() -> None:
    with pytest.raises(Stop), shielded:
        deliver(stop)
    with pytest.raises(Stop):
        deliver(stop)


def test_other_threads_are_no_shield_for_the_main_thread() -> None:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with shielded:
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(5)
    try:
        with pytest.raises(Stop):
            deliver(stop)
    finally:
        leave.set()
        thread.join()


def test_a_real_signal_is_held_back_too() -> None:
    steps: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: deliver(stop))

    def work() -> None:
        with shielded:
            os.kill(os.getpid(), signal.SIGUSR1)
            for _ in range(1000):
                steps.append("bytecode")

    try:
        with pytest.raises(Stop):
            work()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(steps) == 1000
