"""What a server says of itself when it starts: once a boot, what is wrong, in its log.

Owns `take_part`. The master begins the note before it forks; one process completes it in a thread,
beside what it has to do, and looks at everything that the command would look at.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from flask import Flask

from .. import _uwsgi
from ..config import EXTENSION
from ..signals import announce, spool_trouble
from ..state import AppState
from . import server
from .examination import as_noted, examine_app, examine_spool
from .note import complete_note, server_options, take_note
from .starter import examine_reload, examine_unit, unit_of, wheel_of

PATIENCE: Final = 2.0
"""Seconds that a mule of the user's own gets for showing that it keeps house."""

LOOK: Final = 0.1
"""Seconds between two looks for a housekeeper that starts."""


def take_part(app: Flask) -> None:
    """Let the server that has loaded this app note how it was started, and look at itself.

    Called before the master forks. One of its processes then logs what is wrong, once a boot and
    beside what it has to do.
    """
    engine = app.extensions[EXTENSION].engine
    try:
        take_note(engine.spool, engine.key)
    except OSError as error:
        announce(spool_trouble, app, what="the server cannot note its start", error=error)
    _uwsgi.on_fork(lambda: _report_beside(app))


def _report_beside(app: Flask) -> None:
    if _uwsgi.speaks_for_server():
        threading.Thread(target=_report, args=[app], name="doctor", daemon=True).start()


def _report(app: Flask) -> None:
    state: AppState = app.extensions[EXTENSION]
    try:
        # First, so that a housekeeper in this process starts undisturbed by what follows.
        patience = server.STARTS if server.expects_housekeeper(server_options()) else PATIENCE
        has_housekeeper = _housekeeper_comes(state, patience)
        note = complete_note(state.engine.spool, state.engine.key, state.spooler.tasks)
        if note is None:
            return
        noted, master = as_noted(state, note, has_housekeeper), _uwsgi.boot().master.pid
        found = [
            *examine_app(app, state),
            *server.examine_server(noted),
            *examine_reload(wheel_of(master), noted.options.last("binary-path")),
            *examine_unit(unit_of(master), state.config.grace),
            *examine_spool(state, servers=False),
        ]
    except Exception as error:  # whatever it is: nobody's job may suffer from being looked after
        announce(spool_trouble, app, what="flask spooler doctor failed", error=error)
        return
    for finding in found:
        if finding.grade == "wrong":
            what = f"doctor: {finding.name}: {finding.problem}"
            announce(spool_trouble, app, what=what, error=finding.fix)


def _housekeeper_comes(state: AppState, patience: float) -> bool:
    """Give the housekeeper, who may be another thread of this process, some seconds to start."""
    give_up = time.monotonic() + patience
    while not state.engine.spool.has_housekeeper():
        if time.monotonic() > give_up:
            return False
        time.sleep(LOOK)
    return True
