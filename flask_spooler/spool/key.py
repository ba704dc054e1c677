"""The key that signs job files, and the note of which one the server uses.

Invariant: ``key`` appears whole or not at all, and is never overwritten. Losing it makes waiting
jobs unreadable to us; they are kept in ``corrupt/``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from typing import Final

from ..errors import KeyUnusable
from .files import Files, forget, sync_directory
from .places import FINGERPRINT, KEY, Places

SHORTEST_KEY: Final = 16
"""Bytes; what is shorter was cut by a crash, or made by hand."""


def fingerprint(key: bytes) -> str:
    """Return what may be shown of a key, enough to see that two are the same."""
    return hashlib.sha256(key).hexdigest()[:16]


class KeyFile:
    """The key file of one spool."""

    def __init__(self, places: Places, files: Files) -> None:
        self.path = places.root / KEY
        self._note = places.root / FINGERPRINT
        self._places = places
        self._files = files

    def read(self) -> bytes | None:
        """Return the key, None where there is none; raises `KeyUnusable` for one that was cut."""
        with contextlib.suppress(FileNotFoundError):
            return self._whole()
        return None

    def read_or_make(self) -> bytes:
        """Return the key, made at the first call by whoever comes first.

        It is written aside and linked into place, because a link never overwrites; and synced
        even where jobs are not. Raises `KeyUnusable` for one that was cut.
        """
        with contextlib.suppress(FileNotFoundError):
            return self._whole()
        fresh = self._places.aside(KEY)
        self._files.write(fresh, secrets.token_hex(32).encode(), sync=True)
        with contextlib.suppress(FileExistsError):
            os.link(fresh, self.path)
            sync_directory(self._places.root)
        forget(fresh)
        return self._whole()

    def _whole(self) -> bytes:
        key = self.path.read_bytes()
        if len(key) < SHORTEST_KEY:
            raise KeyUnusable(str(self.path), len(key))
        return key

    def noted(self) -> str | None:
        """Return the fingerprint of the key that the server signs with, if it is noted."""
        try:
            return self._note.read_text()
        except FileNotFoundError:
            return None

    def note(self, fingerprint: str, *, sync: bool) -> None:
        """Let other processes see with which key the server signs."""
        aside = self._places.aside(FINGERPRINT)
        self._files.replace(self._note, aside, fingerprint.encode(), sync=sync)
