"""Looks at a spool directory as a whole, for doctor, metrics and health: whether it can be used.

Nothing here changes anything but for the names that `scratch` lends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from .files import forget
from .places import (
    DOORBELL,
    LEDGER,
    PLACES,
    PREFIX,
    STANDING,
    WAITING,
    Places,
    parse_window_name,
)

OF_A_SERVER: Final = (".log", ".pid", ".sock")
"""What a server may keep beside its spool: its own user goes on reading it."""


class Entry(NamedTuple):
    """One thing in the root, as it is: links are not followed."""

    name: str
    mode: int
    owner: int
    size: int
    mtime: float

    @property
    def is_standing(self) -> bool:
        """Whether it is one of what every spool has, or of the ledger."""
        return self.name in STANDING or self.name.startswith(LEDGER)

    @property
    def is_spooled(self) -> bool:
        """Whether uWSGI takes it for a job, of ours or of anybody."""
        return self.name.startswith(PREFIX)

    @property
    def is_ours(self) -> bool:
        """Whether it bears the name of one of our jobs."""
        return parse_window_name(self.name) is not None

    @property
    def is_nobodys(self) -> bool:
        """Whether no rule is broken by it: hidden, or made by the file system itself."""
        return self.name.startswith(".") or self.name == "lost+found"

    @property
    def is_foreign(self) -> bool:
        """Whether neither a spool nor uWSGI nor the file system has put it there."""
        return not (self.is_standing or self.is_spooled or self.is_nobodys)


def taken_by(found: Iterable[Entry]) -> list[str]:
    """Return what others have in a directory that is no spool yet; nothing for one that is."""
    found = list(found)
    if {WAITING, DOORBELL} <= {entry.name for entry in found}:
        return []
    others = [entry for entry in found if entry.is_foreign]
    return [entry.name for entry in others if not entry.name.endswith(OF_A_SERVER)]


def entries(root: Path) -> list[Entry]:
    """List everything in the root; raises `OSError`."""
    found = []
    with os.scandir(root) as inside:
        for entry in inside:
            with contextlib.suppress(FileNotFoundError):
                seen = entry.stat(follow_symlinks=False)
                kept = (seen.st_mode, seen.st_uid, seen.st_size, seen.st_mtime)
                found.append(Entry(entry.name, *kept))
    return sorted(found)


def devices(root: Path) -> dict[str, int]:
    """Return the file system on which each place lies that is there, the root as ``.``."""
    found = {}
    for place in (".", *PLACES):
        with contextlib.suppress(FileNotFoundError):
            found[place] = os.stat(root / place).st_dev
    return found


def free_bytes(root: Path) -> int:
    """Return how much room the spool's file system has left for its owner."""
    found = os.statvfs(root)
    return found.f_bavail * found.f_frsize


def is_writable(root: Path) -> bool:
    """Tell whether files can be made and moved here, without making one; raises `OSError`."""
    found = os.statvfs(root)
    no_names_left = found.f_files > 0 and found.f_favail == 0
    if found.f_flag & os.ST_RDONLY or found.f_bavail == 0 or no_names_left:
        return False
    places = [root, *(root / place for place in PLACES)]
    return all(os.access(place, os.W_OK | os.X_OK) for place in places)


@contextlib.contextmanager
def scratch(root: Path) -> Iterator[tuple[str, str]]:
    """Lend two names in ``tmp/`` for a try; what stands under them is gone afterwards."""
    first, second = (Places(root).aside("try") for _ in range(2))
    try:
        yield first, second
    finally:
        forget(first)
        forget(second)
