"""What apps with Flask-SQLAlchemy need around jobs: engines after a fork, sessions after a failure.

Owns every look into ``app.extensions["sqlalchemy"]``. Nothing here imports SQLAlchemy: an app that
does not have it pays nothing.

The master loads the app and forks. A connection that it has opened by then, with ``create_all`` or
a query at import time, lies in the engine's pool, and so in the pool of each web worker, spooler
and mule: several processes on one socket, or one SQLite handle. So each process gets fresh pools;
the connections themselves belong to the master and are not closed.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

from flask import Flask
from flask.ctx import AppContext

from . import _uwsgi
from .signals import announce, spool_trouble

SQLALCHEMY: Final = "sqlalchemy"


def take_part(app: Flask) -> None:
    """Let each process that the master forks have database connections of its own."""

    def begin() -> None:
        try:
            dispose_engines(app)
        except Exception as error:  # of the app's own: a process without a database may still serve
            what = "the database connections of the master are not given up"
            announce(spool_trouble, app, what=what, error=error)

    _uwsgi.on_fork(begin)


def dispose_engines(app: Flask) -> None:
    """Give all engines of the app fresh pools, and leave the old connections to their owner."""
    if SQLALCHEMY not in app.extensions:
        return
    with app.app_context():
        for engine in app.extensions[SQLALCHEMY].engines.values():
            engine.dispose(close=False)


def drop_session(app: Flask, context: AppContext) -> None:
    """Close the session of an app context that was torn down half-way.

    Up to Flask 3.1 a teardown function that raises keeps the others from being called, Flask-
    SQLAlchemy's among them. It finds sessions by the address of their context, which the next
    job's context may get: that job would find this one's session, dirty as it is.
    """
    session: Any = getattr(app.extensions.get(SQLALCHEMY), "session", None)
    sessions = getattr(getattr(session, "registry", None), "registry", None)
    if isinstance(sessions, dict):
        left = sessions.pop(id(context), None)
        if left is not None:
            with contextlib.suppress(Exception):  # it may be what the teardown failed of
                left.close()
