"""What a server notes of itself in its spool when it starts, and whether that still holds.

The command line runs outside the server and cannot ask it: so the server leaves a small JSON file,
``server.json``, or ``web.json`` where the instance only enqueues. The master begins it before it
forks, so that it is there even when the mule dies at once; one process completes it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import resource
import sys
import time
from importlib import metadata
from typing import Any, Final

import msgspec

from .. import _uwsgi
from ..spool import Spool, fingerprint
from .ini import LOOKED_AT, Options, Unreadable, read_command_line

JOBS: Final = "server.json"
WEB: Final = "web.json"

IMPORTS: Final = (
    "spooler-import", "spooler-pyimport", "spooler-py-import", "spooler-python-import"
)  # fmt: skip


class ServerNote(msgspec.Struct, frozen=True, kw_only=True):
    """One life of one server, as it saw itself at its start.

    The last four are known only after the fork, when the note is complete.
    """

    boot: str
    at: float
    version: str
    uwsgi: str
    key: str
    python: str
    directory: str
    options: list[tuple[str, str]]
    all_options: bool
    workers: int
    user: int
    descriptors: int
    pool: int = 0
    tasks: list[str] = []
    failed_imports: dict[str, str] = {}
    is_complete: bool = False

    @property
    def is_alive(self) -> bool:
        """Whether that server still runs, as far as this process can see."""
        return _uwsgi.lives_on(self.boot)


def library_version() -> str:
    """Return the version of this library, empty where it was not installed as a package."""
    try:
        return metadata.version("Flask-Spooler")
    except metadata.PackageNotFoundError:
        return ""


def read_note(spool: Spool, name: str) -> ServerNote | None:
    """Return what a server has noted, None where there is nothing that this version can read."""
    data = spool.notes.read(name)
    with contextlib.suppress(msgspec.DecodeError):
        return None if data is None else msgspec.json.decode(data, type=ServerNote)
    return None


def take_note(spool: Spool, key: bytes) -> None:
    """Note how this server was started, as far as is known before the master forks."""
    if _noted(spool) is None:
        _write(spool, _seen(key))


def complete_note(spool: Spool, key: bytes, tasks: dict[str, Any]) -> ServerNote | None:
    """Note the pool, and what it can run: once a boot, None where that is done.

    `tasks` counts after importing what ``spooler-import`` names. Spoolers import that after they
    were forked, so this process does it too: when it fails, uWSGI itself says nothing that anybody
    would notice.
    """
    before = _noted(spool)
    if before is not None and before.is_complete:
        return None
    note = _seen(key)
    failed = _import_all(Options(tuple(note.options)).all(*IMPORTS))
    note = msgspec.structs.replace(
        note,
        at=note.at if before is None else before.at,
        pool=len(_uwsgi.spooler_pids()),
        tasks=sorted(tasks),
        failed_imports=failed,
        is_complete=True,
    )
    _write(spool, note)
    return note


def _noted(spool: Spool) -> ServerNote | None:
    """Return what this boot has noted so far."""
    note = read_note(spool, _name())
    return note if note is not None and note.boot == str(_uwsgi.boot()) else None


def _seen(key: bytes) -> ServerNote:
    options = server_options()
    return ServerNote(
        boot=str(_uwsgi.boot()),
        at=time.time(),
        version=library_version(),
        uwsgi=_uwsgi.version(),
        key=fingerprint(key),
        python=platform.python_version(),
        directory=os.getcwd(),
        options=list(options.pairs),
        all_options=options.complete,
        workers=_uwsgi.workers(),
        user=os.geteuid(),
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def _write(spool: Spool, note: ServerNote) -> None:
    spool.notes.write(_name(), msgspec.json.encode(note))


def _name() -> str:
    return WEB if _uwsgi.only_enqueues() else JOBS


def _import_all(modules: list[str]) -> dict[str, str]:
    failed = {}
    for name in modules:
        if name in sys.modules or "/" in name or name.endswith(".py"):
            continue
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # the user's module: that is the finding
            failed[name] = f"{type(error).__name__}: {error}"
    return failed


def server_options() -> Options:
    """Return the options of the server that this process belongs to.

    What uWSGI says counts; of an option that stands several times it says only the last value,
    so those are read again where it read them.
    """
    said = _uwsgi.options()
    try:
        words, directory = _uwsgi.command_line(), _uwsgi.started_in()
        read = read_command_line(words, directory, os.environ)
    except (OSError, Unreadable):
        read = Options(())
    pairs: list[tuple[str, str]] = []
    complete = True
    for name, last in said.items():
        if name in LOOKED_AT:
            values = read.all(name)
            known = last in values
            complete = complete and known
            pairs += [(name, value) for value in (values if known else [last])]
    return Options(tuple(pairs), complete)
