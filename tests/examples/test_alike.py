"""What the examples have in common stays the same, and each can be copied away by itself."""

from __future__ import annotations

import re

import pytest
from server import ROOT

EXAMPLES = {"thumbnails": "thumbnails", "mail": "mailer", "report": "nightly"}


def test_all_examples_are_tested_here() -> None:
    folders = {path.parent.name for path in (ROOT / "examples").glob("*/app.py")}
    assert folders == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_on_the_uwsgi_ini_of_the_readme(name: str) -> None:
    own = (ROOT / "examples" / name / "uwsgi.ini").read_text()
    assert own == (ROOT / "uwsgi.ini").read_text()


@pytest.mark.parametrize("file", ["style.css", "live.js"])
def test_the_pages_of_the_examples_look_and_follow_alike(file: str) -> None:
    texts = {
        (ROOT / "examples" / name / package / "static" / file).read_text()
        for name, package in EXAMPLES.items()
    }
    assert len(texts) == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_killed_by_the_process_id_that_make_run_writes(name: str) -> None:
    """By name it would be every uWSGI of the machine."""
    folder = ROOT / "examples" / name
    kills = re.findall(r".*kill -9.*", (folder / "README.md").read_text())
    assert kills == ["$ pkill -9 -g $(ps -o pgid= $(cat uwsgi.pid))"]
    assert "--pidfile uwsgi.pid" in (folder / "Makefile").read_text()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_readme_of_an_example_has_no_dead_links(name: str) -> None:
    readme = ROOT / "examples" / name / "README.md"
    targets = re.findall(r"\]\(([^)#]+)\)", readme.read_text())
    assert targets
    for target in targets:
        assert (readme.parent / target).exists(), target
