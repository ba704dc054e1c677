"""Background threads: started once a process, stopped in good order."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_spooler import threads
from flask_spooler.threads import BackgroundThread
from tests.helpers import in_child, wait_until


class Recorder(BackgroundThread):
    """Writes down what it is told to do, and by which thread."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.told: list[str] = []
        self.names: set[str] = set()
        self.fails = 0
        self.hold = threading.Event()
        self.hold.set()

    def note(self, what: str) -> None:
        if what not in self.told:
            self.told.append(what)
        self.names.add(threading.current_thread().name)

    def startup(self) -> None:
        self.note("startup")

    def handle(self) -> None:
        self.note("handle")
        if self.fails:
            self.fails -= 1
            raise ValueError("a bad piece of work")
        if self.fails == 0 and "failed" not in self.told:
            self.note("failed")
        self.hold.wait(5)
        self._stopping.wait(0.001)

    def shutdown(self) -> None:
        self.note("shutdown")

    def abandoned(self) -> None:
        self.told.append("abandoned")

    def fail(self) -> None:
        raise OSError(28, "No space left on device")


@pytest.fixture
def thread() -> Iterator[Recorder]:
    made = Recorder()
    yield made
    made.hold.set()
    made.stop()
    wait_until(lambda: made._thread is None or not made._thread.is_alive())


def living() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name == "recorder"]


def test_a_thread_starts_handles_and_shuts_down_in_this_order_and_in_itself(
    thread: Recorder,
) -> None:
    thread.start()
    wait_until(lambda: "handle" in thread.told)
    thread.stop()
    assert [each for each in thread.told if each != "failed"] == ["startup", "handle", "shutdown"]
    assert thread.names == {"recorder"}
    assert living() == []


def test_a_thread_is_started_once_however_often_and_by_whomever(thread: Recorder) -> None:
    starters = [threading.Thread(target=thread.start) for _ in range(8)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert living() == ["recorder"]


def test_a_thread_that_was_stopped_stays_stopped(thread: Recorder) -> None:
    thread.start()
    thread.stop()
    thread.start()
    assert living() == []
    assert thread.stopping


def test_stopping_a_thread_that_never_ran_is_nothing(thread: Recorder) -> None:
    thread.stop()
    assert not thread.stopping
    assert thread.told == []


def test_stopping_twice_is_stopping_once(thread: Recorder) -> None:
    thread.start()
    wait_until(lambda: "handle" in thread.told)
    thread.stop()
    told = list(thread.told)
    thread.stop()
    assert thread.told == told


def test_one_bad_piece_of_work_does_not_end_the_loop(
    thread: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    thread.fails = 3
    with caplog.at_level(logging.ERROR, "flask_spooler.threads"):
        thread.start()
        wait_until(lambda: "failed" in thread.told)
        thread.stop()
    assert [record.message for record in caplog.records] == [
        "thread recorder failed on a piece of work and goes on"
    ] * 3
    assert thread.told[-1] == "shutdown"


def test_a_thread_that_does_not_finish_in_time_is_abandoned_and_named(
    thread: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    thread.grace = 0.05
    thread.hold.clear()
    thread.start()
    wait_until(lambda: "handle" in thread.told)
    started = time.monotonic()
    thread.stop()
    assert 0.05 <= time.monotonic() - started < 2
    assert thread.told[-1] == "abandoned"
    assert "thread recorder did not finish within 0.05 s" in caplog.text


def test_a_thread_that_finishes_in_time_is_not_abandoned(thread: Recorder) -> None:
    thread.start()
    thread.stop()
    assert "abandoned" not in thread.told


def test_a_thread_that_fails_to_save_what_is_left_does_not_keep_others_from_stopping(
    thread: Recorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread, "abandoned", thread.fail)
    thread.grace = 0.05
    thread.hold.clear()
    thread.start()
    wait_until(lambda: "handle" in thread.told)
    thread.stop()
    assert "thread recorder failed to save what it left undone" in caplog.text


class Unready(Recorder):
    """Fails in its startup as often as it is told to."""

    failing = 1

    def startup(self) -> None:
        if self.failing:
            self.failing -= 1
            raise ConnectionError("not there yet")
        super().startup()


def test_a_startup_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "STARTUP_AGAIN", 0.01)
    thread = Unready()
    thread.start()
    wait_until(lambda: "handle" in thread.told)
    thread.stop()
    assert thread.told[0] == "startup"
    assert thread.told[-1] == "shutdown"


def test_what_a_thread_was_given_that_never_started_up_is_saved_at_its_stop() -> None:
    thread = Unready()
    thread.failing = 1_000
    thread.start()
    thread.stop()
    wait_until(lambda: thread._thread is not None and not thread._thread.is_alive())
    assert thread.told == ["abandoned"]


def test_a_stopping_thread_knows_how_long_it_has(thread: Recorder) -> None:
    thread.grace = 30.0
    assert thread.seconds_left == 0.0
    thread.start()
    thread.stop()
    assert 20 < thread.seconds_left <= 30


def test_a_forked_child_starts_a_thread_of_its_own(thread: Recorder) -> None:
    def child() -> None:
        thread.start()
        wait_until(lambda: "handle" in thread.told)
        thread.stop()
        assert "shutdown" in thread.told
        thread.told.clear()

    # Started and ended first, so that this process has no thread when it forks.
    thread.start()
    thread.stop()
    thread.told.clear()
    thread.names.clear()
    assert in_child(child) == 0
    assert thread.told == []


def test_stopping_in_a_child_that_never_started_it_leaves_it_alone(thread: Recorder) -> None:
    thread.start()
    thread.stop()
    thread._stopping = threading.Event()
    thread._pid = os.getppid()
    thread.stop()
    assert not thread.stopping


def test_outside_uwsgi_the_thread_waits_for_its_first_use(thread: Recorder) -> None:
    thread.start_in_workers()
    assert living() == []


def test_a_process_that_ends_lets_its_thread_finish(tmp_path: Path) -> None:
    program = """
import time
from flask_spooler.threads import BackgroundThread

class Writer(BackgroundThread):
    def handle(self):
        time.sleep(0.01)
    def shutdown(self):
        print("finished", flush=True)

Writer("writer").start()
print("end of the program", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.splitlines() == ["end of the program", "finished"]
    assert (done.returncode, done.stderr) == (0, "")


def test_a_thread_that_does_nothing_is_an_unfinished_one() -> None:
    with pytest.raises(NotImplementedError):
        BackgroundThread("idle").handle()
