"""How a job is to be run, apart from its arguments: the options of `task(...)` and `using(...)`.

Owns their names, defaults and checks. Options live on a copy of the task and never among the
arguments, so no option can steal a keyword from the user's function.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any, Final, Literal, TypedDict

from .errors import OptionError
from .queues import QUEUE_NAME, is_queue_name
from .retry import Backoff, check_backoff
from .schedule import Seconds, When, seconds_of, unix_time

Exceptions = tuple[type[BaseException], ...]

ON_DUPLICATE: Final = ("return", "replace", "refuse")
"""What enqueue does while another job holds the unique key."""

LONGEST_NAME: Final = 200
"""Characters of the name that somebody gives a task; those of its module may be more."""

MOST_ATTEMPTS: Final = 1_000_000

MOST_TAGS: Final = 20
LONGEST_TAG: Final = 100

ELSEWHERE: Final = {
    "max_retries": "max_attempts, which counts the first run too",
    "retries": "max_attempts, which counts the first run too",
    "countdown": "delay",
    "eta": "at",
    "autoretry_for": "retry_on",
    "retry_backoff": "backoff",
    "default_retry_delay": "backoff",
    "soft_time_limit": "timeout",
    "job_timeout": "timeout",
    "time_limit": "hard_timeout",
    "routing_key": "queue",
}
"""What other libraries call an option, and what it is here."""

EARLIEST_AS_TIME: Final = 1_000_000_000
"""A plain number for a moment from here on (September 2001) is a unix time, below it seconds."""


class TaskOptions(TypedDict, total=False):
    """What `task(...)` takes, and `using(...)` too; left out it stays, None is the default."""

    queue: str | None
    """The lane the jobs wait in, ``"default"``."""

    priority: int | None
    """-100 to 100; higher starts first within a queue."""

    max_attempts: int | None
    """Runs allowed, the first one included; `SPOOLER_MAX_ATTEMPTS`."""

    backoff: Backoff | None
    """Seconds between attempts: a list, or a callable from the attempt's number."""

    retry_on: type[BaseException] | Sequence[type[BaseException]] | None
    """Exceptions after which it is tried again, ``Exception``."""

    discard_on: type[BaseException] | Sequence[type[BaseException]] | None
    """Exceptions after which it is dead at once."""

    timeout: Seconds | None
    """Seconds after which `JobTimeout` is raised inside the task."""

    hard_timeout: Seconds | None
    """Seconds after which the process is killed."""

    expires: When | timedelta | None
    """The time, or length of time, after which it is not started any more."""

    unique: str | None
    """A key: at most one unfinished job holds it."""

    on_duplicate: Literal["return", "replace", "refuse"] | None
    """What happens while another job holds the key, ``"return"``."""

    tags: Collection[str] | None
    """Words by which jobs are found, up to 20."""


class JobOptions(TaskOptions, total=False):
    """What `using(...)` takes: the options of a task, and those of one job only."""

    at: When | None
    """Not before this time: unix seconds or an aware ``datetime``."""

    delay: Seconds | None
    """Not before this many seconds from now, or a ``timedelta``."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of one task or of one `using(...)` copy of it; None means the default."""

    queue: str = "default"
    priority: int = 0
    at: When | None = None
    delay: Seconds | None = None
    max_attempts: int | None = None
    backoff: Backoff | None = None
    retry_on: Exceptions | None = None
    discard_on: Exceptions | None = None
    timeout: float | None = None
    hard_timeout: float | None = None
    expires: When | timedelta | None = None
    unique: str | None = None
    on_duplicate: str = "return"
    tags: tuple[str, ...] = ()

    def but(self, **changes: Any) -> Options:
        """Return a copy with these options; raise `OptionError` for one that is impossible."""
        known = {field.name for field in fields(self)}
        for name in changes:
            if name not in known:
                expected = f"one of {', '.join(sorted(known))}"
                raise OptionError("an option", expected, name, _meant(name, known))
        if changes.get("at") is not None and changes.get("delay") is None:
            changes["delay"] = None
        if changes.get("delay") is not None and changes.get("at") is None:
            changes["at"] = None
        usual = Options()
        checked = {
            name: getattr(usual, name) if value is None else CHECKS[name](name, value)
            for name, value in changes.items()
        }
        changed = replace(self, **checked)
        if changed.timeout and changed.hard_timeout and changed.timeout > changed.hard_timeout:
            expected = f"at most hard_timeout, {changed.hard_timeout:g} s, which kills the process"
            raise OptionError("timeout", expected, changed.timeout)
        return changed

    def expires_at(self, now: float) -> float | None:
        """Return the unix time after which the job is not started any more."""
        return None if self.expires is None else moment("expires", self.expires, now)


def _meant(name: str, known: set[str]) -> str:
    near = [ELSEWHERE[name]] if name in ELSEWHERE else get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else ""


def moment(option: str, given: When | timedelta, now: float) -> float:
    """Return a moment as unix seconds that may be given as a length of time from now."""
    match given:
        case datetime():
            return unix_time(option, given)
        case int() | float() if given >= EARLIEST_AS_TIME:
            return unix_time(option, given)
        case _:
            return now + seconds_of(option, given)


def task_options(name: str | None, given: TaskOptions) -> Options:
    """Return the options of a whole task, its name if it is given one apart.

    Raises `OptionError` for those of one job only, and for a name that no task can have.
    """
    if name is not None:
        check_name("name", name)
    for each in ("at", "delay"):
        if each in given:
            raise OptionError(each, "given to using(), for one job", dict(given)[each])
    return Options().but(**given)


def check_name(option: str, value: Any, longest: int = LONGEST_NAME) -> None:
    """Raise `OptionError` for what cannot be the stored name of a task, or the beginning of one."""
    ok = isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()
    if not ok or value != value.strip():
        expected = f"a string of 1 to {longest} printable characters, no spaces around them"
        raise OptionError(option, expected, value)


def queue_name(text: str) -> str:
    """Return the name of a queue that may exist; raise `OptionError`."""
    return _queue("queue", text)


def _queue(name: str, value: Any) -> str:
    if not is_queue_name(value):
        raise OptionError(name, QUEUE_NAME, value)
    return str(value)


def _priority(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -100 <= value <= 100:
        raise OptionError(name, "a whole number from -100 to 100", value)
    return value


def _attempts(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_ATTEMPTS:
        raise OptionError(name, f"a whole number from 1 to {MOST_ATTEMPTS:,}", value)
    return value


def _limit(name: str, value: Any) -> float:
    seconds = seconds_of(name, value)
    if seconds == 0:
        raise OptionError(name, "more than 0 seconds", value)
    return seconds


def _key(name: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 500 or not _is_unicode(value):
        raise OptionError(name, "a string of 1 to 500 characters", value)
    return value


def _policy(name: str, value: Any) -> str:
    if value not in ON_DUPLICATE:
        raise OptionError(name, f"one of {', '.join(map(repr, ON_DUPLICATE))}", value)
    return str(value)


def _tags(name: str, value: Any) -> tuple[str, ...]:
    expected = f"up to {MOST_TAGS} strings of 1 to {LONGEST_TAG} printable characters"
    if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
        raise OptionError(name, f"a list of {expected}", value)
    for tag in value:
        ok = isinstance(tag, str) and 0 < len(tag) <= LONGEST_TAG and tag.isprintable()
        if not ok or tag != tag.strip():
            raise OptionError(name, f"{expected}, no spaces around them", tag)
    if len(set(value)) > MOST_TAGS:
        raise OptionError(name, expected, value)
    return tuple(sorted(set(value)))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _exceptions(name: str, value: Any) -> Exceptions:
    classes = (
        value if isinstance(value, tuple) else tuple(value) if isinstance(value, list) else (value,)
    )
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise OptionError(name, "an exception class or a tuple of them", value)
    return classes


def _at(name: str, value: Any) -> Any:
    unix_time(name, value)
    return value


def _delay(name: str, value: Any) -> Any:
    seconds_of(name, value)
    return value


def _expires(name: str, value: Any) -> Any:
    if isinstance(value, timedelta):
        seconds_of(name, value)
    else:
        unix_time(name, value)
    return value


CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "queue": _queue,
    "priority": _priority,
    "at": _at,
    "delay": _delay,
    "max_attempts": _attempts,
    "backoff": lambda _, value: check_backoff(value),
    "retry_on": _exceptions,
    "discard_on": _exceptions,
    "timeout": _limit,
    "hard_timeout": _limit,
    "expires": _expires,
    "unique": _key,
    "on_duplicate": _policy,
    "tags": _tags,
}


def reference(option: str, thing: Any) -> str:
    """Return ``module:qualname`` of a function or class, so that it can travel with a job.

    Raises `OptionError` for what cannot be found again by that name, such as a lambda.
    """
    name = f"{getattr(thing, '__module__', '?')}:{getattr(thing, '__qualname__', '?')}"
    try:
        found = dereference(name)
    except (ImportError, AttributeError, ValueError):
        found = None
    if found is not thing:
        expected = "importable by name when given to using(): define it at the top of a module"
        raise OptionError(option, expected, thing)
    return name


def dereference(name: str) -> Any:
    """Return what `reference` named; only for names out of a signed job."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found
