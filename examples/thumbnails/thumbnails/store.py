"""Where files lie: uploads, thumbnails and albums, below `DATA_DIRECTORY`.

A file appears under its name when it is whole, by a rename: who reads it never sees half of it,
and a process that is killed while writing leaves only a hidden file. Names come from us alone: a
picture is named by the SHA-256 of what is in it, an album by chance.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from flask import current_app

PICTURE = re.compile(r"[0-9a-f]{64}", re.ASCII)
ALBUM = re.compile(r"[0-9A-Za-z_-]{16}", re.ASCII)


@contextmanager
def written(target: Path) -> Iterator[IO[bytes]]:
    """Give a file to write; it becomes `target` in one step when the body is done, or never."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{secrets.token_hex(16)}")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def upload(picture: str) -> Path:
    """Return where the uploaded file of a picture lies."""
    return _place("uploads", picture)


def thumbnails(picture: str) -> Path:
    """Return the folder of a picture's thumbnails."""
    return _place("thumbnails", picture)


def keep_upload(file: IO[bytes]) -> str:
    """Keep an uploaded file and return the name of its picture, the same for the same content."""
    found = hashlib.sha256()
    while block := file.read(2**20):
        found.update(block)
    file.seek(0)
    picture = found.hexdigest()
    with written(upload(picture)) as kept:
        shutil.copyfileobj(file, kept)
    return picture


def new_album() -> str:
    """Return an id that nobody can guess."""
    return secrets.token_urlsafe(12)


def keep_album(album: str, pictures: list[dict[str, Any]]) -> None:
    """Write down which pictures an album has."""
    with written(_place("albums", album)) as file:
        file.write(json.dumps(pictures).encode())


def read_album(album: str) -> list[dict[str, Any]] | None:
    """Return the pictures of an album, None when there is no such album."""
    if not ALBUM.fullmatch(album) or not _place("albums", album).exists():
        return None
    pictures: list[dict[str, Any]] = json.loads(_place("albums", album).read_bytes())
    return pictures


def _place(kind: str, name: str) -> Path:
    return Path(current_app.config["DATA_DIRECTORY"]).resolve() / kind / name
