"""Dramatiq on Redis with results."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.marks import from_environment

MARKS = from_environment()
STORE = os.environ["BENCH_STORE"]

results = RedisBackend(url=f"{STORE}/1")
broker = RedisBroker(url=f"{STORE}/0")
broker.add_middleware(Results(backend=results))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def job(n: int) -> int:
    return MARKS.run(n)


def enqueue(n: int) -> None:
    job.send(n)


def finished() -> int:
    return int(results.client.dbsize())
