"""What several test files need: a job, a child process, and the one way to wait."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from flask_spooler.engine import SpoolEngine
from flask_spooler.job import Job, new_id
from flask_spooler.ledger import Ledger
from flask_spooler.record import Record
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
