"""The quickstart, followed by copy and paste: an empty folder, a new virtual environment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pages import a_reader, blocks

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "quickstart.md"
FRESH = "QUICKSTART_FRESH" in os.environ
"""Compile uWSGI and fetch everything, as on a machine that has never done so."""


@pytest.fixture
def released(tmp_path: Path) -> dict[str, str]:
    """What lets `pip install Flask-Spooler` find the checkout, as if it had been released."""
    wheels = tmp_path / "wheels"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(wheels), "."]
    subprocess.run(build, cwd=ROOT, check=True, timeout=100)
    fresh = {"PIP_NO_CACHE_DIR": "1"} if FRESH else {}
    return {"PIP_FIND_LINKS": str(wheels), "PIP_DISABLE_PIP_VERSION_CHECK": "1", **fresh}


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_the_quickstart_leads_from_an_empty_folder_to_a_job_that_outlives_its_server(
    tmp_path: Path, released: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    took: list[float] = []
    installing = 0.0
    programs = Path(sys.base_prefix, "bin")
    patience = 500 if FRESH else 90
    with a_reader(tmp_path, environment=released, programs=programs, patience=patience) as reader:
        started = time.monotonic()
        for block in blocks(PAGE):
            before = time.monotonic()
            reader.read(block)
            if "pip install" in block.text:
                installing = time.monotonic() - before
            if "[succeeded]" in reader.printed:
                took.append(time.monotonic() - started)
    assert took
    with capsys.disabled():
        print(f"\nfirst finished job after {took[0]:.1f} s, {installing:.1f} s of them for pip")
