"""Each fault of uWSGI's spooler is gone or guarded: one test a fault, named after it."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jobs
import pytest
from jobs import notes
from server import Server, client, ended, free_port, outcomes, wait_until
from standstill import Standstill

from flask_spooler.job import encode_packet, new_id
from flask_spooler.spool import PREFIX
from flask_spooler.state import AppState

Start = Callable[..., Server]

SCHEDULED = int(os.environ.get("SCHEDULED", "20000"))
"""How many jobs are scheduled far ahead; ``make soak`` asks for 100,000."""

HALF = "py-call-osafterfork"
"""With this option uWSGI tells Python of a fork, but only afterwards."""

BEARS_HALVES = sys.version_info < (3, 13)


@pytest.mark.timeout(900)
def test_of_thousands_of_jobs_scheduled_under_load_none_starts_early(
    start_server: Start,
) -> None:
    server = start_server(processes=4)
    quick = jobs.quick
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process") as state:
        stop = threading.Event()

        def load() -> None:
            while not stop.wait(0.005):
                server.get("/uwsgi_spool?duration=0")

        loaders = [threading.Thread(target=load) for _ in range(2)]
        for loader in loaders:
            loader.start()
        dice = random.Random(20_000)
        now = time.time()
        soon = [quick.using(at=now + dice.uniform(1, 25)).enqueue() for _ in range(1_000)]
        for _ in range(SCHEDULED // 1_000):
            quick.using(delay=36_000).enqueue_many([()] * 900)
            for _ in range(100):
                quick.using(delay=36_000).enqueue()
        stop.set()
        for loader in loaders:
            loader.join()
        for job in soon:
            job.wait(60)
        late = []
        for job in soon:
            record = job.record
            assert record.started_at is not None
            assert record.started_at >= record.due_at
            late.append(record.started_at - record.due_at)
        wait_until(lambda: not counts(state)["queued"] and not counts(state)["running"], 60)
        assert counts(state)["scheduled"] == SCHEDULED
    print(f"late by p50 {sorted(late)[500] * 1e3:.1f} ms, p99 {sorted(late)[990] * 1e3:.1f} ms")


def counts(state: AppState) -> dict[str, int]:
    return state.engine.ledger.counts()["default"]


@pytest.mark.alone
def test_a_job_is_started_soon_after_a_spooler_becomes_free_whatever_the_frequency(
    start_server: Start, tmp_path: Path, standstill: Standstill
) -> None:
    server = start_server(processes=2, options=("--spooler-frequency", "30"))
    with client(jobs.spooler, server.directory):
        for _ in range(2):
            assert server.get("/uwsgi_spool?duration=1").status == 202
        wait_until(lambda: server.log.count("Working in uwsgi spool") == 2)
        behind = server.get("/uwsgi_spool?duration=0").json["id"]
        job = ended(jobs.spooler.get(behind))
        first = min(
            record.finished_at or 0
            for record in (
                jobs.spooler.get(item.id).record
                for item in jobs.spooler.engine.ledger.find(limit=10)
            )
            if record.id != behind
        )
    assert job["started_at"] - first < 0.05 + standstill.seconds


def test_a_segfaulting_job_runs_three_times_seconds_apart_and_holds_nobody_up(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=3)
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process"):
        poison = jobs.segfault.enqueue(str(tmp_path / "poison"))
        healthy = jobs.quick.enqueue_many([()] * 1_000)
        for job in healthy:
            assert ended(job, 60)["state"] == "succeeded"
        shown = ended(poison, 40)
    assert shown["state"] == "dead"
    assert outcomes(shown) == ["crashed"] * 3
    assert "its process died" in shown["error"]["message"]
    times = [float(line[1]) for line in notes(tmp_path / "poison")]
    assert len(times) == 3
    assert times[2] - times[1] >= 2.0
    assert (server.directory / "dead" / shown["id"]).exists()


def test_a_job_that_takes_the_whole_server_down_each_time_ends_dead(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=1)
    with client(jobs.spooler, server.directory):
        job = jobs.take_down_the_server.enqueue(str(tmp_path / "out"))
        for runs in itertools.count(1):
            wait_until(lambda: job.state == "dead" or gone(server), 60)
            if job.state == "dead":
                break
            assert runs <= 10
            server.kill()  # a worker that had just been forked may not notice its master's end
            hurry(server)
            server.port = free_port()  # the old one may be somebody else's by now
            server.start(wait=False)
        shown = job.as_dict()
    assert outcomes(shown) == ["interrupted"] * 10
    assert len(notes(tmp_path / "out")) == 10


def gone(server: Server) -> bool:
    assert server.process is not None
    return server.process.poll() is not None


def hurry(server: Server) -> None:
    """Let the leases pass that keep a killing job from coming back at once."""
    for file in server.directory.glob(f"{PREFIX}*"):
        os.utime(file, (0, 0))


def test_a_job_whose_task_this_code_does_not_know_is_kept_and_put_off(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    with client(jobs.spooler, server.directory) as state:

        @jobs.spooler.task(name="new.code")
        def added_by_a_newer_version() -> None:
            raise AssertionError("the server cannot know this function")

        try:
            job = added_by_a_newer_version.enqueue()
            wait_until(lambda: job.error)
            assert job.state == "scheduled"
            assert job.attempt == 0
            assert "no task is named 'new.code'" in str(job.error)
            assert state.engine.spool.has("waiting", job.id)
        finally:
            del jobs.spooler.tasks["new.code"]


def test_two_servers_on_one_spool_run_each_job_once(start_server: Start, tmp_path: Path) -> None:
    first, second = start_server(processes=2), start_server(processes=2)
    with client(jobs.spooler, first.directory, SPOOLER_DURABILITY="process"):
        out = tmp_path / "out"
        for i in range(200):
            server = (first, second)[i % 2]
            assert server.get("/uwsgi_spool?duration=0").status == 202
        many = jobs.write.enqueue_many([(str(out),)] * 200)
        for job in many:
            assert ended(job, 60)["state"] == "succeeded"
        first.stop()
        last = jobs.write.using(delay=0.5).enqueue(str(out))
        assert ended(last)["state"] == "succeeded"
    ran = [line[2] for line in notes(out)]
    assert sorted(ran) == sorted(job.id for job in [*many, last])
    for server in (first, second):
        assert "Traceback" not in server.log


def test_a_finished_job_whose_file_cannot_be_removed_runs_once(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(processes=2)
    with client(jobs.spooler, server.directory):
        job = jobs.hold.enqueue(str(tmp_path / "out"), 1)
        file = wait_until(lambda: next(server.directory.glob(f"{PREFIX}*"), None))
        subprocess.run(["chattr", "+a", str(server.directory)], check=True)
        try:
            assert ended(job)["state"] == "succeeded"
            wait_until(lambda: "cannot be removed" in server.log or "unlink" in server.log)
            seen = server.log.count("unlink")
            wait_until(lambda: server.log.count("cannot be removed") >= 1, 20)
            assert server.log.count("unlink") <= seen + 2
        finally:
            subprocess.run(["chattr", "-a", str(server.directory)], check=True)
        hurry(server)
        wait_until(lambda: not file.exists())
    assert [line[0] for line in notes(tmp_path / "out")] == ["start", "end"]


@pytest.mark.timeout(200)
def test_damaged_cut_and_foreign_files_are_never_run_and_all_accounted_for(
    start_server: Start, tmp_path: Path
) -> None:
    uwsgi_port = free_port()
    server = start_server(
        processes=4,
        environment={"FLASK_SPOOLER_FOREIGN_PACKETS": "[]"},
        options=("--socket", f"127.0.0.1:{uwsgi_port}"),
    )
    dice = random.Random(10_000)
    out = tmp_path / "out"
    with client(jobs.spooler, server.directory, SPOOLER_DURABILITY="process") as state:
        whole = encode_packet(
            jobs.write.job((str(out), "damaged"), {}, time.time()), state.engine.key
        )
        foreign_key = encode_packet(
            jobs.write.job((str(out), "foreign"), {}, time.time()), b"another key of a spool"
        )
        aside = tmp_path / "aside"
        aside.mkdir()
        good = []
        for number in range(10_000):
            data = [
                lambda: flip(whole, dice),
                lambda: whole[: dice.randrange(len(whole))],
                lambda: whole + dice.randbytes(dice.randrange(1, 50)),
                lambda: dice.randbytes(dice.randrange(400)),
                lambda: foreign_key,
                lambda: packet({b"ud_spool_func": b"os.abort", b"args": b"cos\nabort\n(tR."}),
                lambda: packet({b"function_name": b"os.abort", b"args": b"cos\nabort\n(tR."}),
            ][number % 7]()
            file = aside / f"{PREFIX}{time.time_ns()}_{new_id()}"
            file.write_bytes(data)
            file.rename(server.directory / file.name)
            if number % 100 == 0:
                good.append(jobs.write.enqueue(str(out), "good"))
        for number in range(100):
            with socket.create_connection(("127.0.0.1", uwsgi_port)) as connection:
                connection.sendall(packet({b"task": b"os.abort", b"n": b"%d" % number}))
                connection.settimeout(5)
                connection.recv(100)
        for job in good:
            assert ended(job, 60)["state"] == "succeeded"
        # What is left in the window are files of under four bytes, which uWSGI skips.
        wait_until(lambda: all(size(f) < 4 for f in server.directory.glob(f"{PREFIX}*")), 120)
        skipped = len(list(server.directory.glob(f"{PREFIX}*")))
        kept = len(list((server.directory / "corrupt").iterdir()))
        unlinked = 10_100 - skipped - kept
        assert server.get("/jobs/nobody").status == 404
    assert {line[0] for line in notes(out)} == {"good"}
    assert len(notes(out)) == len(good)
    print(f"10,100 bad files: {kept} kept, {skipped} skipped, {unlinked} unlinked by uWSGI itself")
    # uWSGI unlinks what is cut within its header's size, or whose pairs do not parse.
    assert kept > 5_000


def flip(data: bytes, dice: random.Random) -> bytes:
    # Not in the header: uWSGI ignores its modifiers, and what is left is a whole, signed job.
    place = dice.randrange(4 * 8, len(data) * 8)
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def packet(pairs: dict[bytes, bytes]) -> bytes:
    body = b"".join(struct.pack("<H", len(item)) + item for pair in pairs.items() for item in pair)
    return struct.pack("<BHB", 17, len(body), 0) + body


def size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def test_a_full_disk_answers_503_leaves_nothing_and_works_again(
    start_server: Start, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], check=True)
    try:
        server = start_server(directory=disk / "spool")
        assert server.get("/uwsgi_spool?duration=0").status == 202
        filler = disk / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], check=False)
        answer = server.get("/uwsgi_spool?duration=0")
        assert answer.status == 503
        assert answer.headers["Retry-After"]
        assert "nothing was enqueued" in answer.json["error"]["message"]
        assert not list((server.directory / "tmp").iterdir())
        assert not list((server.directory / "waiting").iterdir())
        filler.unlink()
        job_id = server.get("/uwsgi_spool?duration=0").json["id"]
        wait_until(lambda: server.job(job_id)["state"] == "succeeded")
        server.kill()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.timeout(300)
def test_ten_drains_and_reloads_under_load_interrupt_nothing_and_fail_no_request(
    start_server: Start,
) -> None:
    server = start_server(processes=2)
    ids: list[str] = []
    failures: list[object] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.wait(0.2):
            answer = server.get("/uwsgi_spool?duration=0.02")
            if answer.status == 202:
                ids.append(answer.json["id"])
            else:
                failures.append(answer)

    loaders = [threading.Thread(target=load) for _ in range(12)]
    for loader in loaders:
        loader.start()
    began = time.monotonic()
    try:
        for number in range(1, 11):
            accepted = len(ids)
            wait_until(lambda seen=accepted: len(ids) > seen + 40, 30)
            before = server.log.count("spawned uWSGI mule")
            server.flask("spooler", "drain", "--timeout", "20")
            server.send(signal.SIGHUP)
            wait_until(lambda seen=before: server.log.count("spawned uWSGI mule") > seen, 30)
            assert number <= server.log.count("...gracefully killing workers...")
    finally:
        stop.set()
        for loader in loaders:
            loader.join()
    rate = len(ids) / (time.monotonic() - began)
    with client(jobs.spooler, server.directory):
        outcomes = {
            attempt["outcome"]
            for job_id in ids
            for attempt in ended(jobs.spooler.get(job_id), 60)["attempts"]
        }
    assert not failures
    assert rate > 15
    assert outcomes == {"succeeded"}
    print(f"{len(ids)} jobs during ten reloads, {rate:.0f} a second")


assert shutil.which("chattr"), "these tests need chattr, from e2fsprogs"


def test_a_shell_with_another_key_than_the_servers_is_told_so_before_it_enqueues(
    start_server: Start, tmp_path: Path
) -> None:
    server = start_server(environment={"SPOOLER_KEY": "the key of the server"})
    server.environment["SPOOLER_KEY"] = "the key of a wrong shell"
    refused = server.flask("spooler", "enqueue", "jobs.write", f"path={tmp_path}/out", check=False)
    assert refused.returncode == 1
    assert "signs with another key" in refused.stderr
    assert server.files() == []
    server.stop()
    server.start()  # with the other key: now it is the server's
    assert server.flask("spooler", "enqueue", "jobs.quick").returncode == 0


@pytest.mark.parametrize(
    "option", ["lazy-apps", "py-call-uwsgi-fork-hooks", *([] if BEARS_HALVES else [HALF])]
)
def test_a_server_with_an_option_that_jobs_cannot_bear_says_why_it_does_not_start(
    start_server: Start, option: str
) -> None:
    with pytest.raises(AssertionError, match=f"take {option} out of uWSGI's options"):
        start_server(options=(f"--{option}",))


@pytest.mark.parametrize("options", [(), *([(f"--{HALF}",)] if BEARS_HALVES else [])])
def test_python_and_its_libraries_are_told_of_each_fork_of_uwsgi(
    start_server: Start, tmp_path: Path, options: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    server = start_server(
        environment={"OUT": str(out)}, options=("--module", "forked_app:app", *options)
    )
    wait_until(lambda: len(notes(out)) == 5)
    seen = Counter(tuple(line) for line in notes(out))
    # Of its two halves uWSGI knows only the second.
    halves = ("(0,", "1)", "False") if options else ("(1,", "1)", "False")
    assert seen == {("worker", *halves): 2, ("spooler", *halves): 2, ("mule", *halves): 1}
    server.stop()
