"""Who is next: the order between queues, and how many jobs of one may run at once.

Owns `SPOOLER_QUEUES`. Within a queue the highest priority comes first, and among equals whoever
has been due the longest; that is the ledger's affair. Between queues there are three ways:

=====================================  ========================================================
`SPOOLER_QUEUES`                       order between the queues
=====================================  ========================================================
not set                                none: priority and due time count across all of them
a list: ``["urgent", "default"]``      strict: a queue starts nothing while an earlier one waits
a dict: ``{"mail": 3, "default": 1}``  shares: of four starts three are of ``mail``, on average,
                                       while both have jobs that wait
=====================================  ========================================================

An entry may carry more: ``{"name": "reports", "limit": 1}`` in a list, ``{"weight": 1, "limit":
1}`` as a value of a dict. At most `limit` jobs of that queue run at once, on all spoolers of a
server together. Queues that are not named come last in a list, have weight 1 in a dict, and have
no limit. Pure: chance is passed in.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

QUEUE_NAME: Final = "1 to 100 printable characters with no '/' or leading '.'"


class Waiting(NamedTuple):
    """A job that may enter the window; compares as who comes first."""

    urgency: int
    """The negative priority."""
    due_at: float
    seq: int
    id: str
    task: str


@dataclass(frozen=True)
class Queues:
    """The order between queues and their limits."""

    order: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)

    def room(self, queue: str, inside: Mapping[str, int], wanted: int) -> int:
        """Return how many more of `wanted` jobs of a queue may enter the window.

        `inside` says how many of each queue are there already, running ones included.
        """
        limit = self.limits.get(queue)
        return wanted if limit is None else max(0, min(wanted, limit - inside.get(queue, 0)))

    def choose(
        self, heads: Mapping[str, list[Waiting]], room: int, rng: random.Random | None = None
    ) -> list[Waiting]:
        """Return up to `room` jobs in the order in which they enter the window.

        `heads` has the first jobs of each queue that may start any, in their order.
        """
        if len(heads) <= 1:
            return [job for head in heads.values() for job in head[:room]]
        if self.weights:
            return self._by_share(heads, room, rng or random.Random())
        if not self.order:
            return list(heapq.merge(*heads.values()))[:room]
        named = [heads[queue] for queue in self.order if queue in heads]
        others = [head for queue, head in heads.items() if queue not in self.order]
        strictly = [job for head in named for job in head]
        return (strictly + list(heapq.merge(*others)))[:room]

    def _by_share(
        self, heads: Mapping[str, list[Waiting]], room: int, rng: random.Random
    ) -> list[Waiting]:
        left = {queue: list(reversed(head)) for queue, head in heads.items() if head}
        chosen: list[Waiting] = []
        while left and len(chosen) < room:
            names = list(left)
            queue = rng.choices(names, [self.weights.get(name, 1.0) for name in names])[0]
            chosen.append(left[queue].pop())
            if not left[queue]:
                del left[queue]
        return chosen


def is_queue_name(value: Any) -> bool:
    """Tell whether a queue may be called that."""
    ok = isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable()
    return ok and "/" not in value and not value.startswith(".")


def read_queues(value: Any) -> Queues:
    """Return what `SPOOLER_QUEUES` says; raise `ValueError` with what was expected."""
    if isinstance(value, (list, tuple)):
        entries = [{"name": entry} if isinstance(entry, str) else entry for entry in value]
        for entry in entries:
            if not isinstance(entry, dict) or "name" not in entry or entry.keys() - _LISTED:
                raise ValueError(_EXPECTED)
        names = [_name(entry["name"]) for entry in entries]
        if len(set(names)) < len(names):
            raise ValueError(_EXPECTED)
        return Queues(order=tuple(names), limits=_limits({e["name"]: e for e in entries}))
    if isinstance(value, dict):
        shares = {
            name: entry if isinstance(entry, dict) else {"weight": entry}
            for name, entry in value.items()
        }
        for name, share in shares.items():
            _name(name)
            if share.keys() - _SHARED:
                raise ValueError(_EXPECTED)
        weights = {name: _weight(name, share.get("weight", 1)) for name, share in shares.items()}
        return Queues(weights=weights, limits=_limits(shares))
    raise ValueError(_EXPECTED)


_LISTED = {"name", "limit"}
_SHARED = {"weight", "limit"}
_EXPECTED = (
    "a list of queue names for a strict order, or a dict of weights for shares; with a limit an "
    'entry is {"name": "reports", "limit": 1} or "reports": {"weight": 1, "limit": 1}'
)


def _name(value: Any) -> str:
    if not is_queue_name(value):
        raise ValueError(f"{_EXPECTED}; a name has {QUEUE_NAME}")
    return str(value)


def _weight(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        problem = f"the weight of {name!r} is a number above 0 (to hold it back, pause the queue)"
        raise ValueError(f"{_EXPECTED}; {problem}")
    return float(value)


def _limits(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    limits = {name: entry["limit"] for name, entry in entries.items() if "limit" in entry}
    for name, limit in limits.items():
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            problem = f"the limit of {name!r} is a whole number from 1"
            raise ValueError(f"{_EXPECTED}; {problem}")
    return limits
