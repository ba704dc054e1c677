"""One run of the witness: start a server, enqueue, kill, let everything drain, judge.

``python -m tests.witness.run --kills 300 --seconds 60 --seed x --report docs/reliability.md``
prints the report and exits 1 on any violation. Logs, spool and server log stay in ``--keep``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flask_spooler.spool import WRITING, Spool
from tests.uwsgi.server import ROOT, wait_until
from tests.uwsgi.standstill import Standstill

from . import snapshot
from .checker import check
from .clients import Crowd, Watcher, submit
from .facts import Limits, Snapshot
from .faults import withdraw
from .killer import Killer, Plan
from .logs import Logs, read_history
from .payload import KEYS, RIVALS_KEY, TAGS, any_wish, calm_wish, keyed_wish
from .report import Result, as_text
from .victims import WitnessServer

CALM_JOBS = 40
SPOOLERS = 5
CLIENTS = 3
PAUSE = 0.08
"""Mean seconds between two requests of one client."""

LONGEST_DRAIN = 90.0


@dataclass(frozen=True)
class Settings:
    """What one run is to do."""

    kills: int
    seconds: float
    seed: str
    durability: str = "power"
    longest_drain: float = LONGEST_DRAIN


def witness(settings: Settings, directory: Path) -> Result:
    """Do a whole run in an empty directory and return what it has shown."""
    begun = time.time()
    (directory / "tickets").mkdir()
    logs = Logs(directory)
    spool = Spool(directory / "spool")
    server = WitnessServer(
        directory=spool.root,
        log_file=directory / "server.log",
        processes=SPOOLERS,
        environment=variables(settings, directory),
    )
    server.killer = logs.killer
    killer = Killer(server, directory / "tickets", random.Random(f"{settings.seed}-killer"))
    plan = Plan.of(settings.kills)
    watcher = Watcher(spool.ledger, logs.client)
    try:
        server.start()
        stood_still = calm(settings.seed, server, watcher, logs)
        descriptors = server.most_descriptors()
        with enqueuer(settings, plan.enqueue, server), crowd(settings, server, watcher, logs) as it:
            killer.run(plan, settings.seconds)
        withdraw(killer.tickets)
        killer.strays += drain(server, watcher, spool, settings.longest_drain)
        ask_for_keys(server, watcher, spool, logs)
        more_descriptors = server.most_descriptors()
        killer.strays += server.stop_logged()
    finally:
        server.kill()
    watcher.look()
    history = read_history(directory)
    left = Snapshot(
        rows=snapshot.rows(spool.ledger, history),
        files=snapshot.files(spool),
        old_in_tmp=snapshot.old_in_tmp(spool, begun),
        strays=tuple(killer.strays),
        descriptors_before=descriptors,
        descriptors_after=more_descriptors,
        ledger_integrity=snapshot.integrity(spool.ledger),
        searched=snapshot.searched(spool.ledger, (*TAGS, "nobody's")),
    )
    return Result(
        seed=settings.seed,
        seconds=time.time() - begun,
        durability=settings.durability,
        history=history,
        violations=check(history, left, Limits(late=Limits.late + stood_still)),
        disturbances=killer.done,
        answers=it.answers,
        tmp_left=sum(1 for _ in spool.names(WRITING)),
    )


def variables(settings: Settings, directory: Path) -> dict[str, str]:
    """The environment of the server, of the enqueuer, and of whoever looks closer afterwards."""
    return {
        "WITNESS_DIRECTORY": str(directory),
        "SPOOLER_DIRECTORY": str(directory / "spool"),
        "FLASK_SPOOLER_DURABILITY": settings.durability,
        "WEB_PROCESSES": "3",
    }


def calm(seed: str, server: WitnessServer, watcher: Watcher, logs: Logs) -> float:
    """Let an idle pool start a few jobs at their time, and wait until no kill can disturb them.

    Returns the seconds in which meanwhile the machine itself stood still.
    """
    standstill = Standstill(server.log_file.with_name("standstill"))
    standstill.start()
    dice = random.Random(f"{seed}-calm")
    pace = threading.Event()
    for _ in range(CALM_JOBS):
        submit(calm_wish(dice), server.port, logs.client)
        pace.wait(0.02)
    wait_until(lambda: watcher.look() == 0)
    pace.wait(1.1)
    standstill.stop()
    logs.killer.write("K", 0, 0, "begin")
    return standstill.seconds


@contextlib.contextmanager
def enqueuer(settings: Settings, kills: int, server: WitnessServer) -> Iterator[None]:
    """Run the program whose children are killed while they enqueue, to its end."""
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.witness.enqueuer", "--kills", str(kills),
         "--seconds", str(settings.seconds), "--seed", settings.seed],
        cwd=ROOT,
        env=server.variables,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield
        if program.wait(timeout=settings.seconds + 60) != 0:
            raise AssertionError(f"the enqueuer ended with {program.returncode}")
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()


@contextlib.contextmanager
def crowd(
    settings: Settings, server: WitnessServer, watcher: Watcher, logs: Logs
) -> Iterator[Crowd]:
    """Let clients enqueue over HTTP, and the watcher watch, until the body is done."""
    it = Crowd(settings.seed, any_wish, lambda: server.port, watcher, logs.client, PAUSE)
    stop = threading.Event()
    threads = [threading.Thread(target=watcher.run, args=(stop,), name="watcher")]
    threads += [threading.Thread(target=it.run, args=(n, stop)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield it
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def drain(server: WitnessServer, watcher: Watcher, spool: Spool, timeout: float) -> list[int]:
    """Stop and start the server in an orderly way, and let it finish everything that it can.

    What is still there afterwards is judged by the checker. Returns processes that outlived it.
    """
    strays = server.stop_logged()
    server.start()
    wait_for_quiet(watcher, spool, timeout)
    return strays


def wait_for_quiet(watcher: Watcher, spool: Spool, timeout: float) -> None:
    """Wait until no job is unfinished and no file waits, or until that takes too long."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: watcher.look() == 0 and snapshot.is_quiet(spool), timeout, every=0.1)


def ask_for_keys(server: WitnessServer, watcher: Watcher, spool: Spool, logs: Logs) -> None:
    """Enqueue once more with each key, which all jobs that had it have given back by now."""
    for key in (*KEYS, RIVALS_KEY):
        submit(keyed_wish(key, "refuse"), server.port, logs.client)
    wait_for_quiet(watcher, spool, timeout=20)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill things for real and count broken promises.")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--durability", choices=["power", "process"], default="power")
    parser.add_argument("--report", type=Path, help="write the report to this file as well")
    parser.add_argument("--keep", type=Path, help="an empty directory for logs and spool")
    given = parser.parse_args()
    settings = Settings(given.kills, given.seconds, given.seed, given.durability)
    directory = given.keep or Path(tempfile.mkdtemp(prefix="witness-"))
    directory.mkdir(parents=True, exist_ok=True)
    result = witness(settings, directory.absolute())
    if result.violations:
        print(f"Logs, spool and server log are kept in {directory}")
    elif not given.keep:
        shutil.rmtree(directory)
    text = as_text(result)
    print(text)
    if given.report:
        given.report.write_text(text)
    raise SystemExit(1 if result.violations else 0)


if __name__ == "__main__":
    main()
