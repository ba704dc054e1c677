"""Standard output, standard error and `logging`, heard while a job runs.

Owns the tee under the two streams of a spooler process and the hook in `logging`. A spooler runs
one job at a time, so what this process writes while a job runs is that job's, whichever thread it
comes from. What child processes, C code and ``os.write`` write goes to uWSGI's log alone.

- The streams stay the objects they were, over a buffer that also keeps what passes through it: a
  logger that took ``sys.stderr`` when the app was imported is heard too. uWSGI's log gets each
  line at once.
- A record is taken where its logger hands it to the handlers, and what these then write to the
  streams is not kept a second time. No handler is added: with one on the root, Flask would leave
  out its own, and `logging` its last resort.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import logging
import os
import sys
import traceback
from threading import get_ident
from typing import Any, Final

from . import log
from .errors import JobTimeout
from .interrupts import shielded
from .log import Log, Save, taking, utc
from .record import Output

LOWERED: Final = logging.INFO - 1
"""The root logger's level where nobody has configured logging: a value that nobody else sets."""

RECORDS: Final = "records"
"""The source of log records; every other source is a stream."""


class Stream:
    """One standard stream of this process, and what it is made of."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        # Somebody may have opened it so that its end would close the descriptor.
        self._former = text.buffer
        self._descriptor = text.fileno()
        self._name = text.name
        self._encoding = text.encoding
        self._errors = text.errors
        self._unbuffered = isinstance(text.buffer, io.RawIOBase)
        text.flush()
        self.open()

    def open(self) -> None:
        """Put the tee under the stream, which stays the same object."""
        raw = io.FileIO(self._descriptor, "w", closefd=False)
        raw.name = self._name
        # CPython clears the object first, and tests that a stream can be made anew.
        io.TextIOWrapper.__init__(
            self._text,
            Tee(raw, self._encoding, self._unbuffered),
            self._encoding,
            self._errors,
            newline="\n",
            # Whole lines even where PYTHONUNBUFFERED is set: `print` writes a line in two pieces,
            # and between those of one process those of another would come into uWSGI's log.
            line_buffering=True,
        )

    def flush(self) -> None:
        """Bring out the beginning of a line; mend what a task has closed or detached."""
        try:
            self._text.flush()
        except ValueError:
            self.open()
        except (OSError, RuntimeError):
            # A full disk, a closed descriptor; or a signal handler within another write.
            return


class Tee(io.BufferedWriter):
    """A buffer over a descriptor that keeps what the running job writes through it."""

    def __init__(self, raw: io.FileIO, encoding: str, unbuffered: bool) -> None:
        super().__init__(raw)
        self._unbuffered = unbuffered
        self._foreign = encoding if codecs.lookup(encoding).name not in ("utf-8", "ascii") else None

    def write(self, data: Any, /) -> int:
        """Write; what a handler of `logging` writes was kept as a record before."""
        job = log.running
        if job is None or (_emitting and get_ident() in _emitting):
            written = super().write(data)
        else:
            with shielded:
                written = super().write(data)
                kept = data if type(data) is bytes else bytes(data)
                if self._foreign:
                    kept = kept.decode(self._foreign, "backslashreplace").encode()
                if kept:
                    job.add(kept, self)
        if self._unbuffered:
            self.flush()
        return written


_streams: list[Stream] = []
_emitting: set[int] = set()
"""The threads in which handlers of `logging` are at work."""

_handlers_of = logging.Logger.callHandlers
_is_level_seen = False


def install() -> None:
    """Keep, from now on, what this process writes while a job runs; once in a spooler process."""
    for text in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        known = any(stream._text is text for stream in _streams)
        if isinstance(text, io.TextIOWrapper) and not known:
            with contextlib.suppress(OSError, ValueError):  # closed, or over no descriptor
                _streams.append(Stream(text))
    _hook_into_logging()
    os.register_at_fork(before=_before_fork, after_in_parent=taking.release, after_in_child=_forget)


def begin(job_id: str, attempt: int, save: Save) -> None:
    """Give what this process writes to one attempt; `save` is called from another thread."""
    if _streams:
        if not _is_level_seen:  # not before: the app may configure logging after the fork
            _lower_level()
        _emitting.clear()
        log.running = Log(job_id, attempt, save)


def end() -> Output | None:
    """Return what the attempt has written and `save` has not got; None where that is nothing."""
    job = log.running
    if job is None:
        return None
    for stream in _streams:
        stream.flush()
    log.running = None
    return job.rest() if job.is_used else None


def _before_fork() -> None:
    """Leave the child no half line, and no lock of the ledger that nobody would release."""
    if log.running is not None:
        for stream in _streams:
            stream.flush()
    taking.acquire()


def _forget() -> None:
    """Keep nothing in a child of the task: it is the parent's job, and the parent's thread."""
    log.running = None
    taking.release()


def _hook_into_logging() -> None:
    global _handlers_of
    _handlers_of = logging.Logger.callHandlers  # somebody else's hook, where there is one
    logging.Logger.callHandlers = _call_handlers  # type: ignore[assignment,method-assign]


def _lower_level() -> None:
    """Let INFO and up be logged where nobody has configured logging; for jobs only."""
    global _is_level_seen
    _is_level_seen = True
    root = logging.getLogger()
    if root.level == logging.WARNING and not root.handlers:
        own = logging.getLogger("flask_spooler")
        own.setLevel(own.getEffectiveLevel())  # it would make a record of each job, for nobody
        root.setLevel(LOWERED)


def _call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
    job = log.running
    if job is None:
        if not _is_for_jobs_only(logger, record):
            _handlers_of(logger, record)
        return
    for stream in _streams:
        stream.flush()  # what was printed before the record comes before it
    line = _line(record).encode("utf-8", "backslashreplace")
    with shielded:
        job.add(line, RECORDS)
    if _is_for_jobs_only(logger, record):
        return
    thread = get_ident()
    nested = thread in _emitting
    _emitting.add(thread)
    try:
        _handlers_of(logger, record)
    finally:
        if not nested:
            _emitting.discard(thread)


def _is_for_jobs_only(logger: logging.Logger, record: logging.LogRecord) -> bool:
    """Tell whether a record exists only because the root's level was lowered for jobs."""
    return record.levelno < logging.WARNING and logger.getEffectiveLevel() == LOWERED


def _line(record: logging.LogRecord) -> str:
    """Return a record as lines; changes nothing of it, other formatters come after this."""
    when = f"{utc(int(record.created))}.{record.msecs:03.0f}Z"
    return f"{when} {record.levelname} {record.name}: {_message(record)}\n"


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
        if record.exc_info and record.exc_info[0]:
            text = f"{text}\n{''.join(traceback.format_exception(*record.exc_info)).rstrip()}"
        if record.stack_info:
            text = f"{text}\n{record.stack_info}"
    except JobTimeout:
        raise
    except Exception as error:  # such as wrong arguments, which logging itself only reports
        text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        return f"{text} (its message could not be made: {type(error).__name__})"
    return text
