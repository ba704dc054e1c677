"""The only module that imports uwsgi, and it does so lazily.

``import uwsgi`` works only inside a uWSGI process. Everything here has a meaning outside one as
well: there are no spoolers, nobody is woken, nothing is installed. The facts that these functions
rest on were measured on uWSGI 2.0.31.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, NamedTuple

Packet = dict[str | bytes, bytes]
"""A packet as a spooler callable gets it: the pairs have bytes as keys, and uWSGI adds two with
strings as keys, which no pair can therefore pretend to be: ``spooler_task_name`` and ``body``."""

OFF: Final = ("false", "off", "no", "0")
"""What uWSGI takes for no; anything else, nothing included, is yes."""

UNFIT: Final = {
    **dict.fromkeys(
        ("lazy", "lazy-apps", "py-call-uwsgi-fork-hooks"),
        "uWSGI's mules crash with it, so no job starts on time",
    ),
    **dict.fromkeys(
        ("py-call-osafterfork",) if sys.version_info >= (3, 13) else (),
        "from Python 3.13 on each process dies of it at its start, and Flask-Spooler does itself "
        "what it is for",
    ),
}
"""The switches with which jobs would not run, and why."""


class Process(NamedTuple):
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: int


class Boot(NamedTuple):
    """One life of a server: its master, and how often that was reloaded."""

    master: Process
    reloads: int

    def __str__(self) -> str:
        return f"{self.master.pid}.{self.master.started}.{self.reloads}"

    @classmethod
    def parse(cls, text: str) -> Boot:
        """Read what `str` wrote."""
        pid, started, reloads = map(int, text.split("."))
        return cls(Process(pid, started), reloads)


class StandIn(NamedTuple):
    """A process that does a spooler's part outside uWSGI, as a development server's child does."""

    pid: int
    parent: int
    harakiri: Callable[[int], None]


_stand_in: StandIn | None = None


def stand_in(harakiri: Callable[[int], None]) -> None:
    """Let this process count as the pool of one, and its parent as the master.

    To be called before anybody asks for `boot`. `harakiri` does what the function of that name
    would ask the master for.
    """
    global _stand_in
    _stand_in = StandIn(os.getpid(), os.getppid(), harakiri)


# Not os.environ: pyuwsgi is started by Python, and sets UWSGI_RELOADS when that has its copy.
_getenv = ctypes.CDLL(None).getenv
_getenv.restype = ctypes.c_char_p


@functools.cache
def module() -> ModuleType | None:
    """Return the uwsgi module inside uWSGI, None anywhere else."""
    try:
        import uwsgi
    except ImportError:
        return None
    found: ModuleType = uwsgi
    return found


def version() -> str:
    """Return the version of the uWSGI that this process runs in, empty outside of one."""
    uwsgi = module()
    return os.fsdecode(uwsgi.version) if uwsgi is not None else ""


def inside() -> bool:
    """Tell whether this process runs under a uWSGI master."""
    uwsgi = module()
    return uwsgi is not None and uwsgi.masterpid() > 0


def install(handler: Callable[[Packet], int]) -> Callable[[Packet], Any] | None:
    """Make `handler` the process's spooler callable and return the one that was there before.

    There is one such callable a process, and two libraries overwrite it when they are imported.
    They are imported here first, where they are installed: one that a task imports at night would
    take the pool away for good.
    """
    uwsgi = module()
    if uwsgi is None:
        return None
    for library in ("uwsgidecorators", "uwsgi_tasks"):
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    before = getattr(uwsgi, "spooler", None)
    setattr(uwsgi, "spooler", handler)  # noqa: B010 - the module declares no such name
    return before


def spooler_pids() -> list[int]:
    """Return the process ids of the pool that belongs to this server.

    A spooler that another instance runs (`spooler-external`) shows as 0, and signalling 0 would
    hit our own process group: those are left out.
    """
    uwsgi = module()
    if uwsgi is None:
        return [] if _stand_in is None else [_stand_in.pid]
    if not hasattr(uwsgi, "spooler_pids"):  # a server without the option has no such function
        return []
    return [pid for pid in uwsgi.spooler_pids() if pid > 0]


def has_pool() -> bool:
    """Tell whether this server was told to run spoolers of its own, alive or not."""
    uwsgi = module()
    return uwsgi is not None and "spooler" in uwsgi.opt


def spooler_directories() -> list[str]:
    """Return the directories of this server's spoolers, absolute, external ones included.

    Not from its options: under Python 3 uWSGI shows only the last of those that stand several
    times, and a relative one is relative to where the server was started.
    """
    found = getattr(module(), "spoolers", ())
    return [os.fsdecode(directory) for directory in dict.fromkeys(found)]


def options() -> dict[str, str]:
    """Return this server's options; of one that stands several times only the last."""
    found = getattr(module(), "opt", {})
    last = {name: value[-1] if isinstance(value, list) else value for name, value in found.items()}
    return {
        os.fsdecode(name): "true" if value is True else os.fsdecode(value)
        for name, value in last.items()
    }


def is_on(switch: str) -> bool:
    """Tell whether a switch of this server is on; one that is not set is off."""
    return options().get(switch, OFF[0]).lower() not in OFF


def only_enqueues() -> bool:
    """Tell whether the spoolers of this server's directories belong to another instance."""
    uwsgi = module()
    return uwsgi is not None and not has_pool() and "spooler-external" in uwsgi.opt


def command_line() -> list[str]:
    """Return the words with which this server's master was started."""
    with open(f"/proc/{boot().master.pid}/cmdline", "rb") as words:
        return [os.fsdecode(word) for word in words.read().split(b"\0")[:-1]]


def started_in() -> str:
    """Return the directory in which this server was started, before any ``chdir``."""
    found = getattr(module(), "magic_table", {})
    return os.fsdecode(found.get(b"v", b"."))


def workers() -> int:
    """Return how many web workers this server has at most."""
    found: int = getattr(module(), "numproc", 0)
    return found


def speaks_for_server() -> bool:
    """Tell whether this is the one process that reports on its server.

    That is its first mule, and its first web worker where there is no mule.
    """
    uwsgi = module()
    if uwsgi is None:
        return False
    has_mules = "mule" in uwsgi.opt or "mules" in uwsgi.opt
    return bool(uwsgi.mule_id() == 1 if has_mules else uwsgi.worker_id() == 1)


def wake(pids: list[int]) -> None:
    """Make these spoolers look at their directory now. One that is gone is nobody's loss."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGUSR1)


ABORT: Final = int(signal.SIGUSR2)
"""Tells a spooler to look whether the job it runs was cancelled."""


def abort(running: Process) -> None:
    """Make this process look whether its job was cancelled, if it is still the one we mean.

    Where that is not ours to do, the housekeeper does it, which belongs to the server.
    """
    if is_alive(running):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(running.pid, ABORT)


def worker_id() -> int:
    """Return this web worker's number from 1, or 0 in every other kind of process."""
    uwsgi = module()
    return uwsgi.worker_id() if uwsgi is not None else 0


def is_apart_from_spoolers() -> bool:
    """Tell whether this server's spoolers never know what this process loads from now on.

    So it is in each web worker after the fork. With lazy apps all is loaded there, also at the
    start: such a server is refused for what it is.
    """
    return worker_id() > 0 and has_pool() and not (is_on("lazy") or is_on("lazy-apps"))


def is_spooler() -> bool:
    """Tell whether this process is one of uWSGI's spoolers."""
    uwsgi = module()
    return uwsgi is not None and bool(uwsgi.i_am_the_spooler())


def on_fork(function: Callable[[], None]) -> None:
    """Call `function` in each web worker, spooler and mule after it was forked.

    What Python itself and other libraries have to do in a new process comes before all of these.
    """
    import uwsgidecorators

    if tell_python_of_fork not in uwsgidecorators.postfork_chain:
        uwsgidecorators.postfork_chain.insert(0, tell_python_of_fork)
    uwsgidecorators.postfork(function)


def tell_python_of_fork() -> None:
    """Let Python do in this new process what it does around its own `os.fork`.

    uWSGI forks behind Python's back: `threading` would wait for threads that are not there, and
    what libraries have given to `os.register_at_fork` would never be called. Its option
    ``py-call-osafterfork`` calls only the half after the fork; from Python 3.13 on that ends the
    process, since nobody has taken the locks which that half lets go. Its other option,
    ``py-call-uwsgi-fork-hooks``, calls both halves for web workers and lets mules crash. Here both
    are called, in the new process. Not where threads run already, whose state would be taken away.
    """
    if is_on("py-call-osafterfork") or len(os.listdir("/proc/self/task")) > 1:
        return
    ctypes.pythonapi.PyOS_BeforeFork()
    ctypes.pythonapi.PyOS_AfterFork_Child()


def on_exit(function: Callable[[], None]) -> None:
    """Call `function` when this process ends in an orderly way, before earlier ones of these."""
    uwsgi = module()
    if uwsgi is None:
        return
    before = getattr(uwsgi, "atexit", None)

    def both() -> None:
        function()
        if before is not None:
            before()

    setattr(uwsgi, "atexit", both)  # noqa: B010 - the module declares no such name


def harakiri(seconds: int) -> None:
    """Let the master kill this process in `seconds` unless called again; 0 takes it back."""
    uwsgi = module()
    if uwsgi is not None:
        uwsgi.set_user_harakiri(seconds)
    elif _stand_in is not None:
        _stand_in.harakiri(seconds)


def boot() -> Boot:
    """Return which life of which server this process belongs to.

    Outside uWSGI every process is a boot of its own, but for a stand-in, which belongs to its
    parent. Asked for once before the master forks, so that a process knows it even when its master
    is gone.
    """
    uwsgi = module()
    if uwsgi is not None and uwsgi.masterpid():
        master = uwsgi.masterpid()
    else:
        master = os.getpid() if _stand_in is None else _stand_in.parent
    return _boot(master, (_getenv(b"UWSGI_RELOADS") or b"0").decode())


def boot_name() -> str:
    """Return `boot` as it stands in the ledger."""
    return _boot_name(os.getpid())


@functools.lru_cache(maxsize=2)
def _boot_name(pid: int) -> str:
    return str(boot())


@functools.cache
def _boot(master: int, reloads: str) -> Boot:
    return Boot(process(master), int(reloads))


def process(pid: int) -> Process:
    """Return the identity of `pid`; `started` is 0 when no such process exists."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return Process(pid, 0)
    # A zombie has ended: its locks and its memory are gone, only its exit status is left.
    return Process(pid, 0 if fields[0] in (b"Z", b"X") else int(fields[19]))


def lives_on(text: str | None) -> bool:
    """Tell whether the boot of this name still goes on; of our own master we know its reloads."""
    if not text:
        return False
    here, there = boot(), Boot.parse(text)
    if there.master == here.master:
        return there == here
    return is_alive(there.master)


def me() -> Process:
    """Return the identity of this process."""
    return _me(os.getpid())


@functools.lru_cache(maxsize=2)
def _me(pid: int) -> Process:
    return process(pid)


def is_alive(candidate: Process) -> bool:
    """Tell whether exactly this process still runs, not another one under its number."""
    return candidate.started != 0 and process(candidate.pid) == candidate
