"""Bytes-only arguments for bare spooler callables, and what other libraries' packets look like.

Owns `prepare_spooler_args`, the way from Python keyword arguments to the dict of bytes that
``uwsgi.spool`` takes. Our own jobs do not need it: their arguments travel as one JSON object in
the packet's body. It refuses what uWSGI would take in silence and then cut or obey: long values
and the names that act.
"""

from __future__ import annotations

import json
import reprlib
from typing import Any, Final

from .errors import ArgumentError

LONGEST_VALUE: Final = 65_535
"""uWSGI keeps sizes as uint16: a value of 65,536 bytes would arrive as 0 bytes."""

RESERVED: Final = frozenset(
    {
        "at",
        "body",
        "function_name",
        "message_dict",
        "priority",
        "spooler",
        "spooler_task_name",
        "ud_spool_func",
        "ud_spool_ret",
    }
)
"""Names that uWSGI, `uwsgidecorators` or `uwsgi_tasks` act upon when they stand in a packet."""


def prepare_spooler_args(**kwargs: Any) -> dict[bytes, bytes]:
    r"""Return keyword arguments as the bytes-only dict that ``uwsgi.spool`` takes.

    Bytes stay as they are, strings become UTF-8, everything else becomes JSON, so ``5`` arrives
    as ``b"5"``. Raises `ArgumentError`, a `TypeError`, for names that would act on the spooler
    (`RESERVED`), for what is not JSON, for values over 65,535 bytes and for more than 65,535
    bytes together.

    >>> prepare_spooler_args(duration=5, name="née")
    {b'duration': b'5', b'name': b'n\xc3\xa9e'}
    """
    packet = {_name(name): _value(name, value) for name, value in kwargs.items()}
    total = sum(4 + len(name) + len(value) for name, value in packet.items())
    if total > LONGEST_VALUE:
        raise _refused(f"the arguments take {total:,} bytes together, uWSGI carries 65,535")
    return packet


def _name(name: str) -> bytes:
    if name in RESERVED:
        raise _refused(
            f"the name {name!r} would act on the spooler itself "
            f"(reserved: {', '.join(sorted(RESERVED))}): rename the argument"
        )
    return name.encode()


def _value(name: str, value: Any) -> bytes:
    try:
        if isinstance(value, bytes):
            data = value
        elif isinstance(value, str):
            data = value.encode()
        else:
            data = json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        shown = reprlib.repr(value)
        raise _refused(f"{name}={shown} is neither bytes, text nor JSON: {error}") from error
    if len(data) > LONGEST_VALUE:
        raise _refused(
            f"{name} takes {len(data):,} bytes, uWSGI carries 65,535 a value: "
            "pass a path or a key, or use a task, whose arguments have no such limit"
        )
    return data


def _refused(problem: str) -> ArgumentError:
    return ArgumentError("a bare spooler callable", problem)
