"""Who belongs to something, and which one is meant where nobody says.

Owns a set that keeps nobody alive, but for the only one: a script calls ``create_app()`` and keeps
nothing of it, and test suites make thousands. As soon as a second one has come, none is "the only
one" again, even when all others are gone: what a call means must not depend on the garbage
collector.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")


class Members(Generic[T]):
    """Things that are known for as long as they live."""

    def __init__(self) -> None:
        self._known: WeakSet[T] = WeakSet()
        self._is_first = True
        self.only: T | None = None
        """The one that was added, if there never was another."""

    def __contains__(self, thing: T) -> bool:
        return thing in self._known

    def __iter__(self) -> Iterator[T]:
        return iter(self._known)

    @property
    def had_any(self) -> bool:
        """Whether anything was ever added, even if it is gone by now."""
        return not self._is_first

    def add(self, thing: T) -> None:
        """Know `thing` from now on; once more changes nothing."""
        if thing in self._known:
            return
        self._known.add(thing)
        self.only = thing if self._is_first else None
        self._is_first = False
