"""The rules: a pure function from three logs and a final snapshot to a list of violations.

===================  ============================================================================
invariant            rule
===================  ============================================================================
no loss              every acknowledged id has ended, and succeeded only by a run that reached its
                     end; or is dead by the death of its processes; or was replaced; or its file
                     is in the spool
no phantom           every run has an intent and its very payload; a refused job never runs; one
                     intent makes one job
no overlap           runs of one job never overlap
twice                each further run of a job is explained by its own kill, which hit the process
                     that ran it last, or that process's server; or the task has asked for it
not early            no run before the job is due
late                 the 99th percentile of start minus due before the first kill
final once           a final state never changes and nothing runs after it; at the end all jobs
                     are final, and ledger and directories agree
step once            see `step_rules`
step's result        see `step_rules`
one holder of a key  see `key_rules`
answer for a key     see `key_rules`
replaced, not lost   see `key_rules`
tags                 every job has just the tags it was enqueued with, and each way to search for
                     a tag finds exactly the jobs that bear it
clean                nothing old in tmp/, no stray process, descriptors flat, the ledger sound
===================  ============================================================================

No file, no clock, no process is touched here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from .facts import (
    CLEAN,
    DEATHS,
    FINAL,
    FINAL_ONCE,
    INVARIANTS,
    KEPT,
    LATE,
    NO_LOSS,
    NO_OVERLAP,
    NO_PHANTOM,
    NOT_EARLY,
    TAGS,
    TWICE,
    Facts,
    Limits,
    RowSeen,
    Run,
    Snapshot,
    Violation,
)
from .key_rules import broken_keys
from .logs import Ack, History, Started
from .step_rules import broken_steps


def check(history: History, snapshot: Snapshot, limits: Limits | None = None) -> list[Violation]:
    """Return every violation, in the order of `INVARIANTS`; none for a clean history."""
    facts = Facts(history, snapshot)
    bounds = limits or Limits()
    found = [
        *_losses(facts),
        *_phantoms(facts),
        *_overlaps(facts),
        *_unexplained(facts),
        *_early(facts),
        *_late(facts, bounds),
        *_changed_finals(facts),
        *broken_steps(facts),
        *broken_keys(facts),
        *_wrong_tags(facts, snapshot),
        *_unclean(snapshot, bounds),
    ]
    return sorted(found, key=lambda violation: INVARIANTS.index(violation.invariant))


def _losses(facts: Facts) -> Iterator[Violation]:
    for ack in facts.acks:
        row = facts.rows.get(ack.id)
        in_spool = KEPT.intersection(facts.places.get(ack.id, ()))
        if row is None or row.state not in FINAL:
            if not in_spool:
                shown = f"shown as {row.state}" if row else "without a row"
                yield Violation(NO_LOSS, ack.token, f"{ack.id} is {shown} and has no file")
        elif row.state == "succeeded":
            if not any(_reached_end(run) for run in facts.runs.get(row.token, ())):
                yield Violation(NO_LOSS, row.token, "it succeeded, but no run reached its end")
        elif row.reason not in DEATHS and not facts.was_replaced(row):
            what = f"it is {row.state} for the reason {row.reason!r}"
            yield Violation(NO_LOSS, ack.token, what)


def _reached_end(run: Run) -> bool:
    return run.ended is not None and not run.ended.asked_again


def _phantoms(facts: Facts) -> Iterator[Violation]:
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
        if row is not None and row.token != ack.token and not _shares_key(facts, ack, row):
            yield Violation(NO_PHANTOM, ack.token, f"its id {ack.id} belongs to {row.token}")


def _shares_key(facts: Facts, ack: Ack, row: RowSeen) -> bool:
    asked, holder = facts.intents.get(ack.token), facts.intents.get(row.token)
    if asked is None or holder is None or not asked.key:
        return False
    return asked.key == holder.key and asked.policy == "return"


def _pairs(facts: Facts) -> Iterator[tuple[str, Run, Run]]:
    for token, runs in facts.runs.items():
        for run, following in itertools.pairwise(runs):
            yield token, run, following


def _overlaps(facts: Facts) -> Iterator[Violation]:
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


def _unexplained(facts: Facts) -> Iterator[Violation]:
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


def _early(facts: Facts) -> Iterator[Violation]:
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
    facts = Facts(history, Snapshot())
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


def _late(facts: Facts, limits: Limits) -> Iterator[Violation]:
    history = History((*facts.intents.values(),), _lines(facts.runs.values()), facts.kills)
    late = percentile(lateness(history), 0.99)
    if late > limits.late:
        what = f"on an idle pool, p99 of start minus due is {late:.3f} s (limit {limits.late:g})"
        yield Violation(LATE, "-", what)


def _lines(runs: Iterable[list[Run]]) -> tuple[Started, ...]:
    return tuple(run.started for each in runs for run in each)


def _changed_finals(facts: Facts) -> Iterator[Violation]:
    yield from _finals_left(facts)
    for row in facts.rows.values():
        yield from _unended(row)
        yield from _disagreements(row, facts.places.get(row.id, []))
        yield from _runs_after_success(row, facts.runs.get(row.token, []))
    for job_id, places in facts.places.items():
        if job_id not in facts.rows:
            where = ", ".join(places)
            yield Violation(FINAL_ONCE, job_id, f"a file in {where} and no row")


def _finals_left(facts: Facts) -> Iterator[Violation]:
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


def _wrong_tags(facts: Facts, snapshot: Snapshot) -> Iterator[Violation]:
    promised = {}
    for row in facts.rows.values():
        intent = facts.intents.get(row.token)
        promised[row.id] = row.tags if intent is None else intent.tags
        if row.tags != promised[row.id]:
            what = f"it has the tags {sorted(row.tags)}, not {sorted(promised[row.id])}"
            yield Violation(TAGS, row.token, what)
    for hits in snapshot.searched:
        expected = {job_id for job_id, tags in promised.items() if hits.tag in tags}
        for job_id in sorted(expected ^ hits.ids):
            finds = "finds" if job_id in hits.ids else "does not find"
            what = f"{hits.way} for the tag {hits.tag} {finds} it"
            yield Violation(TAGS, job_id, what)


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
