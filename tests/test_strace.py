"""The list of failpoints is complete: no system call hides a state that they do not show.

An enqueue and the end of a job are run under strace, which kills them at each single system call
that changes something; the spool must then look like it does after a kill at some failpoint.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.world import World, killed_at, new_world, one_process_pool, points

CHANGING = ("write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "utimensat", "ftruncate")

MARKER = "the step begins"

STEPS: dict[str, tuple[Callable[[World], object], Callable[[World], object]]] = {
    "enqueue": (lambda world: world.enqueue("warm"), lambda world: world.enqueue("ok")),
    "finish": (lambda world: world.enqueue("ok"), World.run_ready),
    "die": (lambda world: world.enqueue("fail", max_attempts=1), World.run_ready),
}

Looks = tuple[tuple[tuple[str, int], ...], tuple[tuple[str, bool], ...]]


def looks(world: World) -> Looks:
    """What a crash left: how many files in each place, and what the rows say."""
    counts = world.state.engine.spool.counts()
    rows = world.state.engine.ledger.find(limit=10)
    in_window = world.state.engine.ledger.in_window()
    said = sorted((row.state, row.id in in_window) for row in rows)
    return tuple(sorted(counts.items())), tuple(said)


def calls(trace: str) -> tuple[list[str], list[str]]:
    """The names of the changing calls before and after the step began."""
    before, marker, during = trace.partition(f'"{MARKER}"')
    assert marker, trace[-2000:]
    pattern = re.compile(rf"^\d+ +({'|'.join(CHANGING)})\(", re.MULTILINE)
    return pattern.findall(before), pattern.findall(during)


def run(step: str, path: Path, *strace: str) -> str:
    """Run one step in a process of its own under strace and return what strace wrote."""
    log = path.with_suffix(".strace")
    subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(log),
         "-e", f"trace={','.join(CHANGING)}", *strace,
         sys.executable, "-m", "tests.test_strace", step, str(path)],
        check=False, capture_output=True, timeout=30,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    return log.read_text()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_system_call_leaves_a_state_that_a_failpoint_shows(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_process_pool(monkeypatch)
    set_up, act = STEPS[step]
    with new_world(tmp_path / "whole") as world:
        set_up(world)
        shown = {looks(world)}
        passed = points(world, act)
        shown.add(looks(world))
    for hit in range(len(passed)):
        with new_world(tmp_path / f"failpoint-{hit}") as world:
            set_up(world)
            killed_at(world, act, hit)
            shown.add(looks(world))

    before, during = calls(run(step, tmp_path / "traced"))
    assert "rename" in during or step == "finish"
    kills = 0
    for name in sorted(set(during)):
        first = before.count(name) + 1
        for number in range(first, first + during.count(name)):
            path = tmp_path / f"{name}-{number}"
            run(step, path, "-e", f"inject={name}:signal=SIGKILL:when={number}")
            with new_world(path, exist_ok=True) as world:
                kills += 1
                assert looks(world) in shown, f"{step}, {name} number {number}: {looks(world)}"
    print(f"{step}: {kills} kills at system calls, {len(shown)} states, {len(passed)} failpoints")
    assert kills >= 10


def main(step: str, path: Path) -> None:
    """Set up a world and take one step in it; strace watches, or kills."""
    monkeypatch = pytest.MonkeyPatch()
    one_process_pool(monkeypatch)
    set_up, act = STEPS[step]
    with new_world(path) as world:
        set_up(world)
        (path / MARKER).write_text(MARKER)
        act(world)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
