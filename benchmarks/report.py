"""`docs/benchmarks.md`: what a sitting has measured, as tables; pure text from figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Final

from .bars import Judged
from .figures import OURS, Figures, Spread, shown
from .systems import Guarantees

WORDS: Final = {True: "yes", False: "**no**", None: ""}
SHORT_WORDS: Final = {True: "(yes)", False: "(no)", None: ""}
"""In parentheses: fewer jobs were measured than the bar names."""

PROMISES: Final = {
    "leaves_queue": "leaves the queue",
    "worker_killed": "worker killed at a job",
    "power_cut": "power cut after an enqueue",
    "status": "kept of a job",
    "poison": "job that kills its worker",
    "signed": "payload signed",
    "context": "Flask app context",
    "log": "own log of each job",
}


@dataclass(frozen=True)
class Chapter:
    """One question of the sitting."""

    title: str
    asked: str
    how: str


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a Markdown table.

    >>> print(table(["a", "b"], [["1", "2 | 3"]]))
    | a | b |
    |---|---|
    | 1 | 2 \| 3 |
    """
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    shaped = (("|{}|" if n == 1 else "| {} |", cells) for n, cells in enumerate(escaped))
    return "\n".join(
        frame.format(("|" if frame == "|{}|" else " | ").join(cells)) for frame, cells in shaped
    )


def cell(spread: Spread | None) -> str:
    """Return median and range as they stand in a table.

    >>> cell(Spread(2.0, 1.0, 3.0, 3)), cell(Spread(2.0, 2.0, 2.0, 1)), cell(None)
    ('2 (1-3)', '2', '')
    """
    if spread is None:
        return ""
    if spread.count == 1:
        return shown(spread.median)
    return f"{shown(spread.median)} ({shown(spread.low)}-{shown(spread.high)})"


def whole(
    figures: Figures,
    judged: Iterable[Judged],
    chapters: Iterable[Chapter],
    machine: dict[str, str],
    guarantees: dict[str, Guarantees],
    failures: Iterable[str],
    *,
    when: str,
    short: bool,
) -> str:
    """Return the whole page."""
    form = (
        "in the short form: fewer runs and fewer jobs than the bars name, for a first look"
        if short
        else "in one sitting"
    )
    parts = [
        "# Benchmarks",
        f"Written by `make bench` on {when}, {form}. Absolute figures move from machine to machine "
        "and from hour to hour; what compares two systems was measured in turns, one run "
        "right after the other. A cell is the median of the runs, with the smallest and largest.",
        "![Drain, enqueue and start latency of all systems](benchmarks.svg)",
        "## What has to be reached",
        verdicts(judged, SHORT_WORDS if short else WORDS),
        "## What each system promises",
        "Correctness is not traded: the engine under test has all its guarantees on. Where nothing "
        "else is said ours runs with `process`, which survives everything but a power cut; "
        "`power` syncs each job before `enqueue` returns. Each peer is set up as its own manual "
        "recommends, Redis with `appendonly yes` and `appendfsync everysec`.",
        promises(guarantees),
        *(part for chapter in chapters for part in measured(figures, chapter)),
        "## Where",
        table(["what", "which"], machine.items()),
    ]
    failed = list(failures)
    if failed:
        parts += ["## What failed", "\n".join(f"- {line}" for line in failed)]
    return "\n\n".join(parts) + "\n"


def verdicts(judged: Iterable[Judged], words: dict[bool | None, str]) -> str:
    rows = [[bar.figure, bar.demand, bar.measured, words[bar.met]] for bar in judged]
    return table(["figure", "bar", "measured", "met"], rows)


def promises(guarantees: dict[str, Guarantees]) -> str:
    names = [field.name for field in fields(Guarantees)]
    rows = [[name, *(getattr(given, each) for each in names)] for name, given in guarantees.items()]
    return table(["system", *(PROMISES[name] for name in names)], rows)


def measured(figures: Figures, chapter: Chapter) -> list[str]:
    """Return a question with its tables; nothing where it was not asked."""
    titles = figures.titles(chapter.title)
    if not titles:
        return []
    beside: list[tuple[str, str]] = []
    alone: list[tuple[str, str]] = []
    for figure, unit in titles:
        (alone if figures.systems(figure) == [OURS] else beside).append((figure, unit))
    tables = [one_figure(figures, figure, unit) for figure, unit in beside]
    if alone:
        tables.append(ours_alone(figures, alone))
    return [f"## {chapter.title}", chapter.asked, chapter.how, *tables]


def one_figure(figures: Figures, figure: str, unit: str) -> str:
    """Return a figure of several systems, ours divided by theirs beside it."""
    places = figures.places(figure)
    compared = any(figures.ratio(figure, place, s) for place in places
                   for s in figures.systems(figure) if s != OURS)  # fmt: skip
    head = [f"{figure}, {unit}"]
    for place in places:
        head += [place, f"ours / theirs, {place}"] if compared else [place]
    rows = []
    for system in figures.systems(figure):
        row = [system]
        for place in places:
            row.append(cell(figures.spread(figure, place, system)))
            if compared:
                row.append("" if system == OURS else cell(figures.ratio(figure, place, system)))
        rows.append(row)
    return table(head, rows)


def ours_alone(figures: Figures, titles: list[tuple[str, str]]) -> str:
    """Return the figures that only we were asked for, in one table."""
    places = list(dict.fromkeys(place for figure, _ in titles for place in figures.places(figure)))
    rows = [
        [f"{figure}, {unit}", *(cell(figures.spread(figure, place)) for place in places)]
        for figure, unit in titles
    ]
    return table([OURS, *places], rows)
