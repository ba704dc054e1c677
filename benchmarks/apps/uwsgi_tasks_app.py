"""The uwsgi-tasks library on uWSGI's spooler; its own default number of tries."""

from __future__ import annotations

import uwsgi_tasks

from benchmarks.apps.bare import spooler_pids as spooler_pids
from benchmarks.marks import from_environment

MARKS = from_environment()


@uwsgi_tasks.task(executor=uwsgi_tasks.TaskExecutor.SPOOLER, working_dir=None)
def job(n: int) -> None:
    MARKS.run(n)


def enqueue(n: int) -> None:
    job(n)


uwsgi_tasks.set_uwsgi_callbacks()
