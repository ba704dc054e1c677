"""``flask run --debug`` runs jobs too: in a child process of the development server.

Owns the decision which process has such a child, and the thread that starts it and starts another
one when it dies. `seat` is what one app has in that child, and `child` what the child does.

=========================================  ====================================================
process                                    has a child
=========================================  ====================================================
``flask run --debug`` that serves          yes, one, whatever number of apps it loads
the reloader, which only starts that one   no
``flask run`` without debug                no, and says that jobs wait
``app.run(debug=True)``                    no, and says that jobs wait: its module is ``__main__``,
                                           so its tasks have names that no other process knows
a server whose app is being tested         no, and says so
other commands, tests, uWSGI               no
=========================================  ====================================================

The child dies with its parent, by the kernel's hand and at once: no orphan is left, and what it
ran is interrupted, as at the stop of a real server, and run again by the next child. When the
child dies alone, that is a crash of the job it ran, and charged.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

import click
from flask import Flask
from flask.cli import ScriptInfo
from flask.helpers import get_debug_flag

from ..config import Config
from ..dispatch import Desk
from .seat import Seat, say

GIVEN_UP: Final = 78
"""The exit status of a child that would end in the same way again."""

PAUSE: Final = 0.5
"""Seconds from the death of a child to the start of another one."""

RELOADER: Final = ("WERKZEUG_RUN_MAIN", "WERKZEUG_SERVER_FD")
"""What Werkzeug's reloader tells its child, and nobody else: other libraries ask it whether this
is the process that serves."""

BEING_TESTED: Final = "no job runs: TESTING is on; leave it out of the app's configuration"

seats: dict[Path, Seat] | None = None
"""The seats of this process's apps by their spools, where it is the child; None in every other
process. Of two apps on one spool the last one counts, which is the one that a factory returned."""

_is_decided = False


def take_part(app: Flask, config: Config, desk: Desk) -> None:
    """Let this app's jobs be run, if this process or its child is to run any; outside uWSGI."""
    global _is_decided
    if config.eager:
        return
    if seats is not None:
        seats[config.directory.resolve()] = Seat(app, config, desk)
    elif not _is_decided:
        _is_decided = _decide(click.get_current_context(silent=True), app.testing)


def _decide(context: click.Context | None, is_tested: bool) -> bool:
    """Start a child, or say why not; False where this is not the process that serves."""
    started_by_reloader = os.environ.get(RELOADER[0]) == "true"
    info = context.find_object(ScriptInfo) if context is not None else None
    if context is None or info is None or context.info_name != "run":
        if started_by_reloader:
            told = "jobs wait for uWSGI; flask run --debug would run them, app.run() does not"
            say(BEING_TESTED if is_tested else told)
        return started_by_reloader
    debug = get_debug_flag()
    reload = context.params.get("reload")
    if (debug if reload is None else reload) and not started_by_reloader:
        return False
    where = _import_path(info)
    if is_tested:
        say(BEING_TESTED)
    elif not debug:
        say("jobs wait for uWSGI; flask run --debug would run them")
    elif where is None:
        say("jobs wait for uWSGI: the app's factory cannot be imported by another process")
    else:
        threading.Thread(target=_keep_a_child, args=[where], name="jobs", daemon=True).start()
    return True


def _import_path(info: ScriptInfo) -> list[str] | None:
    """Return what ``flask --app`` would name, empty where it finds the app by itself."""
    create = info.create_app
    if create is None:
        return [info.app_import_path] if info.app_import_path else []
    module, name = create.__module__, create.__qualname__
    return None if module == "__main__" or not name.isidentifier() else [f"{module}:{name}"]


def _keep_a_child(where: list[str]) -> None:
    """Start a child, and another one whenever it dies; in a thread that lives as the process does.

    The kernel tells a child of the end of the thread that has started it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    command = [sys.executable, "-m", __name__, str(os.getpid()), *where]
    while True:
        # Without the signals of a terminal until it has handlers for them: they stay blocked.
        child = subprocess.Popen(command, env=_environment())
        status = child.wait()
        if status == GIVEN_UP:
            return
        time.sleep(PAUSE)  # Ctrl-C ends this process too: then nobody has to hear of the child
        say(f"child process {child.pid} died ({_cause(status)}), another one is started")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in RELOADER}


def _cause(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
