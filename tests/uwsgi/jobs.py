"""The tasks that the server tests enqueue; the spoolers import it beside the app."""

from __future__ import annotations

import os
import time
from pathlib import Path

from app import app
from flask_spooler import Discard, Retry, current_job
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


@spooler.task
def discards() -> None:
    raise Discard("no such customer")


@spooler.task
def kill_itself(path: str, signal: int = 9) -> None:
    note(path, f"run {time.time()} {os.getpid()}")
    os.kill(os.getpid(), signal)
    time.sleep(5)
