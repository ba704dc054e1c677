"""What is killed when: a shuffled plan, carried out at random moments of a bounded time.

Kills at random moments go to processes by their number; kills at a certain step are ordered by a
ticket, which the next process of that role takes when it comes by. Enqueues are killed in children
of a program of their own.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .faults import order, points
from .victims import WitnessServer

STEPS = {
    "spooler": (
        "uwsgi.handed",
        "ledger.begin",
        "ledger.commit",
        "step.effect",
        "step.returned",
        "task.ended",
        "promote.rename",
        "demote.rename",
        "uwsgi.answered",
    ),
    "worker": (
        "write.open",
        "write.write",
        "write.fsync",
        "write.syncfs",
        "ledger.begin",
        "publish.rename",
        "ledger.commit",
        "publish.fsync_directory",
        "route.enqueued",
    ),
    "mule": ("ledger.begin", "ledger.commit", "promote.rename"),
}
"""Steps that each role takes all the time. Others are ordered too, and wait for their moment."""

ENQUEUE_STEPS = (
    "write.open",
    "write.write",
    "write.utime",
    "write.fsync",
    "write.syncfs",
    "ledger.begin",
    "publish.rename",
    "ledger.commit",
    "publish.fsync_directory",
    "enqueue.returned",
)
"""What an enqueue takes, from its file to its answer; at each of them one of ours is killed."""

RARE = 0.3

SCENES = (
    # A job that comes again at once is looked for while its file goes back to waiting/.
    (
        ("spooler", "demote.rename", "stall"),
        ("mule", "exhume.rename", "stall"),
        ("spooler", "exhume.rename", "stall"),
    ),
    # The last sync of an enqueue fails when the job has moved on already.
    (("worker", "publish.fsync_directory", "stall-raise"),),
    # A spooler is killed with its row written and its file not moved yet, while others look.
    (("spooler", "demote.rename", "kill"), ("mule", "promote.rename", "stall")),
)
"""Faults that are ordered together, because each by itself does no harm."""


@dataclass(frozen=True)
class Plan:
    """How many faults of each kind; `kills` of them are kills, most of them of enqueues."""

    spooler: int
    worker: int
    mule: int
    server: int
    master: int
    spooler_step: int
    worker_step: int
    mule_step: int
    stall: int
    refuse: int
    reload: int
    scene: int
    enqueue: int

    @classmethod
    def of(cls, kills: int) -> Plan:
        """The mix for so many kills, which come out a few more."""
        part = kills / 300

        def some(share: float) -> int:
            return max(1, round(share * part))

        servers = {
            "spooler": some(24),
            "worker": some(12),
            "mule": some(6),
            "server": some(3),
            "master": some(2),
        }
        steps = {"spooler_step": some(20), "worker_step": some(12), "mule_step": some(6)}
        disturbances = {"stall": some(30), "refuse": some(8), "reload": some(2), "scene": some(20)}
        # Tickets may find nobody, so only a third of them is counted on.
        sure = sum(servers.values()) + sum(steps.values()) // 3
        return cls(**servers, **steps, **disturbances, enqueue=max(1, kills - sure))

    def shuffled(self, dice: random.Random) -> list[str]:
        """All faults on the server, in a random order; enqueues are another program's."""
        kinds = [kind for kind, count in vars(self).items() if kind != "enqueue"]
        faults = [kind for kind in kinds for _ in range(getattr(self, kind))]
        dice.shuffle(faults)
        return faults


@dataclass
class Killer:
    """Carries a plan out on one server."""

    server: WitnessServer
    tickets: Path
    dice: random.Random
    strays: list[int] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def run(self, plan: Plan, seconds: float) -> None:
        """Do all of it within about so many seconds; starting a server again takes longer."""
        faults = plan.shuffled(self.dice)
        moments = sorted(self.dice.uniform(0, seconds) for _ in faults)
        begun, pace = time.monotonic(), threading.Event()
        for fault, moment in zip(faults, moments, strict=True):
            pace.wait(max(begun + moment - time.monotonic(), 0.0))
            self.strike(fault)
            self.done[fault] += 1

    def strike(self, fault: str) -> None:
        """Do one fault to the server."""
        actions: dict[str, Callable[[], object]] = {
            "server": self.server.kill_all,
            "master": lambda: self.strays.extend(self.server.kill_master()),
            "reload": self.server.reload,
            "stall": lambda: self._order(self.dice.choice(list(STEPS)), "stall"),
            "refuse": lambda: order(
                self.tickets,
                "worker",
                self.dice.choice(STEPS["worker"][:-1]),
                self.dice.choice(["raise", "stall-raise"]),
            ),
        }
        if fault == "scene":
            for role, step, action in self.dice.choice(SCENES):
                order(self.tickets, role, step, action)
        elif fault.endswith("_step"):
            self._order(fault.removesuffix("_step"), "kill")
        elif fault in actions:
            actions[fault]()
        else:
            self._kill_one(fault)

    def _order(self, role: str, action: str) -> None:
        rare = self.dice.random() < RARE
        step = self.dice.choice(points() if rare else STEPS[role])
        order(self.tickets, role, step, action)

    def _kill_one(self, role: str) -> None:
        victims = self.server.victims(role)
        if victims:
            self.server.kill_one(self.dice.choice(victims), role)
