"""Where a sitting took place: machine, kernel, file systems and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Final

from .systems import System
from .systems.store import REDIS

PYTHON_SIDE: Final = ("apsw", "redis")


def facts(places: dict[str, Path], systems: list[type[System]]) -> dict[str, str]:
    """Return what a reader has to know to judge the figures."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        **{f"file system, {name}": _file_system(path) for name, path in places.items()},
        "Python": platform.python_version(),
        "redis-server": _redis(),
        **{name: importlib.metadata.version(name) for name in _distributions(systems)},
    }


def _distributions(systems: list[type[System]]) -> list[str]:
    return list(dict.fromkeys([*(system.distribution for system in systems), *PYTHON_SIDE]))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(path: Path) -> str:
    """Return the type of the mount that holds a path."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, found = line.split()[:3]
        if path.resolve().is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, found
    return kind


def _redis() -> str:
    if REDIS is None:
        return "none"
    words = subprocess.run([REDIS, "--version"], capture_output=True, text=True, check=True).stdout
    return next((word[2:] for word in words.split() if word.startswith("v=")), words.strip())
