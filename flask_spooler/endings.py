"""How long attempts waited and ran, in classes: what figures and charts are made of.

Owns the bounds of the classes. The ledger counts each attempt that ends in the commit that ends
it, by its two classes: once in its minute, for charts, and once in the totals, which are never
deleted. So the figures are exact, and reading them costs the same with a million jobs as with
ten. A percentile read off them is the bound of its class.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

BOUNDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 1800.0, 7200.0,
)  # fmt: skip
"""Upper bounds in seconds, inclusive; one more class takes what is longer."""

HISTORY: Final = 48 * 60
"""Minutes for which endings are kept by the minute."""


def class_of(seconds: float) -> int:
    """Return the number of the class that a length of time belongs to.

    >>> class_of(0.0), class_of(0.001), class_of(0.0011), class_of(86400.0)
    (0, 0, 1, 18)
    """
    return bisect_left(BOUNDS, seconds)


def percentile(counts: Sequence[int], part: float) -> float | None:
    """Return the bound below which this part of all counted lengths lies; None without any.

    `counts` has one number for each class. The last class has no bound, which reads as infinity.

    >>> percentile([0, 98, 0, 2] + [0] * 15, 0.5), percentile([0, 98, 0, 2] + [0] * 15, 0.99)
    (0.0025, 0.01)
    >>> percentile([0] * 19, 0.5) is None
    True
    """
    wanted = part * sum(counts)
    if not wanted:
        return None
    seen = 0
    for bound, count in zip((*BOUNDS, math.inf), counts, strict=True):
        seen += count
        if seen >= wanted:
            return bound
    return math.inf
