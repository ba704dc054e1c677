"""What does one job ask of the kernel, and how often does it commit?"""

from __future__ import annotations

import collections
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .enqueue import one_at_a_time
from .marks import wait_until
from .sitting import MEMORY, Sitting
from .systems import PATIENCE
from .systems.uwsgi import Spooler

TITLE: Final = "System calls"
HOW: Final = """\
Counted by strace, all threads, one spooler, so that nobody waits for anybody. *Enqueue into an
idle pool* is one request a job, less what a request that does nothing costs; *behind others* is one
request for many, the queue paused; *a run* is the spooler's part of a backlog. A commit is
a write lock that SQLite got on a ledger in WAL mode (byte 120 of its index)."""

IDLE: Final = "enqueue into an idle pool"
BEHIND: Final = "enqueue behind others"
RUN: Final = "a run"
COMMITS: Final = "commits"
ALL: Final = "all calls"
UNIT: Final = "per job"

CALL: Final = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed>)(.*)$")
WRITE_LOCK: Final = re.compile(r"F_WRLCK, l_whence=SEEK_SET, l_start=120, l_len=1\}\) += 0")


def measure(sitting: Sitting) -> None:
    if shutil.which("strace") is None:
        sitting.failures.append("System calls: strace is not installed")
        return
    with sitting.tolerating("strace"):
        jobs = sitting.size(300, 100)
        with sitting.running(Spooler, MEMORY, processes=1) as system:
            into_an_idle_pool(sitting, system, jobs)
            behind_and_run(sitting, system, jobs, 2 * jobs)


def into_an_idle_pool(sitting: Sitting, system: Spooler, jobs: int) -> None:
    """Trace the web workers while they enqueue, and while they do nothing."""
    with traced(system, spoolers=False) as nothing:
        for _ in range(jobs):
            system.enqueue(0, 0, each=True)
    with traced(system, spoolers=False) as all_of_it:
        one_at_a_time(system, 0, jobs)
    note(sitting, IDLE, all_of_it.counts - nothing.counts, jobs)


def behind_and_run(sitting: Sitting, system: Spooler, jobs: int, first: int) -> None:
    """Trace the web workers while jobs pile up, then the spooler while it works."""
    system.hold()
    with traced(system, spoolers=False) as enqueued:
        system.enqueue(first, jobs)
    note(sitting, BEHIND, enqueued.counts, jobs)
    with traced(system, spoolers=True) as run:
        system.consume()
        system.marks.wait(first, jobs, PATIENCE, 0.1)
        wait_until(lambda: system.call("counts").get("queued", 0) == 0, PATIENCE, 0.2)
    note(sitting, RUN, run.counts, jobs)


def note(sitting: Sitting, figure: str, counts: collections.Counter[str], jobs: int) -> None:
    """Keep how often a job makes each call, the most frequent first."""
    commits = counts.pop(COMMITS, 0)
    sitting.count(figure, COMMITS, MEMORY, commits / jobs, UNIT)
    sitting.count(figure, ALL, MEMORY, sum(counts.values()) / jobs, UNIT)
    for name, count in counts.most_common():
        if count >= jobs / 10:
            sitting.count(figure, name, MEMORY, count / jobs, UNIT)


class Trace:
    """How often each call was made, and a write lock was got; known when the tracing is over."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()


def count_calls(trace: str) -> collections.Counter[str]:
    """Count the calls in the output of ``strace -f``, a call cut in two once.

    >>> count_calls('''7 close(3) = 0
    ... 8 read(0, <unfinished ...>
    ... 8 <... read resumed>"", 1) = 0
    ... 7 fcntl(4, F_SETLK, {l_type=F_WRLCK, l_whence=SEEK_SET, l_start=120, l_len=1}) = 0''')
    Counter({'close': 1, 'read': 1, 'fcntl': 1, 'commits': 1})
    """
    counts: collections.Counter[str] = collections.Counter()
    for line in trace.splitlines():
        call = CALL.match(line)
        if call is None or line.endswith("<unfinished ...>"):
            continue
        counts[call[1]] += 1
        if WRITE_LOCK.search(line):
            counts[COMMITS] += 1
    return counts


@contextmanager
def traced(system: Spooler, *, spoolers: bool) -> Iterator[Trace]:
    """Trace the spoolers of a server, or its web workers."""
    pids = system.call("pids", spoolers=spoolers)
    written = system.directory / "strace"
    trace = Trace()
    words = ["strace", "-f", "-qq", "-o", str(written)]
    for pid in pids:
        words += ["-p", str(pid)]
    strace = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: all(is_traced(pid) for pid in pids), 10)
        yield trace
    finally:
        strace.send_signal(signal.SIGINT)
        strace.wait(10)
    trace.counts = count_calls(written.read_text(errors="replace"))


def is_traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("TracerPid:"))
    return int(line.split()[1]) != 0
