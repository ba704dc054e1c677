"""uWSGI's own spooler as its manual shows it: no status, no limit, one callable."""

from __future__ import annotations

from benchmarks.marks import from_environment

try:
    import uwsgi
except ImportError:  # for whoever looks at this outside uWSGI
    uwsgi = None

MARKS = from_environment()


def run(packet: dict[str | bytes, bytes]) -> int:
    MARKS.run(int(packet[b"n"]))
    return int(uwsgi.SPOOL_OK)


def enqueue(n: int) -> None:
    uwsgi.spool({b"n": str(n).encode()})


def enqueue_at(first: int, count: int, start: float, gap: float) -> None:
    for n in range(first, first + count):
        MARKS.sent[n] = start + gap * (n - first)
        uwsgi.spool({b"n": str(n).encode(), b"at": str(int(MARKS.sent[n])).encode()})


def spooler_pids() -> list[int]:
    return [pid for pid in uwsgi.spooler_pids() if pid > 0]


if uwsgi is not None:
    uwsgi.spooler = run
