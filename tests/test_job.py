"""The job file: what is written comes back, and nothing else is ever opened."""

from __future__ import annotations

import re
import struct
import threading
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_spooler._uwsgi import Packet
from flask_spooler.errors import NewerFormat, PacketError
from flask_spooler.job import (
    MARK,
    SIGNATURE,
    Job,
    _pair,
    _sign,
    encode_packet,
    is_ours,
    new_id,
    open_packet,
    parse_file,
)
from tests.helpers import KEY, NOW, make_job

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=50)
times = st.floats(0, 1e11, allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | times | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
jobs = st.builds(
    Job,
    id=st.from_regex(r"[0-9A-Za-z_-]{20,40}", fullmatch=True),
    task=texts,
    kwargs=st.dictionaries(texts, json_values, max_size=4).map(
        lambda kwargs: msgspec.Raw(msgspec.json.encode(kwargs))
    ),
    enqueued_at=times,
    due_at=times,
    queue=texts,
    priority=st.integers(-100, 100),
    max_attempts=st.integers(1, 2**40),
    timeout=st.none() | times,
    hard_timeout=st.none() | times,
    expires_at=st.none() | times,
    unique=st.none() | texts,
    backoff=st.none() | texts | st.lists(times, max_size=4),
    retry_on=st.none() | st.lists(texts, max_size=3),
    discard_on=st.none() | st.lists(texts, max_size=3),
)


def opened(data: bytes, key: bytes = KEY) -> Job:
    return open_packet(parse_file(data), key)


def assert_is_never_opened(data: bytes, key: bytes = KEY) -> None:
    with pytest.raises((PacketError, NewerFormat)):
        opened(data, key)


def signed_file(body: bytes) -> bytes:
    pairs = _pair(MARK, b"1") + _pair(SIGNATURE, _sign(body, KEY))
    return struct.pack("<BHB", 17, len(pairs), 0) + pairs + body


@given(jobs)
def test_every_job_comes_back_from_its_file_as_it_was(job: Job) -> None:
    assert opened(encode_packet(job, KEY)) == job


@given(jobs, st.data())
def test_a_job_with_one_flipped_bit_is_never_opened_as_another_job(
    job: Job, data: st.DataObject
) -> None:
    whole = bytearray(encode_packet(job, KEY))
    place = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[place // 8] ^= 1 << place % 8
    try:
        found = opened(bytes(whole))
    except (PacketError, NewerFormat):
        return
    # Two bytes carry no meaning that uWSGI or we act on: modifier2, and our mark's own value.
    assert found == job
    mark = 4 + 2
    assert place // 8 == 3 or mark <= place // 8 < 4 + len(_pair(MARK, b"1"))


@pytest.mark.parametrize("bit", range(8))
def test_a_job_with_one_flipped_bit_in_signature_or_body_is_never_opened(bit: int) -> None:
    whole = encode_packet(make_job(kwargs={"path": "a.png"}), KEY)
    start = 4 + len(_pair(MARK, b"1"))
    for place in range(start, len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 1 << bit
        assert_is_never_opened(bytes(broken))


def test_a_job_that_is_cut_anywhere_is_never_opened() -> None:
    whole = encode_packet(make_job(kwargs={"path": "a.png"}), KEY)
    for length in range(len(whole)):
        assert_is_never_opened(whole[:length])


@given(jobs, st.binary(min_size=1, max_size=20))
def test_a_job_with_extra_bytes_is_never_opened(job: Job, extra: bytes) -> None:
    assert_is_never_opened(encode_packet(job, KEY) + extra)


@given(jobs, st.binary(max_size=40).filter(lambda key: key.rstrip(b"\0") != KEY))
def test_a_job_signed_with_another_key_is_never_opened(job: Job, key: bytes) -> None:
    assert_is_never_opened(encode_packet(job, KEY), key)


def test_a_job_whose_body_is_empty_or_missing_is_never_opened() -> None:
    with pytest.raises(PacketError, match="signature"):
        open_packet({MARK: b"1"}, KEY)
    with pytest.raises(PacketError, match="signature"):
        open_packet({}, KEY)
    assert_is_never_opened(signed_file(b""))


def test_a_body_hidden_in_the_pairs_is_not_the_body() -> None:
    body = msgspec.json.encode(make_job())
    packet: Packet = {MARK: b"1", SIGNATURE: _sign(body, KEY), b"body": body}
    with pytest.raises(PacketError):
        open_packet(packet, KEY)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b"{", b"\xff", b'{"id": 5}', b'"text"'])
def test_what_is_signed_but_no_job_is_never_opened(body: bytes) -> None:
    with pytest.raises(PacketError, match="not a job"):
        opened(signed_file(body))


@pytest.mark.parametrize("version", [2, 99, "2", None, [1]])
def test_a_signed_job_of_another_format_is_told_apart_from_a_broken_one(version: object) -> None:
    body = msgspec.json.encode({"format": version, "payload": "of a later version"})
    with pytest.raises(NewerFormat, match="up to 1"):
        opened(signed_file(body))


@given(st.binary(max_size=300))
def test_reading_random_bytes_raises_nothing_but_a_packet_error(data: bytes) -> None:
    try:
        packet = parse_file(data)
    except PacketError:
        return
    assert data[0] == 17
    assert all(isinstance(value, bytes) for value in packet.values())


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_reading_a_framed_packet_of_random_pairs_raises_nothing_but_a_packet_error(
    pairs: bytes, body: bytes
) -> None:
    data = struct.pack("<BHB", 17, len(pairs), 0) + pairs + body
    try:
        packet = parse_file(data)
    except PacketError:
        return
    assert packet.get("body", b"") == body


@given(
    st.dictionaries(st.binary(max_size=30), st.binary(max_size=90), max_size=6),
    st.binary(max_size=90),
)
def test_a_packet_of_any_library_is_read_as_uwsgi_would_hand_it_over(
    pairs: dict[bytes, bytes], body: bytes
) -> None:
    framed = b"".join(_pair(name, value) for name, value in pairs.items())
    data = struct.pack("<BHB", 17, len(framed), 0) + framed + body
    expected: Packet = {**pairs, "body": body} if body else {**pairs}
    assert parse_file(data) == expected


def test_a_job_larger_than_a_uwsgi_value_keeps_every_byte() -> None:
    job = make_job(kwargs={"text": "ü" * 70_000})
    assert opened(encode_packet(job, KEY)).kwargs == job.kwargs


def test_only_a_packet_with_the_mark_claims_to_be_ours() -> None:
    assert is_ours(parse_file(encode_packet(make_job(), KEY)))
    assert not is_ours({b"ud_spool_func": b"work"})
    assert not is_ours({"body": MARK})


def test_ids_have_the_form_that_urls_and_files_rely_on() -> None:
    for _ in range(1000):
        assert re.fullmatch(r"[0-9A-Za-z_-]{20,40}", new_id())


def test_ids_of_one_process_ascend_and_differ_even_in_one_instant() -> None:
    ids = [new_id() for _ in range(2000)] + [new_id(now=NOW - 1e9) for _ in range(2000)]
    assert ids == sorted(ids)
    assert len({each[:13] for each in ids}) == len(ids)


def test_ids_sort_by_the_time_of_enqueue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_spooler.job._last_nanoseconds", 0)
    later = time.time() + 3600
    times = [later + step for step in (0.0, 0.001, 1.0, 86_400.0, 1e9)]
    ids = [new_id(now=each) for each in times]
    assert ids == sorted(ids)


def test_ids_carry_at_least_64_random_bits() -> None:
    tails = [new_id()[13:] for _ in range(500)]
    assert {len(tail) for tail in tails} == {16}
    assert len(set(tails)) == len(tails)
    for place in range(16):
        assert len({tail[place] for tail in tails}) > 16


def test_threads_never_make_the_same_id() -> None:
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.extend([new_id() for _ in range(500)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each[:13] for each in made}) == len(made) == 2000


def test_a_job_cannot_be_changed() -> None:
    job = make_job()
    with pytest.raises(AttributeError):
        job.priority = 5  # type: ignore[misc]
