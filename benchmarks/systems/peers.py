"""All systems: the peers that ours takes turns with, and ours before them."""

from __future__ import annotations

from typing import Final

from . import System
from .store import CeleryRedis, DramatiqRedis, HueyRedis, HueySqlite, RqRedis
from .uwsgi import BareSpooler, Spooler, UwsgiTasks

PEERS: Final[list[type[System]]] = [
    BareSpooler,
    HueyRedis,
    UwsgiTasks,
    HueySqlite,
    CeleryRedis,
    DramatiqRedis,
    RqRedis,
]

ALL: Final[list[type[System]]] = [Spooler, *PEERS]
