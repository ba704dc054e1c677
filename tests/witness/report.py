"""The table that a run prints and keeps: fault, count, violations, versions, seed."""

from __future__ import annotations

import platform
import subprocess
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version

import apsw

from tests.uwsgi.server import UWSGI

from .checker import lateness, percentile
from .facts import INVARIANTS, Violation, join_runs
from .logs import Ack, Duplicate, Effect, Got, History, Intent, Refused, SeenFinal

SIGKILL = 9
SHOWN = 50


@dataclass(frozen=True)
class Result:
    """What one run has shown."""

    seed: str
    seconds: float
    durability: str
    history: History
    violations: list[Violation]
    disturbances: Counter[str]
    answers: Counter[str]
    tmp_left: int

    @property
    def kills(self) -> Counter[str]:
        """How many SIGKILLs of each kind; those at a step are named ``role@step``."""
        kills = [kill for kill in self.history.killer if kill.signal == SIGKILL]
        return Counter(kill.what for kill in kills)

    @property
    def by_role(self) -> Counter[str]:
        """How many SIGKILLs hit each kind of process, at whatever moment."""
        counts: Counter[str] = Counter()
        for what, count in self.kills.items():
            counts[what.partition("@")[0]] += count
        return counts

    @property
    def total(self) -> int:
        return sum(self.kills.values())


def as_text(result: Result) -> str:
    """Return the report as Markdown."""
    return "\n".join(
        [
            "# Reliability: what the witness saw",
            "",
            "Written by `python -m tests.witness.run`; do not edit. Processes are killed with",
            "SIGKILL while jobs are enqueued and run; then a checker compares three logs with",
            "what is left in ledger and spool.",
            "",
            *_versions(result),
            "",
            *_kills(result),
            "",
            *_invariants(result),
            "",
            *_jobs(result),
            *_promises(result.history),
            *_found(result),
            "",
        ]
    )


def _versions(result: Result) -> list[str]:
    uwsgi = subprocess.run([UWSGI, "--version"], capture_output=True, text=True, check=True)
    facts = {
        "seed": f"`{result.seed}`",
        "time": f"{result.seconds:.0f} s",
        "durability": result.durability,
        "Flask-Spooler": version("Flask-Spooler"),
        "uWSGI": uwsgi.stdout.strip(),
        "Python": platform.python_version(),
        "SQLite": f"{apsw.sqlite_lib_version()} (apsw {apsw.apsw_version()})",
        "kernel": platform.release(),
    }
    return ["| of this run | |", "|---|---|", *(f"| {k} | {v} |" for k, v in facts.items())]


def _kills(result: Result) -> list[str]:
    lines = ["| fault | count |", "|---|---|"]
    for what, count in sorted(result.kills.items(), key=lambda kill: ("@" in kill[0], kill[0])):
        role, _, step = what.partition("@")
        shown = f"kill -9 of the {role} at `{step}`" if step else f"kill -9 of the {role}"
        lines.append(f"| {shown} | {count} |")
    lines.append(f"| **kills together** | **{result.total}** |")
    names = {
        "stall": "a process held up at a step",
        "scene": "several processes held up, refused or killed together",
        "refuse": "ENOSPC at a step of an enqueue over HTTP",
        "reload": "SIGHUP of the master",
    }
    lines += [f"| {name} (ordered) | {result.disturbances[k]} |" for k, name in names.items()]
    return lines


def _invariants(result: Result) -> list[str]:
    broken = Counter(violation.invariant for violation in result.violations)
    lines = ["| invariant | violations |", "|---|---|"]
    lines += [f"| {invariant} | {broken[invariant]} |" for invariant in INVARIANTS]
    if not result.violations:
        bound = 3 / max(result.total, 1)
        lines += ["", f"No violation in {result.total} kills bounds the rate at {bound:.2%} "
                  "of kills (95 %, 3/n)."]  # fmt: skip
    return lines


def _jobs(result: Result) -> list[str]:
    runs, _ = join_runs(result.history)
    again = sum(
        1
        for each in runs.values()
        for run in each[:-1]
        if not (run.ended and run.ended.asked_again)
    )
    states = Counter(line.state for line in result.history.client if isinstance(line, SeenFinal))
    late = lateness(result.history)
    count = Counter(type(line) for line in result.history.client)
    return [
        "| jobs | |",
        "|---|---|",
        f"| intents, acknowledged, refused | {count[Intent]}, {count[Ack]}, {count[Refused]} |",
        f"| answers over HTTP | {_counted(result.answers)} |",
        f"| final states | {_counted(states)} |",
        f"| runs, of them again because of a kill | {sum(map(len, runs.values()))}, {again} |",
        f"| start after due on the idle pool, p50, p99 | {percentile(late, 0.5) * 1000:.1f} ms, "
        f"{percentile(late, 0.99) * 1000:.1f} ms ({len(late)} jobs) |",
        f"| files that killed writers left in `tmp/` | {result.tmp_left} |",
    ]


def _promises(history: History) -> list[str]:
    """How often each promise about steps, keys and tags was put to the test."""
    intents = [line for line in history.client if isinstance(line, Intent)]
    ids = Counter(line.id for line in history.client if isinstance(line, Ack))
    again = sum(count - 1 for count in ids.values())
    refused = sum(isinstance(line, Duplicate) for line in history.client)
    policies = Counter(intent.policy for intent in intents if intent.key)
    effects = Counter((e.token, e.step) for e in history.job if isinstance(e, Effect))
    done = {(e.token, e.attempt, e.step) for e in history.job if isinstance(e, Effect)}
    got = [(g.token, g.attempt, g.step) for g in history.job if isinstance(g, Got)]
    twice = sum(count - 1 for count in effects.values())
    remembered = sum(each not in done for each in got)
    return [
        f"| steps, done again because of a kill within, remembered | {len(effects)}, {twice}, "
        f"{remembered} |",
        f"| enqueues with a key | {_counted(policies)} |",
        f"| of them answered with the id of another job, refused because of one | {again}, "
        f"{refused} |",
        f"| enqueues with tags | {sum(bool(intent.tags) for intent in intents)} |",
    ]


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _found(result: Result) -> list[str]:
    if not result.violations:
        return []
    shown = [f"- {violation}" for violation in result.violations[:SHOWN]]
    return ["", "## Violations", "", *shown]
