"""Celery on Redis, acknowledging late, with results: what its manual asks of durable tasks."""

from __future__ import annotations

import os

from celery import Celery
from redis import Redis

from benchmarks.marks import from_environment

MARKS = from_environment()
STORE = os.environ["BENCH_STORE"]

celery = Celery("bench", broker=f"{STORE}/0", backend=f"{STORE}/1")
celery.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_connection_retry_on_startup=True,
)


@celery.task
def job(n: int) -> int:
    return MARKS.run(n)


def enqueue(n: int) -> None:
    job.delay(n)


def finished() -> int:
    return int(Redis.from_url(f"{STORE}/1").dbsize())
