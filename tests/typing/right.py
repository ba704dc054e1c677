"""What type checkers have to accept: every line of it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal

from typing_extensions import assert_type

from flask_spooler import JobHandle, Spooler, Tasks
from flask_spooler.task import Task

spooler = Spooler()
tasks = Tasks("mail")


@spooler.task
def resize(path: str, width: int = 300, *, grey: bool = False) -> str:
    return path


@spooler.task(name="invoice", queue="mail", max_attempts=8, timeout=60, retry_on=OSError)
def invoice(order: int, *lines: Decimal, **notes: str) -> None: ...


@spooler.task(backoff=[1, 10, 60], discard_on=(KeyError, ValueError), tags=["a"], expires=60)
async def fetch(url: str, /, at: datetime | None = None) -> bytes:
    return b""


@tasks.task
def send(to: str) -> int:
    return 1


@tasks.task(priority=5, on_duplicate="replace", hard_timeout=timedelta(seconds=90))
def resend(to: str) -> int:
    return 1


assert_type(resize("a.png"), str)
assert_type(resize.enqueue("a.png"), JobHandle)
assert_type(resize.enqueue("a.png", 5, grey=True), JobHandle)
assert_type(resize.enqueue(path="a.png", width=5), JobHandle)
assert_type(resize.enqueue_after_commit("a.png", grey=True), JobHandle)
assert_type(resize.holder_of("resize-a.png"), JobHandle | None)
assert_type(resize.enqueue_many([("a.png",), {"path": "b.png", "width": 5}]), list[JobHandle])
invoice.enqueue(5, Decimal(1), Decimal(2), note="x")
fetch.enqueue("https://example.com", at=datetime.now(timezone.utc))
send.enqueue("a@example.com")
resend.using(priority=None).enqueue(to="a@example.com")

later = resize.using(delay=30, priority=5, queue="mail", unique="key", on_duplicate="refuse")
assert_type(later.enqueue("a.png", width=5), JobHandle)
resize.using(at=datetime.now(timezone.utc)).using(delay=timedelta(seconds=5)).enqueue("a.png")
resize.using(at=1_900_000_000, expires=datetime.now(timezone.utc), tags={"a", "b"})
resize.using(backoff=lambda attempt: attempt * 2.0, max_attempts=None, timeout=0.5)


def takes_any(task: Task[..., object]) -> None: ...


takes_any(resize)
takes_any(send)
