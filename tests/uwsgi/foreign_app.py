"""The reference app with work for the spooler that other libraries put there, and nobody at all."""

from __future__ import annotations

import os
from typing import Any

import uwsgi
import uwsgi_tasks
import uwsgidecorators
from flask import request
from jobs import note, notes

from app import app


@uwsgidecorators.spool
def by_spool(arguments: dict[str, str]) -> None:
    note(arguments["path"], f"spool {arguments['word']}")


@uwsgidecorators.spool(pass_arguments=True)
def by_spool_with_arguments(path: str, word: str) -> None:
    note(path, f"spool_with_arguments {word}")


@uwsgidecorators.spoolraw
def by_spoolraw(arguments: dict[str, str]) -> int:
    """Ask to be run again the first time."""
    note(arguments["path"], f"spoolraw {arguments['word']}")
    runs = sum(line[0] == "spoolraw" for line in notes(arguments["path"]))
    return int(uwsgi.SPOOL_RETRY if runs == 1 else uwsgi.SPOOL_OK)


@uwsgidecorators.spoolraw
def raises(arguments: dict[str, str]) -> int:
    note(arguments["path"], f"raises {arguments['word']}")
    raise RuntimeError("it never works")


@uwsgi_tasks.task(executor=uwsgi_tasks.TaskExecutor.SPOOLER, working_dir=None)
def by_uwsgi_tasks(path: str, word: str) -> None:
    note(path, f"uwsgi_tasks {word}")


def bare(path: str, word: str) -> None:
    """Spool a packet that no library marks."""
    uwsgi.spool({b"path": os.fsencode(path), b"word": word.encode()})


@app.get("/foreign/<way>")
def spool_foreign(way: str) -> dict[str, Any]:
    path, word = request.args["path"], request.args["word"]
    match way:
        case "spool":
            by_spool(path=path, word=word)
        case "spool_with_arguments":
            by_spool_with_arguments(path, word)
        case "spoolraw":
            by_spoolraw(path=path, word=word)
        case "raises":
            raises(path=path, word=word)
        case "uwsgi_tasks":
            by_uwsgi_tasks(path, word)
        case "bare":
            bare(path, word)
    return {"spooled": way}
