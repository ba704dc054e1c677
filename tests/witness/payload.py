"""What a job is told, at random, and the hash by which its run proves what it was told."""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import time
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Payload:
    """The arguments of one job; `again` is how many times it asks to be run once more."""

    token: str
    seconds: float
    due: float
    again: int = 0
    filler: str = ""

    @property
    def hash(self) -> str:
        data = json.dumps(asdict(self), sort_keys=True).encode()
        return hashlib.sha256(data).hexdigest()[:16]


@dataclass(frozen=True)
class Wish:
    """Jobs to be enqueued together and how: `options` are those of `Task.using`."""

    payloads: tuple[Payload, ...]
    options: dict[str, float]


def calm_wish(dice: random.Random) -> Wish:
    """A job for an idle pool: short, and due in a moment."""
    wait = dice.uniform(0.3, 1.2)
    payload = Payload(_token("calm"), 0.0, time.time() + wait)
    return Wish((payload,), {"delay": wait})


def any_wish(who: str, dice: random.Random) -> Wish:
    """Jobs of the mix: most are short and start at once, some are longer, later or come again."""
    wait = dice.choice([0.0, 0.0, 0.0, dice.uniform(0.1, 2.0)])
    due = time.time() + wait
    count = dice.choice([1] * 8 + [2, 5])
    payloads = tuple(_any_payload(who, dice, due) for _ in range(count))
    options: dict[str, float] = {"priority": dice.choice([0, 0, 0, 5, -5])}
    if wait:
        options |= {"at": due} if dice.random() < 0.5 else {"delay": wait}
    return Wish(payloads, options)


def _any_payload(who: str, dice: random.Random, due: float) -> Payload:
    seconds = dice.choice([0.0, 0.0, 0.005, 0.01, 0.02, 0.02, 0.1, 0.1, 0.5])
    again = dice.choice([0] * 9 + [1])
    filler = "x" * dice.choice([0, 0, 10, 1_000, 70_000]) if dice.random() < 0.1 else ""
    return Payload(_token(who), seconds, due, again, filler)


def _token(who: str) -> str:
    return f"{who}-{secrets.token_hex(6)}"
