"""The tasks that the server tests enqueue; the spoolers import it beside the app."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from app import app
from flask_spooler import SPOOL_OK, SPOOL_RETRY, Discard, Retry, current_job
from flask_spooler.retry import SpoolAnswer
from tasks import spooler

__all__ = ["app", "spooler"]


def note(path: str, text: str) -> None:
    """Append a line in one write, so that lines of several processes never mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def notes(path: str | Path) -> list[list[str]]:
    """The lines that tasks have written, split into words."""
    file = Path(path)
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


@spooler.task
def write(path: str, word: str = "ran") -> str:
    note(path, f"{word} {time.time()} {current_job.id} {os.getpid()}")
    return word


@spooler.task
def hold(path: str, seconds: float) -> None:
    note(path, f"start {time.time()} {current_job.id} {os.getpid()} {current_job.attempt}")
    time.sleep(seconds)
    note(path, f"end {time.time()} {current_job.id} {os.getpid()} {current_job.attempt}")


@spooler.task
def hold_until(path: str, go: str) -> None:
    note(path, f"start {time.time()} {current_job.id} {os.getpid()} {current_job.attempt}")
    while not os.path.exists(go):
        time.sleep(0.005)


@spooler.task(backoff=[0.3, 0.6])
def fail_times(path: str, times: int) -> str:
    note(path, f"run {time.time()} {current_job.attempt}")
    if current_job.attempt <= times:
        raise RuntimeError(f"failure number {current_job.attempt}")
    return "worked"


@spooler.task(backoff=[0.1], max_attempts=3)
def always_fails(path: str) -> None:
    note(path, f"run {time.time()}")
    raise ValueError("it never works")


@spooler.task
def asks_again(path: str, delay: float) -> None:
    note(path, f"run {time.time()}")
    if current_job.attempt == 1:
        raise Retry(delay=delay)


@spooler.task(backoff=[0.2])
def answers_retry(path: str) -> SpoolAnswer:
    note(path, f"run {time.time()}")
    return SPOOL_RETRY if current_job.attempt == 1 else SPOOL_OK


@spooler.task(max_attempts=8)
def ten_steps(path: str, die_at: int, inside: bool) -> list[int]:
    """Kill the own process once, after step `die_at` or within it."""

    def step(number: int) -> int:
        note(path, f"step {number}")
        if inside and number == die_at and current_job.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    done = []
    for number in range(10):
        done.append(current_job.step(f"step {number}", step, number))
        if not inside and number == die_at and current_job.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return done


@spooler.task(max_attempts=11)
def dies_after_each_step(path: str) -> list[int]:
    """Ten steps, and the end of the process after one more of them in each attempt."""

    def step(number: int) -> int:
        note(path, f"step {number}")
        return number

    done = []
    for number in range(10):
        done.append(current_job.step(f"step {number}", step, number))
        if number == current_job.attempt - 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return done


@spooler.task
def steps_with_a_gate(path: str, gate: str) -> None:
    current_job.step("before", note, path, "before")
    while not os.path.exists(gate):
        time.sleep(0.01)
    current_job.step("after", note, path, "after")


@spooler.task
def echo(value: Any) -> Any:
    return value


@spooler.task
def discards() -> None:
    raise Discard("no such customer")


@spooler.task
def kill_itself(path: str, number: int = 9) -> None:
    note(path, f"run {time.time()} {os.getpid()}")
    os.kill(os.getpid(), number)
    time.sleep(5)


@spooler.task(timeout=0.5, max_attempts=1)
def too_slow(path: str) -> None:
    note(path, "start")
    time.sleep(10)
    note(path, "end")


@spooler.task
def swallows_everything(path: str) -> None:
    note(path, "start")
    for _ in range(200):
        try:
            time.sleep(0.05)
        except Exception:  # what careless tasks do
            note(path, "swallowed")


@spooler.task
def hangs_in_c(path: str) -> None:
    note(path, f"start {time.time()}")
    libc = ctypes.CDLL(None)
    for _ in range(600):
        libc.usleep(100_000)  # interrupted by a signal it goes on, like any C library that retries


@spooler.task
def untidy(path: str) -> None:
    os.chdir("/")
    os.umask(0)
    os.environ["UNTIDY"] = "yes"
    os.environ.pop("PORT", None)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdout = sys.stderr = io.StringIO()
    os.close(1)
    os.close(2)


@spooler.task
def look_around() -> dict[str, Any]:
    umask = os.umask(0)
    os.umask(umask)
    os.fstat(1)
    os.fstat(2)
    return {
        "directory": os.getcwd(),
        "umask": umask,
        "untidy": "UNTIDY" in os.environ,
        "port": os.environ.get("PORT"),
        "stdout": sys.stdout is sys.__stdout__,
        "pid": os.getpid(),
    }


@spooler.task
def quick() -> None:
    """Do nothing, as fast as possible."""


@spooler.task
def segfault(path: str) -> None:
    note(path, f"run {time.time()}")
    ctypes.string_at(0)


@spooler.task
def take_down_the_server(path: str) -> None:
    note(path, f"run {time.time()}")
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


@spooler.task(max_attempts=1)
def end_badly(way: str) -> Any:
    """End in one of the ways in which tasks should not."""
    match way:
        case "sys.exit":
            sys.exit(3)
        case "os._exit":
            os._exit(3)
        case "abort":
            os.abort()
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case "RecursionError":
            return end_badly(way)
        case "MemoryError":
            raise MemoryError
        case "GeneratorExit":
            raise GeneratorExit
        case "unprintable":
            raise UnprintableError
        case "not JSON":
            return object()
        case "too large":
            return "x" * (17 * 2**20)
        case "surrogate":
            raise ValueError(os.fsdecode(b"\xff\xfe"))
        case "closed spool file":
            for number in range(3, 100):
                with contextlib.suppress(OSError):
                    os.close(number)
    return None


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


@spooler.task
def keep(
    data: bytes = b"", text: str = "", priority: int = 0, spooler: str = "", at: str = "",
    body: str = "", id: str = "", task: str = "", queue: str = "",
) -> list[Any]:  # fmt: skip
    """Answer what was received; its parameters bear the names that would act in a packet."""
    digest = hashlib.sha256(data + text.encode()).hexdigest()
    return [len(data), len(text), digest, priority, spooler, at, body, id, task, queue]


@spooler.task
def many_results(kind: str) -> Any:
    """Return a value of this kind."""
    return {
        "none": None, "true": True, "minus two": -2, "minus one": -1, "zero": 0, "empty": "",
        "list": [1, "2", None], "nested": {"a": {"b": [1.5]}}, "bytes": b"\x00\xff",
    }[kind]  # fmt: skip


@spooler.task
def talk(gate: str, everybody: int, lines: int) -> None:
    """Say numbered lines in four ways, once as many jobs as `everybody` run at the same time."""
    note(gate, current_job.id)
    while len(notes(gate)) < everybody:
        time.sleep(0.05)
    log = logging.getLogger("jobs.talk")
    for number in range(0, lines, 4):
        print("line", number, current_job.id)
        log.info("line %d %s", number + 1, current_job.id)
        sys.stderr.write(f"line {number + 2} {current_job.id}\n")
        text = f"line {number + 3} {current_job.id}"
        thread = threading.Thread(target=print, args=(text,))
        thread.start()
        thread.join()


@spooler.task(backoff=[0.1], max_attempts=2)
def say_and_wait(path: str, word: str, end: str = "") -> None:
    """Say a word, wait until `path` exists, and end in this way."""
    print(word, flush=True)
    while not Path(path).exists():
        time.sleep(0.02)
    print("after the wait", end="")
    match end:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "fail":
            raise ValueError("it failed")
