"""What is looked at, and in what order: an app, an ini that need not run, a spool and its servers.

Owns `examine`. Whatever cannot be looked at becomes a finding here, and nothing is raised for it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from flask import Flask

from .. import _uwsgi
from ..config import EXTENSION
from ..errors import KeyUnusable, LedgerError
from ..job import FINAL
from ..ledger import SQLITE_VERSION
from ..ledger.search import Search
from ..spool import fingerprint
from ..state import AppState
from . import application, directory, server
from .finding import Finding, right, worth_knowing, wrong
from .ini import Options, Unreadable, read_ini
from .look import look
from .names import examine_modules, examine_options, known_options
from .note import (
    JOBS,
    WEB,
    ServerNote,
    library_version,
    read_note,
)
from .starter import (
    examine_first,
    examine_reload,
    examine_unit,
    first_process,
    unit_of,
    wheel_of,
)


def examine(app: Flask, ini: str | os.PathLike[str] | None = None) -> list[Finding]:
    """Run every check on an app, its spool and the server that works it off.

    With `ini` that file takes the place of a running server. Raises `OSError` and `ValueError`
    where it cannot be read. Nothing else is raised: what cannot be looked at is a finding.
    Takes some milliseconds: it syncs a file, and asks systemd where that has started the server.
    """
    state: AppState = app.extensions[EXTENSION]
    found = list(examine_app(app, state))
    if ini is not None:
        found += examine_ini(state, ini, os.environ)
    if state.is_private:  # a look at it would find neither jobs nor a server, for this one reason
        return [*found, *application.examine_testing(state.config)]
    return [*found, *examine_spool(state, servers=ini is None)]


def examine_ini(
    state: AppState, path: str | os.PathLike[str], environment: Mapping[str, str]
) -> list[Finding]:
    """Check a uWSGI ini file that need not run."""
    try:
        options = read_ini(path, environment)
    except Unreadable as error:
        fix = "start the server, and examine it running, without --ini"
        return [worth_knowing("ini", str(error), fix)]
    found = server.examine_server(server.Server(options, None, _runs_foreign(state)))
    found += examine_options(options, known_options())
    found += examine_modules(options, Path(path))
    return [*found, *_same_directory(state, options, Path(path))]


def _same_directory(state: AppState, options: Options, ini: Path) -> Iterator[Finding]:
    asked = options.all("spooler", "spooler-external")
    scanned = [(ini.absolute().parent / directory).resolve() for directory in asked]
    mine = state.config.directory.resolve()
    if not scanned or mine in scanned:
        yield right("directory", "server and app use one spool")
    else:
        problem = f"the app enqueues into {mine}, and spoolers scan {', '.join(map(str, scanned))}"
        fix = "set SPOOLER_DIRECTORY in the environment, and read it in the ini as uwsgi.ini does"
        yield wrong("directory", problem, fix)


def examine_app(app: Flask, state: AppState) -> Iterator[Finding]:
    """Look at what the app is configured for."""
    config = state.config
    yield from application.examine_sqlite(SQLITE_VERSION)
    yield from application.examine_dashboard(config)
    yield from application.examine_eager(config)
    yield from application.examine_environment(os.environ, app.config)


def examine_spool(state: AppState, *, servers: bool) -> Iterator[Finding]:
    """Look into the directory; what may not be looked at, or is not there, ends the look."""
    spool = state.engine.spool
    try:
        facts = look(spool)
        note = read_note(spool, JOBS)
        if servers:
            yield from _examine_servers(state, note)
        user = note.user if note is not None and note.is_alive else facts.owner
        foreign = _runs_foreign(state)
        wanted = directory.Wanted(user, state.config.durability == "power", foreign)
        yield from directory.examine_directory(facts, wanted)
        yield from _examine_contents(state, note)
    except FileNotFoundError:
        if servers:
            problem = f"{spool.root} does not exist: no server has worked here"
            yield wrong("spool", problem, "start the server, or set SPOOLER_DIRECTORY to its spool")
    except OSError as error:
        problem = f"this user may not look into the spool: {error}"
        yield wrong("spool", problem, "run this as the user that owns the spool, or as root")


def _examine_contents(state: AppState, note: ServerNote | None) -> Iterator[Finding]:
    spool, given = state.engine.spool, state.config.key
    try:
        kept = spool.key.read()
        mine = fingerprint(given or kept or b"")
        noted = spool.key.noted() if note is None else note.key
        yield from application.examine_key(given, kept, noted, mine)
    except KeyUnusable as error:
        yield wrong("key", str(error), "restore the key file from a backup")
    try:
        if spool.ledger.exists():
            newest = state.engine.ledger.find(limit=1)
            when = newest[0].enqueued_at if newest else None
            yield from application.examine_newest(when, time.time())
            known = {*state.spooler.tasks, *(note.tasks if note is not None else ())}
            yield from application.examine_unknown(_waiting(state), known)
    except LedgerError as error:
        yield wrong("ledger", str(error), "see the server's log; jobs wait until it can be used")


def _waiting(state: AppState) -> dict[str, int]:
    """Return how many jobs of each task have not ended."""
    waiting = Counter[str]()
    for _, task, its_state, number in Search(state.engine.ledger).tally():
        if number and its_state not in FINAL:
            waiting[task] += number
    return waiting


def _examine_servers(state: AppState, note: ServerNote | None) -> Iterator[Finding]:
    """Examine the server that runs the jobs, and the one that only enqueues where there is one."""
    spool = state.engine.spool
    at_home = spool.has_housekeeper()
    if note is not None and note.is_alive:
        yield right("server", f"runs since {_clock(note.at)}, with uWSGI {note.uwsgi}")
        if note.is_complete:
            registered = sorted(state.spooler.tasks)
            yield from application.examine_tasks(registered, note, library_version())
        noted = as_noted(state, note, at_home)
        yield from server.examine_server(noted)
        master = _uwsgi.Boot.parse(note.boot).master.pid
        yield from examine_reload(wheel_of(master), noted.options.last("binary-path"))
        yield from examine_unit(unit_of(master), state.config.grace)
        yield from examine_first(master, *first_process(master))
    elif at_home and (pid := _development_server(state)):
        problem = f"the development server {pid} runs the jobs, one at a time"
        fix = "for production, start uwsgi --ini uwsgi.ini; examine its options with --ini"
        yield worth_knowing("server", problem, fix)
    elif at_home:
        problem = "a server works on this spool, but not one that can be seen from here"
        fix = "run this where the server runs: in its container, with its process namespace"
        yield worth_knowing("server", problem, fix)
    else:
        since = f"; the last one started at {_clock(note.at)}" if note is not None else ""
        problem = f"no server works on this spool, so no job runs{since}"
        fix = "start it with: uwsgi --ini uwsgi.ini; before that, examine its options with --ini"
        yield wrong("server", problem, fix)
    web = read_note(spool, WEB)
    if web is not None and web.is_alive:
        for finding in server.examine_server(as_noted(state, web, has_housekeeper=False)):
            yield replace(finding, name=f"web: {finding.name}")


def _development_server(state: AppState) -> int | None:
    """Return the process of a server that lives and has left no note, as all of uWSGI's do."""
    try:
        boots = [boot for boot in state.engine.ledger.servers() if _uwsgi.lives_on(boot)]
    except LedgerError:
        return None
    return _uwsgi.Boot.parse(boots[0]).master.pid if boots else None


def as_noted(state: AppState, note: ServerNote, has_housekeeper: bool) -> server.Server:
    """Return a server as its own note shows it."""
    options = Options(tuple(note.options), note.all_options)
    running = server.Running(
        pool=note.pool if note.is_complete else None,
        workers=note.workers,
        descriptors=note.descriptors,
        socket_modes=_modes(options, note.directory),
        failed_imports=note.failed_imports,
        has_housekeeper=has_housekeeper,
        age=time.time() - note.at,
    )
    return server.Server(options, running, _runs_foreign(state))


def _modes(options: Options, base: str) -> dict[str, int]:
    """Return the modes of the server's UNIX sockets that can be seen from here.

    What lies in a directory that others may not enter is not open to them, whatever its mode.
    """
    found = {}
    for name in options.all(*server.PROTOCOL_SOCKETS):
        path = Path(base, name)
        with contextlib.suppress(OSError):
            entered = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
            mode = stat.S_IMODE(path.stat().st_mode)
            found[name] = mode if entered else mode & ~0o007
    return found


def _runs_foreign(state: AppState) -> bool:
    return bool(state.config.foreign_packets or state.desk.bare)


def _clock(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
