"""The systems under test, each behind the same few verbs.

`prepare` starts what a system needs before anything is consumed, and the producer; `consume` lets
its four processes work; `stop` ends all of it. What is asked of the system goes to its producer.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from ..marks import VARIABLE, Marks, wait_until
from ..processes import Program, free_port

PROCESSES: Final = 4
PATIENCE: Final = 60.0
"""Seconds for a start, a stop or a single job; whatever takes longer is broken."""

BIN: Final = Path(sys.executable).parent


@dataclass(frozen=True)
class Guarantees:
    """What a system promises as it is configured here, in a few words each."""

    leaves_queue: str
    worker_killed: str
    power_cut: str
    status: str
    poison: str
    signed: str
    context: str
    log: str = "no"


class System:
    """One job system in one directory, with one producer."""

    name: ClassVar[str]
    app: ClassVar[str]
    distribution: ClassVar[str]
    guarantees: ClassVar[Guarantees]

    def __init__(
        self, directory: Path, marks: Marks, *, processes: int = PROCESSES, **options: str
    ) -> None:
        self.directory = directory
        self.marks = marks
        self.processes = processes
        self.options = options
        self.port = free_port()
        self.programs: list[Program] = []

    @property
    def environment(self) -> dict[str, str]:
        """The environment of producer and consumers."""
        return {
            VARIABLE: str(self.marks.path),
            "BENCH_APP": f"benchmarks.apps.{self.app}",
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }

    def prepare(self) -> None:
        """Start storage and producer; nothing is consumed yet."""
        raise NotImplementedError

    def consume(self) -> None:
        """Let the consumers begin."""
        raise NotImplementedError

    def finished(self) -> int:
        """Return how many jobs the system itself knows as done."""
        return int(self.call("finished"))

    def stop(self) -> None:
        """End everything that was started, the last first."""
        while self.programs:
            self.programs.pop().end()

    @contextmanager
    def running(self, *, consuming: bool = True) -> Iterator[None]:
        """Prepare, consume if wanted, and stop whatever happens."""
        self.marks.clear()
        try:
            self.prepare()
            if consuming:
                self.consume()
                self.warm_up()
            yield
        except BaseException:
            for program in self.programs:
                sys.stderr.write(program.log.read_text(errors="replace")[-2000:])
            raise
        finally:
            self.stop()

    def warm_up(self, count: int = 20) -> None:
        """Run a few jobs, so that all connections and imports are made."""
        first = len(self.marks.ran) - count
        self.enqueue(first, count)
        self.marks.wait(first, count, PATIENCE)
        wait_until(lambda: self.finished() >= count, PATIENCE, 0.05)

    def enqueue(self, first: int, count: int, *, each: bool = False) -> Any:
        """Enqueue jobs from the producer; return the seconds in `total`, or of each call."""
        wanted = {"first": first, "count": count} | ({"each": 1} if each else {})
        return self.ask("/enqueue", wanted)["each" if each else "total"]

    def call(self, name: str, **arguments: Any) -> Any:
        """Call a function of the system's app module in the producer."""
        return self.ask(f"/call/{name}", {key: json.dumps(v) for key, v in arguments.items()})[
            "answer"
        ]

    def ask(self, path: str, query: dict[str, Any]) -> Any:
        address = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=600) as answer:
            return json.load(answer)

    def start(self, name: str, *words: str, **environment: str) -> Program:
        """Start one program of this system, with a log of its own."""
        log = self.directory / f"{name}.log"
        program = Program(list(words), log, {**self.environment, **environment})
        self.programs.append(program)
        return program

    def wait_for_producer(self, program: Program) -> None:
        """Wait until the producer answers, or raise with its log."""

        def answers() -> bool:
            program.check()
            try:
                return bool(self.ask("/", {}))
            except (urllib.error.URLError, ConnectionError):
                return False

        wait_until(answers, PATIENCE, 0.02)

    def cpu_seconds(self) -> float:
        return sum(program.cpu_seconds() for program in self.programs)

    def pss(self) -> dict[str, float]:
        """Return the memory in MB of each program that works for the jobs."""
        return {
            program.log.stem: program.pss()
            for program in self.programs
            if program.log.stem != "producer"
        }
