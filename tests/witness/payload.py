"""What a job is told, at random, and the hash by which its run proves what it was told."""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

SHARED_KEYS = ("shared-0", "shared-1")
"""Keys under which a second enqueue gets the first job or is refused."""

REPLACED_KEYS = ("replaced-0", "replaced-1")
"""Keys under which it may also take the first one's place."""

KEYS = SHARED_KEYS + REPLACED_KEYS

RIVALS_KEY = "rivals"
"""The key of those who ask for one at once."""

TAGS = ("import", "user:5", "user:55", "User:5", "100%", "a_b", "it's", '"quoted"', "-", "é")


@dataclass(frozen=True)
class Payload:
    """The arguments of one job; `again` is how many times it asks to be run once more.

    `key` is its unique key, once more: a job that has lost it can be told by this.
    """

    token: str
    seconds: float
    due: float
    again: int = 0
    filler: str = ""
    steps: int = 0
    key: str = ""

    @property
    def hash(self) -> str:
        data = json.dumps(asdict(self), sort_keys=True).encode()
        return hashlib.sha256(data).hexdigest()[:16]


@dataclass(frozen=True)
class Wish:
    """Jobs to be enqueued together and how: `options` are those of `Task.using`."""

    payloads: tuple[Payload, ...]
    options: dict[str, Any]

    def promises(self, payload: Payload) -> list[str]:
        """Return what is promised of one of the jobs, in the words of the client's log."""
        words = [f"tag={tag}" for tag in self.options.get("tags", ())]
        if payload.key:
            words += [f"key={payload.key}", f"policy={self.options['on_duplicate']}"]
        return [*words, f"steps={payload.steps}"]


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
    options: dict[str, Any] = {"priority": dice.choice([0, 0, 0, 5, -5])}
    if wait:
        options |= {"at": due} if dice.random() < 0.5 else {"delay": wait}
    if dice.random() < 0.4:
        options["tags"] = dice.sample(TAGS, dice.randint(1, 3))
    return _keyed(Wish(payloads, options), dice) if dice.random() < 0.3 else Wish(payloads, options)


def keyed_wish(key: str, policy: str, delay: float = 0.0) -> Wish:
    """A short job with this key, for an enqueue of which only the answer matters."""
    payload = Payload(_token("keyed"), 0.0, time.time() + delay, key=key)
    return Wish((payload,), {"unique": key, "on_duplicate": policy, "delay": delay})


def _keyed(wish: Wish, dice: random.Random) -> Wish:
    key = dice.choice(KEYS)
    policies = ["return", "return", "refuse"]
    policy = dice.choice(policies if key in SHARED_KEYS else ["replace", *policies])
    # Jobs of one call would refuse each other.
    payloads = wish.payloads[:1] if policy == "refuse" else wish.payloads
    # Arguments that are too long for the ledger would hide the key from whoever looks at it.
    seconds = dice.choice([0.0, 0.02, 0.1, 0.5])  # long enough to be met while they run
    bearing = tuple(replace(each, key=key, filler="", seconds=seconds) for each in payloads)
    return Wish(bearing, {**wish.options, "unique": key, "on_duplicate": policy})


def _any_payload(who: str, dice: random.Random, due: float) -> Payload:
    seconds = dice.choice([0.0, 0.0, 0.005, 0.01, 0.02, 0.02, 0.1, 0.1, 0.5])
    again = dice.choice([0] * 9 + [1])
    filler = "x" * dice.choice([0, 0, 10, 1_000, 70_000]) if dice.random() < 0.1 else ""
    steps = dice.choice([0, 0, 0, 1, 2, 4])
    return Payload(_token(who), seconds, due, again, filler, steps)


def _token(who: str) -> str:
    return f"{who}-{secrets.token_hex(6)}"
