"""The promises hold while processes are killed: 300 kills in every test run."""

from __future__ import annotations

import secrets
from collections import Counter
from pathlib import Path

import pytest

from .faults import points
from .killer import ENQUEUE_STEPS, STEPS
from .logs import Duplicate, Effect, SeenFinal
from .report import as_text
from .run import Settings, witness

KILLS = 300


@pytest.mark.timeout(240)
def test_no_job_is_lost_run_twice_at_once_or_early_while_everything_is_killed(
    tmp_path: Path,
) -> None:
    seed = secrets.token_hex(4)
    print(f"seed {seed}; again with: python -m tests.witness.run --seed {seed}")
    result = witness(Settings(kills=KILLS, seconds=55.0, seed=seed), tmp_path)
    print(as_text(result))
    assert result.violations == []
    assert result.total >= KILLS
    whole = result.kills["server"] + result.kills["master"]
    assert result.by_role["spooler"] >= 20
    assert result.by_role["worker"] >= 10
    assert result.by_role["mule"] >= 5
    assert whole >= 3
    lines = Counter(type(line) for line in (*result.history.client, *result.history.job))
    assert lines[Effect] >= 300
    assert lines[Duplicate] >= 20
    finals = [line for line in result.history.client if isinstance(line, SeenFinal)]
    assert sum(final.state == "cancelled" for final in finals) >= 10


def test_every_step_at_which_the_witness_kills_is_reached_by_the_code() -> None:
    ours = {
        "enqueue.returned", "route.enqueued", "step.effect", "step.returned", "task.ended",
        "uwsgi.handed", "uwsgi.answered",
    }  # fmt: skip
    steps = {*ENQUEUE_STEPS, *(step for each in STEPS.values() for step in each)}
    assert steps - ours <= set(points())
