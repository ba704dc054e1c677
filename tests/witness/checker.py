"""The rules: a pure function from three logs and a final snapshot to a list of violations.

===========  ================================================================================
invariant    rule
===========  ================================================================================
no loss      every acknowledged id has ended, and succeeded only by a run that reached its
             end; or is dead by the death of its processes; or its file is in the spool
no phantom   every run has an intent and its very payload; a refused job never runs; one
             intent makes one job
no overlap   runs of one job never overlap
twice        each further run of a job is explained by its own kill, which hit the process
             that ran it last, or that process's server; or the task has asked for it
not early    no run before the job is due
late         the 99th percentile of start minus due before the first kill
final once   a final state never changes and nothing runs after it; at the end all jobs are
             final, and ledger and directories agree
clean        nothing old in tmp/, no stray process, descriptors flat, the ledger sound
===========  ================================================================================

No file, no clock, no process is touched here. A kill is logged before it is done, so a run that
starts before the logged time of the kill that ended the run before has overlapped with it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .logs import Ack, Ended, History, Intent, Kill, Refused, SeenFinal, Started

NO_LOSS = "no loss"
NO_PHANTOM = "no phantom"
NO_OVERLAP = "no overlap"
TWICE = "twice only if killed"
NOT_EARLY = "not early"
LATE = "late, bounded"
FINAL_ONCE = "final once"
CLEAN = "clean"
INVARIANTS = (
    NO_LOSS,
    NO_PHANTOM,
    NO_OVERLAP,
    TWICE,
    NOT_EARLY,
    LATE,
    FINAL_ONCE,
    CLEAN,
)

FINAL = frozenset({"succeeded", "dead", "cancelled", "expired"})
DEATHS = frozenset({"ProcessDied", "Interrupted"})
"""Why a job of the witness may be dead: its tasks never fail, only their processes die."""

KEPT = frozenset({"window", "waiting", "dead", "done"})
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
    """A job as the ledger shows it at the end; `outcomes` by the number of the attempt."""

    token: str
    id: str
    state: str
    reason: str = ""
    outcomes: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FileSeen:
    """A file in the spool at the end."""

    place: str
    id: str


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


@dataclass(frozen=True)
class Limits:
    """The two figures that are bounded rather than forbidden."""

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


def check(history: History, snapshot: Snapshot, limits: Limits | None = None) -> list[Violation]:
    """Return every violation, in the order of `INVARIANTS`; none for a clean history."""
    facts = _Facts(history, snapshot)
    bounds = limits or Limits()
    found = [
        *_losses(facts),
        *_phantoms(facts),
        *_overlaps(facts),
        *_unexplained(facts),
        *_early(facts),
        *_late(facts, bounds),
        *_changed_finals(facts),
        *_unclean(snapshot, bounds),
    ]
    return sorted(found, key=lambda violation: INVARIANTS.index(violation.invariant))


class _Facts:
    """The same logs and snapshot, looked up by token, id and process."""

    def __init__(self, history: History, snapshot: Snapshot) -> None:
        self.intents = {line.token: line for line in history.client if isinstance(line, Intent)}
        self.acks = [line for line in history.client if isinstance(line, Ack)]
        self.refused = {line.token for line in history.client if isinstance(line, Refused)}
        self.finals = [line for line in history.client if isinstance(line, SeenFinal)]
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


def _losses(facts: _Facts) -> Iterator[Violation]:
    for ack in facts.acks:
        row = facts.rows.get(ack.id)
        in_spool = KEPT.intersection(facts.places.get(ack.id, ()))
        if row is None or row.state not in FINAL:
            if not in_spool:
                shown = f"shown as {row.state}" if row else "without a row"
                yield Violation(NO_LOSS, ack.token, f"{ack.id} is {shown} and has no file")
        elif row.state == "succeeded":
            if not any(_reached_end(run) for run in facts.runs.get(ack.token, ())):
                yield Violation(NO_LOSS, ack.token, "it succeeded, but no run reached its end")
        elif row.reason not in DEATHS:
            what = f"it is {row.state} for the reason {row.reason!r}"
            yield Violation(NO_LOSS, ack.token, what)


def _reached_end(run: Run) -> bool:
    return run.ended is not None and not run.ended.asked_again


def _phantoms(facts: _Facts) -> Iterator[Violation]:
    for token, runs in facts.runs.items():
        intent = facts.intents.get(token)
        if intent is None:
            yield Violation(NO_PHANTOM, token, "it ran, and nobody had enqueued it")
            continue
        for run in runs:
            if run.started.payload != intent.payload:
                what = f"it ran with payload {run.started.payload}, not {intent.payload}"
                yield Violation(NO_PHANTOM, token, what)
        if token in facts.refused:
            yield Violation(NO_PHANTOM, token, "it ran although its enqueue was refused")
    for ended in facts.ends_without_start:
        what = f"process {ended.pid} ended a run that it had not started"
        yield Violation(NO_PHANTOM, ended.token, what)
    for token, rows in facts.rows_of.items():
        if len(rows) > 1:
            ids = ", ".join(row.id for row in rows)
            yield Violation(NO_PHANTOM, token, f"one intent made several jobs: {ids}")
    for ack in facts.acks:
        row = facts.rows.get(ack.id)
        if row is not None and row.token != ack.token:
            yield Violation(NO_PHANTOM, ack.token, f"its id {ack.id} belongs to {row.token}")


def _pairs(facts: _Facts) -> Iterator[tuple[str, Run, Run]]:
    for token, runs in facts.runs.items():
        for run, following in itertools.pairwise(runs):
            yield token, run, following


def _overlaps(facts: _Facts) -> Iterator[Violation]:
    for token, run, following in _pairs(facts):
        pids = f"processes {run.started.pid} and {following.started.pid}"
        if run.end_line is not None:
            if run.end_line > following.start_line:
                yield Violation(NO_OVERLAP, token, f"{pids} ran it at once")
            continue
        kill = facts.hit(run)
        if kill is not None and kill.at > following.started.at:
            early = kill.at - following.started.at
            what = f"{pids} ran it at once, {early:.3f} s before the first was killed"
            yield Violation(NO_OVERLAP, token, what)


def _unexplained(facts: _Facts) -> Iterator[Violation]:
    for token, run, following in _pairs(facts):
        if run.started.attempt >= following.started.attempt:
            what = f"attempt {following.started.attempt} came after {run.started.attempt}"
            yield Violation(TWICE, token, what)
        if run.ended is not None and run.ended.asked_again:
            continue
        if facts.hit(run) is None:
            what = (
                f"attempt {following.started.attempt} ran in {following.started.pid}, though "
                f"nobody had killed process {run.started.pid} of attempt {run.started.attempt}"
            )
            yield Violation(TWICE, token, what)
    for token, runs in facts.runs.items():
        last = runs[-1]
        if last.ended is None and facts.hit(last) is None:
            what = f"attempt {last.started.attempt} never ended, and nobody had killed it"
            yield Violation(TWICE, token, what)


def _early(facts: _Facts) -> Iterator[Violation]:
    for token, runs in facts.runs.items():
        intent = facts.intents.get(token)
        for run in runs:
            if intent is not None and run.started.at < intent.due:
                early = intent.due - run.started.at
                yield Violation(NOT_EARLY, token, f"it ran {early:.3f} s before it was due")


def lateness(history: History) -> list[float]:
    """Return, ascending, the seconds from due to first start of jobs due in the calm.

    The calm is the time before the first kill, less a second: later a job may rightly wait for a
    new process.
    """
    facts = _Facts(history, Snapshot())
    calm = min((kill.at for kill in facts.kills), default=float("inf")) - 1.0
    late = []
    for token, intent in facts.intents.items():
        runs = facts.runs.get(token)
        if runs and max(intent.due, intent.at) < calm:
            late.append(runs[0].started.at - intent.due)
    return sorted(late)


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of ascending `values` lie; 0 for none."""
    return values[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def _late(facts: _Facts, limits: Limits) -> Iterator[Violation]:
    history = History((*facts.intents.values(),), _lines(facts.runs.values()), facts.kills)
    late = percentile(lateness(history), 0.99)
    if late > limits.late:
        what = f"on an idle pool, p99 of start minus due is {late:.3f} s (limit {limits.late:g})"
        yield Violation(LATE, "-", what)


def _lines(runs: Iterable[list[Run]]) -> tuple[Started, ...]:
    return tuple(run.started for each in runs for run in each)


def _changed_finals(facts: _Facts) -> Iterator[Violation]:
    yield from _finals_left(facts)
    for row in facts.rows.values():
        yield from _unended(row)
        yield from _disagreements(row, facts.places.get(row.id, []))
        yield from _runs_after_success(row, facts.runs.get(row.token, []))
    for job_id, places in facts.places.items():
        if job_id not in facts.rows:
            where = ", ".join(places)
            yield Violation(FINAL_ONCE, job_id, f"a file in {where} and no row")


def _finals_left(facts: _Facts) -> Iterator[Violation]:
    for seen in facts.finals:
        now = {row.state for row in facts.rows_of.get(seen.token, ())} or {"gone"}
        if now != {seen.state}:
            what = f"it was {seen.state}, and is {', '.join(sorted(now))} at the end"
            yield Violation(FINAL_ONCE, seen.token, what)
        for run in facts.runs.get(seen.token, ()):
            if run.started.at > seen.at:
                what = f"attempt {run.started.attempt} ran after it was {seen.state}"
                yield Violation(FINAL_ONCE, seen.token, what)


def _unended(row: RowSeen) -> Iterator[Violation]:
    if row.state not in FINAL:
        yield Violation(FINAL_ONCE, row.token, f"it is still {row.state} when all is quiet")


def _disagreements(row: RowSeen, places: list[str]) -> Iterator[Violation]:
    expected = {
        "succeeded": [[]],
        "running": [["window"], ["taken"]],
        "queued": [["window"], ["waiting"]],
    }
    later = {"scheduled": [["waiting"]], "retrying": [["waiting"]]}
    if places not in (expected | later).get(row.state, [["dead"]]):
        where = ", ".join(places) or "nowhere"
        yield Violation(FINAL_ONCE, row.token, f"it is {row.state}, its file is: {where}")


def _runs_after_success(row: RowSeen, runs: list[Run]) -> Iterator[Violation]:
    succeeded = [number for number, outcome in row.outcomes.items() if outcome == "succeeded"]
    if len(succeeded) > 1:
        yield Violation(FINAL_ONCE, row.token, f"attempts {succeeded} have all succeeded")
    for run in runs:
        if succeeded and run.started.attempt > min(succeeded):
            what = f"attempt {run.started.attempt} ran after {min(succeeded)} had succeeded"
            yield Violation(FINAL_ONCE, row.token, what)


def _unclean(snapshot: Snapshot, limits: Limits) -> Iterator[Violation]:
    for name in snapshot.old_in_tmp:
        yield Violation(CLEAN, name, "it lies in tmp/ and is older than the run")
    for pid in snapshot.strays:
        yield Violation(CLEAN, str(pid), "this process outlived its server")
    more = snapshot.descriptors_after - snapshot.descriptors_before
    if more > limits.more_descriptors:
        what = f"a process has {snapshot.descriptors_after} descriptors open, {more} more"
        yield Violation(CLEAN, "-", f"{what} than any had at the start")
    if snapshot.ledger_integrity != "ok":
        yield Violation(CLEAN, "ledger.db", snapshot.ledger_integrity)
