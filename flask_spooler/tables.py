"""Jobs as text for people: the tables that the command line prints.

Owns how times, lengths and states read. Pure: gets values, returns text; rich lays it out and
leaves colours out where the output is no terminal.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .doctor import Finding
from .record import Record
from .times import ago, clock, duration, took

COLOURS: Final = {
    "scheduled": "cyan",
    "queued": "blue",
    "running": "yellow",
    "retrying": "magenta",
    "succeeded": "green",
    "dead": "red",
    "cancelled": "dim",
    "expired": "dim",
}


UNCUT: Final = {"RUNNING": 29, "FAILED": 29, "TRY": 3, "FOR": 10, "STATE": 8, "WHEN": 14}
"""Columns that keep their width on a narrow terminal; an id that is cut helps nobody."""

CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")
"""Characters that steer a terminal, but for the one that begins a colour."""


def job_table(records: list[Record], now: float) -> str:
    """Return a table of jobs, one line each."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("ID", no_wrap=True)
    for name in ("STATE", "TASK", "QUEUE", "TRY", "ENQUEUED", "DUE", "ERROR"):
        table.add_column(name, no_wrap=name != "ERROR", overflow="ellipsis")
    for record in records:
        waits = record.state in ("scheduled", "retrying")
        table.add_row(
            record.id,
            Text(record.state, style=COLOURS.get(record.state, "")),
            Text(record.task),
            Text(record.queue),
            str(record.attempt),
            ago(record.enqueued_at, now),
            ago(record.due_at, now) if waits else "",
            _one_line(record.error_type, record.error_message),
        )
    return _rendered(table)


def job_page(job: dict[str, Any], now: float) -> str:
    """Return everything of one job."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("Job", Text(job["id"]))
    facts.add_row("Task", Text(job["task"]))
    facts.add_row("State", Text(job["state"], style=COLOURS.get(job["state"], "")))
    facts.add_row("Queue", Text(f"{job['queue']}, priority {job['priority']}"))
    if job["tags"]:
        facts.add_row("Tags", Text(", ".join(job["tags"])))
    facts.add_row("Attempt", f"{job['attempt']} (at most {job['max_attempts']} are charged)")
    facts.add_row("Arguments", Text(_arguments(job)))
    for name in ("enqueued_at", "due_at", "expires_at", "started_at", "finished_at"):
        if job[name] is not None:
            label = name.removesuffix("_at").capitalize()
            facts.add_row(label, f"{clock(job[name])} ({ago(job[name], now)})")
    if job["progress"]:
        facts.add_row("Progress", Text(_progress(job["progress"])))
    if job["steps"]:
        facts.add_row("Steps done", Text(", ".join(step["name"] for step in job["steps"])))
    if job["state"] == "succeeded":
        facts.add_row("Result", Text(json.dumps(job["result"], ensure_ascii=False)))
    parts: list[RenderableType] = [facts]
    if job["attempts"]:
        parts += [Text(), _attempts(job["attempts"])]
    if job["error"]:
        parts += [Text(), Text(f"{job['error']['type']}: {job['error']['message']}", style="red")]
        if job["error"]["traceback"]:
            parts.append(Text(job["error"]["traceback"].rstrip()))
    return _rendered(Group(*parts))


def job_line(record: Record, now: float | None = None) -> Text:
    """Return state and progress of one job in a line; with `now`, also for how long it runs."""
    line = Text.assemble(
        ("[", "dim"), (record.state, COLOURS.get(record.state, "")), ("]", "dim"), " "
    )
    line.append(f"{record.task}, attempt {record.attempt}")
    if record.started_at is not None and record.state in ("running", "succeeded"):
        until = record.finished_at or now
        line.append("" if until is None else f", {duration(max(0.0, until - record.started_at))}")
    if record.progress:
        line.append(f", {_progress(record.progress)}")
    if record.state != "succeeded" and record.error_type is not None:
        line.append(", ").append(_one_line(record.error_type, record.error_message))
    return line


def log_text(text: str) -> Text:
    """Return lines of a log as a terminal may have them: with colours, without anything else.

    What a job prints can come from anybody; other control characters could move the cursor, set
    the title or hide a line.
    """
    whole = Text()
    for number, line in enumerate(text.split("\n")):
        # What a progress bar has written over itself is not shown, as on a terminal.
        shown = line.rstrip("\r").rpartition("\r")[2]
        decoded = Text.from_ansi(CONTROLS.sub("", shown))
        decoded.plain = decoded.plain.replace("\x1b", "")
        whole.append("\n" if number else "").append(decoded)
    return whole


def overview(found: dict[str, Any]) -> RenderableType:
    """Return what `watch` draws: counts, running jobs, the last failures."""
    parts: list[RenderableType] = [Text(clock(found["at"]), style="dim"), Text()]
    parts.append(_counts(found["queues"]) if found["queues"] else Text("No jobs yet."))
    if found["paused"]:
        parts.append(Text(f"Paused: {', '.join(found['paused'])}.", style="yellow"))
    if found["oldest_queued_seconds"] is not None:
        parts.append(Text(f"The oldest waits {duration(found['oldest_queued_seconds'])}."))
    if found["running"]:
        parts += [Text(), _running(found)]
    if found["failures"]:
        parts += [Text(), _failures(found)]
    return Group(*parts)


def overview_line(found: dict[str, Any]) -> str:
    """Return the counts of all queues in one line."""
    totals = Counter[str]()
    for counts in found["queues"].values():
        totals.update(counts)
    counted = ", ".join(f"{state} {number:,}" for state, number in totals.items() if number)
    oldest = found["oldest_queued_seconds"]
    waits = "" if oldest is None else f"; the oldest waits {duration(oldest)}"
    return f"{clock(found['at'])} {counted or 'no jobs yet'}{waits}"


def stats_page(stats: dict[str, Any]) -> str:
    """Return the counts by queue and state, and the files by place."""
    if not stats["queues"]:
        return "No jobs yet."
    dead = sum(counts["dead"] for counts in stats["queues"].values())
    files = ", ".join(
        f"{place} {number:,}"
        + (" (of cancelled and expired jobs too)" if place == "dead" and number > dead else "")
        for place, number in stats["files"].items()
        if number
    )
    oldest = stats["oldest_queued_seconds"]
    waits = "no job is overdue" if oldest is None else f"the oldest waits {duration(oldest)}"
    lines = [Text(f"Files: {files or 'none'}; {waits}.")]
    if stats["paused"]:
        lines.append(Text(f"Paused: {', '.join(stats['paused'])}.", style="yellow"))
    return _rendered(Group(_counts(stats["queues"]), Text(), *lines))


def _counts(queues: dict[str, dict[str, int]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    states = list(next(iter(queues.values())))
    table.add_column("QUEUE")
    for state in states:
        table.add_column(state.upper(), justify="right")
    for queue, counts in sorted(queues.items()):
        table.add_row(Text(queue), *(f"{counts[state]:,}" for state in states))
    return table


def findings_page(findings: list[Finding]) -> str:
    """Return what the doctor has found, each with what to do about it."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    colours = {"wrong": "red", "worth knowing": "yellow", "right": "green"}
    for finding in findings:
        told = Text(finding.problem)
        if finding.fix:
            told.append(f"\nfix: {finding.fix}", style="dim")
        grade = Text(finding.grade, style=colours[finding.grade])
        table.add_row(grade, Text(finding.name), told)
    return _rendered(table)


def _running(found: dict[str, Any]) -> Table:
    table = _lines("RUNNING", "TASK", "QUEUE", "TRY", "FOR", "PROGRESS")
    for job in found["running"]:
        table.add_row(
            job["id"],
            Text(job["task"]),
            Text(job["queue"]),
            str(job["attempt"]),
            duration(job["seconds"]),
            Text(_progress(job["progress"]) if job["progress"] else ""),
        )
    if more := found["running_total"] - len(found["running"]):
        table.add_row(Text(f"and {more:,} more", style="dim"))
    return table


def _failures(found: dict[str, Any]) -> Table:
    table = _lines("FAILED", "TASK", "STATE", "TRY", "WHEN", "ERROR")
    for job in found["failures"]:
        table.add_row(
            job["id"],
            Text(job["task"]),
            Text(job["state"], style=COLOURS.get(job["state"], "")),
            str(job["attempt"]),
            ago(job["at"], found["at"]) if job["at"] else "",
            _one_line(job["error"]["type"], job["error"]["message"]),
        )
    return table


def _lines(*names: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, expand=True)
    for name in names:
        width = UNCUT.get(name)
        table.add_column(name, no_wrap=True, width=width, ratio=None if width else 1)
    return table


def _attempts(attempts: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("TRY", "OUTCOME", "STARTED", "TOOK", "ERROR"):
        table.add_column(name, no_wrap=name != "ERROR")
    for attempt in attempts:
        error = attempt["error"] or {}
        table.add_row(
            str(attempt["number"]),
            attempt["outcome"],
            clock(attempt["started_at"]),
            took(attempt["outcome"], attempt["started_at"], attempt["finished_at"]),
            _one_line(error.get("type"), error.get("message")),
        )
    return table


def _arguments(job: dict[str, Any]) -> str:
    if job["kwargs"] is None:
        return f"{job['kwargs_size']:,} bytes, kept in the job file only"
    return ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in job["kwargs"].items()
    )


def _progress(progress: dict[str, Any]) -> str:
    total = "" if progress["total"] is None else f" of {progress['total']}"
    note = "" if progress["note"] is None else f", {progress['note']}"
    return f"{progress['done']}{total}{note}"


def _one_line(kind: str | None, message: str | None) -> Text:
    first = (message or "").strip().partition("\n")[0]
    return Text(f"{kind}: {first}" if kind else "", style="red")


def _rendered(shown: RenderableType) -> str:
    """Lay out for the terminal's width; wide where the output goes to a file or a pipe."""
    console = Console()
    width = shutil.get_terminal_size().columns if console.is_terminal else 200
    console = Console(width=width)
    with console.capture() as capture:
        console.print(shown)
    return capture.get().rstrip("\n")
