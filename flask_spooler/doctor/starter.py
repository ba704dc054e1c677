"""What is wrong with what started a server: the unit, a shell in a container, a wheel of uWSGI.

Owns the question to systemd and how its answer reads. Where there is no systemd, or the server is
not the main process of a unit, there is nothing to find.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .finding import Finding, right, worth_knowing, wrong

ASKED: Final = ("MainPID", "KillMode", "KillSignal", "TimeoutStopUSec")
PATIENCE: Final = 5.0
SIGTERM: Final = "15"
SHELLS: Final = ("sh", "bash", "dash", "ash")

UNITS: Final = {
    **{"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800},
    **{"month": 2_629_800, "y": 31_557_600},
}
"""The units in which ``systemctl show`` prints a length of time."""


def unit_of(pid: int) -> dict[str, str]:
    """Return the settings of the unit whose main process `pid` is; empty where there is none."""
    systemctl = shutil.which("systemctl")
    name = ""
    with contextlib.suppress(OSError):
        name = unit_name(Path(f"/proc/{pid}/cgroup").read_text())
    if systemctl is None or not name:
        return {}
    try:
        answer = subprocess.run(
            [systemctl, "show", "--property", ",".join(ASKED), "--", name],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    settings = dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)
    # A server that somebody started by hand lies in the group of his shell, of cron, of Docker.
    return settings if settings.get("MainPID") == str(pid) else {}


def unit_name(cgroup: str) -> str:
    """Return the service in a ``/proc/PID/cgroup``, empty where there is none.

    >>> unit_name("0::/system.slice/shop.service"), unit_name("0::/user.slice/session-2.scope")
    ('shop.service', '')
    """
    names = [part for part in re.split(r"[/\n]", cgroup) if part.endswith(".service")]
    return names[-1] if names else ""


def seconds(span: str) -> float:
    """Return a length of time as ``systemctl show`` prints it.

    >>> seconds("1min 30s"), seconds("500ms"), seconds("infinity")
    (90.0, 0.5, inf)
    """
    if span == "infinity":
        return float("inf")
    parts = re.findall(r"([\d.]+)([a-z]+)", span)
    return float(sum(float(number) * UNITS.get(unit, 0) for number, unit in parts))


def examine_unit(settings: dict[str, str], grace: float) -> Iterator[Finding]:
    """Check the settings of a unit; `grace` is what running jobs get at a stop."""
    if not settings:
        return
    mode, number = settings.get("KillMode"), settings.get("KillSignal")
    if mode == "mixed":
        yield right("systemd", "systemd signals the master alone")
    else:
        problem = f"systemd signals spoolers directly and cuts their jobs (KillMode={mode})"
        yield wrong("systemd", problem, "set KillMode=mixed in the unit")
    if number != SIGTERM:
        problem = f"systemd stops the server with signal {number}"
        yield wrong("systemd signal", problem, "set KillSignal=SIGTERM in the unit")
    limit = seconds(settings.get("TimeoutStopUSec", "infinity"))
    if limit <= grace:
        problem = f"systemd kills the server {limit:g} s into a stop, jobs get {grace:g} s"
        fix = f"set TimeoutStopSec={grace + 15:.0f} in the unit, or a shorter SPOOLER_GRACE"
        yield wrong("systemd timeout", problem, fix)


def first_process(pid: int) -> tuple[int, str]:
    """Return the parent of `pid`, and the name of process 1; nothing where that is hidden."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[1]), Path("/proc/1/comm").read_text().strip()
    return 0, ""


def examine_first(master: int, parent: int, first: str) -> Iterator[Finding]:
    """See whether a shell stands before the server and keeps SIGTERM to itself.

    That a shell is process 1 happens in containers only. A server whose own shell has ended
    becomes its child as well, so this is no more than worth knowing.
    """
    if master != 1 and parent == 1 and first in SHELLS:
        problem = f"process 1 is a shell ({first}), which does not hand SIGTERM to the server"
        fix = 'start the server itself, in exec form: CMD ["uwsgi", "--ini", "uwsgi.ini"]'
        yield worth_knowing("process 1", problem, fix)


def wheel_of(pid: int) -> Path | None:
    """Return the Python of a virtual environment in which `pid` runs pyuwsgi; None if it does not.

    The wheel of uWSGI is no program but a module, and its command a script.
    """
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        called, *script = (Path(os.fsdecode(word)) for word in words[:3])
        is_wheel = any(word.name in ("uwsgi", "pyuwsgi") for word in script)
        runs_python = Path(os.readlink(f"/proc/{pid}/exe")).name.startswith("python")
        if is_wheel and runs_python and (called.parent.parent / "pyvenv.cfg").exists():
            return called
    return None


def examine_reload(wheel: Path | None, binary_path: str | None) -> Iterator[Finding]:
    """See whether a reload leaves the virtual environment.

    uWSGI starts itself anew as the file that it runs. For the wheel that is the Python behind the
    environment, which has no pyuwsgi.
    """
    if wheel is not None and binary_path is None:
        problem = "a reload ends the server: pyuwsgi would go on outside its virtual environment"
        yield wrong("reload", problem, f"start it as: uwsgi --binary-path {wheel} --ini uwsgi.ini")
