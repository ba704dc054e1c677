"""What is wrong with an app: its tasks, its key, its ledger, who may see its dashboard.

Pure, as `server` is. What the server knows comes from the note that it left at its start.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator, Mapping
from typing import Final

from ..config import CHECKS, LONG, PREFIX, SHORT, Config
from .finding import Finding, right, some, worth_knowing, wrong
from .note import ServerNote

FIXED: Final = (3, 51, 3)
BACKPORTS: Final = ((3, 44, 6), (3, 50, 7))
"""Since when SQLite does not damage a database in WAL mode when two processes checkpoint at once:
https://www.sqlite.org/wal.html#walresetbug, and the older lines in which it was mended too."""

SHORTEST_TOKEN: Final = 16
MAKE_ONE: Final = "make one with: python -c 'import secrets; print(secrets.token_hex())'"

AHEAD: Final = 5.0
"""Seconds that a job may have been enqueued in the future, by another process's view of now."""

Found = Iterator[Finding]


def examine_tasks(registered: list[str], note: ServerNote, version: str) -> Found:
    """Compare the tasks of this process's app with those that spoolers can run."""
    unknown = sorted(set(registered) - set(note.tasks))
    if unknown:
        problem = f"the server does not know these tasks, so their jobs wait: {some(unknown)}"
        fix = (
            "reload the server if it runs older code; else let the app import the task's module,"
            " or name that in spooler-import"
        )
        yield wrong("tasks", problem, fix)
    elif not registered:
        problem = "the app has no tasks"
        yield worth_knowing("tasks", problem, "import the modules with your tasks where it is made")
    else:
        yield right("tasks", f"spoolers know all {len(registered)} task(s) of the app")
    if version and note.version and version != note.version:
        problem = f"the server runs Flask-Spooler {note.version}, and this process {version}"
        yield worth_knowing("version", problem, "reload the server")


def examine_unknown(waiting: Mapping[str, int], known: set[str]) -> Found:
    """Look for jobs that wait for a task which neither this process nor the server knows."""
    unknown = sorted(set(waiting) - known)
    if unknown:
        number = sum(waiting[task] for task in unknown)
        problem = f"{number:,} job(s) wait for a task that this code does not know: {some(unknown)}"
        fix = (
            "let the app import the task's module, or name that in spooler-import; move a task "
            "that stands in a function to the top of a module; or cancel the jobs"
        )
        yield wrong("unknown tasks", problem, fix)
    else:
        yield right("unknown tasks", "no job waits for one")


def examine_key(given: bytes | None, kept: bytes | None, noted: str | None, mine: str) -> Found:
    """Compare the key of this process, whose fingerprint is `mine`, with that of the server.

    `given` is `SPOOLER_KEY`, `kept` the spool's own key, `noted` the server's fingerprint.
    """
    if given is None and kept is None:
        yield right("key", "made when the first job is enqueued")
    elif noted is not None and noted != mine:
        problem = "this process signs with another key than the server, and can enqueue nothing"
        yield wrong("key", problem, "give both the same SPOOLER_KEY, or none")
    elif given is not None and len(set(given)) < SHORTEST_TOKEN // 2:
        problem = "SPOOLER_KEY can be guessed: whoever does can write jobs that are run"
        yield wrong("key", problem, MAKE_ONE)
    else:
        yield right("key", "SPOOLER_KEY" if given else "the spool's own key file")


def examine_sqlite(version: str) -> Found:
    """Check for the SQLite that ledgers are safe with."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if numbers >= FIXED or any(each <= numbers < (*each[:2], 1_000) for each in BACKPORTS):
        yield right("sqlite", version)
    else:
        problem = f"SQLite {version} can damage a ledger that several processes write"
        fix = "install apsw from PyPI, which brings SQLite 3.51.3 or later: pip install -U apsw"
        yield wrong("sqlite", problem, fix)


def examine_newest(enqueued_at: float | None, now: float) -> Found:
    """See whether the clock was set back since the newest job was enqueued."""
    ahead = 0.0 if enqueued_at is None else enqueued_at - now
    if ahead > AHEAD:
        problem = f"the newest job was enqueued {ahead:.0f} s from now: the clock was set back"
        fix = "set the clock right, and keep it so with NTP; jobs that wait, wait that much longer"
        yield wrong("clock", problem, fix)
    else:
        yield right("clock", "no job comes from the future")


def examine_dashboard(config: Config) -> Found:
    """Check who may see and use the dashboard."""
    name = "dashboard"
    tokens = {
        "SPOOLER_DASHBOARD_TOKEN": config.dashboard_token,
        "SPOOLER_DASHBOARD_READ_TOKEN": config.dashboard_read_token,
    }
    given = {key: token for key, token in tokens.items() if token}
    short = [key for key, token in given.items() if len(token) < SHORTEST_TOKEN]
    if short:
        problem = f"{' and '.join(short)} can be guessed, below {SHORTEST_TOKEN} characters"
        yield wrong(name, problem, MAKE_ONE)
    elif len(given) == 2 and hmac.compare_digest(*(token.encode() for token in given.values())):
        problem = "whoever may look may also act: both dashboard tokens are the same"
        yield wrong(name, problem, MAKE_ONE)
    elif given or config.dashboard_access:
        yield right(name, "open to those with a token" if given else "a callback decides")
    else:
        yield right(name, "closed")


def examine_testing(config: Config) -> Found:
    """Say of an app whose `TESTING` is on where its jobs go."""
    problem = "TESTING is on: the app has a spool of its own in each process, and no server runs it"
    fix = f"leave TESTING out of its configuration, but for tests, to use {config.directory}"
    yield wrong("testing", problem, fix)


def examine_eager(config: Config) -> Found:
    """Jobs that run where they are enqueued are for tests."""
    if config.eager:
        problem = "SPOOLER_EAGER is on: jobs run where they are enqueued, not in the spooler"
        yield worth_knowing("eager", problem, "leave SPOOLER_EAGER out, but for tests")


def examine_environment(environment: Mapping[str, str], values: Mapping[str, object]) -> Found:
    """Look for settings in the environment under a name that nobody reads.

    One that is in `values`, which is ``app.config``, may have been brought there by the app.
    """
    keys = [key for key in CHECKS if key in environment and key not in (*SHORT, *values)]
    ignored = {key: LONG + key.removeprefix(PREFIX) for key in keys}
    ignored = {key: long for key, long in ignored.items() if long not in environment}
    if ignored:
        short = ", ".join(SHORT)
        problem = f"in the environment, but nobody reads it there: {some(sorted(ignored))}"
        fix = f"name it {some(sorted(ignored.values()))}; only {short} have a short name"
        yield wrong("environment", problem, fix)
    else:
        yield right("environment", "no setting has a name that is not read")
