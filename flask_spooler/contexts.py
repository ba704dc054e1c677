"""The app context around a task.

Owns what becomes of an exception in a teardown function. A task that has failed stays failed with
its own error, and the other one is reported. A task that had returned fails with it: the function
may have been the one that commits or flushes, and nothing is called a success on doubt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from .databases import drop_session
from .signals import announce, spool_trouble


@contextmanager
def task_context(app: Flask) -> Iterator[None]:
    """Push an app context of its own for the body; tear it down with the body's exception."""
    context = app.app_context()
    failure: BaseException | None = None
    try:
        with context:
            try:
                yield
            except BaseException as error:
                failure = error
                raise
    except BaseException as error:
        if error is failure:
            raise
        drop_session(app, context)
        if failure is None:
            raise
        what = "a teardown function failed, after its task had"
        announce(spool_trouble, app, what=what, error=error)
    if failure is not None:
        raise failure
