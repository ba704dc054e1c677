"""What was measured, and the little statistics done with it: medians, spreads, ratios of pairs.

Pure, and tested without a server. A ratio to a peer is the median of the ratios of neighbouring
runs: the machine may be slower in the third round than in the first, but hardly between two
runs that follow each other.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OURS = "Flask-Spooler"


@dataclass(frozen=True)
class Sample:
    """One figure of one run."""

    question: str
    figure: str
    system: str
    place: str
    value: float
    unit: str
    pair: int = 0
    """The same for our run and the peer's beside it; 0 where there is no peer."""


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of some values."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(median=2.0, low=1.0, high=3.0, count=3)
        """
        return cls(statistics.median(values), min(values), max(values), len(values))


def shown(value: float) -> str:
    """Return a figure with three digits that mean something.

    >>> shown(45_183.2), shown(1234.5), shown(12.345), shown(0.01234), shown(0.0), shown(-3.14159)
    ('45,200', '1,230', '12.3', '0.0123', '0', '-3.14')
    """
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    text = f"{round(value, digits):,.{max(digits, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of the values do not exceed.

    >>> percentile([4.0, 1.0, 3.0, 2.0], 50), percentile([1.0, 2.0], 99)
    (2.0, 2.0)
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def middle_rate(times: Iterable[float]) -> float:
    """Return events a second between the first and the last tenth of them.

    The start of consumers and the last job's wait for its turn are no part of it.

    >>> middle_rate(n / 100 for n in range(1000))
    100.0
    """
    ordered = sorted(times)
    first, last = len(ordered) // 10, len(ordered) * 9 // 10
    return round((last - first) / (ordered[last] - ordered[first]), 6)


def inversions(runs: Sequence[tuple[float, float]]) -> tuple[int, int]:
    """Count the jobs that began after a later one: all of them, and those that do not overlap it.

    `runs` are start and end of each job, in the order in which they were enqueued.

    >>> inversions([(1.0, 2.0), (0.5, 1.5), (3.0, 4.0), (2.1, 2.5)])
    (2, 1)
    """
    late = apart = 0
    first_start = first_end = math.inf
    for start, end in reversed(runs):
        late += start > first_start
        apart += start > first_end
        first_start, first_end = min(first_start, start), min(first_end, end)
    return late, apart


def displacement(starts: Sequence[float]) -> int:
    """Return the most places by which a job started later than its turn.

    >>> displacement([1.0, 3.0, 2.0, 4.0]), displacement([4.0, 1.0, 2.0, 3.0])
    (1, 3)
    """
    order = sorted(range(len(starts)), key=starts.__getitem__)
    return max((place - turn for place, turn in enumerate(order)), default=0)


class Figures:
    """All samples of a sitting."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self.samples = list(samples)

    def find(self, figure: str, system: str, place: str) -> list[Sample]:
        return [
            sample
            for sample in self.samples
            if (sample.figure, sample.system, sample.place) == (figure, system, place)
        ]

    def spread(self, figure: str, place: str, system: str = OURS) -> Spread | None:
        """Return the spread of one figure of one system, None where it was not measured."""
        values = [sample.value for sample in self.find(figure, system, place)]
        return Spread.of(values) if values else None

    def ratio(self, figure: str, place: str, other: str) -> Spread | None:
        """Return ours divided by the other's, of the runs that followed each other."""
        theirs = {sample.pair: sample.value for sample in self.find(figure, other, place)}
        ratios = [
            sample.value / theirs[sample.pair]
            for sample in self.find(figure, OURS, place)
            if sample.pair and theirs.get(sample.pair)
        ]
        return Spread.of(ratios) if ratios else None

    def systems(self, figure: str) -> list[str]:
        """Return the systems for which a figure was measured, in the order of the sitting."""
        return list(dict.fromkeys(s.system for s in self.samples if s.figure == figure))

    def places(self, figure: str) -> list[str]:
        """Return where a figure was measured."""
        return list(dict.fromkeys(s.place for s in self.samples if s.figure == figure))

    def titles(self, question: str) -> list[tuple[str, str]]:
        """Return figure and unit of all that was measured for a question."""
        return list(
            dict.fromkeys((s.figure, s.unit) for s in self.samples if s.question == question)
        )
