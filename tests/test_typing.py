"""What mypy and pyright make of a user's code: what is right passes, each mistake is seen."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from flask_spooler.options import CHECKS, JobOptions, Options, TaskOptions

FILES = [Path(__file__).parent / "typing" / name for name in ("right.py", "wrong.py")]
Errors = set[tuple[str, int, str]]
"""File, line and code of each."""

MARK = re.compile(r"# error: \[([a-z-]+)\]$")


def marked() -> Errors:
    return {
        (path.name, number, found[1])
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (found := MARK.search(line))
    }


def output(*command: str) -> str:
    """What a type checker prints; it runs where its settings and its cache are."""
    root = Path(__file__).parents[1]
    words = [sys.executable, "-m", *command]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def test_mypy_sees_each_mistake_and_no_other() -> None:
    said = output("mypy", "--no-error-summary", *map(str, FILES))
    found = re.findall(r"^tests/typing/(\w+\.py):(\d+): error: .* \[([a-z-]+)\]$", said, re.M)
    # What a decorator that is called wrongly makes of the function below it is one mistake.
    errors = {(name, int(line), code) for name, line, code in found if code != "untyped-decorator"}
    assert errors == marked(), said


def test_pyright_sees_the_same_mistakes() -> None:
    files = map(str, FILES)
    said = output("pyright", "--pythonpath", sys.executable, "--outputjson", *files)
    errors = {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1)
        for each in json.loads(said)["generalDiagnostics"]
    }
    assert errors == {(name, line) for name, line, _ in marked()}, said


def test_there_is_something_to_see() -> None:
    assert len(marked()) >= 30


def test_every_option_is_typed() -> None:
    assert set(JobOptions.__annotations__) == set(Options.__dataclass_fields__) == set(CHECKS)
    assert set(CHECKS) - set(TaskOptions.__annotations__) == {"at", "delay"}
