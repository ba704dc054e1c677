"""What can go wrong, as exceptions that say what to do about it.

Owns every exception that the library raises, except the two that a task raises on purpose
(`Retry` and `Discard`, in `retry`). All but one descend from `SpoolerError`; constructors take
facts and build the sentence. `JobCancelled` stands apart: it is a `BaseException`, so that a
task's own ``except Exception`` cannot swallow an abort.
"""

from __future__ import annotations

from typing import Any


class SpoolerError(Exception):
    """The root: catch this to catch everything the library raises by itself."""


class Words(str):
    """A text that describes a value and is none: it stands in a sentence without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class ConfigError(SpoolerError):
    """A `SPOOLER_*` key that is unknown or has a value of the wrong kind."""

    def __init__(self, key: str, expected: str, got: Any) -> None:
        super().__init__(f"expected {key} to be {expected}, got: {got!r}")
        self.key = key


class UnknownConfigKey(ConfigError):
    """A `SPOOLER_*` key that does not exist, which is nearly always a typing error."""

    def __init__(self, key: str, known: list[str]) -> None:
        super().__init__(key, f"one of the known keys ({', '.join(known)})", key)


class ExtraMissing(SpoolerError):
    """Something optional was asked for whose package is not installed."""

    def __init__(self, wanted: str, package: str, extra: str) -> None:
        super().__init__(
            f"{wanted} needs {package}, which is not installed: "
            f"pip install 'Flask-Spooler[{extra}]'"
        )


class ServerUnfit(SpoolerError):
    """The uWSGI server has an option with which jobs would not run."""

    def __init__(self, option: str, why: str) -> None:
        super().__init__(f"take {option} out of uWSGI's options: {why}")


class NotInitialised(SpoolerError):
    """A task was enqueued before its `Spooler` met an app."""

    def __init__(self) -> None:
        super().__init__(
            "this Spooler has no app yet: call spooler.init_app(app) first, where the app is made"
        )


class AppUnclear(SpoolerError):
    """A task was enqueued, its `Spooler` has met several apps, and none of them is the current."""

    def __init__(self, current: str | None = None) -> None:
        if current is None:
            why = "no app context says which one is meant"
        else:
            why = f"the current app, {current!r}, is none of them"
        super().__init__(
            f"this Spooler has met several apps, and {why}: enqueue within "
            "`with app.app_context():`, in a view or in a task; in tests take the fixture "
            "spooler_jobs"
        )


class SpoolerTaken(SpoolerError):
    """An app was given a second `Spooler`: nobody would run the tasks of the first."""

    def __init__(self, app: str) -> None:
        super().__init__(
            f"the app {app!r} has a Spooler already: import that one and use it, or keep tasks "
            "that belong to no app in a Tasks collection, and call spooler.register(tasks)"
        )


class NotRegistered(SpoolerError):
    """A `Tasks` collection was asked for a job, or to enqueue one, and no `Spooler` has it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the tasks {name!r} have no Spooler here: register the blueprint that they are "
            "attached to, or call spooler.register(tasks), before jobs are used; with several "
            "Spoolers push the app context of the app to use"
        )


class AppWithoutSpooler(SpoolerError):
    """Jobs of an app were to be tested that no `Spooler` knows."""

    def __init__(self, app: str) -> None:
        super().__init__(f"the app {app!r} has no Spooler: call spooler.init_app(app) first")


class ArgumentError(SpoolerError, TypeError):
    """Arguments that do not fit the task, found when they are enqueued and not hours later."""

    def __init__(self, task: str, problem: str, cannot: str = "enqueue") -> None:
        super().__init__(f"cannot {cannot} {task}: {problem}")
        self.task = task
        self.problem = problem


class OptionError(SpoolerError, ValueError):
    """An option of `task(...)`, `using(...)` or the command line has an impossible value."""

    def __init__(self, option: str, expected: str, got: Any, way_out: str = "") -> None:
        said = f"expected {option} to be {expected}, got: {got!r}"
        super().__init__(f"{said}; {way_out}" if way_out else said)
        self.option = option
        self.expected = expected
        self.got = got


class NotATask(SpoolerError, TypeError):
    """What was decorated cannot be run as a job."""

    def __init__(self, name: str, got: str, way_out: str) -> None:
        super().__init__(
            f"expected {name} to be a function or an async def function, got: {got}; {way_out}"
        )


class DuplicateTask(SpoolerError):
    """Two functions under one stored name: a job could not know which one it means."""

    def __init__(self, name: str) -> None:
        way_out = "give one of them name='…'"
        if "<locals>" in name:
            way_out = (
                "it is made anew with each call of the function that it stands in: move it to the "
                "top of a module"
            )
        super().__init__(f"a task named {name!r} exists already: {way_out}")


class LateTask(SpoolerError):
    """A task that only one web worker of a running server knows: no spooler could run its jobs."""

    def __init__(self, name: str, way_out: str) -> None:
        super().__init__(
            f"the task {name!r} is defined while the server runs, so none of its spoolers knows "
            f"it and its jobs would wait for ever: {way_out}"
        )


class UnknownTask(SpoolerError, LookupError):
    """A name that no registered task bears in this process."""

    def __init__(self, name: str, known: list[str]) -> None:
        shown = ", ".join(sorted(known)) or "none are registered: is their module imported?"
        super().__init__(f"no task is named {name!r}; known tasks: {shown}")
        self.name = name


class EnqueueError(SpoolerError):
    """The job was not accepted and will not run; nothing of it is left behind."""

    def __init__(self, where: str, cause: BaseException) -> None:
        super().__init__(
            f"the job was not enqueued and will not run: {where}: {cause}; "
            "enqueue it again when that is mended"
        )


class DuplicateJob(SpoolerError):
    """Another unfinished job holds the unique key, and ``on_duplicate="refuse"`` was asked for."""

    def __init__(self, task: str, unique: str, job_id: str) -> None:
        super().__init__(
            f"{task} is not enqueued again: job {job_id} with the unique key {unique!r} has not "
            "ended yet; on_duplicate='return' would return it, 'replace' take its place"
        )
        self.task = task
        self.unique = unique
        self.job_id = job_id


class StepError(SpoolerError, TypeError):
    """A step returned what cannot be kept for later attempts; the job is dead by it."""

    def __init__(self, name: str, problem: str, way_out: str | None = None) -> None:
        if way_out is None:
            way_out = "return a short JSON value from it, such as a path or a key"
        super().__init__(
            f"step {name!r} has run and returned {problem}, so it cannot be remembered: {way_out}"
        )


class StepChanged(SpoolerError, TypeError):
    """What a step returned in an earlier attempt is not what its function returns by now."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(
            f"step {name!r} has run in an earlier attempt, and what it returned does not fit its "
            f"function any more: {problem}; let the function return what it did, or name the step "
            "anew, and it runs again"
        )


class NoSession(SpoolerError):
    """A job was to be enqueued after a commit, and nothing says of which session."""

    def __init__(self) -> None:
        super().__init__(
            "there is no session whose commit could be waited for: set up Flask-SQLAlchemy with "
            "db.init_app(app), or give the Spooler a callable that returns the session, as in "
            "Spooler(session=Session); or call enqueue() after the commit"
        )


class NoTransaction(SpoolerError):
    """A job was to be enqueued after a commit, and the session is in no transaction."""

    def __init__(self, task: str) -> None:
        super().__init__(
            f"cannot enqueue {task} after a commit: the session is in no transaction, so perhaps "
            "it was committed before; call enqueue_after_commit() between the first change and "
            "the commit, or enqueue(), which publishes at once"
        )


class PayloadTooLarge(SpoolerError, ValueError):
    """Arguments, or a result, beyond `SPOOLER_MAX_PAYLOAD` bytes."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(
            f"{size:,} bytes for {what} are more than SPOOLER_MAX_PAYLOAD allows ({limit:,}): "
            "store the data elsewhere and pass a path or a key"
        )


class KeyUnusable(SpoolerError):
    """The spool's key file is too short to be a key."""

    def __init__(self, path: str, size: int) -> None:
        super().__init__(
            f"{path} holds {size} bytes, which is no key: restore it, or delete it, after which "
            "jobs that wait are unreadable and go to corrupt/"
        )


class OtherKey(SpoolerError):
    """A process that would sign with another key than the server that runs the jobs."""

    def __init__(self, directory: str) -> None:
        super().__init__(
            f"the server of {directory} signs with another key: give this process the same "
            "SPOOLER_KEY, else its jobs would be unreadable"
        )


class PacketError(SpoolerError):
    """A spool file that is not a whole, signed job of this spool. It is never run."""


class NewerFormat(SpoolerError):
    """A signed job in a format of a later version: kept until code arrives that knows it."""

    def __init__(self, version: Any, known: int) -> None:
        super().__init__(f"the job has format {version!r}, this version knows up to {known}")


class LedgerError(SpoolerError):
    """The ledger could not be read or written. Jobs wait; none is lost by it.

    `beyond_use` tells damage, which waiting does not mend, from trouble that passes.
    """

    def __init__(self, path: str, cause: BaseException, *, beyond_use: bool = False) -> None:
        super().__init__(f"the ledger {path} is not usable now: {cause}")
        self.beyond_use = beyond_use


class NotASpool(SpoolerError, OSError):
    """The spool's directory is in use for other things, and would be closed to everybody else."""

    def __init__(self, directory: str, names: list[str]) -> None:
        shown = ", ".join(map(repr, names[:3])) + (", …" if len(names) > 3 else "")
        super().__init__(
            f"expected SPOOLER_DIRECTORY to be a directory of its own, got: {directory!r}, which "
            f"holds {shown}: it would be closed to everybody else, so name one that does not exist "
            f"yet, such as {directory.rstrip('/')}/my_spools"
        )


class SpoolMissing(SpoolerError):
    """There is no spool to look into: nothing was ever enqueued there, and no server has run."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"there is no spool at {path}: nothing was enqueued there, and no server has run; if "
            "there are jobs elsewhere, set SPOOLER_DIRECTORY to the spool of their server"
        )


class BeingTested(SpoolerError):
    """A command on an app whose `TESTING` is on, outside of a test: no server knows its jobs."""

    def __init__(self, directory: str) -> None:
        super().__init__(
            "TESTING is on, so this app has a spool of its own, which ends with this process: no "
            "server runs its jobs or sees this command; leave TESTING out of the app's "
            f"configuration, but for tests, to use {directory}"
        )


class JobNotFound(SpoolerError, LookupError):
    """No job has this id: it never existed, or its history was purged."""

    def __init__(self, job_id: str) -> None:
        shown = job_id[:60] if isinstance(job_id, str) else job_id
        super().__init__(f"no job has the id {shown!r}; finished ones are purged in time")
        self.job_id = job_id


class JobStateError(SpoolerError):
    """The job is in a state in which this cannot be done to it."""

    def __init__(self, job_id: str, action: str, state: str, allowed: str) -> None:
        super().__init__(f"cannot {action} job {job_id}: it is {state}, and must be {allowed}")
        self.state = state


class JobTimeout(SpoolerError):
    """Raised inside a task that has run longer than its `timeout`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the task ran longer than its timeout of {seconds:g} s")


class WaitTimeout(SpoolerError, TimeoutError):
    """`job.wait()` gave up; the job itself goes on."""

    def __init__(self, job_id: str, state: str, seconds: float) -> None:
        super().__init__(f"job {job_id} is still {state} after {seconds:g} s of waiting")


class WaitInsideTask(SpoolerError):
    """`job.wait()` was called inside a task, where it could wait for its own pool for ever."""

    def __init__(self) -> None:
        super().__init__(
            "job.wait() is refused inside a task: all spoolers could wait for each other; "
            "enqueue the follow-up at the end of the first job instead"
        )


class WaitForNobody(SpoolerError):
    """`job.wait()` was called in a test, where jobs run only when the test runs them."""

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(
            f"job {job_id} is {state}, and in a test nobody else runs it: call "
            "spooler_jobs.run_pending() before wait()"
        )


class JobCancelled(BaseException):
    """Raised inside a running task that somebody cancelled."""
