"""Directories and files: each move, each mode, and no way out of the spool."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_spooler.errors import NotASpool
from flask_spooler.job import new_id
from flask_spooler.spool import CLOCK_TICK, PLACES, PREFIX, Spool
from tests.helpers import NOW, in_child

FailAt = Callable[[str, BaseException], None]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def waiting(spool: Spool, data: bytes = b"a job", due: float | None = None) -> str:
    """Publish a file into waiting/ and return its id."""
    job_id = new_id()
    spool.write(job_id, data, due)
    spool.publish(job_id, None)
    return job_id


def in_window(spool: Spool, data: bytes = b"a job") -> tuple[str, str]:
    """Publish a file into the window and return its id and its name there."""
    job_id = new_id()
    window = spool.window_name(job_id)
    spool.write(job_id, data)
    spool.publish(job_id, window)
    return job_id, window


def where(spool: Spool) -> dict[str, int]:
    """The places that hold files, and how many."""
    return {place: number for place, number in spool.counts().items() if number}


def test_preparing_makes_every_directory_for_its_owner_only_whatever_the_umask(
    tmp_path: Path,
) -> None:
    def prepare() -> None:
        os.umask(0o000)
        Spool(tmp_path / "deep" / "spool").prepare()

    assert in_child(prepare) == 0
    root = tmp_path / "deep" / "spool"
    assert mode(root) == 0o700
    assert [mode(root / place) for place in PLACES] == [0o700] * len(PLACES)
    assert stat.S_ISFIFO((root / "wake").stat().st_mode)
    assert mode(root / "wake") == 0o600


def test_preparing_closes_a_root_that_was_open_to_others(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    root.mkdir(mode=0o755)
    root.chmod(0o755)
    Spool(root).prepare()
    assert mode(root) == 0o700


@pytest.mark.parametrize(
    "name", [".gitkeep", "uwsgi_spoolfile_on_host_1_2_3_4_5", "lost+found", "uwsgi.log", "shop.pid"]
)
def test_preparing_closes_a_root_that_was_meant_for_jobs(tmp_path: Path, name: str) -> None:
    root = tmp_path / "spool"
    root.mkdir()
    root.chmod(0o755)
    (root / name).write_text("")
    Spool(root).prepare()
    assert mode(root) == 0o700


def test_preparing_closes_a_spool_again_whatever_else_lies_in_it(spool: Spool) -> None:
    (spool.root / "core.17").write_text("")
    spool.root.chmod(0o755)
    spool.prepare()
    assert mode(spool.root) == 0o700


def test_preparing_leaves_a_directory_alone_in_which_others_have_their_files(
    tmp_path: Path,
) -> None:
    for name in ("d", "b", "c", "a"):
        (tmp_path / "home" / name).mkdir(parents=True)
    root = tmp_path / "home"
    root.chmod(0o1777)
    with pytest.raises(NotASpool) as refused:
        Spool(root).prepare()
    assert str(refused.value) == (
        f"expected SPOOLER_DIRECTORY to be a directory of its own, got: '{root}', which holds "
        "'a', 'b', 'c', …: it would be closed to everybody else, so name one that does not exist "
        f"yet, such as {root}/my_spools"
    )
    assert mode(root) == 0o1777
    assert sorted(os.listdir(root)) == ["a", "b", "c", "d"]


def test_a_directory_that_nobody_else_may_enter_may_hold_anything(tmp_path: Path) -> None:
    (tmp_path / "home" / "letters").mkdir(parents=True)
    (tmp_path / "home").chmod(0o700)
    Spool(tmp_path / "home").prepare()
    assert (tmp_path / "home" / "waiting").is_dir()


def test_preparing_again_changes_nothing(spool: Spool) -> None:
    job_id = waiting(spool)
    key = spool.key.read_or_make()
    spool.prepare()
    assert spool.read("waiting", job_id) == b"a job"
    assert spool.key.read_or_make() == key


def test_preparing_where_a_file_is_in_the_way_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Spool(tmp_path / "file").prepare()


def test_a_relative_root_means_the_directory_it_meant_when_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spool = Spool("spool")
    monkeypatch.chdir("/")
    assert spool.root == tmp_path / "spool"


def key_of(root: Path, together: Any, keys: Any) -> None:
    spool = Spool(root)
    together.wait()
    keys.put(spool.key.read_or_make())


def test_eight_processes_that_race_for_the_key_all_get_the_same_one(spool: Spool) -> None:
    spawn = multiprocessing.get_context("spawn")
    together, keys = spawn.Barrier(8), spawn.Queue()
    racers = [spawn.Process(target=key_of, args=(spool.root, together, keys)) for _ in range(8)]
    for racer in racers:
        racer.start()
    found = {keys.get(timeout=30) for _ in racers}
    for racer in racers:
        racer.join(30)
    keys.close()
    keys.join_thread()
    assert found == {spool.key.read()}
    assert len(found.pop()) == 64
    assert mode(spool.key.path) == 0o600
    assert where(spool) == {}


def test_threads_that_race_for_the_key_all_get_the_same_one(spool: Spool) -> None:
    for _ in range(20):
        spool.key.path.unlink(missing_ok=True)
        together, found = threading.Barrier(4), []

        def race(together: threading.Barrier = together, found: list[bytes] = found) -> None:
            together.wait()
            found.append(spool.key.read_or_make())

        threads = [threading.Thread(target=race) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(found) == {spool.key.read()}
        assert len(found) == 4


def test_two_spools_have_different_keys(tmp_path: Path) -> None:
    spools = [Spool(tmp_path / name) for name in ("one", "two")]
    for spool in spools:
        spool.prepare()
    assert spools[0].key.read_or_make() != spools[1].key.read_or_make()


def test_a_published_file_is_whole_private_and_waits(spool: Spool) -> None:
    data = os.urandom(300_000)
    job_id = waiting(spool, data)
    assert spool.read("waiting", job_id) == data
    assert mode(spool.root / "waiting" / job_id) == 0o600
    assert where(spool) == {"waiting": 1}


def test_a_file_for_later_carries_its_time_two_ticks_early(spool: Spool) -> None:
    job_id = waiting(spool, due=NOW)
    mtime = (spool.root / "waiting" / job_id).stat().st_mtime
    assert mtime == pytest.approx(NOW - CLOCK_TICK, abs=1e-6)


def test_a_file_is_never_written_over(spool: Spool) -> None:
    job_id = new_id()
    spool.write(job_id, b"first")
    with pytest.raises(FileExistsError):
        spool.write(job_id, b"second")


@pytest.mark.parametrize("point", ["write.write", "write.utime", "write.fsync"])
def test_a_write_that_fails_publishes_nothing_and_its_rest_can_be_discarded(
    tmp_path: Path, fail_at: FailAt, point: str
) -> None:
    spool = Spool(tmp_path / "synced", sync=True)
    spool.prepare()
    job_id = new_id()
    fail_at(point, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space"):
        spool.write(job_id, b"a job", NOW)
    assert set(where(spool)) <= {"tmp"}
    spool.discard_written(job_id)
    assert where(spool) == {}


def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The failpoints that are passed from now on."""
    points: list[str] = []
    monkeypatch.setattr("flask_spooler.failpoints.armed", points.append)
    return points


@pytest.mark.parametrize("sync", [True, False])
def test_a_spool_syncs_each_file_and_directory_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    spool = Spool(tmp_path / "spool", sync=sync)
    spool.prepare()
    points = reached(monkeypatch)
    waiting(spool)
    spool.sync_written()
    spool.sync_published(in_window=True)
    spool.sync_published(in_window=False)
    synced = [point for point in points if "sync" in point]
    assert synced == (
        ["write.fsync", "write.syncfs", "publish.fsync_directory", "publish.fsync_directory"]
        if sync
        else []
    )


def test_names_in_the_window_sort_by_the_moment_of_promotion(spool: Spool) -> None:
    ids = [in_window(spool)[0] for _ in range(20)]
    listed = spool.window()
    assert [file.job_id for file in listed] == ids
    assert sorted(file.name for file in listed) == [file.name for file in listed]
    assert all(time.time() - 10 < file.promoted_at <= time.time() for file in listed)
    assert all(file.name.startswith(PREFIX) for file in listed)


def test_the_window_shows_our_files_only(spool: Spool) -> None:
    job_id, window = in_window(spool)
    for name in ("uwsgi_spoolfile_on_host_1_2_3", "notes.txt", f"{window}.bak", f"{PREFIX}1_x"):
        (spool.root / name).write_text("")
    waiting(spool)
    assert [(file.job_id, file.name) for file in spool.window()] == [(job_id, window)]


Move = Callable[[Spool, str, str], object]

MOVES: list[tuple[str, str, str, Move]] = [
    ("promote", "waiting", "window", lambda spool, job_id, window: spool.promote(job_id, window)),
    ("demote", "window", "waiting", lambda spool, job_id, window: spool.demote(window, job_id, 5)),
    ("bury", "window", "dead", lambda spool, job_id, window: spool.bury(window, job_id)),
    ("bury_waiting", "waiting", "dead", lambda spool, job_id, window: spool.bury_waiting(job_id)),
    ("exhume", "dead", "waiting", lambda spool, job_id, window: spool.exhume(job_id)),
]


@pytest.mark.parametrize(("name", "source", "target", "move"), MOVES, ids=[m[0] for m in MOVES])
def test_a_move_carries_the_whole_file_and_says_when_somebody_was_faster(
    spool: Spool, name: str, source: str, target: str, move: Move
) -> None:
    if source == "window":
        job_id, window = in_window(spool)
    else:
        job_id = waiting(spool)
        window = spool.window_name(job_id)
        if source == "dead":
            assert spool.bury_waiting(job_id)
    assert where(spool) == {source: 1}
    assert move(spool, job_id, window) is True
    assert where(spool) == {target: 1}
    if target != "window":
        assert spool.read(target, job_id) == b"a job"
        assert spool.has(target, job_id)
    assert not spool.has(source, job_id)
    assert move(spool, job_id, window) is False
    assert where(spool) == {target: 1}


@pytest.mark.parametrize(("name", "source", "target", "move"), MOVES, ids=[m[0] for m in MOVES])
def test_a_move_that_is_impossible_raises_and_leaves_the_file_where_it_was(
    spool: Spool, fail_at: FailAt, name: str, source: str, target: str, move: Move
) -> None:
    if source == "window":
        job_id, window = in_window(spool)
    else:
        job_id = waiting(spool)
        window = spool.window_name(job_id)
        if source == "dead":
            spool.bury_waiting(job_id)
    fail_at(f"{name}.rename", PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(PermissionError):
        move(spool, job_id, window)
    assert where(spool) == {source: 1}


def test_a_demoted_file_carries_the_time_when_it_may_start(spool: Spool) -> None:
    job_id, window = in_window(spool)
    spool.demote(window, job_id, NOW)
    mtime = (spool.root / "waiting" / job_id).stat().st_mtime
    assert mtime == pytest.approx(NOW - CLOCK_TICK, abs=1e-6)


def test_a_lease_sets_the_time_of_the_file_and_is_no_error_when_it_is_gone(spool: Spool) -> None:
    _, window = in_window(spool)
    spool.lease(window, NOW)
    assert spool.window()[0].mtime == pytest.approx(NOW)
    spool.finish(window)
    spool.lease(window, NOW)
    assert where(spool) == {}


def test_finishing_unlinks_once_and_is_no_error_when_it_is_gone(spool: Spool) -> None:
    _, window = in_window(spool)
    assert spool.in_window(window)
    spool.finish(window)
    assert not spool.in_window(window)
    spool.finish(window)


def test_finishing_says_when_it_cannot(spool: Spool, fail_at: FailAt) -> None:
    _, window = in_window(spool)
    fail_at("finish.unlink", PermissionError(errno.EPERM, "Operation not permitted"))
    with pytest.raises(PermissionError):
        spool.finish(window)
    assert spool.in_window(window)


@pytest.mark.parametrize("windowed", [True, False])
def test_withdrawing_takes_a_published_file_back_to_tmp_and_says_when_it_was_gone(
    spool: Spool, windowed: bool
) -> None:
    job_id = in_window(spool)[0] if windowed else waiting(spool)
    assert spool.withdraw(job_id)
    assert where(spool) == {"tmp": 1}
    assert not spool.withdraw(job_id)


def test_discarding_a_written_file_twice_is_no_error(spool: Spool) -> None:
    job_id = new_id()
    spool.write(job_id, b"a job")
    assert where(spool) == {"tmp": 1}
    spool.discard_written(job_id)
    spool.discard_written(job_id)
    assert where(spool) == {}


def test_a_file_that_is_moved_while_it_is_opened_is_not_locked(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two whoever runs it can have ended, and put it where the next attempt waits."""
    job_id, window = in_window(spool)
    lockf = fcntl.lockf

    def late(descriptor: int, operation: int) -> None:
        spool.demote(window, job_id, NOW)
        lockf(descriptor, operation)

    monkeypatch.setattr(fcntl, "lockf", late)
    assert spool.lock(window) is None
    assert where(spool) == {"waiting": 1}


def test_a_finished_job_set_aside_keeps_its_outcome_beside_it(spool: Spool) -> None:
    job_id, window = in_window(spool)
    assert spool.set_done(window, job_id, b"how it ended")
    assert spool.outcome(job_id) == b"how it ended"
    assert spool.read("done", job_id) == b"a job"
    assert where(spool) == {"done": 2}


@pytest.mark.parametrize(("place", "left"), [(None, {}), ("waiting", {"waiting": 1})])
def test_clearing_done_moves_or_unlinks_the_job_and_its_outcome(
    spool: Spool, place: str | None, left: dict[str, int]
) -> None:
    job_id, window = in_window(spool)
    spool.set_done(window, job_id, b"how it ended")
    spool.clear_done(job_id, place)
    assert where(spool) == left
    spool.clear_done(job_id, place)
    assert where(spool) == left


def test_setting_aside_again_after_a_crash_half_way_replaces_the_outcome(
    spool: Spool, fail_at: FailAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, window = in_window(spool)
    fail_at("done.rename", OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError, match="Input"):
        spool.set_done(window, job_id, b"first")
    assert spool.in_window(window)
    monkeypatch.setattr("flask_spooler.failpoints.armed", None)
    assert spool.set_done(window, job_id, b"second")
    assert spool.outcome(job_id) == b"second"


def test_a_file_in_quarantine_keeps_its_bytes_and_its_name(spool: Spool) -> None:
    _, window = in_window(spool, b"not a job")
    kept = spool.quarantine.put(window)
    assert kept is not None
    assert window in kept
    assert (spool.root / "corrupt" / kept).read_bytes() == b"not a job"
    assert spool.quarantine.put(window) is None
    job_id = waiting(spool, b"neither")
    spool.quarantine.put_from("waiting", job_id)
    spool.quarantine.put_from("waiting", job_id)
    assert where(spool) == {"corrupt": 2}


def test_two_files_of_one_name_do_not_replace_each_other_in_quarantine(spool: Spool) -> None:
    for text in ("one", "two"):
        (spool.root / "uwsgi_spoolfile_on_host").write_text(text)
        assert spool.quarantine.put("uwsgi_spoolfile_on_host")
    kept = {(spool.root / "corrupt" / name).read_text() for name in spool.names("corrupt")}
    assert kept == {"one", "two"}


def test_a_file_with_the_longest_possible_name_can_be_put_into_quarantine(spool: Spool) -> None:
    name = "uwsgi_spoolfile_on_".ljust(255, "x")
    (spool.root / name).write_text("")
    assert spool.quarantine.put(name)
    assert where(spool) == {"corrupt": 1}


def test_removing_says_whether_the_file_was_there(spool: Spool) -> None:
    job_id = waiting(spool)
    assert spool.remove("waiting", job_id)
    assert not spool.remove("waiting", job_id)


def test_the_age_of_a_file_counts_from_its_time_and_a_missing_one_is_infinitely_old(
    spool: Spool,
) -> None:
    job_id = waiting(spool, due=NOW)
    assert spool.age("waiting", job_id, NOW + 60) == pytest.approx(60 + CLOCK_TICK, abs=1e-6)
    assert spool.age("waiting", new_id(), NOW) == float("inf")


def test_sweeping_removes_what_a_dead_writer_left(spool: Spool) -> None:
    job_id = new_id()
    spool.write(job_id, b"a job")
    spool.sweep(job_id)
    spool.sweep(job_id)
    assert where(spool) == {}


HOSTILE = [
    "",
    ".",
    "..",
    "../ledger.db",
    "../../outside",
    "../../../../../../../../etc/passwd",
    "/etc/passwd",
    "a" * 20 + "/../../../outside",
    "a" * 19 + "\n",
    "a" * 20 + "\n",
    "a" * 20 + "\0",
    "\0",
    "a" * 41,
    "a" * 10_000,
    "\udcff" * 20,
    "ä" * 20,
    "key",
]

BY_ID: dict[str, Callable[[Spool, str], object]] = {
    "promote": lambda spool, each: spool.promote(each, spool.window_name(new_id())),
    "bury": lambda spool, each: spool.bury(in_window(spool)[1], each),
    "bury_waiting": lambda spool, each: spool.bury_waiting(each),
    "exhume": lambda spool, each: spool.exhume(each),
    "withdraw": lambda spool, each: spool.withdraw(each),
    "read": lambda spool, each: spool.read("waiting", each),
    "has": lambda spool, each: spool.has("waiting", each),
    "remove": lambda spool, each: spool.remove("waiting", each),
    "clear_done": lambda spool, each: spool.clear_done(each, None),
    "write": lambda spool, each: spool.write(each, b"data"),
    "publish": lambda spool, each: spool.publish(each, None),
    "discard_written": lambda spool, each: spool.discard_written(each),
}


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a directory with its bytes, but the contents of tmp/ and the window."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.parent.name != "tmp" and not path.name.startswith(PREFIX)
    }


@pytest.mark.parametrize("step", BY_ID)
@pytest.mark.parametrize("job_id", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_id_is_no_path(spool: Spool, step: str, job_id: str) -> None:
    (spool.root.parent / "outside").write_text("keep me")
    (spool.root / "ledger.db").write_text("keep me too")
    spool.key.read_or_make()
    before = tree(spool.root.parent)
    with pytest.raises(FileNotFoundError):
        BY_ID[step](spool, job_id)
    assert tree(spool.root.parent) == before


@pytest.mark.parametrize("name", ["", ".", "..", "../outside", "/etc/passwd", "waiting/x"])
def test_what_is_no_name_in_the_window_is_no_path(spool: Spool, name: str) -> None:
    (spool.root.parent / "outside").write_text("keep me")
    steps: list[Callable[[], object]] = [
        lambda: spool.lease(name, NOW),
        lambda: spool.finish(name),
        lambda: spool.quarantine.put(name),
        lambda: spool.in_window(name),
        lambda: spool.bury(name, new_id()),
        lambda: spool.demote(name, new_id(), NOW),
        lambda: spool.promote(new_id(), name),
    ]
    for step in steps:
        with pytest.raises(FileNotFoundError):
            step()
    assert (spool.root.parent / "outside").read_text() == "keep me"
    assert where(spool) == {}


UNGUARDED: dict[str, Callable[[Spool, str], object]] = {
    "set_done": lambda spool, each: spool.set_done(in_window(spool)[1], each, b"data"),
    "outcome": lambda spool, each: spool.outcome(each),
}


@pytest.mark.parametrize("step", UNGUARDED)
def test_writing_under_what_is_no_id_is_no_path_either(spool: Spool, step: str) -> None:
    (spool.root.parent / "outside.outcome").write_text("keep me")
    before = tree(spool.root.parent)
    with pytest.raises(FileNotFoundError, match="not the id of a job"):
        UNGUARDED[step](spool, "../../outside")
    assert tree(spool.root.parent) == before


def test_symbolic_links_in_the_window_are_not_followed(spool: Spool) -> None:
    (spool.root.parent / "outside").write_text("keep me")
    job_id = new_id()
    window = spool.window_name(job_id)
    (spool.root / window).symlink_to(spool.root.parent / "outside")
    assert [file.name for file in spool.window()] == [window]
    assert spool.quarantine.put(window)
    assert (spool.root.parent / "outside").read_text() == "keep me"
