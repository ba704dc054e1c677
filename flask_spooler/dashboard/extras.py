"""What other parts of the library, and the machine, tell of the whole: health, metrics, versions.

Those parts stand above the extension, which imports the dashboard: they are asked for when they
are needed, and not before. Metrics also need an extra that may be missing.
"""

from __future__ import annotations

import functools
import importlib
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from flask import current_app
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import NotFound

from .. import _uwsgi
from ..errors import LedgerError
from .base import engine

PACKAGES: Final = ("Flask-Spooler", "Flask", "uWSGI", "apsw", "msgspec")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def healthz() -> ResponseReturnValue:
    """Say whether jobs are run: 200, or 503 with the reason. Open to everybody."""
    reason = reason_for_ill_health()
    text = "ok\n" if reason is None else f"{reason}\n"
    return text, 200 if reason is None else 503, {"Content-Type": "text/plain; charset=utf-8"}


def metrics() -> ResponseReturnValue:
    """Answer what Prometheus asks."""
    part = _part("metrics")
    if part is None:
        raise NotFound
    body, content_type = part.exposition(current_app)
    return body, 200, {"Content-Type": content_type}


def reason_for_ill_health() -> str | None:
    """Return why jobs are not run as they should be, None where they are."""
    part = _part("health")
    if part is not None:
        return part.health(current_app)  # type: ignore[no-any-return]
    try:
        engine().ledger.paused()
    except LedgerError:
        return "the ledger cannot be used"
    return None


def findings() -> list[Any]:
    """Return what the doctor found; nothing where there is none."""
    part = _part("doctor")
    return [] if part is None else list(part.examine(current_app))


def versions() -> dict[str, str]:
    """Return the versions of what a report of a bug should name."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["System"] = f"{platform.system()} {platform.release()}"
    return found


def sizes() -> dict[str, int]:
    """Return how many bytes the ledger takes, and how many the spool's disk has left."""
    ledger = Path(engine().ledger.path)
    found = {}
    for name, path in (("Ledger", ledger), ("Ledger, not yet merged", Path(f"{ledger}-wal"))):
        if path.exists():
            found[name] = path.stat().st_size
    if ledger.parent.exists():
        found["Free on its disk"] = shutil.disk_usage(ledger.parent).free
    return found


def started_at(process: _uwsgi.Process) -> float:
    """Return since when a living process runs, in unix seconds."""
    return _booted_at() + process.started / _TICKS


def memory(pid: int) -> int | None:
    """Return how many bytes a process holds in memory; None where we may not know."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return None


@functools.cache
def _booted_at() -> float:
    lines = Path("/proc/stat").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("btime ")))


def _part(name: str) -> Any:
    """Return a part of the library that stands above this one; None where there is none."""
    whole = f"{__name__.partition('.')[0]}.{name}"
    try:
        return importlib.import_module(whole)
    except ModuleNotFoundError as error:
        if error.name == whole:
            return None
        raise
