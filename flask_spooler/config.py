"""The configuration: read and checked once, in `init_app`, and frozen after that.

Owns the `SPOOLER_*` keys, where their values come from and what they may be. A key stands in
``app.config``, or in the environment as ``FLASK_SPOOLER_…``; three of them have a short name in the
environment too, which ``uwsgi.ini`` shares. A key that does not exist or a value that cannot be
stops the start with one sentence. Owns the extension's own key, too.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from .errors import ConfigError, UnknownConfigKey, Words
from .options import MOST_ATTEMPTS
from .queues import Queues, read_queues

EXTENSION: Final = "spooler"
"""The key in ``app.extensions`` of what one app has of the extension, its `AppState`."""

PREFIX: Final = "SPOOLER_"
LONG: Final = "FLASK_SPOOLER_"
SHORT: Final = ("SPOOLER_DIRECTORY", "SPOOLER_PROCESSES", "SPOOLER_KEY")
DURABILITIES: Final = ("power", "process")
MEMORY: Final = "/dev/shm"
FOREIGN: Final = ("uwsgidecorators", "uwsgi_tasks")

# A browser would take away "." and "..", and write anything else in another way.
_PATH: Final = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+/?")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of one app's spool; lengths of time in seconds."""

    directory: Path
    directory_is_passing: bool = False
    """It was given, and lies where temporary files lie: it is there for a test."""
    key: bytes | None = None
    durability: str = "power"
    processes: int = 10
    queues: Queues = field(default_factory=Queues)
    max_attempts: int = 5
    max_crashes: int = 3
    grace: float = 30.0
    retention: float = 7 * 86_400.0
    max_payload: int = 16 * 2**20
    foreign_packets: frozenset[str] = frozenset()
    eager: bool = False
    tracing: bool = False
    dashboard_token: str | None = None
    dashboard_read_token: str | None = None
    dashboard_prefix: str = "/spooler"
    dashboard_access: Callable[[Any], str | None] | None = None


def read_config(
    values: Mapping[str, Any], environment: Mapping[str, str], root: str | os.PathLike[str]
) -> Config:
    """Return the configuration in ``app.config`` and the environment.

    `root` is what a relative `SPOOLER_DIRECTORY` is relative to. Raises `ConfigError`, and
    `UnknownConfigKey` for a key that does not exist.
    """
    found = {key: value for key, value in values.items() if key.startswith(PREFIX)}
    found = from_environment(environment) | found
    for key in found:
        if key not in CHECKS:
            raise UnknownConfigKey(key, list(CHECKS))
    checked = {
        key.removeprefix(PREFIX).lower(): CHECKS[key](key, value)
        for key, value in found.items()
        if value is not None
    }
    given = checked.pop("directory", None)
    directory = Path(root) / (given or "my_spools")
    _check_place(directory)
    token = checked.get("dashboard_token")
    if token is not None and token == checked.get("dashboard_read_token"):
        expected = "another one than SPOOLER_DASHBOARD_TOKEN, else whoever may look may do all"
        raise ConfigError("SPOOLER_DASHBOARD_READ_TOKEN", expected, Words("the same"))
    passing = given is not None and _is_passing(directory)
    return Config(directory=directory, directory_is_passing=passing, **checked)


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the `SPOOLER_*` keys that the environment sets.

    ``FLASK_SPOOLER_X`` sets `SPOOLER_X`, its value read as JSON where it is JSON, as Flask does.
    The short forms count where the long one is not set; two different values are an error.
    """
    found = {
        name.removeprefix("FLASK_"): _loads(name, text)
        for name, text in environment.items()
        if name.startswith(LONG)
    }
    for key in SHORT:
        text = environment.get(key)
        if text is None:
            continue
        other = environment.get(f"FLASK_{key}", text)
        if other != text:
            expected = f"the same in {key} and FLASK_{key}, or set in one of them only"
            # A secret stays out of the message.
            got = "two different values" if key.endswith("_KEY") else f"{text!r} and {other!r}"
            raise ConfigError(key, expected, Words(got))
        found.setdefault(key, _loads(key, text))
    return found


def _loads(name: str, text: str) -> Any:
    # A key or a token may look like a number and is text all the same.
    if name.endswith(("_KEY", "_TOKEN", "_DIRECTORY")):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(key, "a string that is not empty", value)
    return value


def _directory(key: str, value: Any) -> Path:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ConfigError(key, "the path of a directory", value)
    return Path(value)


def _check_place(directory: Path) -> None:
    """Raise `ConfigError` for a directory that is a file, or below one."""
    there = next((path for path in (directory, *directory.parents) if os.path.exists(path)), None)
    if there is not None and not there.is_dir():
        expected = f"a directory, or where one can be made, while {str(there)!r} is a file"
        raise ConfigError("SPOOLER_DIRECTORY", expected, str(directory))


def _is_passing(directory: Path) -> bool:
    real = directory.resolve()
    return any(
        real.is_relative_to(Path(each).resolve()) for each in (tempfile.gettempdir(), MEMORY)
    )


def _secret(key: str, value: Any) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    if not isinstance(data, bytes) or len(data) < 16:
        # The value itself is a secret and stays out of the message.
        shown = f"{len(data)} bytes" if isinstance(data, bytes) else type(value).__name__
        raise ConfigError(key, "a string or bytes of at least 16 bytes", Words(shown))
    return data


def _one_of(*allowed: str) -> Callable[[str, Any], str]:
    def check(key: str, value: Any) -> str:
        if value not in allowed:
            raise ConfigError(key, " or ".join(repr(each) for each in allowed), value)
        return str(value)

    return check


def _positive(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(key, "a positive integer", value)
    return value


def _attempts(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_ATTEMPTS:
        raise ConfigError(key, f"a whole number from 1 to {MOST_ATTEMPTS:,}", value)
    return value


def _payload(key: str, value: Any) -> int:
    # uWSGI unlinks files over 2 GiB before anybody sees them.
    if _positive(key, value) > 2**30:
        raise ConfigError(key, "a number of bytes up to 1,073,741,824", value)
    return int(value)


def _seconds(key: str, value: Any) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if (
        not isinstance(seconds, (int, float))
        or isinstance(seconds, bool)
        or not 0 <= seconds < 1e10
    ):
        raise ConfigError(key, "a number of seconds from 0 or a timedelta", value)
    return float(seconds)


def _boolean(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(key, "true or false", value)
    return value


def _queues(key: str, value: Any) -> Queues:
    try:
        return read_queues(value)
    except ValueError as expected:
        raise ConfigError(key, str(expected), value) from None


def _libraries(key: str, value: Any) -> frozenset[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple, set, frozenset)) or not set(names) <= set(FOREIGN):
        raise ConfigError(key, f"a list of {' and '.join(map(repr, FOREIGN))}", value)
    return frozenset(names)


def _prefix(key: str, value: Any) -> str:
    if not isinstance(value, str) or _PATH.fullmatch(value) is None:
        expected = "a path like '/spooler', of letters and digits and any of '-_.~'"
        raise ConfigError(key, expected, value)
    return value.rstrip("/")


def _callback(key: str, value: Any) -> Any:
    if not callable(value):
        raise ConfigError(key, "a callable from the request to None, 'view' or 'operate'", value)
    return value


CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "SPOOLER_DIRECTORY": _directory,
    "SPOOLER_KEY": _secret,
    "SPOOLER_DURABILITY": _one_of(*DURABILITIES),
    "SPOOLER_PROCESSES": _positive,
    "SPOOLER_QUEUES": _queues,
    "SPOOLER_MAX_ATTEMPTS": _attempts,
    "SPOOLER_MAX_CRASHES": _positive,
    "SPOOLER_GRACE": _seconds,
    "SPOOLER_RETENTION": _seconds,
    "SPOOLER_MAX_PAYLOAD": _payload,
    "SPOOLER_FOREIGN_PACKETS": _libraries,
    "SPOOLER_EAGER": _boolean,
    "SPOOLER_TRACING": _boolean,
    "SPOOLER_DASHBOARD_TOKEN": _text,
    "SPOOLER_DASHBOARD_READ_TOKEN": _text,
    "SPOOLER_DASHBOARD_PREFIX": _prefix,
    "SPOOLER_DASHBOARD_ACCESS": _callback,
}
