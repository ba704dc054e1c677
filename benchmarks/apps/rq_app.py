"""RQ with its defaults: a process for each job, results kept."""

from __future__ import annotations

import os

from redis import Redis
from rq import Queue
from rq.registry import FinishedJobRegistry

from benchmarks.marks import from_environment

MARKS = from_environment()

queue = Queue(connection=Redis.from_url(os.environ["BENCH_STORE"]))


def job(n: int) -> int:
    return MARKS.run(n)


def enqueue(n: int) -> None:
    queue.enqueue(job, n)


def finished() -> int:
    return int(FinishedJobRegistry(queue=queue).get_job_count(cleanup=False))
