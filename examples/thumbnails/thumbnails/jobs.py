"""The task: a picture's thumbnails, whatever happens in between."""

from __future__ import annotations

from flask_spooler import Spooler, current_job

from . import store
from .images import EDGES, BadPicture, make_thumbnails

spooler = Spooler()


@spooler.task(
    queue="pictures",
    timeout=60,  # a decoder that hangs is interrupted by an exception …
    hard_timeout=90,  # … and killed, if it is deep in C where none gets through
    max_attempts=3,
    discard_on=BadPicture,  # a broken file is not mended by another try
)
def thumbnail(picture: str) -> list[str]:
    """Make the thumbnails of an uploaded picture and return their names.

    May run twice, and be killed anywhere: each file is replaced as a whole, by the same content.
    """
    made: list[str] = []
    for path in make_thumbnails(store.upload(picture), store.thumbnails(picture)):
        made.append(path.name)
        current_job.progress(len(made), len(EDGES), note=path.stem + " px")
    return made
