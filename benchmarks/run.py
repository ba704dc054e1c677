"""Run the questions in one sitting: ``python -m benchmarks.run [--short] [--only throughput]``."""

from __future__ import annotations

import argparse
import importlib
import sys
from types import ModuleType
from typing import Final

from .sitting import Sitting, new_sitting
from .systems import store

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


def main() -> int:
    wanted = arguments()
    if store.REDIS is None:
        print("no redis-server: Debian and Ubuntu have it as redis-server", file=sys.stderr)
        return 2
    questions = [question(name) for name in wanted.only or QUESTIONS]
    with new_sitting(short=wanted.short) as sitting:
        for module in questions:
            ask(sitting, module)
    return 1 if sitting.failures else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few minutes instead of an hour")
    parser.add_argument("--only", action="append", choices=QUESTIONS, help="one question, or more")
    return parser.parse_args()


def question(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


def ask(sitting: Sitting, module: ModuleType) -> None:
    """Let one question be measured."""
    sitting.question = module.TITLE
    module.measure(sitting)


if __name__ == "__main__":
    sys.exit(main())
