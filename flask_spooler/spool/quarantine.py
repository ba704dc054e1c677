"""What is no job of ours: kept in ``corrupt/`` for a person to look at, counted, never run."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from ..failpoints import reach
from .files import Files, move, private
from .places import CORRUPT, LONGEST_NAME, TALLY, Places


class Quarantine:
    """The quarantine of one spool."""

    def __init__(self, places: Places, files: Files) -> None:
        self._places = places
        self._files = files
        self._tally = places.root / TALLY

    def new_name(self, name: str) -> str:
        """Return a name for ``corrupt/`` that nothing there has."""
        return f"{time.time_ns():019d}_{name.replace('/', '_')}"[:LONGEST_NAME]

    def put(
        self, window_name: str, directory: str | None = None, kept: str | None = None
    ) -> str | None:
        """Rename a file that is no job of ours to ``corrupt/`` and return its new name.

        uWSGI also looks into directories whose name is a number: `directory` is the one that it
        stands in now. Returns None when the file is not there.
        """
        kept = kept or self.new_name(window_name)
        reach("quarantine.rename")
        if directory is None:
            return kept if self._put(self._places.window(window_name), kept) else None
        return kept if self._put(f"{directory}/{window_name}", kept) else None

    def put_from(self, place: str, name: str) -> None:
        """Rename an unreadable file from one of our own directories to ``corrupt/``."""
        self._put(self._places.root / place / name, self.new_name(f"{place}_{name}"))

    def total(self) -> int:
        """Return how many files were ever put here, those that are gone by now included."""
        try:
            return self._tally.stat().st_size
        except FileNotFoundError:
            return 0

    def _put(self, source: str | Path, kept: str) -> bool:
        moved = move(source, self._places.root / CORRUPT / kept)
        if moved:
            # A file of its own, because people empty corrupt/ and ledgers are replaced. On a full
            # disk the figure falls behind, and nothing else.
            with contextlib.suppress(OSError), open(self._tally, "ab", opener=private) as tally:
                tally.write(b"!")
                self._files.give_to_owner(tally.fileno())
        return moved
