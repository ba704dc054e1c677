"""``flask spooler …``: look at jobs and act on them, from any shell.

Owns the command line. Flask finds the group through the ``flask.commands`` entry point. Each
command prints a table for people, in colour only on a terminal, and JSON for machines with
``--json``. The exit status is 0, 1 when what was asked could not be done, 2 for a wrong call.
"""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Set
from typing import Any, TypeVar

import click
from flask import current_app
from flask.cli import with_appcontext

from . import completion, operations, watch
from .config import EXTENSION
from .doctor import examine
from .errors import (
    ArgumentError,
    BeingTested,
    NotInitialised,
    OptionError,
    SpoolerError,
    SpoolMissing,
)
from .job import FINAL, REVIVABLE, RUNNING, STATES
from .options import queue_name
from .record import Record
from .schedule import parse_at, parse_length, parse_seconds
from .state import AppState
from .tables import findings_page, job_page, job_table, stats_page

PURGE_STEP = 500
"""Jobs deleted in one transaction, so that nobody waits long for the ledger."""

LOOK_EVERY = 0.05
"""Seconds between two looks at what still runs."""


class Once(click.Command):
    """A command that refuses an option given twice, of which click lets the last one win."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words after the command; raise `UsageError` for an option that comes twice."""
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        for option, times in Counter(order).items():
            if times > 1 and isinstance(option, click.Option) and not option.multiple:
                raise click.UsageError(f"expected {option.opts[0]} once, got it {times} times")
        return super().parse_args(ctx, args)


class Commands(click.Group):
    """A group of such commands."""

    command_class = Once


F = TypeVar("F", bound=Callable[..., Any])


class Refused(click.ClickException):
    """A library error as a line on stderr and exit status 1."""

    exit_code = 1


class WrongCall(click.ClickException):
    """Wrong arguments of a task: a wrong call of the command too, whose usage is the task's."""

    exit_code = 2


def _command(function: F) -> F:
    """Run a command in the app context, with the library's errors as one line."""

    @with_appcontext
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except OptionError as error:
            raise click.UsageError(str(error)) from None
        except ArgumentError as error:
            raise WrongCall(str(error)) from None
        except SpoolerError as error:
            raise Refused(str(error)) from None

    return run  # type: ignore[return-value]


def _state() -> AppState:
    state: AppState | None = current_app.extensions.get(EXTENSION)
    if state is None:
        raise NotInitialised
    return state


def _reachable() -> AppState:
    """Return the app's state where a server can see what is done; else nothing would come of it."""
    state = _state()
    if state.is_stranded:
        raise BeingTested(str(state.config.directory))
    return state


def _used() -> AppState:
    """Return the app's state where its spool is there: looking at jobs does not make one."""
    state = _reachable()
    if not state.engine.spool.exists():
        raise SpoolMissing(str(state.engine.spool.root))
    return state


def _job_ids(states: Set[str]) -> Callable[[F], F]:
    """Take one id or more; a shell completes those of jobs in these states."""
    complete = completion.job_ids(*sorted(states))
    return click.argument(
        "job_ids", nargs=-1, required=True, metavar="ID…", shell_complete=complete
    )


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


@click.group("spooler", cls=Commands)
def spooler_cli() -> None:
    """Background jobs on uWSGI's spooler: look at them and act on them."""


@spooler_cli.command()
@click.argument("task", shell_complete=completion.task_names)
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]…")
@click.option("--at", help="Not before this time: unix seconds or ISO 8601 with a zone.")
@click.option("--delay", help="Not before this many seconds from now.")
@click.option(
    "--queue", shell_complete=completion.queues, help="The queue, instead of the task's own."
)
@click.option("--priority", type=int, help="-100 to 100; higher starts first in its queue.")
@click.option("--tag", "tags", multiple=True, help="A tag, beside the task's own; any number.")
@as_json
@_command
def enqueue(
    task: str,
    arguments: tuple[str, ...],
    at: str | None,
    delay: str | None,
    queue: str | None,
    priority: int | None,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Enqueue TASK with arguments.

    Values are read as JSON where that fits the task's annotation, else as text:
    flask spooler enqueue tasks.spool_task duration=5, or when=2030-01-31T12:00:00Z
    """
    found = _reachable().spooler.find_task(task)
    values = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise click.UsageError(f"expected KEY=VALUE, got: {argument!r}")
        if name in values:
            raise click.UsageError(f"expected {name} once, got it again: {argument!r}")
        values[name] = found.arguments.from_text(name, text)
    options: dict[str, Any] = {"queue": queue, "priority": priority}
    if tags:
        options["tags"] = (*found.options.tags, *tags)
    if at is not None:
        options["at"] = parse_at(at)
    if delay is not None:
        options["delay"] = parse_seconds("--delay", delay)
    given = {name: value for name, value in options.items() if value is not None}
    args, named = found.arguments.placed(values)
    job = found.using(**given).enqueue(*args, **named)
    _print({"id": job.id, "state": job.enqueued_as} if as_json else job.id)


@spooler_cli.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("--queue", shell_complete=completion.queues, help="Only jobs of this queue.")
@click.option("--task", shell_complete=completion.task_names, help="Only jobs of this task.")
@click.option("--tag", help="Only jobs with this tag.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@as_json
@_command
def list_jobs(
    state: str | None,
    queue: str | None,
    task: str | None,
    tag: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, the newest first."""
    ledger = _used().engine.ledger
    found = ledger.find(state=state, queue=queue, task=task, tag=tag, limit=limit)
    if as_json:
        _print([_without_attempts(record) for record in found])
        return
    if not found:
        _print("No jobs fit." if state or queue or task or tag else "No jobs.")
        return
    _print(job_table(found, time.time()))
    if len(found) == limit:
        click.echo(f"Only the newest {limit} are shown: ask for more with --limit.", err=True)


@spooler_cli.command()
@click.argument("job_id", metavar="ID", shell_complete=completion.job_ids())
@click.option("--log", "log", is_flag=True, help="What it has printed and logged, instead.")
@click.option("--follow", is_flag=True, help="With --log: go on until the job has ended.")
@as_json
@_command
def show(job_id: str, log: bool, follow: bool, as_json: bool) -> None:
    """Show one job: its state, its attempts, and why it failed; or its log."""
    if follow and not log:
        raise click.UsageError("--follow goes with --log; to follow all of a job: watch ID")
    if log:
        if not watch.show_log(_used().engine, job_id, follow=follow, as_json=as_json):
            click.echo("It has printed and logged nothing.", err=True)
        return
    job = _used().spooler.get(job_id).as_dict()
    _print(job if as_json else job_page(job, time.time()))


@spooler_cli.command("watch")
@click.argument("job_id", metavar="[ID]", required=False, shell_complete=completion.job_ids())
@click.option("--for", "length", help="End after this many seconds.")
@click.option("--once", is_flag=True, help="Look once.")
@as_json
@_command
def watch_command(job_id: str | None, length: str | None, once: bool, as_json: bool) -> None:
    """Watch all jobs, or one job and its log, until Ctrl-C or until the job has ended.

    Without a terminal it prints a line a second, with --json one object a line. With an ID the
    exit status is 0 when the job has succeeded, else 1.
    """
    seconds = 0.0 if once else None if length is None else parse_seconds("--for", length)
    engine = _used().engine
    if seconds is None and job_id is None:
        click.echo("Watching all jobs until Ctrl-C; to watch one: watch ID", err=True)
    watch.warn_of_nobody(engine, job_id)
    try:
        if job_id is None:
            watch.watch_all(engine, seconds, as_json=as_json)
        elif not watch.watch_job(engine, job_id, seconds, as_json=as_json):
            raise SystemExit(1)
    except KeyboardInterrupt:
        raise SystemExit(0 if job_id is None else 1) from None


@spooler_cli.command()
@as_json
@_command
def stats(as_json: bool) -> None:
    """Count the jobs of each queue by state, and the files of each place."""
    engine = _used().engine
    oldest = min(engine.ledger.oldest_queued().values(), default=None)
    found = {
        "queues": engine.ledger.counts(),
        "oldest_queued_seconds": None if oldest is None else max(0.0, time.time() - oldest),
        "paused": engine.ledger.paused(),
        "files": engine.spool.counts(),
    }
    _print(found if as_json else stats_page(found))


@spooler_cli.command()
@_job_ids(set(STATES) - FINAL)
@as_json
@_command
def cancel(job_ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel jobs for good; a running one is stopped."""
    _each(job_ids, functools.partial(operations.cancel, _used().engine), as_json)


@spooler_cli.command()
@click.argument(
    "job_ids", nargs=-1, metavar="[ID]…", shell_complete=completion.job_ids(*sorted(REVIVABLE))
)
@click.option("--state", type=click.Choice(["dead", "cancelled", "expired"]), help="All of these.")
@as_json
@_command
def retry(job_ids: tuple[str, ...], state: str | None, as_json: bool) -> None:
    """Run dead, cancelled or expired jobs again; their limits start anew.

    One that never started waits for its time again, if that has not come.
    """
    if bool(job_ids) == bool(state):
        raise click.UsageError("expected either IDs or --state")
    engine = _used().engine
    if state:
        job_ids = tuple(record.id for record in _all(state))
        if not job_ids and not as_json:
            _print(f"No job is {state}.")
    _each(job_ids, functools.partial(operations.revive, engine), as_json)


@spooler_cli.command()
@_job_ids(FINAL)
@as_json
@_command
def delete(job_ids: tuple[str, ...], as_json: bool) -> None:
    """Delete jobs that have ended, their history and their files."""
    engine = _used().engine

    def forget(job_id: str) -> str:
        operations.delete(engine, job_id)
        return "deleted"

    _each(job_ids, forget, as_json)


@spooler_cli.command()
@click.option("--older-than", required=True, help="A length of time: 7d, 12h, 30min or 90s.")
@as_json
@_command
def purge(older_than: str, as_json: bool) -> None:
    """Delete all jobs that ended longer ago than this, dead ones included."""
    before = time.time() - parse_length("--older-than", older_than)
    purged = 0
    while step := operations.purge(_used().engine, before, PURGE_STEP):
        purged += step
    _print({"purged": purged} if as_json else f"{purged} job(s) deleted.")


@spooler_cli.command()
@click.argument("queue", default="default", shell_complete=completion.queues)
@as_json
@_command
def pause(queue: str, as_json: bool) -> None:
    """Start no more jobs of QUEUE; what runs goes on, what is enqueued waits."""
    _hold(queue, True, quiet=as_json)
    told = f"Queue {queue} is paused; go on with: flask spooler resume {queue}"
    _print({"queue": queue, "paused": True} if as_json else told)


@spooler_cli.command()
@click.argument("queue", default="default", shell_complete=completion.queues)
@as_json
@_command
def resume(queue: str, as_json: bool) -> None:
    """Start jobs of QUEUE again."""
    _hold(queue, False, quiet=as_json)
    _print({"queue": queue, "paused": False} if as_json else f"Queue {queue} goes on.")


def _hold(queue: str, paused: bool, *, quiet: bool) -> None:
    """Pause a queue or let it go on; one that nobody has named yet may be misspelt, or early."""
    state = _reachable()
    name, known = queue_name(queue), state.known_queues
    operations.pause(state.engine, name, paused)
    if name not in known and not quiet:
        told = f"Note: no job, task or setting has named the queue {name!r} so far, but these: "
        click.echo(told + ", ".join(sorted(known)), err=True)


@spooler_cli.command()
@click.option(
    "--timeout", default="", help="Start no jobs for so many seconds; else SPOOLER_GRACE."
)
@click.option("--cancel", "take_back", is_flag=True, help="Start jobs again.")
@as_json
@_command
def drain(timeout: str, take_back: bool, as_json: bool) -> None:
    """Start no more jobs and wait until none runs: then a reload interrupts nothing.

    It ends with a reload, at the timeout, or with --cancel. The exit status is 1 when jobs still
    run at the timeout.
    """
    state = _reachable()
    if take_back:
        operations.drain(state.engine, 0.0)
        _print({"draining": False} if as_json else "Jobs are started again.")
        return
    seconds = parse_seconds("--timeout", timeout) if timeout else state.config.grace
    until = time.time() + seconds
    servers = operations.drain(state.engine, until)
    if not servers and state.engine.spool.has_housekeeper():
        raise Refused(
            "the server of this spool runs where its processes cannot be seen from here, as in "
            "another container: run this command there"
        )
    while (running := operations.running(state.engine)) and time.time() < until:
        time.sleep(LOOK_EVERY)
    told = f"{servers} server(s) start no more jobs; {running} still run"
    _print({"draining": True, "servers": servers, "running": running} if as_json else told)
    if running:
        raise SystemExit(1)


@spooler_cli.command()
@click.option("--ini", help="Examine this uWSGI ini file instead of the server that runs.")
@click.option("--all", "show_all", is_flag=True, help="Show what is right as well.")
@as_json
@_command
def doctor(ini: str | None, show_all: bool, as_json: bool) -> None:
    """Say what is wrong with the server, the spool and the app, and how to mend it.

    Silent where all is well. The exit status is 1 when something is wrong; what is only worth
    knowing is shown and costs nothing.
    """
    _state()
    try:
        found = examine(current_app._get_current_object(), ini)  # type: ignore[attr-defined]
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{ini} cannot be read: {error}") from None
    if as_json:
        _print([finding.as_dict() for finding in found])
    else:
        shown = [finding for finding in found if show_all or not finding.ok]
        if shown:
            _print(findings_page(shown))
    if any(finding.grade == "wrong" for finding in found):
        raise SystemExit(1)


def _without_attempts(record: Record) -> dict[str, Any]:
    shown = record.as_dict()
    del shown["attempts"], shown["steps"]
    return shown


def _all(state: str) -> list[Record]:
    found: list[Record] = []
    before = None
    while page := _used().engine.ledger.find(state=state, before=before, limit=1000):
        found += page
        before = page[-1].id
    return found


def _each(job_ids: tuple[str, ...], act: Callable[[str], str], as_json: bool) -> None:
    """Act on each job, report each, and exit with 1 when any of them was refused."""
    done: dict[str, str] = {}
    refused: dict[str, str] = {}
    for job_id in job_ids:
        try:
            done[job_id] = act(job_id)
        except SpoolerError as error:
            refused[job_id] = str(error)
    if as_json:
        _print({"done": done, "refused": refused})
    else:
        for job_id, state in done.items():
            click.echo(f"{job_id}  {'being stopped' if state == RUNNING else state}")
        for message in refused.values():
            click.echo(f"Error: {message}", err=True)
    if refused:
        raise SystemExit(1)


def _print(shown: Any) -> None:
    if isinstance(shown, (dict, list)):
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        click.echo(shown)
