"""The logs of jobs as rows: text in parts, each under the place of its end.

A part's number is how many bytes the job has written up to its end, since its first line. So the
numbers grow for ever, the bound is one comparison, and what is missing between two parts is the
difference between the end of the one and the beginning of the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..log import LONGEST_LOG, pieces
from ..record import Output

PART: Final = 16_384
"""At most as many bytes are in one part: what is let go of, goes in whole parts."""

Run = Callable[..., Any]


def append(run: Run, job_id: str, output: Output) -> None:
    """Add text to a job's log, and delete what is then older than the bound allows."""
    found = run(
        "SELECT part, substr(text, -1) FROM logs WHERE job = ? ORDER BY part DESC LIMIT 1",
        (job_id,),
    ).get  # to its end: a statement left half-way stays open beside those that follow
    end, last = found or (0, "\n")
    end += output.cut
    text = output.text if last == "\n" or not output.begins else "\n" + output.text
    for part in pieces(text.encode(), PART):
        end += len(part)
        run("INSERT INTO logs VALUES (?, ?, ?)", (job_id, end, part.decode()))
    # The oldest that is left may begin a whole part before this place.
    run("DELETE FROM logs WHERE job = ? AND part <= ?", (job_id, end - LONGEST_LOG + PART))


def read(run: Run, job_id: str, after: int) -> list[tuple[int, str]]:
    """Return numbered parts in their order, those after number `after`.

    Whoever follows a log asks again with the last number. Where something is missing before a
    part, because only the newest is kept, its text begins with how much that is.
    """
    parts = []
    for end, text in run(
        "SELECT part, text FROM logs WHERE job = ? AND part > ? ORDER BY part", (job_id, after)
    ):
        missing = end - len(text.encode()) - after
        parts.append((end, f"--- {missing:,} bytes are cut ---\n{text}" if missing else text))
        after = end
    return parts
