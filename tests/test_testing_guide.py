"""docs/testing.md and the pytest plugin: run by plain pytest, where there is no uWSGI."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "testing.md"

NO_UWSGI = '''
"""A plugin for pytest: here uWSGI is not installed."""

import sys

NAMES = {"uwsgi", "uwsgidecorators", "uwsgi_tasks", "pyuwsgi"}


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())


def pytest_sessionfinish(session):
    assert not NAMES & set(sys.modules)
'''


def run_pytest(
    directory: Path, *options: str, others: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run pytest on a directory as its user would, without uWSGI and without our own settings.

    What else is installed here takes seconds to start and is left out, but for `others`.
    """
    (directory / "no_uwsgi.py").write_text(NO_UWSGI)
    (directory / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    installed = {each.name for each in entry_points(group="pytest11")}
    left_out = [f"-pno:{name}" for name in sorted(installed - {"flask_spooler", *others})]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-pno_uwsgi", *left_out, *options],
        cwd=directory,
        env={**kept, "PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def write(directory: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (directory / name).write_text(text)


def blocks() -> dict[str, str]:
    """The files of the guide: each Python block begins with the name of its own."""
    found = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.M)
    return dict(found)


def passed(done: subprocess.CompletedProcess[str]) -> int:
    counted = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert counted is not None, done.stdout
    return int(counted[1])


def test_every_block_of_the_guide_is_run() -> None:
    assert GUIDE.read_text().count("```python") == len(blocks())


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_the_examples_of_the_guide_pass_without_uwsgi(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    write(tmp_path, blocks())
    tests = sum(text.count("def test_") for text in blocks().values())
    assert passed(run_pytest(tmp_path, *options, others=("xdist", "xdist.looponfail"))) == tests
    assert not (tmp_path / "my_spools").exists()


APP = """
from flask import Flask
from flask_spooler import Spooler

spooler = Spooler()
app = Flask("plugin")
spooler.init_app(app)


@spooler.task
def work():
    raise ValueError("not today")
"""


def test_the_plugin_is_quiet_and_imports_nothing_before_a_test_asks_for_it(tmp_path: Path) -> None:
    look = """
import sys

def test_nothing_was_imported():
    assert "flask" not in sys.modules
    assert "flask_spooler" not in sys.modules
"""
    write(tmp_path, {"test_plain.py": look})
    done = run_pytest(tmp_path, "-q")
    assert passed(done) == 1
    assert "spooler" not in done.stdout


def test_the_fixture_takes_the_app_whose_context_is_pushed(tmp_path: Path) -> None:
    test = """
import pytest
from shop import app, spooler, work

@pytest.fixture
def context():
    with app.app_context():
        yield

def test_pushed(context, spooler_jobs):
    spooler_jobs.assert_enqueued(work) if work.enqueue() else None

def test_again(context, spooler_jobs):
    spooler_jobs.refute_enqueued(work)
"""
    write(tmp_path, {"shop.py": APP, "test_context.py": test})
    assert passed(run_pytest(tmp_path)) == 2


def test_a_failing_task_is_shown_with_its_own_traceback(tmp_path: Path) -> None:
    test = """
import pytest
from shop import app as the_app, work

@pytest.fixture
def app():
    return the_app

def test_work(spooler_jobs):
    work.enqueue()
    spooler_jobs.run_pending()
"""
    write(tmp_path, {"shop.py": APP, "test_failing.py": test})
    done = run_pytest(tmp_path)
    assert done.returncode == 1
    assert 'raise ValueError("not today")' in done.stdout
    assert "shop.py:12: ValueError" in done.stdout
    assert "TaskFailed: shop.work failed in attempt 1 of 5: ValueError: not today" in done.stdout
    assert "test_failing.py:11: TaskFailed" in done.stdout


def test_a_test_without_an_app_is_told_what_the_fixture_needs(tmp_path: Path) -> None:
    test = """
import pytest

def test_no_app(spooler_jobs):
    pass

class TestOtherApp:
    @pytest.fixture
    def app(self):
        return "a string"

    def test_no_flask_app(self, spooler_jobs):
        pass
"""
    write(tmp_path, {"test_without.py": test})
    done = run_pytest(tmp_path)
    assert "2 errors" in done.stdout
    expected = "expected a fixture named app that returns the Flask app, or an app context"
    assert f"{expected}, got: None" in done.stdout
    assert f"{expected}, got: 'a string'" in done.stdout


def test_the_plugin_is_found_by_itself_and_can_be_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"shop.py": APP, "test_out.py": OUT})
    assert passed(run_pytest(tmp_path)) == 1
    done = run_pytest(tmp_path, "-pno:flask_spooler")
    assert "fixture 'spooler_jobs' not found" in done.stdout


OUT = """
import pytest
from shop import app as the_app

@pytest.fixture
def app():
    return the_app

def test_fixture(spooler_jobs):
    assert spooler_jobs.run_pending() == []
"""
