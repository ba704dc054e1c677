"""What is kept of a job's output: what comes, in its order, within bounds, and never twice."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flask_spooler import aside, capture, log, upkeep
from flask_spooler._uwsgi import Process
from flask_spooler.engine import SpoolEngine
from flask_spooler.errors import JobTimeout, LedgerError
from flask_spooler.interrupts import deliver
from flask_spooler.ledger import Ledger, logs
from flask_spooler.log import LONGEST_LINE, LONGEST_LOG, PERIOD, PIECE, Log
from flask_spooler.record import Change, Output, Unrecorded
from tests.helpers import NOW, in_child, make_job, wait_until

OUT, ERR = object(), object()
HEAD = re.compile(r"^--- attempt \d+, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, process \d+ ---$")


class Shelf:
    """Stands for the ledger: takes output, or refuses it."""

    def __init__(self) -> None:
        self.taken: list[Output] = []
        self.is_open = True

    def save(self, job_id: str, output: Output) -> bool:
        if self.is_open:
            self.taken.append(output)
        return self.is_open


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setattr(log, "_awake", True)  # no thread takes anything behind the test's back
    return Shelf()


@pytest.fixture
def job_log(shelf: Shelf) -> Log:
    return Log("a" * 29, 1, shelf.save)


@pytest.fixture
def ledger(memory: Path) -> Ledger:
    return Ledger(memory / "ledger.db")


def lines(output: Output | None) -> list[str]:
    """The lines of what was kept, without the one that begins the attempt."""
    assert output is not None
    return [line for line in output.text.split("\n") if not HEAD.match(line)][:-1]


def rest(job_log: Log) -> list[str]:
    return lines(job_log.rest())


def keep(ledger: Ledger, job_id: str, text: str, cut: int = 0, begins: bool = False) -> None:
    with ledger.transaction() as rows:
        rows.log(job_id, Output(text, cut, begins))


def text_of(ledger: Ledger, job_id: str, after: int = 0) -> str:
    return "".join(text for _, text in ledger.log(job_id, after))


# What one attempt has written.


def test_nothing_written_is_nothing_kept(job_log: Log) -> None:
    assert job_log.rest() is None
    assert not job_log.is_used


def test_lines_come_back_in_their_order_after_one_that_names_the_attempt(job_log: Log) -> None:
    for number in range(5):
        job_log.add(b"line %d\n" % number, OUT if number % 2 else ERR)
    output = job_log.rest()
    assert output is not None
    assert HEAD.match(output.text.split("\n")[0])
    assert lines(output) == [f"line {number}" for number in range(5)]
    assert job_log.rest() is None


def test_what_was_saved_does_not_come_again(job_log: Log, shelf: Shelf) -> None:
    job_log.add(b"first\n", OUT)
    job_log.flush()
    job_log.flush()
    job_log.add(b"second\n", OUT)
    assert [lines(output) for output in shelf.taken] == [["first"]]
    assert job_log.rest() == Output("second\n")


def test_what_could_not_be_saved_comes_later_and_in_order(job_log: Log, shelf: Shelf) -> None:
    shelf.is_open = False
    job_log.add(b"first\n", OUT)
    job_log.flush()
    job_log.add(b"second\n", OUT)
    job_log.flush()
    shelf.is_open = True
    job_log.flush()
    assert [lines(output) for output in shelf.taken] == [["first", "second"]]
    assert shelf.taken[0].begins


def test_a_line_is_never_continued_by_another_source(job_log: Log) -> None:
    job_log.add(b"out", OUT)
    job_log.add(b"put", OUT)
    job_log.add(b"err\n", ERR)
    job_log.add(b"more", OUT)
    assert rest(job_log) == ["output", "err", "more"]


def test_only_the_newest_are_kept_and_what_was_cut_is_counted(job_log: Log) -> None:
    written = [b"%07d\n" % number for number in range(100_000)]
    for line in written:
        job_log.add(line, OUT)
    output = job_log.rest()
    found = lines(output)
    assert output is not None
    assert found[-1] == "0099999"
    assert found == [line.decode().rstrip() for line in written[-len(found) :]]
    assert LONGEST_LOG - 16 < len(found) * 8 <= LONGEST_LOG
    assert output.cut == len(written) * 8 - len(found) * 8


def test_a_refused_save_does_not_make_room_for_more(job_log: Log, shelf: Shelf) -> None:
    shelf.is_open = False
    for number in range(100_000):
        job_log.add(b"%07d\n" % number, OUT)
        if number % 10_000 == 0:
            job_log.flush()
    output = job_log.rest()
    assert output is not None
    found = lines(output)
    assert len(found) * 8 <= LONGEST_LOG
    assert output.cut + len(found) * 8 == 800_000


def test_what_was_refused_is_older_than_what_filled_the_log_meanwhile(shelf: Shelf) -> None:
    def refuse(job_id: str, output: Output) -> bool:
        for number in range(50_000):
            job_log.add(b"%07d\n" % number, OUT)
        return False

    job_log = Log("a" * 29, 1, refuse)
    job_log.add(b"an old line\n", OUT)
    job_log.flush()
    output = job_log.rest()
    assert output is not None
    assert "old" not in output.text
    assert output.cut + len(lines(output)) * 8 == 12 + 400_000


@pytest.mark.parametrize("pieces", [1, 7, 200_000])
def test_a_long_line_is_cut_at_its_end_and_says_how_much(job_log: Log, pieces: int) -> None:
    line = b"x" * 200_000
    size = len(line) // pieces
    job_log.add(b"before\n", OUT)
    for start in range(0, len(line), size):
        job_log.add(line[start : start + size], OUT)
    job_log.add(b"\nafter\n", OUT)
    cut = len(line) - LONGEST_LINE
    assert rest(job_log) == [
        "before",
        "x" * LONGEST_LINE + f" [{cut} bytes of this line are cut]",
        "after",
    ]


def test_a_long_line_that_another_source_ends_is_cut_like_any_other(job_log: Log) -> None:
    job_log.add(b"x" * (LONGEST_LINE + 5), OUT)
    job_log.add(b"error\n", ERR)
    assert rest(job_log)[0].endswith("x [5 bytes of this line are cut]")


def test_a_progress_bar_keeps_its_newest_state(job_log: Log) -> None:
    bar = [b"\r%7d of 20000" % number for number in range(20_000)]
    for state in bar:
        job_log.add(state, ERR)
    assert rest(job_log)[-1].endswith("  19999 of 20000")


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_one_huge_piece_of_lines_leaves_its_newest_lines(job_log: Log, ending: bytes) -> None:
    job_log.add(b"half a line", ERR)
    written = [b"%09d" % number for number in range(500_000)]
    job_log.add(b"\n".join(written) + ending, OUT)
    job_log.add(b"last\n", ERR)
    output = job_log.rest()
    assert output is not None
    found = lines(output)
    assert found[-2:] == ["000499999", "last"]
    size = sum(len(line) + 1 for line in found)
    assert LONGEST_LOG - 2 * PIECE < size <= LONGEST_LOG
    assert output.cut + size == 5_000_000 + len("half a line\n") + len("last\n")


def test_one_huge_line_leaves_its_beginning(job_log: Log) -> None:
    job_log.add(b"before\n", OUT)
    job_log.add(b"begin" + b"x" * 5_000_000 + b"\n", OUT)
    before, huge = rest(job_log)
    assert before == "before"
    assert huge.startswith("beginxxx")
    assert huge.endswith(f" [{5_000_005 - LONGEST_LINE} bytes of this line are cut]")


def test_bytes_that_are_no_text_are_shown_as_what_they_are(job_log: Log) -> None:
    job_log.add(b"caf\xc3\xa9 \xff \x00 \xed\xa0\x80\n", OUT)
    assert rest(job_log) == ["café \\xff \\x00 \\xed\\xa0\\x80"]


def test_threads_that_write_at_once_lose_nothing(job_log: Log, shelf: Shelf) -> None:
    def write(who: int) -> None:
        for number in range(2_000):
            job_log.add(b"%d %d\n" % (who, number), who)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        job_log.flush()
    job_log.flush()
    found = [line for output in shelf.taken for line in lines(output)]
    for who in range(4):
        own = [line for line in found if line.startswith(f"{who} ")]
        assert own == [f"{who} {number}" for number in range(2_000)]


# What the ledger has of it.


def test_a_reader_gets_what_comes_after_what_it_has(ledger: Ledger) -> None:
    keep(ledger, "job", "first\n")
    ((part, text),) = ledger.log("job")
    assert text == "first\n"
    keep(ledger, "job", "second\n")
    assert text_of(ledger, "job", part) == "second\n"
    assert ledger.log("job", ledger.log("job")[-1][0]) == []
    assert ledger.log("nobody") == []


def test_the_ledger_keeps_the_newest_and_the_first_part_says_what_is_cut(ledger: Ledger) -> None:
    written = "".join(f"{number:07d}\n" for number in range(100_000))
    for start in range(0, len(written), 40_000):
        keep(ledger, "job", written[start : start + 40_000])
    text = text_of(ledger, "job")
    note, _, kept = text.partition("\n")
    assert note == f"--- {len(written) - len(kept):,} bytes are cut ---"
    assert written.endswith(kept)
    assert LONGEST_LOG - 2 * logs.PART < len(kept) <= LONGEST_LOG


def test_a_gap_in_the_middle_is_said_where_it_is(ledger: Ledger) -> None:
    keep(ledger, "job", "before\n")
    keep(ledger, "job", "after\n", cut=1_234)
    assert text_of(ledger, "job") == "before\n--- 1,234 bytes are cut ---\nafter\n"


def test_a_reader_that_fell_behind_is_told_what_it_has_missed(ledger: Ledger) -> None:
    keep(ledger, "job", "first\n")
    ((part, _),) = ledger.log("job")
    keep(ledger, "job", "x" * 99 + "\n", cut=LONGEST_LOG)
    assert ledger.log("job", part)[0][1].startswith(f"--- {LONGEST_LOG:,} bytes are cut ---\nxxx")


def test_an_attempt_begins_on_a_line_of_its_own(ledger: Ledger) -> None:
    keep(ledger, "job", "killed in the mid", begins=True)
    keep(ledger, "job", "second\n", begins=True)
    keep(ledger, "job", "third\n", begins=True)
    assert text_of(ledger, "job") == "killed in the mid\nsecond\nthird\n"


def test_parts_end_with_lines_and_never_within_a_character(ledger: Ledger) -> None:
    text = "é" * 20_000 + "\n" + "a short line\n" * 2_000
    keep(ledger, "job", "x" + text)
    parts = [part for _, part in ledger.log("job")]
    assert "".join(parts) == "x" + text
    assert all(len(part.encode()) <= logs.PART for part in parts)
    assert all(part.endswith("\n") for part in parts[3:])


def test_logs_of_two_jobs_do_not_meet(ledger: Ledger) -> None:
    for number in range(10):
        keep(ledger, f"job {number % 2}", f"{number}\n")
    assert text_of(ledger, "job 0") == "0\n2\n4\n6\n8\n"


def test_a_deleted_job_leaves_no_log(ledger: Ledger) -> None:
    keep(ledger, "job", "line\n")
    with ledger.transaction() as rows:
        rows.delete("job")
    assert ledger.log("job") == []


@pytest.mark.parametrize("state", ["succeeded", "retrying", "dead"])
def test_the_end_of_an_attempt_brings_its_output_once(ledger: Ledger, state: str) -> None:
    job = make_job()
    change = Change(
        outcome="failed", state=state, due_at=NOW, ended_at=NOW, output=Output("last words\n")
    )
    with ledger.transaction() as rows:
        rows.insert(job, "queued", None)
        row = rows.start(job.id, "window", NOW, Process(1, 1), "boot")
        assert rows.settle(row, change)
        assert not rows.settle(row, change)
    assert text_of(ledger, job.id) == "last words\n"


def test_output_waits_in_done_with_the_outcome_that_the_ledger_could_not_take(
    engine: SpoolEngine,
) -> None:
    job_id = engine.submit(make_job())
    window = engine.spool.window_name(job_id)
    assert engine.spool.promote(job_id, window)
    with engine.ledger.transaction() as rows:
        rows.start(job_id, window, NOW, Process(1, 1), "boot")
    change = Change(
        outcome="failed", state="dead", due_at=NOW, ended_at=NOW, output=Output("last words\n")
    )
    aside.keep_outcome(None, engine, window, job_id, Unrecorded(1, change), "it was locked")  # type: ignore[arg-type]
    assert engine.ledger.log(job_id) == []
    kept = msgspec.json.decode(engine.spool.outcome(job_id), type=Unrecorded)
    upkeep.record_late(engine, job_id, kept)
    assert text_of(engine.ledger, job_id) == "last words\n"


# A process in which a job runs.


class Heard:
    """What one job has left: with the job, and in uWSGI's log."""

    def __init__(self, kept: list[str], cut: int, server: str, told: Any) -> None:
        self.kept = kept
        self.cut = cut
        self.server = server
        self.told = told


@pytest.fixture
def hear(tmp_path: Path) -> Callable[..., Heard]:
    """Run a function as a job in a process of its own, whose streams are as uWSGI leaves them."""

    def run(task: Callable[[], Any], before: Callable[[], Any] = lambda: None) -> Heard:
        shelf, told = Shelf(), tmp_path / "told"

        def child() -> None:
            server = os.open(tmp_path / "server.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            for number in (1, 2):
                os.dup2(server, number)
            sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
            sys.stderr = sys.__stderr__ = open(2, "w", closefd=False)  # noqa: SIM115
            root = logging.getLogger()
            root.handlers.clear()
            root.setLevel(logging.WARNING)
            before()
            capture.install()
            capture.begin("a" * 29, 1, shelf.save)
            said = task()
            output = capture.end()
            parts = [*shelf.taken, *([output] if output else [])]
            text = "".join(part.text for part in parts)
            cut = sum(part.cut for part in parts)
            told.write_text(json.dumps([text.split("\n")[1:-1], cut, said]))

        assert in_child(child) == 0, (tmp_path / "server.log").read_text()[-2_000:]
        kept, cut, said = json.loads(told.read_text())
        return Heard(kept, cut, (tmp_path / "server.log").read_text(errors="replace"), said)

    return run


def without_times(line: str) -> str:
    return re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z ", "", line)


def test_prints_errors_and_records_come_in_their_order(hear: Callable[..., Heard]) -> None:
    def task() -> None:
        print("one")
        sys.stderr.write("two\n")
        logging.getLogger("shop").warning("three %d", 3)
        print("fo", end="")
        print("ur")
        sys.stdout.buffer.write(b"five\n")
        print("six", end="")
        logging.getLogger("shop").error("seven")
        print(" and eight")

    heard = hear(task)
    assert [without_times(line) for line in heard.kept] == [
        "one", "two", "WARNING shop: three 3", "four", "five", "six", "ERROR shop: seven",
        " and eight",
    ]  # fmt: skip
    assert heard.server == "one\ntwo\nthree 3\nfour\nfive\nsixseven\n and eight\n"


def test_a_record_has_its_time_level_logger_message_and_traceback(
    hear: Callable[..., Heard],
) -> None:
    def task() -> None:
        try:
            raise KeyError("gone")
        except KeyError:
            logging.getLogger("a.b").exception("it broke")

    first, *trace = hear(task).kept
    assert re.match(r"^2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z ERROR a\.b: it broke$", first)
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == "KeyError: 'gone'"


def test_the_streams_of_a_task_are_streams_over_the_original(hear: Callable[..., Heard]) -> None:
    def task() -> list[Any]:
        return [
            sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout.isatty(),
            sys.stdout.encoding.lower(),
            sys.stdout is sys.__stdout__, isinstance(sys.stdout, io.TextIOWrapper),
            isinstance(sys.stdout.buffer, io.BufferedWriter), sys.stdout.writable(),
            sys.stdout.line_buffering, sys.stdout.buffer.write(b"bytes\n"),
        ]  # fmt: skip

    told = hear(task).told
    assert told == [1, 2, False, "utf-8", True, True, True, True, True, 6]


def test_whoever_took_a_stream_before_the_fork_is_heard_too(hear: Callable[..., Heard]) -> None:
    taken: list[Any] = []
    heard = hear(lambda: print("through it", file=taken[0]), lambda: taken.append(sys.stderr))
    assert heard.kept == ["through it"]


def test_handlers_write_to_the_servers_log_and_not_a_second_time_to_the_jobs(
    hear: Callable[..., Heard],
) -> None:
    def configure() -> None:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="MINE %(message)s")

    def task() -> None:
        logging.getLogger("shop").info("sold")
        logging.getLogger("shop").debug("not asked for")

    heard = hear(task, configure)
    assert [without_times(line) for line in heard.kept] == ["INFO shop: sold"]
    assert heard.server == "MINE sold\n"


def test_a_logger_that_does_not_propagate_is_heard(hear: Callable[..., Heard]) -> None:
    def task() -> None:
        logger = logging.getLogger("alone")
        logger.propagate = False
        logger.warning("here")

    assert [without_times(line) for line in hear(task).kept] == ["WARNING alone: here"]


def test_where_nobody_configured_logging_info_is_kept_and_the_servers_log_stays_as_it_was(
    hear: Callable[..., Heard],
) -> None:
    def task() -> None:
        logging.getLogger("shop").info("sold")
        logging.getLogger("shop").debug("a detail")
        logging.getLogger("shop").warning("sold out")

    heard = hear(task)
    assert [without_times(line) for line in heard.kept] == [
        "INFO shop: sold",
        "WARNING shop: sold out",
    ]
    assert heard.server == "sold out\n"


def test_a_handler_of_one_logger_gets_no_more_than_it_would_without_jobs(
    hear: Callable[..., Heard],
) -> None:
    """Such a handler is what Flask gives to `app.logger` where nobody has configured logging."""

    def task() -> None:
        logger = logging.getLogger("shop")
        logger.addHandler(logging.StreamHandler(sys.stderr))
        logger.info("sold")
        logger.warning("sold out")
        capture.end()
        logger.info("between jobs")
        capture.begin("b" * 29, 1, Shelf().save)

    assert hear(task).server == "sold out\n"


def test_a_level_that_somebody_chose_is_kept_to(hear: Callable[..., Heard]) -> None:
    def configure() -> None:
        logging.basicConfig(level=logging.WARNING)
        logging.getLogger("verbose").setLevel(logging.DEBUG)

    def task() -> None:
        logging.getLogger("shop").info("sold")
        logging.getLogger("verbose").debug("a detail")

    heard = hear(task, configure)
    assert [without_times(line) for line in heard.kept] == ["DEBUG verbose: a detail"]
    assert heard.server == "DEBUG:verbose:a detail\n"


def test_logging_that_a_task_configures_itself_reaches_the_servers_log(
    hear: Callable[..., Heard],
) -> None:
    def task() -> None:
        logging.basicConfig(level=logging.INFO, format="MINE %(message)s")
        logging.getLogger("shop").info("sold")

    heard = hear(task)
    assert [without_times(line) for line in heard.kept] == ["INFO shop: sold"]
    assert heard.server == "MINE sold\n"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


def test_a_record_that_cannot_be_made_into_text_does_no_harm(hear: Callable[..., Heard]) -> None:
    def task() -> None:
        logging.raiseExceptions = False
        logging.getLogger("shop").warning("%d apples", "no")
        logging.getLogger("shop").warning(Unprintable())
        logging.getLogger("shop").warning("\ud800 %s", "\0")

    assert [without_times(line) for line in hear(task).kept] == [
        "WARNING shop: %d apples (its message could not be made: TypeError)",
        "WARNING shop: Unprintable (its message could not be made: RuntimeError)",
        "WARNING shop: \\ud800 \\x00",
    ]


def test_what_threads_of_the_task_write_is_the_jobs(hear: Callable[..., Heard]) -> None:
    def task() -> None:
        threads = [threading.Thread(target=print, args=(f"thread {n}\n",), kwargs={"end": ""})
                   for n in range(3)]  # fmt: skip
        for thread in threads:
            thread.start()
            thread.join()

    assert hear(task).kept == ["thread 0", "thread 1", "thread 2"]


def test_a_forked_child_writes_to_the_servers_log_and_nothing_comes_twice(
    hear: Callable[..., Heard],
) -> None:
    def task() -> None:
        print("before ", end="")
        child = os.fork()
        if child == 0:
            print("the child")
            logging.getLogger("child").warning("its warning")
            sys.stdout.flush()
            os._exit(0 if capture.end() is None else 1)
        assert os.waitpid(child, 0)[1] == 0
        print("the parent")

    heard = hear(task)
    assert heard.kept == ["before the parent"]
    assert heard.server == "before the child\nits warning\nthe parent\n"


def test_a_fork_waits_until_no_line_is_on_its_way(hear: Callable[..., Heard]) -> None:
    def task() -> list[bool]:
        busy, free = threading.Event(), threading.Event()

        def hold() -> None:
            with log.taking:
                busy.set()
                free.wait(0.3)
                held.append(True)

        held: list[bool] = []
        thread = threading.Thread(target=hold)
        thread.start()
        busy.wait()
        child = os.fork()
        if child == 0:
            os._exit(0 if held and log.taking.acquire(timeout=1) else 1)
        thread.join()
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0]

    assert hear(task).told == [True]


def test_a_stream_that_a_task_closed_is_mended_for_the_next_job(
    hear: Callable[..., Heard],
) -> None:
    def task() -> None:
        print("before")
        sys.stdout.close()
        sys.stderr.detach()
        capture.end()
        capture.begin("b" * 29, 1, Shelf().save)
        print("the next job")
        print("its error", file=sys.stderr)

    heard = hear(task)
    assert heard.kept == ["the next job", "its error"]
    assert heard.server == "before\nthe next job\nits error\n"


def test_between_jobs_nothing_is_kept(hear: Callable[..., Heard]) -> None:
    def task() -> None:
        capture.end()
        print("nobody's")
        logging.getLogger("shop").warning("nobody's either")
        capture.begin("b" * 29, 1, Shelf().save)
        print("the next job's")

    assert hear(task).kept == ["the next job's"]


def test_a_timeout_comes_after_the_line_and_costs_none(hear: Callable[..., Heard]) -> None:

    def task() -> list[int]:
        def stop() -> None:
            raise JobTimeout(1.0)

        signal.signal(signal.SIGALRM, lambda number, frame: deliver(stop))
        written = stopped = 0
        while stopped < 200:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0003)
                while True:
                    sys.stdout.buffer.write(b"line\n")
                    written += 1
            except JobTimeout:
                stopped += 1
        return [written, stopped]

    heard = hear(task)
    written, stopped = heard.told
    assert heard.server == "line\n" * heard.server.count("\n")
    # A stop comes before a line is written, or after it and before it is counted.
    assert written <= heard.server.count("\n") <= written + stopped
    assert sum(len(line) + 1 for line in heard.kept) + heard.cut == len(heard.server)


def test_a_line_reaches_the_ledger_while_the_task_is_silent(hear: Callable[..., Heard]) -> None:
    def task() -> float:
        print("a line")
        since = time.monotonic()
        wait_until(lambda: log.running is not None and not log.running._chunks, timeout=30)
        return time.monotonic() - since

    heard = hear(task)
    assert heard.kept == ["a line"]
    assert PERIOD / 2 < heard.told < PERIOD + 0.5


def test_a_ledger_that_is_locked_delays_nothing_and_gets_the_lines_later(
    hear: Callable[..., Heard], memory: Path
) -> None:
    def task() -> list[Any]:
        ledger = Ledger(memory / "ledger.db")
        other = Ledger(memory / "ledger.db")

        def save(job_id: str, output: Output) -> bool:
            try:
                with ledger.transaction(0.05) as rows:
                    rows.log(job_id, output)
            except LedgerError:
                refused.append(output)
                return False
            return True

        refused: list[Output] = []
        capture.end()
        capture.begin("b" * 29, 1, save)
        with other.transaction():
            print("while it is locked")
            wait_until(lambda: refused, timeout=30)
            since = time.monotonic()
            print("not held up")
            took = time.monotonic() - since
        wait_until(lambda: ledger.log("b" * 29), timeout=30)
        return [took, text_of(ledger, "b" * 29).split("\n")[1:]]

    took, kept = hear(task).told
    assert took < 0.05
    assert kept == ["while it is locked", "not held up", ""]


def test_nothing_is_heard_where_nothing_is_installed() -> None:
    capture.begin("a" * 29, 1, Shelf().save)
    print("a plain call")
    assert capture.end() is None
