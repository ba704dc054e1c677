"""How much memory does it take, all processes together?"""

from __future__ import annotations

from typing import Final

from .marks import wait_until
from .sitting import MEMORY, Sitting
from .systems import PATIENCE, System
from .systems.peers import ALL

TITLE: Final = "Memory"
HOW: Final = """\
PSS (each shared page divided among those who share it) after some hundred jobs, in units of 10^6
bytes. For the systems on uWSGI it is the whole server: master, two web workers with the Flask app,
four spoolers, for us the housekeeper too. For the others it is four consumers with their parent,
and Redis; their web workers would come on top."""

WHOLE: Final = "memory, whole"
REDIS: Final = "memory, of that Redis"


def measure(sitting: Sitting) -> None:
    jobs = sitting.size(1_000, 200)

    def memory(kind: type[System], place: str) -> None:
        with sitting.running(kind, place) as system:
            system.enqueue(0, jobs)
            sitting.marks.wait(0, jobs, PATIENCE + jobs / 50)
            wait_until(lambda: system.finished() >= jobs, PATIENCE)
            parts = system.pss()
        sitting.note(WHOLE, kind, place, sum(parts.values()), "MB")
        if "redis" in parts:
            sitting.note(REDIS, kind, place, parts["redis"], "MB")

    for _ in range(sitting.size(3, 1)):
        for kind in ALL:
            sitting.attempt(memory, kind, MEMORY)
