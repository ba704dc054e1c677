"""What several test files need: a job, a child process, and the one way to wait."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from flask_spooler.engine import SpoolEngine
from flask_spooler.job import Job, new_id
from flask_spooler.ledger import Ledger, Transaction
from flask_spooler.queues import Queues
from flask_spooler.record import Change, Record
from tests.uwsgi.server import wait_until as wait_until

KEY = b"the signing key of the tests"
NOW = 1_800_000_000.0


def make_job(**changes: Any) -> Job:
    """Return a job that is due at once, with some fields changed."""
    kwargs = changes.pop("kwargs", {})
    facts: dict[str, Any] = {
        "id": new_id(),
        "task": "tests.work",
        "kwargs": msgspec.Raw(msgspec.json.encode(kwargs)),
        "enqueued_at": NOW,
    }
    facts |= changes
    facts.setdefault("due_at", facts["enqueued_at"])
    return Job(**facts)


def known(ledger: Ledger, job_id: str) -> Record:
    """Return the record of a job that must be there."""
    record = ledger.record(job_id)
    assert record is not None
    return record


def settle(rows: Transaction, job_id: str, attempt: int, change: Change) -> bool:
    """Write the end of a job's n-th attempt, whatever its row says of it."""
    return rows.settle(msgspec.structs.replace(rows.known(job_id), attempt=attempt), change)


def next_jobs(rows: Transaction, limit: int) -> list[str]:
    """Return who would enter a window with this much room, of all queues that are not paused."""
    heads = {queue: rows.heads(queue, limit) for queue in rows.open_queues("", 0.0)}
    return [job.id for job in Queues().choose(heads, limit)]


def files(engine: SpoolEngine) -> list[str]:
    """Return the job files of a spool, each as its path below the root."""
    root = engine.spool.root
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and (path.parent != root or path.name.startswith("uwsgi_spoolfile_on_"))
    )


def in_child(function: Callable[[], object]) -> int:
    """Run a function in a forked child and return how that ended, as `os.waitpid` puts it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
