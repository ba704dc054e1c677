"""A program whose children enqueue straight into a spool, and are killed while they do.

``python -m tests.witness.enqueuer --kills 100 --seconds 30 --seed 1``, with the environment of
the server. It forks one child after another; each arms one failpoint on the way of an enqueue, and
enqueues a few jobs. Now and then two of them ask for one key at once, and the first one fails late.
It ends when so many children were killed. It has no thread and no connection of its own, so that a
child has nothing that it should not have.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import threading
import time
import traceback
from collections.abc import Callable

from flask_spooler import DuplicateJob, EnqueueError
from flask_spooler.failpoints import reach

from .clients import acknowledge, intend, refuse, turn_away
from .faults import STALL, Fault, arm
from .killer import ENQUEUE_STEPS
from .payload import RIVALS_KEY, Wish, any_wish, keyed_wish
from .witness_app import logs, spooler, submit

ACTIONS = ("kill",) * 8 + ("raise", "stall-raise")

RIVALS = 10
"""After so many children comes a pair that ask for one key."""


def wish_for(wish: Wish) -> None:
    """Enqueue what is wished for, with its lines in the client's log."""
    intend(wish, logs.client)
    try:
        ids = submit([vars(payload) for payload in wish.payloads], wish.options)
    except EnqueueError:
        refuse(wish, logs.client)
        return
    except DuplicateJob as error:
        turn_away(wish, error.job_id, logs.client)
        return
    reach("enqueue.returned")
    acknowledge(wish, ids, logs.client)


def child(dice: random.Random) -> None:
    """Enqueue up to three jobs, with something going wrong at one of them."""
    count = dice.randint(1, 3)
    point = dice.choice(ENQUEUE_STEPS)
    action = "kill" if point == "enqueue.returned" else dice.choice(ACTIONS)
    arm(Fault(point, action, dice.randint(1, count)), logs.killer, lambda: "enqueue")
    for _ in range(count):
        wish_for(any_wish("fork", dice))


def rivals() -> None:
    """Let an enqueue fail at its last sync, and another one ask for its key just before.

    Both wish for later, or the job would run by then, and an enqueue whose job runs has not failed.
    """

    def first() -> None:
        arm(Fault("publish.fsync_directory", "stall-raise"), logs.killer, lambda: "enqueue")
        wish_for(keyed_wish(RIVALS_KEY, "return", delay=0.5))

    def second() -> None:
        threading.Event().wait(STALL / 2)
        wish_for(keyed_wish(RIVALS_KEY, "return", delay=0.5))

    for pid in [fork(first), fork(second)]:
        was_killed(pid)


def fork(act: Callable[[], None]) -> int:
    """Start a child that does one thing and ends; return its process id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def was_killed(pid: int) -> bool:
    """Wait for the end of a child; True when it was killed."""
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise SystemExit("a child failed where it should have been refused or killed")
    return os.WIFSIGNALED(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", required=True)
    given = parser.parse_args()
    spooler.engine.prepare()
    begun, killed, children = time.monotonic(), 0, 0
    pace = threading.Event()
    while killed < given.kills:
        children += 1
        dice = random.Random(f"{given.seed}-{children}")
        killed += was_killed(fork(functools.partial(child, dice)))
        if children % RIVALS == 0:
            rivals()
        behind = begun + given.seconds * killed / given.kills - time.monotonic()
        pace.wait(max(behind, 0.0))


if __name__ == "__main__":
    main()
