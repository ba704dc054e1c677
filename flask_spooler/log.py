"""What one attempt has written and the ledger does not have yet.

Owns `Log`, its bounds, and the thread that brings lines into the ledger while the job runs,
`PERIOD` seconds after the first of them; what is left when the task ends goes into the commit of
its outcome. While the ledger cannot be written the newest `LONGEST_LOG` bytes wait here.

Invariant: whoever writes waits for nobody. A signal handler may print, a thread may fork, and a
timeout may be raised between any two lines of a task.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Final

from .record import Output

LONGEST_LOG: Final = 262_144
"""Bytes kept of what one job has printed and logged, the newest."""

LONGEST_LINE: Final = 65_536
"""Bytes kept of one line, the first ones: it must not drive out everything before it."""

PIECE: Final = 8_192
"""Bytes that are kept or cut together, at most."""

PERIOD: Final = 0.3
"""Seconds from a line to the ledger, so that somebody who watches sees it come."""

Save = Callable[[str, Output], bool]
"""Brings output of a job into the ledger, or says that it could not."""

running: Log | None = None
"""The log of the attempt that this process runs."""

taking: Final = threading.RLock()
"""Held while lines are on their way from a `Log` to the ledger; nobody who writes needs it."""

_bell: SimpleQueue[None] = SimpleQueue()
_awake = False
_carrier: threading.Thread | None = None


class Log:
    """What one attempt has written and the ledger does not have yet.

    Threads add without a lock: the ends of a deque are safe by themselves, and a sum that two
    threads change at once is wrong by a line. Who takes holds `taking`.
    """

    def __init__(self, job_id: str, attempt: int, save: Save) -> None:
        self.is_used = False
        self._job_id = job_id
        self._attempt = attempt
        self._since = time.time()
        self._save = save
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._cut = 0
        self._headed = False
        self._open: object | None = None
        self._column = 0
        self._excess = 0

    def add(self, data: bytes, source: object) -> None:
        """Keep what came from one source; no other source continues its line."""
        if self._open is not None or len(data) > LONGEST_LINE or data[-1:] != b"\n":
            data = self._fitted(data, source)
        if len(data) <= PIECE:
            self._chunks.append(data)
        else:
            self._chunks.extend(list(pieces(data, PIECE)))
        self._size += len(data)
        if self._size > LONGEST_LOG:
            self._trim()
        self.is_used = True
        if not _awake:
            _ring()

    def flush(self) -> None:
        """Bring what there is into the ledger; where that cannot be, it waits."""
        with taking:
            cut, chunks = self._take()
            if not chunks:
                return
            if self._save(self._job_id, self._output(cut, chunks)):
                self._headed = True
            else:
                self._put_back(cut, chunks)
                _ring()

    def rest(self) -> Output | None:
        """Return what the ledger does not have, at the end; it will not come again."""
        with taking:
            cut, chunks = self._take()
            if self._open is not None:
                chunks.append(self._end_of_line())
            return self._output(cut, chunks) if chunks else None

    def _fitted(self, data: bytes, source: object) -> bytes:
        """Return what is kept of data that is long, or begins or ends within a line."""
        if self._open in (None, source) and self._column + len(data) <= LONGEST_LINE:
            end = data.rfind(b"\n") + 1
            self._column = len(data) - end + (0 if end else self._column)
            self._open = source if self._column else None
            return data
        start = _first_kept(data)
        ends = self._open is not None and (start > 0 or self._open is not source)
        kept = [self._end_of_line()] if ends else []
        self._cut += start
        *lines, last = data[start:].split(b"\n")
        for line in lines:
            kept += [self._piece(line), self._end_of_line()]
        if last:
            kept.append(self._piece(last))
            self._open = source
        return b"".join(kept)

    def _piece(self, piece: bytes) -> bytes:
        if b"\r" in piece:  # a progress bar begins its line anew
            self._column = self._excess = 0
        kept = piece[: LONGEST_LINE - self._column]
        self._column += len(kept)
        self._excess += len(piece) - len(kept)
        return kept

    def _end_of_line(self) -> bytes:
        note = b" [%d bytes of this line are cut]" % self._excess if self._excess else b""
        self._open, self._column, self._excess = None, 0, 0
        return note + b"\n"

    def _trim(self) -> None:
        with contextlib.suppress(IndexError):  # a taker was faster
            while self._size > LONGEST_LOG:
                size = len(self._chunks.popleft())
                self._size -= size
                self._cut += size

    def _take(self) -> tuple[int, list[bytes]]:
        chunks = []
        with contextlib.suppress(IndexError):  # a writer that trims was faster
            for _ in range(len(self._chunks)):
                chunks.append(self._chunks.popleft())
        cut, self._cut = self._cut, 0
        self._size -= sum(map(len, chunks))
        return cut, chunks

    def _put_back(self, cut: int, chunks: list[bytes]) -> None:
        size = sum(map(len, chunks))
        if self._cut:  # as much as is kept came meanwhile, and these are older
            self._cut += cut + size
            return
        self._cut = cut
        self._chunks.extendleft(reversed(chunks))
        self._size += size
        self._trim()

    def _output(self, cut: int, chunks: list[bytes]) -> Output:
        # Bytes that are no text are shown as escapes; so is NUL, where C programs end a text.
        text = b"".join(chunks).decode("utf-8", "backslashreplace").replace("\0", "\\x00")
        if self._headed:
            return Output(text, cut)
        when = utc(int(self._since))
        head = f"--- attempt {self._attempt}, {when} UTC, process {os.getpid()} ---\n"
        return Output(head + text, cut, begins=True)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """Cut text at the ends of lines where that is possible, and never within a character."""
    while len(data) > size:
        end = data.rfind(b"\n", 0, size) + 1 or size
        while end > size - 4 and data[end] & 0b1100_0000 == 0b1000_0000:
            end -= 1
        yield data[:end]
        data = data[end:]
    yield data


def _first_kept(data: bytes) -> int:
    """Return where the lines begin that are kept of a piece of any length."""
    tail = len(data) - LONGEST_LOG
    if tail <= 0:
        return 0
    begun = data.find(b"\n", tail, len(data) - 1) + 1
    return begun or data.rfind(b"\n", 0, tail) + 1


def _ring() -> None:
    """Let lines be brought into the ledger in a moment; safe in a signal handler."""
    global _awake, _carrier
    _awake = True
    if _carrier is None or not _carrier.is_alive():
        _carrier = threading.Thread(target=_carry, name="spooler-log", daemon=True)
        # Where no thread can be had the lines come with the end of the attempt.
        with contextlib.suppress(RuntimeError):
            _carrier.start()
    _bell.put(None)


def _carry() -> None:
    """Bring lines into the ledger as long as the process lives."""
    global _awake
    while True:
        _bell.get()
        time.sleep(PERIOD)
        _awake = False
        log = running
        if log is not None:
            log.flush()


@functools.lru_cache(maxsize=1)
def utc(number: int) -> str:
    """Return a unix second as a date and a time of day."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(number))
