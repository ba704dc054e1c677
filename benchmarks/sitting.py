"""One sitting: where the systems work, in which order they take turns, what came out.

Owns the two directories, one in memory and one on a disk, and removes both at the end. A system
that fails is noted and named in the report; the sitting goes on.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from .figures import Sample, shown
from .marks import Marks
from .processes import ROOT
from .systems import System
from .systems.uwsgi import Spooler

MEMORY: Final = "tmpfs"
DISK: Final = "disk"

S = TypeVar("S", bound=System)


class Sitting:
    """All that the questions share."""

    def __init__(
        self, places: dict[str, Path], marks: Marks, *, short: bool, rounds: int | None
    ) -> None:
        self.places = places
        self.marks = marks
        self.short = short
        self.rounds = rounds
        self.samples: list[Sample] = []
        self.failures: list[str] = []
        self.question = ""
        self._began = time.monotonic()
        self._pair = 0

    def size(self, full: int, short: int) -> int:
        """Return how many jobs, rounds or seconds: of the full form or of the short one."""
        return short if self.short else full

    @contextmanager
    def fresh(self, kind: type[S], place: str, **options: Any) -> Iterator[S]:
        """Make a system of this kind in an empty directory that is removed afterwards."""
        directory = Path(tempfile.mkdtemp(dir=self.places[place]))
        try:
            yield kind(directory, self.marks, **options)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    @contextmanager
    def running(self, kind: type[S], place: str, **options: Any) -> Iterator[S]:
        """Run a fresh system with its consumers, warmed up."""
        with self.fresh(kind, place, **options) as system, system.running():
            yield system

    def take_turns(
        self,
        peers: Iterable[type[System]],
        places: Iterable[str],
        rounds: int,
        measure: Callable[[type[System], str], None],
    ) -> None:
        """Measure ours, a peer, ours, the next peer, and so on, several rounds in each place."""
        peers = list(peers)
        for place in places:
            for _ in range(self.rounds or rounds):
                for peer in peers:
                    self._pair += 1
                    self.attempt(measure, Spooler, place)
                    self.attempt(measure, peer, place)
        self._pair = 0

    def attempt(
        self, measure: Callable[[type[System], str], None], kind: type[System], place: str
    ) -> None:
        """Measure one system in one place; what goes wrong is told and noted."""
        with self.tolerating(f"{kind.name} on {place}"):
            measure(kind, place)

    @contextmanager
    def tolerating(self, what: str) -> Iterator[None]:
        """Let the sitting go on although something in it fails; the report names it."""
        try:
            yield
        except Exception as error:  # whatever one does, the others are still measured
            traceback.print_exc()
            self.failures.append(f"{self.question}, {what}: {error!r}")
            self.tell(f"{what} FAILED: {error!r}")

    def note(self, figure: str, system: type[System], place: str, value: float, unit: str) -> None:
        """Keep one figure of a system, and say it."""
        self.count(figure, system.name, place, value, unit)

    def count(self, figure: str, row: str, place: str, value: float, unit: str) -> None:
        """Keep one figure under any name, and say it."""
        self.samples.append(Sample(self.question, figure, row, place, value, unit, self._pair))
        self.tell(f"{figure}, {row}, {place}: {shown(value)} {unit}")

    def tell(self, text: str) -> None:
        """Write a line of progress."""
        seconds = time.monotonic() - self._began
        print(f"[{seconds:6.0f} s] {self.question}: {text}", file=sys.stderr, flush=True)


@contextmanager
def new_sitting(*, short: bool, rounds: int | None = None) -> Iterator[Sitting]:
    """Make the directories of a sitting, and remove them whatever happens."""
    disk = ROOT / ".bench"
    disk.mkdir(exist_ok=True)
    made = {
        MEMORY: Path(tempfile.mkdtemp(prefix="flask-spooler-bench-", dir="/dev/shm")),
        DISK: Path(tempfile.mkdtemp(dir=disk)),
    }
    try:
        yield Sitting(made, Marks(made[MEMORY] / "marks"), short=short, rounds=rounds)
    finally:
        for directory in made.values():
            shutil.rmtree(directory, ignore_errors=True)
