"""A ledger with a past: many finished jobs, written by SQL in seconds.

``python -m tests.filling DIRECTORY 1000000`` fills the ledger of a spool; the tests of the
dashboard call `fill`.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import apsw

from flask_spooler.endings import class_of
from flask_spooler.job import id_at
from flask_spooler.ledger import Ledger
from flask_spooler.ledger.connection import SCHEMA

DAYS = 7.0
TASKS = (
    "shop.mail.send_invoice", "shop.mail.welcome", "shop.images.resize", "shop.images.thumbnail",
    "shop.reports.nightly_sales", "shop.search.reindex", "shop.payments.capture",
)  # fmt: skip
QUEUES = ("mail", "mail", "default", "default", "reports", "default", "payments")
ERRORS = (
    ("ConnectionError", "could not connect to smtp.example.org:587: timed out"),
    ("ValueError", "invalid literal for int() with base 10: 'abc'"),
    ("requests.exceptions.HTTPError", "502 Server Error: Bad Gateway for url: https://api.pay"),
    ("KeyError", "'customer'"),
    ("shop.errors.ImageBroken", "cannot identify image file 'upload-4711.png'"),
)
MESSAGES = dict(ERRORS)

TRACEBACK = """Traceback (most recent call last):
  File "/usr/lib/python3.11/site-packages/flask_spooler/perform.py", line 88, in perform
    value = task.function(*args, **kwargs)
  File "/srv/shop/shop/mail.py", line 41, in send_invoice
    deliver(render(order), to=customer["address"])
  File "/srv/shop/shop/mail.py", line 17, in deliver
    with smtplib.SMTP(host, port, timeout=10) as server:
ConnectionError: could not connect to smtp.example.org:587: timed out
"""


def fill(ledger: Ledger, number: int, now: float | None = None) -> None:
    """Add `number` finished jobs, the last of which ended just now, and what was counted of them.

    Of a thousand 970 have succeeded, 15 are dead, 10 cancelled, 5 expired.
    """
    now = time.time() if now is None else now
    ledger.counts()  # makes the file
    connection = apsw.Connection(str(ledger.path))
    rng = random.Random(7)
    made = [0]

    def job_id(when: float) -> str:
        made[0] += 1
        return id_at(when) + f"{made[0]:016d}"

    connection.create_scalar_function("job_id", job_id, 1)
    connection.create_scalar_function("class_of", class_of, 1, deterministic=True)
    connection.create_scalar_function("waited", lambda: rng.lognormvariate(-4.0, 1.8), 0)
    connection.create_scalar_function("ran", lambda: rng.lognormvariate(-1.5, 1.5), 0)
    for name, values in (("task", TASKS), ("queue", QUEUES)):
        _choose(connection, name, values)
    _choose(connection, "error", [name for name, _ in ERRORS])
    connection.create_scalar_function("message", MESSAGES.__getitem__, 1, deterministic=True)
    with connection:
        connection.execute("DROP TRIGGER tally_insert")
        connection.execute(_JOBS, {"number": number, "now": now, "span": DAYS * 86_400.0,
                                   "traceback": TRACEBACK})  # fmt: skip
        for statement in _REST:
            connection.execute(statement)
        connection.execute(SCHEMA.read_text())
    connection.close()


def _choose(connection: apsw.Connection, name: str, values: Any) -> None:
    choices = list(values)
    connection.create_scalar_function(
        name, lambda number: choices[number * 7919 % 104_729 % len(choices)], 1, deterministic=True
    )


_JOBS = """
INSERT INTO jobs (id, task, queue, priority, state, enqueued_at, due_at, started_at, finished_at,
                  max_attempts, attempt, charged, error_type, error_message, traceback, kwargs_size,
                  kwargs, result)
WITH RECURSIVE
    count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < :number),
    facts AS (
        SELECT n, :now - :span + n * (:span - 60.0) / :number AS at, waited() AS waited,
               min(ran(), 50.0) AS ran,
               CASE WHEN n % 1000 < 15 THEN 'dead' WHEN n % 1000 < 25 THEN 'cancelled'
                    WHEN n % 1000 < 30 THEN 'expired' ELSE 'succeeded' END AS state,
               CAST(json_object('order', n, 'customer', 'c-' || (n % 5003),
                                'api_key', 'sk-' || n) AS BLOB) AS kwargs
        FROM count),
    whole AS MATERIALIZED (SELECT * FROM facts)
SELECT job_id(at), task(n), queue(n), 0, state, at, at,
       iif(state IN ('succeeded', 'dead'), at + waited, NULL), at + waited + ran,
       5, iif(state = 'dead', 5, state = 'succeeded'), iif(state = 'dead', 5, state = 'succeeded'),
       iif(state = 'dead', error(n), NULL), iif(state = 'dead', message(error(n)), NULL),
       iif(state = 'dead', :traceback, NULL), length(kwargs), kwargs,
       iif(state = 'succeeded', CAST('"sent"' AS BLOB), NULL)
FROM whole"""

_REST = (
    "INSERT INTO tally SELECT queue, task, state, count(*), 0 FROM jobs WHERE true"
    " GROUP BY queue, task, state ON CONFLICT DO UPDATE SET number = excluded.number",
    "INSERT INTO endings SELECT CAST(finished_at / 60 AS INTEGER), queue, task,"
    " iif(state = 'dead', 'failed', 'succeeded'), class_of(started_at - due_at),"
    " class_of(finished_at - started_at), count(*), sum(started_at - due_at),"
    " sum(finished_at - started_at), max(finished_at - started_at)"
    " FROM jobs WHERE started_at IS NOT NULL AND finished_at IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6",
    "INSERT INTO attempts SELECT id, 5, 'failed', started_at, finished_at, error_type,"
    " error_message, traceback FROM jobs WHERE state = 'dead'",
)


if __name__ == "__main__":
    begun = time.time()
    spool = Path(sys.argv[1])
    spool.mkdir(mode=0o700, exist_ok=True)
    fill(Ledger(spool / "ledger.db", sync=False), int(sys.argv[2]))
    print(f"{int(sys.argv[2]):,} jobs in {time.time() - begun:.1f} s")
