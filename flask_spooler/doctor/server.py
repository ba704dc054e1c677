"""What is wrong with how a server is started: checks of its options, one function each.

Pure: options and facts come in, findings go out. Two kinds of instance are right: one with a pool
of its own, and one that only enqueues into a spool that another instance works off.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from .._uwsgi import UNFIT
from .finding import Finding, right, worth_knowing, wrong
from .ini import Options

HOUSEKEEPER: Final = "flask_spooler.housekeeper:run"
STARTS: Final = 30.0
"""Seconds that a housekeeper gets for its start: on a disk that stands still it took over two."""

SLOWEST: Final = 5
"""Seconds between two looks of a spooler beyond which a lost wake-up hurts."""

DESCRIPTORS: Final = 2**20
"""uWSGI reserves 8 bytes and more for each descriptor a process may have."""

PROTOCOL_SOCKETS: Final = (
    "socket", "s", "uwsgi-socket", "puwsgi-socket", "suwsgi-socket", "ssl-socket"
)  # fmt: skip
"""Sockets whose client chooses the modifiers: with 17 it writes a file for the spooler."""

OTHER_SOCKETS: Final = (
    "http-socket", "http", "https", "https-socket", "fastcgi-socket", "scgi-socket", "raw-socket"
)  # fmt: skip

PUBLIC: Final = ("0.0.0.0", "", "[::]", "*")
FORK_HOOKS: Final = ("py-call-osafterfork", "py-call-uwsgi-fork-hooks")
IMPLY_MASTER: Final = ("spooler", "spooler-external", "mule", "mules")

Found = Iterator[Finding]


@dataclass(frozen=True)
class Running:
    """What only a running server can tell: its pool, its limits, its sockets' modes."""

    pool: int | None
    workers: int
    descriptors: int
    socket_modes: dict[str, int]
    failed_imports: dict[str, str]
    has_housekeeper: bool
    age: float
    """Seconds since it noted its start."""


@dataclass(frozen=True)
class Server:
    """Options of one server, and what it is like if it runs."""

    options: Options
    running: Running | None = None
    runs_foreign_packets: bool = False

    @property
    def has_pool(self) -> bool:
        """Whether it runs jobs, and does not only enqueue them."""
        return bool(self.options.all("spooler")) or not self.options.all("spooler-external")


def examine_server(server: Server) -> list[Finding]:
    """Return what every check has found that applies to such a server."""
    checks = [*FOR_ALL, *(FOR_JOBS if server.has_pool else FOR_WEB)]
    return [finding for check in checks for finding in check(server)]


def _master(server: Server) -> Found:
    said = server.options.last("master", "M")
    implied = any(server.options.all(name) for name in IMPLY_MASTER)
    if server.options.is_on("master", "M") or (said is None and implied):
        yield right("master", "a master respawns what dies")
    else:
        problem = "the server has no master: nothing starts spoolers or respawns them"
        yield wrong("master", problem, "set master = true")


def _strict(server: Server) -> Found:
    if server.options.is_on("strict"):
        yield right("strict", "a typing error in an option stops the start")
    else:
        problem = "uWSGI ignores options that it does not know: a typing error goes unnoticed"
        yield wrong("strict", problem, "set strict = true, as the first line")


def _need_app(server: Server) -> Found:
    if server.options.is_on("need-app"):
        yield right("need-app", "the server does not start without its app")
    else:
        problem = "the server starts although the app cannot be imported, and answers every 500"
        yield worth_knowing("need-app", problem, "set need-app = true")


def _threads(server: Server) -> Found:
    if server.options.is_on("enable-threads") or server.options.last("threads"):
        yield right("threads", "Python threads are enabled")
    else:
        problem = "threads never get to run: background threads stand still, and those of tasks"
        yield wrong("threads", problem, "set enable-threads = true")


def _interpreter(server: Server) -> Found:
    fix = "set single-interpreter = true"
    if server.options.is_on("single-interpreter", "i"):
        yield right("interpreter", "all apps share the main interpreter")
    elif len(server.options.all("mount")) > 1:
        problem = "the second app gets an interpreter in which timeouts and aborts cannot work"
        yield wrong("interpreter", problem, fix)
    else:
        problem = "another app in this server would get an interpreter without timeouts and aborts"
        yield worth_knowing("interpreter", problem, fix)


def _after_fork(server: Server) -> Found:
    unfit = [name for name in FORK_HOOKS if name in UNFIT and server.options.is_on(name)]
    for name in unfit:
        yield wrong("fork hooks", f"{name}: {UNFIT[name]}", f"take {name} out")
    if not unfit:
        yield right("fork hooks", "Python is told of each fork")


def _descriptors(server: Server) -> Found:
    limit = server.options.last("max-fd")
    allowed = server.running.descriptors if server.running else 0
    if limit is None and allowed > DESCRIPTORS:
        problem = f"uWSGI reserves memory for {allowed:,} descriptors, gigabytes of it"
        yield wrong("descriptors", problem, "set max-fd = 4096, or what the app needs")
    else:
        yield right("descriptors", f"at most {limit or allowed or 'as many as the system allows'}")


def _sockets(server: Server) -> Found:
    loose = []
    for address in server.options.all(*PROTOCOL_SOCKETS):
        host, colon, _ = address.rpartition(":")
        if "/" in address or not colon:
            mode = _mode(server, address)
            if mode is not None and mode & stat.S_IWOTH:
                loose.append(f"{address} (everybody on this machine)")
        elif host in PUBLIC:
            loose.append(f"{address} (everybody on the network)")
        elif server.runs_foreign_packets:
            loose.append(f"{address} (everybody on this machine)")
    if not loose:
        yield right("sockets", "no uwsgi socket is open to strangers")
        return
    can = "run code" if server.runs_foreign_packets else "forge requests and fill the spool"
    problem = f"whoever reaches a uwsgi socket can {can}, and these are open: {', '.join(loose)}"
    yield wrong("sockets", problem, "use a UNIX socket with chmod-socket = 660, behind nginx")


def _mode(server: Server, path: str) -> int | None:
    if server.running and path in server.running.socket_modes:
        return server.running.socket_modes[path]
    asked = server.options.last("chmod-socket", "chmod")
    if asked is None:
        return None
    return int(asked, 8) if asked.isdigit() and len(asked) == 3 else 0o666


def _stop(server: Server) -> Found:
    """SIGTERM without a hook is a reload, or with die-on-term the end of all jobs at once."""
    name = "graceful stop"
    hook = "hook-master-start = unix_signal:15 gracefully_kill_them_all"
    if _hooks(server, "hook-master-start", 15, "gracefully_kill_them_all"):
        yield right(name, "SIGTERM lets requests and jobs finish")
    elif server.options.is_on("die-on-term"):
        problem = "SIGTERM ends the server at once, with die-on-term, and cuts what runs"
        yield wrong(name, problem, f"replace die-on-term by {hook}")
    elif server.options.all("hook-master-start") and not server.options.complete:
        yield right(name, "there are hooks for the start; which ones cannot be told here")
    else:
        problem = "SIGTERM reloads the server instead of stopping it, and cuts what runs"
        yield wrong(name, problem, f"add {hook}")


def _ctrl_c(server: Server) -> Found:
    """SIGINT reaches the whole group: workers have to wait for the master's word."""
    name, options = "ctrl-c", server.options
    stops = _hooks(server, "hook-master-start", 2, "gracefully_kill_them_all")
    waits = _hooks(server, "hook-accepting", 2, "spooler_wakeup")
    if (stops and waits) or not options.complete:
        yield right(name, "Ctrl-C lets jobs finish")
    else:
        problem = "Ctrl-C, or SIGINT from a container's runtime, cuts the jobs that run"
        fix = (
            "add hook-master-start = unix_signal:2 gracefully_kill_them_all"
            " and hook-accepting = unix_signal:2 spooler_wakeup"
        )
        yield worth_knowing(name, problem, fix)


def _hooks(server: Server, option: str, number: int, function: str) -> bool:
    hook = f"unix_signal:{number} {function}"
    return any(" ".join(value.split()) == hook for value in server.options.all(option))


def _workers(server: Server) -> Found:
    asked = server.options.last("processes", "workers", "p")
    has_socket = bool(server.options.all(*PROTOCOL_SOCKETS, *OTHER_SOCKETS))
    if has_socket and asked != "0" and (server.running is None or server.running.workers):
        yield right("web worker", "a web worker waits for running jobs at a stop")
    else:
        problem = "without a web worker nobody waits for the jobs that run when the server stops"
        fix = "give it a socket of its own, such as socket = %d/jobs.sock, and processes = 1"
        yield wrong("web worker", problem, fix)


def _pool(server: Server) -> Found:
    options, running = server.options, server.running
    asked = options.last("spooler-processes")
    fix = "give spooler-processes a plain number: uWSGI reads it before placeholders have values"
    if not options.all("spooler"):
        problem = "the server has no spooler: nobody runs jobs"
        yield wrong("pool", problem, "add spooler = DIRECTORY, or spooler-external = DIRECTORY")
    elif asked is not None and not (asked.isdigit() and int(asked)):
        yield wrong("pool", f"uWSGI takes spooler-processes = {asked} for one process", fix)
    elif running and running.pool is not None and running.pool < int(asked or 1):
        yield wrong("pool", f"{asked or 1} spoolers are asked for, and {running.pool} run", fix)
    else:
        yield right("pool", f"{(running and running.pool) or asked or 1} spoolers")


def _imports(server: Server) -> Found:
    name, running = "spooler import", server.running
    if server.options.is_on("lazy-apps") or server.options.is_on("lazy"):
        problem = "with lazy-apps neither spoolers nor the housekeeper are prepared for the app"
        yield wrong(name, problem, "remove lazy-apps and lazy")
    elif running and running.failed_imports:
        failed = "; ".join(f"{module} ({why})" for module, why in running.failed_imports.items())
        problem = f"spoolers cannot import what spooler-import names: {failed}"
        yield wrong(name, problem, "mend the module or its name, and reload the server")
    else:
        yield right(name, "spoolers have the app")


def _order(server: Server) -> Found:
    if server.options.is_on("spooler-ordered"):
        yield right("order", "jobs start in the order in which they enter the window")
    else:
        problem = "uWSGI takes ready jobs in the order in which the directory happens to list them"
        yield wrong("order", problem, "set spooler-ordered = true")


def _frequency(server: Server) -> Found:
    asked = server.options.last("spooler-frequency", "spooler-freq")
    seconds = int(asked) if asked and asked.isdigit() else 0 if asked else 30
    fix = "set spooler-frequency = 1"
    if seconds == 0:
        yield wrong("frequency", f"spooler-frequency = {asked} is a busy loop", fix)
    elif seconds > SLOWEST:
        problem = f"a job whose wake-up gets lost waits up to {seconds} s (spooler-frequency)"
        yield wrong("frequency", problem, fix)
    else:
        yield right("frequency", f"spoolers look every {seconds} s without being woken")


def asks_for_housekeeper(options: Options) -> bool:
    """Tell whether a mule of this server is told to keep house, by the name that is ours."""
    return HOUSEKEEPER in options.all("mule")


def expects_housekeeper(options: Options) -> bool:
    """Tell whether one will start: in a server without spoolers of its own none does."""
    return bool(options.all("spooler")) and asks_for_housekeeper(options)


def _housekeeper(server: Server) -> Found:
    name, mules = "housekeeper", server.options.all("mule")
    fix = f"add mule = {HOUSEKEEPER}"
    if not server.options.all("spooler"):
        yield right(name, "there is no spooler to keep house for")
    elif server.running and server.running.has_housekeeper:
        yield right(name, "the housekeeper runs")
    elif server.running and server.running.age < STARTS and asks_for_housekeeper(server.options):
        yield right(name, "the housekeeper is about to start")
    elif not mules:
        problem = "there is no housekeeper: retries and jobs for a later time never start"
        yield wrong(name, problem, fix)
    elif server.running:
        problem = "the housekeeper does not run: retries and jobs for a later time never start"
        yield wrong(name, problem, f"{fix}, and see the server's log for why a mule ended")
    elif asks_for_housekeeper(server.options):
        yield right(name, "a mule keeps house")
    else:
        problem = f"whether one of these mules keeps house cannot be told: {', '.join(mules)}"
        yield worth_knowing(name, problem, f"{fix}, unless one of yours calls it")


def _no_mule(server: Server) -> Found:
    if asks_for_housekeeper(server.options):
        problem = "an instance that only enqueues has nothing to keep house for"
        fix = f"remove mule = {HOUSEKEEPER}: it belongs to the instance that runs the jobs"
        yield wrong("housekeeper", problem, fix)
    else:
        yield right("housekeeper", "the instance that runs the jobs keeps house")


Check = Callable[[Server], Found]

FOR_ALL: Final[list[Check]] = [
    _master, _strict, _need_app, _threads, _interpreter, _after_fork, _descriptors, _sockets, _stop
]  # fmt: skip
FOR_JOBS: Final[list[Check]] = [
    _ctrl_c, _workers, _pool, _imports, _order, _frequency, _housekeeper
]  # fmt: skip
FOR_WEB: Final[list[Check]] = [_no_mule]
