"""Names and paths: what lies where in a spool directory. Nothing here touches the disk.

Where a job's file lies says what happens to it next.

===================  ========================================================================
place                what lies there
===================  ========================================================================
``.``, the window    what uWSGI scans: a few ready files, and those that run
``waiting/``         due but beyond the window, scheduled, retrying, paused
``taken/``           taken by a spooler that had just finished another job; locked, it runs
``tmp/``             being written, not yet a job
``dead/``            dead, cancelled and expired jobs, kept whole for a person's retry
``done/``            finished, its final row could not be written yet; never run again
``corrupt/``         unreadable, unsigned or foreign; kept, counted, never run
``ledger.db``        the ledger
``key``              signs job files
``key.fingerprint``  of the key that the server signs with
``wake``             a FIFO: one byte wakes the housekeeper
``housekeeper``      the lock file of the one housekeeper
``machine``          which start of the machine a housekeeper has seen last
``quarantined``      one byte for each file that ever went to ``corrupt/``
``server.json``      how the server was started, for ``flask spooler doctor``; ``web.json``
                     is the same of an instance that only enqueues
===================  ========================================================================
"""

from __future__ import annotations

import errno
import re
import secrets
import time
from pathlib import Path
from typing import Final

from ..job import is_id

WAITING: Final = "waiting"
TAKEN: Final = "taken"
WRITING: Final = "tmp"
DEAD: Final = "dead"
DONE: Final = "done"
CORRUPT: Final = "corrupt"
PLACES: Final = (WAITING, TAKEN, WRITING, DEAD, DONE, CORRUPT)

OUTCOME: Final = ".outcome"
PREFIX: Final = "uwsgi_spoolfile_on_"
_OURS: Final = re.compile(re.escape(PREFIX) + r"(\d{19})_([0-9A-Za-z_-]{20,40})")

LEDGER: Final = "ledger.db"
KEY: Final = "key"
FINGERPRINT: Final = "key.fingerprint"
DOORBELL: Final = "wake"
HOUSEKEEPER: Final = "housekeeper"
MACHINE: Final = "machine"
TALLY: Final = "quarantined"
STANDING: Final = frozenset(
    {
        *PLACES,
        *(KEY, FINGERPRINT, DOORBELL, HOUSEKEEPER, TALLY, MACHINE),
        *("server.json", "web.json"),
    }
)
"""What lies in the root beside the window's files, and the ledger with its companions."""

LONGEST_NAME: Final = 250
"""Characters of a name in ``corrupt/``: a file system takes 255 bytes."""


def new_window_name(job_id: str) -> str:
    """Return a name for a file that enters the window now.

    19 digits with no leading zero, so that uWSGI's version sort compares them as one number.
    """
    return f"{PREFIX}{time.time_ns():019d}_{job_id}"


def parse_window_name(name: str) -> tuple[float, str] | None:
    """Return when a file of ours was promoted, and its job's id; None for any other name."""
    match = _OURS.fullmatch(name)
    return (int(match[1]) / 1e9, match[2]) if match else None


class Places:
    """The paths of one spool."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = str(root)

    def at(self, place: str, job_id: str) -> str:
        """Return where a job's file lies in one of our directories.

        Ids come from URLs and command lines too: `FileNotFoundError` for whatever else they
        hold, so that no path leaves the spool.
        """
        if not is_id(job_id):
            raise FileNotFoundError(errno.ENOENT, "not the id of a job", job_id[:60])
        return f"{self._root}/{place}/{job_id}"

    def window(self, window_name: str) -> str:
        """Return the path of a file that uWSGI, or who plays its part, may run.

        ``taken/<id>`` is such a name as well. Raises `FileNotFoundError` for one that leads
        elsewhere.
        """
        place, slash, job_id = window_name.partition("/")
        if slash and place == TAKEN:
            return self.at(TAKEN, job_id)
        if slash or window_name in ("", ".", ".."):
            raise FileNotFoundError(errno.ENOENT, "not a name in the window", window_name[:60])
        return f"{self._root}/{window_name}"

    def aside(self, name: str) -> str:
        """Return a path in ``tmp/`` that nobody else has, for a file that is moved to `name`."""
        return f"{self._root}/{WRITING}/{name}-{secrets.token_hex(8)}"
