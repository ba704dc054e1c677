"""What type checkers have to refuse: each line that is marked, and no other.

The mark names the codes of mypy and of pyright.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from flask_spooler import Spooler, Tasks

spooler = Spooler()
tasks = Tasks("mail")


@spooler.task
def resize(path: str, width: int = 300, *, grey: bool = False) -> str:
    return path


@spooler.task(queue="mail")
def invoice(order: int, *lines: Decimal, **notes: str) -> None: ...


@spooler.task
async def fetch(url: str, /, at: datetime | None = None) -> bytes:
    return b""


@tasks.task
def send(to: str) -> int:
    return 1


resize.enqueue()  # error: [call-arg]
resize.enqueue(5)  # error: [arg-type]
resize.enqueue("a.png", "300")  # error: [arg-type]
resize.enqueue("a.png", None)  # error: [arg-type]
resize.enqueue("a.png", 300, True)  # error: [call-arg]
resize.enqueue("a.png", height=5)  # error: [call-arg]
resize.enqueue("a.png", path="b.png")  # error: [misc]
resize.enqueue("a.png", delay=5)  # error: [call-arg]
resize.enqueue(path="a.png", grey="yes")  # error: [arg-type]
resize.enqueue_after_commit(5)  # error: [arg-type]
resize.using(delay=5).enqueue(5)  # error: [arg-type]
resize(5)  # error: [arg-type]
resize.enqueue_many(["a.png"])  # error: [list-item]
invoice.enqueue("5")  # error: [arg-type]
invoice.enqueue(5, 1.5)  # error: [arg-type]
invoice.enqueue(5, note=5)  # error: [arg-type]
fetch.enqueue(url="https://example.com")  # error: [call-arg]
fetch.enqueue("https://example.com", at="2030-01-01")  # error: [arg-type]
send.enqueue(b"a@example.com")  # error: [arg-type]
send.enqueue("a", "b")  # error: [call-arg]

resize.using(dealy=5)  # error: [call-arg]
resize.using(delay="5")  # error: [arg-type]
resize.using(at="2030-01-01")  # error: [arg-type]
resize.using(priority="high")  # error: [arg-type]
resize.using(queue=5)  # error: [arg-type]
resize.using(max_attempts=2.5)  # error: [arg-type]
resize.using(on_duplicate="ignore")  # error: [arg-type]
resize.using(tags=5)  # error: [arg-type]
resize.using(unique=5)  # error: [arg-type]
resize.using(backoff=5)  # error: [arg-type]
resize.using(retry_on="OSError")  # error: [arg-type]
resize.using(timeout="60")  # error: [arg-type]
resize.using(path="a.png")  # error: [call-arg]


@spooler.task(delay=5)  # error: [call-overload]
def at_once() -> None: ...


@spooler.task(max_attemps=5)  # error: [call-overload]
def misspelt() -> None: ...


@tasks.task(timeout="60")  # error: [call-overload]
def too_long() -> None: ...


@spooler.task("a name")  # error: [call-overload]
def named() -> None: ...


spooler.task(5)  # error: [call-overload]
