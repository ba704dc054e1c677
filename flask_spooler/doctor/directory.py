"""What is wrong with a spool directory: the file system, rights, room, and what lies in it.

Pure: the facts come from `look`.
"""

from __future__ import annotations

import pwd
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ..spool.inspection import taken_by
from .finding import Finding, right, some, worth_knowing, wrong
from .look import Facts

NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "9p", "ceph", "lustre"),
        *("glusterfs", "gfs2", "ocfs2", "beegfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph-fuse"),
        *("fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.davfs", "davfs", "vboxsf", "prl_fs"),
        *("fuse.vmhgfs-fuse", "fuse.goofys", "fuse.mount-s3"),
    }
)
"""File systems on which locks, or the order of renames, are not what a local one promises."""

NO_RIGHTS: Final = frozenset({"vfat", "exfat", "msdos", "ntfs", "ntfs3", "fuseblk"})
MEMORY: Final = frozenset({"tmpfs", "ramfs"})
LAYER: Final = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})

SCARCE_BYTES: Final = 64 * 2**20
LOW_BYTES: Final = 2**30
SCARCE_FILES: Final = 1_000
LOW_SHARE: Final = 0.05

SKEW: Final = 2.0
"""Seconds by which the clock of the file system may differ from that of this machine."""

UNTOUCHED: Final = 60.0
"""Seconds after which a file in the window that nobody took is one that nobody will take."""

SHORTEST_FILE: Final = 4
"""Bytes of a packet's header: what is shorter uWSGI skips for ever."""


@dataclass(frozen=True)
class Wanted:
    """What the app and its server ask of the directory."""

    server_user: int
    survives_power_cuts: bool = True
    runs_foreign_packets: bool = False


def examine_directory(facts: Facts, wanted: Wanted) -> list[Finding]:
    """Return what every check of the directory has found."""
    return [finding for check in CHECKS for finding in check(facts, wanted)]


Found = Iterator[Finding]


def _owner(facts: Facts, wanted: Wanted) -> Found:
    if wanted.server_user in (0, facts.owner):
        yield right("owner", f"the spool belongs to {_user(facts.owner)}")
    else:
        problem = (
            f"the spool belongs to {_user(facts.owner)}, and the server runs as"
            f" {_user(wanted.server_user)}: it cannot write there"
        )
        fix = f"chown -R {_user(wanted.server_user)} {facts.path}, while the server is stopped"
        yield wrong("owner", problem, fix)
    others = sorted(
        entry.name
        for entry in facts.entries
        if entry.owner != facts.owner and (entry.is_standing or entry.is_spooled)
    )
    if others:
        problem = f"some of its files belong to others, and a server may skip them: {some(others)}"
        yield wrong("owner of files", problem, f"chown -R {_user(facts.owner)} {facts.path}")


def _mode(facts: Facts, wanted: Wanted) -> Found:
    others = taken_by(facts.entries)
    if others and facts.mode & 0o077:
        problem = (
            f"the spool would close {facts.path} to others, who have files there: {some(others)}"
        )
        yield wrong("mode", problem, "name a directory of its own in SPOOLER_DIRECTORY")
        return
    open_to_others = [] if facts.mode & 0o077 == 0 else [facts.path]
    open_to_others += [
        entry.name for entry in facts.entries if entry.is_standing and entry.mode & 0o077
    ]
    if open_to_others:
        problem = f"others may look at arguments and keys in the spool: {some(open_to_others)}"
        yield wrong("mode", problem, f"chmod -R go= {facts.path}")
    else:
        yield right("mode", "only its owner may look into the spool")


def _file_system(facts: Facts, wanted: Wanted) -> Found:
    name, kind = "file system", facts.file_system
    move = "put SPOOLER_DIRECTORY on a local disk"
    if kind in NETWORK:
        problem = f"the spool lies on {kind}, where locks and renames are not dependable"
        yield wrong(name, problem, move)
    elif kind in NO_RIGHTS:
        yield wrong(name, f"the spool lies on {kind}, which knows no owners and no FIFO", move)
    elif kind in MEMORY and wanted.survives_power_cuts:
        problem = f"the spool lies in memory ({kind}) and is gone when the machine restarts"
        fix = f'{move}, or say so with SPOOLER_DURABILITY = "process"'
        yield worth_knowing(name, problem, fix)
    elif kind in LAYER:
        problem = f"the spool lies in the container's own layer ({kind}) and goes with it"
        yield worth_knowing(name, problem, "mount a volume at SPOOLER_DIRECTORY")
    else:
        yield right(name, f"{kind or 'of an unknown kind'}")


def _one_file_system(facts: Facts, wanted: Wanted) -> Found:
    elsewhere = [place for place, device in facts.devices.items() if device != facts.devices["."]]
    if elsewhere:
        problem = f"these lie on another file system, no file can be moved there: {some(elsewhere)}"
        fix = "let all of the spool be one directory on one file system, without mounts or links"
        yield wrong("one file system", problem, fix)
    else:
        yield right("one file system", "all places lie on one file system")


def _tried_out(facts: Facts, wanted: Wanted) -> Found:
    if facts.failed_test:
        problem = f"the file system does not do what the spool rests on: {facts.failed_test}"
        yield wrong("self-test", problem, "put SPOOLER_DIRECTORY on a local disk that is in order")
    else:
        yield right("self-test", "write, sync, set a time, rename and lock all work")


def _room(facts: Facts, wanted: Wanted) -> Found:
    fix = "make room, or purge old jobs: flask spooler purge --older-than 7d"
    told = f"{facts.free_bytes / 2**20:,.0f} MiB are free"
    low = facts.free_bytes < LOW_BYTES and facts.free_bytes < LOW_SHARE * facts.total_bytes
    if facts.free_bytes < SCARCE_BYTES:
        yield wrong("room", f"the disk is nearly full: {told}", fix)
    elif low:
        yield worth_knowing("room", f"the disk fills up: {told}", fix)
    else:
        yield right("room", told)
    # Some file systems make inodes as they need them, and count none.
    if facts.total_files and facts.free_files < SCARCE_FILES:
        problem = f"the disk has only {facts.free_files:,} inodes left, and each job needs one"
        yield wrong("inodes", problem, fix)
    else:
        yield right("inodes", f"{facts.free_files:,} are free" if facts.total_files else "no limit")


def _clock(facts: Facts, wanted: Wanted) -> Found:
    if abs(facts.clock_skew) > SKEW:
        problem = f"the clock of the file system is {facts.clock_skew:+.0f} s off, and so are jobs"
        yield wrong("clock of the files", problem, "put SPOOLER_DIRECTORY on a local disk")
    else:
        yield right("clock of the files", "files are stamped with this machine's time")


def _foreign(facts: Facts, wanted: Wanted) -> Found:
    strangers = [
        f"{entry.name}/ (uWSGI looks into directories with a number)"
        if entry.name.isdigit() and stat.S_ISDIR(entry.mode)
        else entry.name
        for entry in facts.entries
        if entry.is_foreign
    ]
    if strangers and taken_by(facts.entries):
        problem = f"the directory is no spool yet and holds other things: {some(strangers)}"
        yield worth_knowing("foreign files", problem, "name one of its own in SPOOLER_DIRECTORY")
    elif strangers:
        problem = f"there are files in the spool that are not its own: {some(strangers)}"
        yield worth_knowing("foreign files", problem, f"move them out of {facts.path}")
    else:
        yield right("foreign files", "none")
    stuck = [
        entry.name
        for entry in facts.entries
        if entry.is_spooled
        and facts.now - entry.mtime > UNTOUCHED
        and (entry.size < SHORTEST_FILE or not (entry.is_ours or wanted.runs_foreign_packets))
    ]
    if stuck:
        problem = f"uWSGI skips these for ever: {some(stuck)}"
        yield worth_knowing("stuck files", problem, f"move them out of {facts.path}")
    kept = [entry.name for entry in facts.entries if entry.name.startswith("ledger.db.unusable")]
    if kept:
        problem = f"a damaged ledger was set aside, its history is not shown: {some(kept)}"
        yield worth_knowing("damaged ledger", problem, "find out what damaged it, then delete it")
    if facts.corrupt:
        problem = f"{facts.corrupt:,} file(s) in corrupt/ were no jobs of this spool and never ran"
        fix = "look and delete them: another key, a bare uwsgi.spool, or a stranger wrote them"
        yield worth_knowing("corrupt files", problem, fix)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


CHECKS: Final[list[Callable[[Facts, Wanted], Found]]] = [
    _owner, _mode, _file_system, _one_file_system, _tried_out, _room, _clock, _foreign
]  # fmt: skip
