"""The reference app, and what a library sees of uWSGI's forks that was imported before them."""

from __future__ import annotations

import os
import threading

import uwsgi
from uwsgidecorators import postfork

__all__ = ["app"]

taken: list[int] = []
told: list[int] = []

os.register_at_fork(
    before=lambda: taken.append(os.getpid()), after_in_child=lambda: told.append(os.getpid())
)
# As an exporter of traces has. After a fork it is not there, and nobody may wait for it.
left = threading.Thread(target=threading.Event().wait, daemon=True)
left.start()


@postfork
def look() -> None:
    """Write down what kind of process this is, and what it knows of its fork."""
    from jobs import note

    kind = "worker" if uwsgi.worker_id() else "mule" if uwsgi.mule_id() else "spooler"
    halves = taken.count(os.getpid()), told.count(os.getpid())
    note(os.environ["OUT"], f"{kind} {halves} {left in threading.enumerate()}")


# After its hook: what the library does in a new process still comes first.
from jobs import app  # noqa: E402
