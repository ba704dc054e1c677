"""What `make pythons` tests is what pyproject.toml promises; what differs with pyuwsgi."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

import apsw

from flask_spooler import _uwsgi

ROOT = Path(__file__).resolve().parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text()  # read as text: Python 3.10 has no tomllib


def bounds(text: str, relation: str) -> dict[str, str]:
    """The versions that stand behind names."""
    return dict(re.findall(rf"^\W*([A-Za-z_-]+){relation}([\d.]+)", text, re.MULTILINE))


def promised() -> dict[str, str]:
    """The lower bounds of what users install, extras included."""
    needed = PROJECT.partition("\ndependencies = [")[2].partition("\n]")[0]
    extras = PROJECT.partition("[project.optional-dependencies]")[2].partition("\ndocs = [")[0]
    return bounds(needed + extras.replace("[", "\n"), ">=")


def test_the_lower_bounds_are_tested_as_they_stand_in_the_project() -> None:
    tested = bounds((ROOT / "tests" / "lowest.txt").read_text(), "==")
    expected = promised()
    del expected["pyuwsgi"]  # one server at a time
    expected["opentelemetry-sdk"] = expected["opentelemetry-api"]  # what tests need beside it
    assert len(expected) == 11
    assert tested == expected


def test_the_requirements_of_the_reference_app_are_those_of_the_project() -> None:
    required = bounds((ROOT / "requirements.txt").read_text(), ">=")
    expected = promised()
    assert {name: expected.get(name, bound) for name, bound in required.items()} == required


def test_every_python_that_is_promised_is_tested() -> None:
    promised = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)
    tested = PROJECT.partition("\nenv_list = ")[2].partition("\n")[0]
    assert promised[0] == PROJECT.partition('requires-python = ">=')[2].partition('"')[0]
    assert all(f'"{each}"' in tested for each in promised)


def test_a_reload_is_known_also_where_python_was_there_before_uwsgi() -> None:
    libc = ctypes.CDLL(None)
    before = _uwsgi.boot()
    try:
        libc.setenv(b"UWSGI_RELOADS", b"3", 1)  # as pyuwsgi does, when os.environ is a copy already
        assert "UWSGI_RELOADS" not in os.environ
        assert _uwsgi.boot() == before._replace(reloads=3)
    finally:
        libc.unsetenv(b"UWSGI_RELOADS")
    assert _uwsgi.boot() == before


def test_a_read_left_half_way_in_a_transaction_keeps_no_snapshot(tmp_path: Path) -> None:
    # With apsw 3.54.0.0 it does, and the process can never write again: "database is locked".
    ledger = apsw.Connection(str(tmp_path / "ledger.db"))
    ledger.pragma("journal_mode", "wal")
    ledger.execute("CREATE TABLE lines (line)")
    ledger.execute("INSERT INTO lines VALUES (1)")
    ledger.execute("BEGIN IMMEDIATE")
    begun = ledger.execute("SELECT line FROM lines LIMIT 1")
    assert begun.fetchone() == (1,)
    ledger.execute("INSERT INTO lines VALUES (2)")
    del begun
    ledger.execute("COMMIT")
    assert ledger.txn_state("main") == apsw.SQLITE_TXN_NONE
