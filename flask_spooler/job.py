"""What travels: a job, frozen, as JSON, signed. Never pickle.

Owns the format of a job file, which is a packet of uWSGI's spooler::

    17  size  0          modifier1, uint16 little-endian size of the pairs, modifier2
    flask_spooler = 1    the pairs: format version, and the signature as hex
    signature = …
    {"id": …}            the body: the job as one JSON object, of any size

The arguments stand in the body because a pair's sizes are uint16 in uWSGI, which cuts longer
values without a word. The signature is an HMAC-SHA256 over the whole body with the spool's own
key, so a file that was cut, extended, changed or made by somebody else is never run. A job is
written once and never changed: what happens to it later stands in the ledger and in the place
where its file lies.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import struct
import threading
import time
from typing import Any, Final

import msgspec

from ._uwsgi import Packet
from .errors import NewerFormat, PacketError

FORMAT: Final = 1
MARK: Final = b"flask_spooler"
SIGNATURE: Final = b"signature"

DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"
PAIRS: Final = [first + second for first in DIGITS for second in DIGITS]

_ID: Final = re.compile(r"[0-9A-Za-z_-]{20,40}", re.ASCII)

SCHEDULED: Final = "scheduled"
QUEUED: Final = "queued"
RUNNING: Final = "running"
RETRYING: Final = "retrying"
SUCCEEDED: Final = "succeeded"
DEAD: Final = "dead"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"
STATES: Final = (SCHEDULED, QUEUED, RUNNING, RETRYING, SUCCEEDED, DEAD, CANCELLED, EXPIRED)
FINAL: Final = frozenset({SUCCEEDED, DEAD, CANCELLED, EXPIRED})
REVIVABLE: Final = frozenset({DEAD, CANCELLED, EXPIRED})


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request to run a task, with everything needed to run it.

    Times are unix seconds; `kwargs` is the JSON object of all arguments by parameter name.
    `backoff`, `retry_on` and `discard_on` are set only where `using(...)` overrides the task's
    own; callables and classes travel as ``module:qualname``. `trace` is the W3C ``traceparent``
    of the enqueue, where `SPOOLER_TRACING` is on.
    """

    id: str
    task: str
    kwargs: msgspec.Raw
    enqueued_at: float
    due_at: float
    queue: str = "default"
    priority: int = 0
    max_attempts: int = 5
    timeout: float | None = None
    hard_timeout: float | None = None
    expires_at: float | None = None
    unique: str | None = None
    on_duplicate: str = "return"
    tags: tuple[str, ...] = ()
    backoff: list[float] | str | None = None
    retry_on: list[str] | None = None
    discard_on: list[str] | None = None
    trace: str | None = None
    format: int = FORMAT

    @property
    def is_scheduled(self) -> bool:
        """Whether it was enqueued for a later time."""
        return self.due_at > self.enqueued_at


class _Format(msgspec.Struct):
    format: Any = FORMAT


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Job)
_format_decoder = msgspec.json.Decoder(_Format)


def encode_packet(job: Job, key: bytes) -> bytes:
    """Return the whole job file: header, signed pairs, body."""
    body = _encoder.encode(job)
    pairs = _pair(MARK, b"%d" % FORMAT) + _pair(SIGNATURE, _sign(body, key))
    return struct.pack("<BHB", 17, len(pairs), 0) + pairs + body


def open_packet(packet: Packet, key: bytes) -> Job:
    """Return the job in a packet as uWSGI hands it to a spooler callable.

    Raises `PacketError` for anything that is not a whole job signed with `key`, and `NewerFormat`
    for a signed job of a later version.
    """
    body = packet.get("body", b"")
    if not hmac.compare_digest(_sign(body, key), packet.get(SIGNATURE, b"")):
        raise PacketError("the signature does not fit: cut, changed, or signed with another key")
    if packet.get(MARK) != b"%d" % FORMAT:
        raise PacketError("its pairs were changed")
    try:
        version = _format_decoder.decode(body).format
        if version != FORMAT:
            raise NewerFormat(version, FORMAT)
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise PacketError(f"signed, but not a job: {error}") from error


def parse_file(data: bytes) -> Packet:
    """Return the packet in the bytes of a job file, as uWSGI would hand it over.

    Raises `PacketError` where the bytes are no packet. The inverse of the framing in
    `encode_packet`, for jobs that are read by us and not by uWSGI.
    """
    if len(data) < 4 or data[0] != 17:
        raise PacketError("not a spooler packet: the header is missing")
    size = struct.unpack_from("<H", data, 1)[0]
    if len(data) < 4 + size:
        raise PacketError("the packet is cut within its pairs")
    packet: Packet = dict(_split_pairs(data[4 : 4 + size]))
    if len(data) > 4 + size:
        packet["body"] = data[4 + size :]
    return packet


def open_file(data: bytes, key: bytes, job_id: str) -> Job:
    """Return the job in the bytes of a file that has this id for its name.

    Raises `PacketError`, for the file of another job too, and `NewerFormat`.
    """
    job = open_packet(parse_file(data), key)
    if job.id != job_id:
        raise PacketError(f"it bears the name of another job than {job.id}")
    return job


def is_id(text: str) -> bool:
    """Tell whether this could be the id of a job; anything may come from URLs and shells."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def is_ours(packet: Packet) -> bool:
    """Tell whether a packet claims to be a job of this library; its signature decides later."""
    return MARK in packet


_id_lock = threading.Lock()
_last_nanoseconds = 0


def new_id(now: float | None = None) -> str:
    """Return a new id: 29 digits of base 32, sorting by time, with 80 random bits.

    Ids made by one process always ascend; between processes they sort as well as their clocks.
    """
    global _last_nanoseconds
    nanoseconds = time.time_ns() if now is None else int(now * 1e9)
    with _id_lock:
        nanoseconds = _last_nanoseconds = max(nanoseconds, _last_nanoseconds + 1)
    number = nanoseconds << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join([PAIRS[number >> shift & 1023] for shift in range(140, -1, -10)])[1:]


def id_at(when: float) -> str:
    """Return a text that sorts between the ids of jobs enqueued before and after a time."""
    nanoseconds = max(0, int(when * 1e9))
    return "".join(DIGITS[nanoseconds >> 5 * place & 31] for place in range(12, -1, -1))


def _sign(body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, body, hashlib.sha256).hex().encode()


def _pair(name: bytes, value: bytes) -> bytes:
    return struct.pack("<H", len(name)) + name + struct.pack("<H", len(value)) + value


def _split_pairs(data: bytes) -> list[tuple[bytes, bytes]]:
    strings, place = [], 0
    while place < len(data):
        if place + 2 > len(data):
            raise PacketError("a pair is cut")
        size = struct.unpack_from("<H", data, place)[0]
        place += 2 + size
        if place > len(data):
            raise PacketError("a pair is longer than the packet")
        strings.append(data[place - size : place])
    if len(strings) % 2:
        raise PacketError("a key has no value")
    return list(zip(strings[::2], strings[1::2], strict=True))
