"""The child process of a development server: spooler and housekeeper in one.

Owns what uWSGI's processes do otherwise. The main thread is the spooler: it runs one job at a time,
and its signals are those of a real one. A thread for each spool keeps house. The hard time limit
is a watchdog in C, which ends the process whatever the task does, and shows where it was.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import select
import signal
import threading
import traceback
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click
from flask import Flask
from flask.cli import ScriptInfo

from .. import _uwsgi, development
from ..dispatch import open_desk
from ..lifecycle import become_spooler, die_with
from ..signals import job_dead, job_retrying, log
from .seat import Seat, keeping, say

TICK: Final = 1.0
"""Seconds between two looks at the window without being woken, as with `spooler-frequency` 1."""

STANDARD_ERROR: Final = 2


def main(arguments: Sequence[str]) -> int:
    """Run the jobs of an app until the parent dies: its process id, and where the app is.

    Returns the exit status where there is nothing to run.
    """
    settle(int(arguments[0]))
    found = development.seats = {}
    try:
        ScriptInfo(app_import_path="".join(arguments[1:]) or None).load_app()
    except click.ClickException as error:
        say(f"no job runs, the child process has not found the app: {error.format_message()}")
        return development.GIVEN_UP
    except (Exception, SystemExit):  # the user's code, and the server shows it as well
        traceback.print_exc()
        say("no job runs until the next reload: the child process could not load the app")
        return development.GIVEN_UP
    seats = [seat for seat in found.values() if not seat.app.testing]
    if not seats:
        if found:
            say(development.BEING_TESTED)
        return development.GIVEN_UP
    show_what_happens()
    work(seats)


def settle(parent: int) -> None:
    """Die with the parent, from now on; before any code of the user's runs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with(parent, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    _uwsgi.stand_in(harakiri)


def harakiri(seconds: int) -> None:
    """End this process in `seconds` unless called again; 0 takes it back."""
    if seconds:
        faulthandler.dump_traceback_later(seconds, exit=True, file=STANDARD_ERROR)
    else:
        faulthandler.cancel_dump_traceback_later()


def show_what_happens() -> None:
    """Log how each job ends, as Werkzeug logs requests: unless the app has said what it wants."""
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)
    if not log.hasHandlers():
        log.addHandler(logging.StreamHandler())
    job_retrying.connect(show_traceback)
    job_dead.connect(show_traceback)


def show_traceback(app: Flask, *, traceback: str, **facts: Any) -> None:
    """Print where a task failed: the line that says so is enough for a server's log only."""
    if traceback:
        click.echo(traceback.rstrip(), err=True)


def work(seats: list[Seat]) -> NoReturn:
    """Run whatever is ready, and wait until there is more."""
    bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def wake(*signalled: object) -> None:
        os.eventfd_write(bell, 1)

    # Before it becomes a spooler, which puts this back after each job.
    signal.signal(signal.SIGUSR1, wake)
    become_spooler(os.getcwd(), death=signal.SIGKILL)
    keep_order_in_forks(seats)
    for seat in seats:
        open_desk(seat.desk)
        threading.Thread(target=seat.keep, args=[wake], name="housekeeper", daemon=True).start()
    while True:
        ran = [seat.run_ready() for seat in seats]
        if not any(ran):
            select.select([bell], [], [], TICK)
            hush(bell)


def keep_order_in_forks(seats: list[Seat]) -> None:
    """Leave the child of a task no locked ledger, and no lock of a spool."""

    def in_child() -> None:
        keeping.release()
        for seat in seats:
            seat.release_in_fork()

    os.register_at_fork(
        before=keeping.acquire, after_in_parent=keeping.release, after_in_child=in_child
    )


def hush(bell: int) -> None:
    """Take back what has rung."""
    try:
        os.eventfd_read(bell)
    except BlockingIOError:
        return
