"""Run the questions in one sitting and write down what came out.

``python -m benchmarks.run [--short] [--rounds N] [--only throughput] [--out PAGE]``; `make bench`
does it with the packages that it needs. Progress goes to stderr, the bars to stdout at the end.
Beside the page go a plot, ``.svg``, and all samples, ``.json``. Only a whole sitting overwrites the
page in ``docs``; any other goes to ``.bench`` unless told otherwise. The exit status is 0 when all
could be measured, whatever the figures are, 1 when something failed, 2 when something is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType, ModuleType
from typing import Final

from . import bars, enqueue, machine, plot, report, start_latency, throughput
from .figures import Figures
from .processes import ROOT
from .sitting import DISK, MEMORY, Sitting, new_sitting
from .systems import store
from .systems.peers import ALL

QUESTIONS: Final = (
    "throughput",
    "enqueue",
    "start_latency",
    "schedule_accuracy",
    "backlog",
    "idle_cost",
    "memory",
    "system_calls",
)

PAGE: Final = "benchmarks.md"

PLOTTED: Final = (
    ("Drain of no-op jobs, 4 processes, on a disk (longer is better)",
     throughput.DRAIN, DISK, "jobs/s"),
    ("The same in memory", throughput.DRAIN, MEMORY, "jobs/s"),
    ("Start latency of an idle pool, p50, on a disk (shorter is better)",
     start_latency.P50, DISK, "ms"),
    ("Enqueue, one at a time, on a disk (shorter is better)", enqueue.ALONE, DISK, "us"),
)  # fmt: skip


def main() -> int:
    wanted = arguments()
    missing = what_is_missing()
    if missing:
        print("\n".join(missing), file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _end)  # so that everything which was started is ended
    modules = [importlib.import_module(f"benchmarks.{name}") for name in wanted.only or QUESTIONS]
    with new_sitting(short=wanted.short, rounds=wanted.rounds) as sitting:
        found = machine.facts(sitting.places, ALL)
        for module in modules:
            ask(sitting, module)
    is_whole = not (wanted.short or wanted.only)
    write(sitting, modules, found, wanted.out or ROOT / ("docs" if is_whole else ".bench") / PAGE)
    return 1 if sitting.failures else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.run")
    parser.add_argument("--short", action="store_true", help="minutes, for a first look")
    parser.add_argument("--rounds", type=int, help="runs of each pair, instead of the usual number")
    parser.add_argument("--only", action="append", choices=QUESTIONS, help="may be repeated")
    parser.add_argument("--out", type=Path, help="the page, such as docs/benchmarks.md")
    return parser.parse_args()


def what_is_missing() -> list[str]:
    """Return a line for each thing without which there is nothing to measure."""
    lines = []
    if store.REDIS is None:
        lines.append(
            "redis-server is not installed: on Debian and Ubuntu, apt-get install redis-server"
        )
    packages = ("huey", "celery", "rq", "dramatiq", "redis", "uwsgi_tasks")
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if absent:
        lines.append(f"not installed: {', '.join(absent)}; pip install -e '.[test,bench]'")
    return lines


def ask(sitting: Sitting, module: ModuleType) -> None:
    """Let one question be measured."""
    sitting.question = module.TITLE
    with sitting.tolerating("the rest of it"):
        module.measure(sitting)


def write(sitting: Sitting, modules: list[ModuleType], found: dict[str, str], out: Path) -> None:
    """Write the page, the plot and the samples, and show the bars."""
    figures = Figures(sitting.samples)
    judged = bars.judge(figures)
    chapters = [
        report.Chapter(each.TITLE, (each.__doc__ or "").strip(), each.HOW) for each in modules
    ]
    out.write_text(
        report.whole(
            figures,
            judged,
            chapters,
            found,
            {system.name: system.guarantees for system in ALL},
            sitting.failures,
            when=time.strftime("%Y-%m-%d"),
            short=sitting.short,
        )
    )
    drawn = plot.panels(figures, PLOTTED)
    if drawn:
        out.with_suffix(".svg").write_text(plot.draw(drawn))
    samples = [dataclasses.asdict(sample) for sample in sitting.samples]
    out.with_suffix(".json").write_text(json.dumps({"machine": found, "samples": samples}))
    if sitting.short:
        print("the short form: fewer jobs and runs than the bars name, so nothing is met for good")
    for bar in judged:
        print(f"{ {True: 'met', False: 'NOT MET', None: '-'}[bar.met]:8} {bar.figure}: "
              f"{bar.measured} (bar: {bar.demand})")  # fmt: skip
    print(f"written: {out}", *sitting.failures, sep="\n")


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
