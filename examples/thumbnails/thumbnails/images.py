"""What is accepted as a picture, and how it becomes thumbnails. Knows no Flask and no jobs.

Nothing that a file says of itself is believed: neither its name nor its type counts, only four
decoders are tried, and a picture whose header promises more than `MOST_PIXELS` is refused before
one of them is decoded, because a file of some kilobytes can stand for gigabytes of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image, ImageOps

from .store import written

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MOST_PIXELS = 40_000_000
EDGES = (1600, 800, 400, 160)
"""The longer edge of each thumbnail, the largest first: each is made from the one before."""


class BadPicture(Exception):
    """What was uploaded is no picture that we take; says why, to the one who uploaded it."""


def check(file: IO[bytes]) -> None:
    """Raise `BadPicture` unless the file begins as a picture we take; read its header only."""
    _open(file)
    file.seek(0)


def make_thumbnails(path: Path, folder: Path) -> Iterator[Path]:
    """Write a WebP for each of `EDGES` into `folder`, yielding each when it is whole.

    A smaller picture is not enlarged. Made again, the files are replaced by the same ones, so a
    second run does no harm. Raises `BadPicture` for a picture that cannot be decoded.
    """
    with path.open("rb") as file:
        image = _decoded(file)
    for edge in EDGES:
        image.thumbnail((edge, edge))
        target = folder / f"{edge}.webp"
        with written(target) as file:
            image.save(file, "WEBP", quality=82)
        yield target


def _open(file: IO[bytes]) -> Image.Image:
    try:
        image = Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPicture(f"it has more than {MOST_PIXELS // 10**6} million pixels") from None
    except (OSError, SyntaxError, ValueError):  # what decoders say of a broken header
        raise BadPicture(f"it is none of {', '.join(FORMATS)}, or broken") from None
    if image.width * image.height > MOST_PIXELS:
        size = f"{image.width:,} × {image.height:,} pixels"
        raise BadPicture(f"it has {size}, more than {MOST_PIXELS // 10**6} million")
    return image


def _decoded(file: IO[bytes]) -> Image.Image:
    image = _open(file)
    # A JPEG can be decoded at half or a quarter of its size: less memory, less time.
    image.draft("RGB", (2 * EDGES[0], 2 * EDGES[0]))
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise BadPicture(f"it cannot be decoded: {error}") from None
    upright = ImageOps.exif_transpose(image)
    has_alpha = upright.mode in ("LA", "PA", "RGBA") or "transparency" in upright.info
    return upright.convert("RGBA" if has_alpha else "RGB")
