"""What the rules look at: three logs and a final snapshot, looked up by token, id and process.

A kill is logged before it is done, so a run that starts before the logged time of the kill that
ended the run before has overlapped with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from .logs import (
    Ack,
    Beside,
    Duplicate,
    Effect,
    Ended,
    Got,
    History,
    Intent,
    Kill,
    Refused,
    SeenFinal,
    Started,
)

NO_LOSS = "no loss"
NO_PHANTOM = "no phantom"
NO_OVERLAP = "no overlap"
TWICE = "twice only if killed"
NOT_EARLY = "not early"
LATE = "late, bounded"
FINAL_ONCE = "final once"
CLEAN = "clean"
STEP_ONCE = "step once"
STEP_SAME = "step's result"
ONE_HOLDER = "one holder of a key"
KEY_ANSWER = "answer for a key"
REPLACED = "replaced, not lost"
TAGS = "tags"
INVARIANTS = (
    NO_LOSS,
    NO_PHANTOM,
    NO_OVERLAP,
    TWICE,
    NOT_EARLY,
    LATE,
    FINAL_ONCE,
    STEP_ONCE,
    STEP_SAME,
    ONE_HOLDER,
    KEY_ANSWER,
    REPLACED,
    TAGS,
    CLEAN,
)

FINAL = frozenset({"succeeded", "dead", "cancelled", "expired"})
DEATHS = frozenset({"ProcessDied", "Interrupted"})
"""Why a job of the witness may be dead: its tasks never fail, only their processes die."""

KEPT = frozenset({"window", "waiting", "taken", "dead", "done"})
"""The places in which a file is a job that exists."""


@dataclass(frozen=True)
class Violation:
    """One promise that was not kept."""

    invariant: str
    token: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.token}: {self.what}"


@dataclass(frozen=True)
class RowSeen:
    """A job as the ledger shows it at the end; `outcomes` and `starts` by the attempt's number.

    `steps` has for each finished one the attempt that ran it and what it returned; `by` is the job
    that has replaced this one while it waited.
    """

    token: str
    id: str
    state: str
    reason: str = ""
    outcomes: dict[int, str] = field(default_factory=dict)
    ended: float | None = None
    key: str | None = None
    by: str | None = None
    tags: frozenset[str] = frozenset()
    steps: dict[str, tuple[int, str]] = field(default_factory=dict)
    starts: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FileSeen:
    """A file in the spool at the end."""

    place: str
    id: str


@dataclass(frozen=True)
class Hits:
    """The jobs that one way of searching has found for one tag."""

    way: str
    tag: str
    ids: frozenset[str]


@dataclass(frozen=True)
class Snapshot:
    """What is left when everything is quiet and the server was stopped."""

    rows: tuple[RowSeen, ...] = ()
    files: tuple[FileSeen, ...] = ()
    old_in_tmp: tuple[str, ...] = ()
    strays: tuple[int, ...] = ()
    descriptors_before: int = 0
    descriptors_after: int = 0
    ledger_integrity: str = "ok"
    searched: tuple[Hits, ...] = ()


@dataclass(frozen=True)
class Limits:
    """The two figures that are bounded rather than forbidden.

    `late` is to be what it is here, and beyond that as long as the machine itself stood still.
    """

    late: float = 1.0
    more_descriptors: int = 4


MASTER_NEEDS = 3.0
"""Seconds from a SIGHUP or SIGTERM of the master until its spoolers are gone, on a busy machine."""

KILLER_NEEDS = 0.5
"""Seconds from the line in the log to the SIGKILL, should the killer have to wait for a core."""


@dataclass(frozen=True)
class Run:
    """One run of one job: its start, its end where it had one, and their places in the log."""

    started: Started
    start_line: int
    ended: Ended | None = None
    end_line: int | None = None

    @property
    def process(self) -> tuple[int, int]:
        return self.started.server, self.started.pid


class Facts:
    """The same logs and snapshot, looked up by token, id and process."""

    def __init__(self, history: History, snapshot: Snapshot) -> None:
        self.intents = {line.token: line for line in history.client if isinstance(line, Intent)}
        self.acks = [line for line in history.client if isinstance(line, Ack)]
        self.duplicates = [line for line in history.client if isinstance(line, Duplicate)]
        self.refused = {
            line.token for line in history.client if isinstance(line, Refused | Duplicate)
        }
        self.beside = [line for line in history.client if isinstance(line, Beside)]
        self.finals = [line for line in history.client if isinstance(line, SeenFinal)]
        self.effects = [line for line in history.job if isinstance(line, Effect)]
        self.got = [line for line in history.job if isinstance(line, Got)]
        self.kills = history.killer
        self.runs, self.ends_without_start = join_runs(history)
        self.rows = {row.id: row for row in snapshot.rows}
        self.rows_of: dict[str, list[RowSeen]] = defaultdict(list)
        for row in snapshot.rows:
            self.rows_of[row.token].append(row)
        self.places: dict[str, list[str]] = defaultdict(list)
        for file in snapshot.files:
            self.places[file.id].append(file.place)
        self._starts_of_process: dict[tuple[int, int], list[Started]] = defaultdict(list)
        for runs in self.runs.values():
            for run in runs:
                self._starts_of_process[run.process].append(run.started)
        self._kills_of: dict[int, list[Kill]] = defaultdict(list)
        for kill in self.kills:
            self._kills_of[kill.pid].append(kill)

    def intent_of(self, job_id: str) -> Intent | None:
        """Return what was asked for with the job that has this id at the end."""
        row = self.rows.get(job_id)
        return self.intents.get(row.token) if row is not None else None

    def own_acks(self) -> Iterator[tuple[Intent, Ack, RowSeen]]:
        """Give each enqueue that returned the id of a job of its own."""
        for ack in self.acks:
            row, intent = self.rows.get(ack.id), self.intents.get(ack.token)
            if intent is not None and row is not None and row.token == ack.token:
                yield intent, ack, row

    def may_have_lost_its_key(self, intent: Intent) -> bool:
        """Tell whether another job was to replace the one of `intent`, and exists."""
        return any(
            other.key == intent.key and other.policy == "replace" and other is not intent
            for token, other in self.intents.items()
            if token in self.rows_of
        )

    def was_replaced(self, row: RowSeen) -> bool:
        """Tell whether a job that is cancelled has been replaced, and by one that exists."""
        intent = self.intents.get(row.token)
        if intent is None or row.state != "cancelled":
            return False
        if row.reason == "Replaced" and row.by is not None:
            other = self.intent_of(row.by)
            return other is not None and (other.key, other.policy) == (intent.key, "replace")
        return row.key is None and self.may_have_lost_its_key(intent)

    def run_of(self, line: Effect | Got) -> Run | None:
        """Return the run in which a step has left this line."""
        for run in self.runs.get(line.token, ()):
            if (run.started.attempt, run.started.pid) == (line.attempt, line.pid):
                return run
        return None

    def hit(self, run: Run) -> Kill | None:
        """Return the first kill that hit the process of `run` while `run` was its last one."""
        server, pid = run.process
        begun = run.started.at
        later = [s.at for s in self._starts_of_process[run.process] if s.at > begun]
        until = min(later, default=float("inf"))
        kills = [*self._kills_of[pid], *(self._kills_of[server] if server != pid else [])]
        hits = [kill for kill in kills if begun - _delay(kill) <= kill.at < until]
        return min(hits, key=lambda kill: kill.at, default=None)


def _delay(kill: Kill) -> float:
    # A signal that makes the master kill the others: runs may start until it comes to them. And a
    # kill is logged before it is sent: on two busy cores a run can start in between.
    return MASTER_NEEDS if kill.what in ("reload", "stop") else KILLER_NEEDS


def join_runs(history: History) -> tuple[dict[str, list[Run]], list[Ended]]:
    """Return the runs of each token in the order of their starts, and ends that had no start."""
    runs: dict[str, list[Run]] = defaultdict(list)
    orphans = []
    for number, line in enumerate(history.job):
        if isinstance(line, Started):
            runs[line.token].append(Run(line, number))
        if not isinstance(line, Ended):
            continue
        mine = runs[line.token]
        for place in range(len(mine) - 1, -1, -1):
            run = mine[place]
            same = (run.started.attempt, run.started.pid) == (line.attempt, line.pid)
            if same and run.ended is None:
                mine[place] = Run(run.started, run.start_line, line, number)
                break
        else:
            orphans.append(line)
    return {token: found for token, found in runs.items() if found}, orphans
