"""Huey with results, on Redis or on SQLite as `BENCH_STORE` says."""

from __future__ import annotations

import os

from huey import RedisHuey, SqliteHuey

from benchmarks.marks import from_environment

MARKS = from_environment()

huey = (
    SqliteHuey("bench", filename=os.environ["BENCH_STORE"])
    if os.environ["BENCH_STORE"].startswith("/")
    else RedisHuey("bench", url=os.environ["BENCH_STORE"])
)


@huey.task()
def job(n: int) -> int:
    return MARKS.run(n)


def enqueue(n: int) -> None:
    job(n)


def finished() -> int:
    return int(huey.storage.result_store_size())
