"""What processes of one spool leave in writing for each other: how they were started.

Losing a note loses no job: the next start writes it again.
"""

from __future__ import annotations

from pathlib import Path

from .files import Files
from .places import MACHINE, Places


class Notes:
    """The notes in one spool."""

    def __init__(self, places: Places, files: Files) -> None:
        self._places = places
        self._files = files

    def read(self, name: str) -> bytes | None:
        """Return what a server has noted of itself under this name, None where none has."""
        try:
            return (self._places.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, note: bytes) -> None:
        """Let other processes see how a server of this spool was started."""
        self._put(name, note, sync=False)

    def is_first_since_boot(self, *, sync: bool) -> bool:
        """Tell whether the machine was started since this was asked last, and note that it was."""
        machine = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        if self.read(MACHINE) == machine:
            return False
        self._put(MACHINE, machine, sync=sync)
        return True

    def _put(self, name: str, note: bytes, *, sync: bool) -> None:
        aside = self._places.aside(name)
        self._files.replace(self._places.root / name, aside, note, sync=sync)
