"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from flask_spooler import Spooler, current_job
from flask_spooler.config import CHECKS

README = Path(__file__).parents[1] / "README.md"


def test_the_app_of_the_first_screen_enqueues_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPOOLER_DIRECTORY", str(tmp_path / "spool"))
    block = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {"__name__": "shop"}
    exec(compile(block[1], "README.md", "exec"), names)
    answer = names["app"].test_client().post("/orders/7/invoice")
    assert answer.status_code == 202
    assert answer.json["state"] == "scheduled"
    with names["app"].app_context():
        job = names["spooler"].get(answer.json["id"]).as_dict()
    assert job["kwargs"] == {"order": 7, "copies": 2}
    assert job["max_attempts"] == 8


def test_every_setting_of_the_readme_exists() -> None:
    named = set(re.findall(r"^\| `(SPOOLER_\w+)`", README.read_text(), re.MULTILINE))
    assert named
    assert named <= set(CHECKS)


def test_the_readme_has_no_dead_links() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target


def test_a_task_that_reports_progress_can_be_called_here_and_now() -> None:
    spooler = Spooler()

    @spooler.task(name="reports")
    def reports(number: int) -> int:
        current_job.progress(number, total=3)
        return number + current_job.attempt

    assert reports(2) == 3
