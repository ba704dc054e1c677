"""The thumbnails as a user sees them: uploaded, followed, fetched; over a kill -9 too."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image
from server import wait_until

from tests.examples.conftest import Example

RED, GREEN, BLUE = (200, 30, 30), (30, 160, 60), (40, 60, 200)


def picture(kind: str, size: tuple[int, int], *, turned: bool = False, **extra: Any) -> bytes:
    """A picture with a red left and a blue right half."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6  # the camera was held upright: turn clockwise to show
    file = io.BytesIO()
    image.save(file, kind, exif=exif, **extra)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of some bytes that says it has 2.5 billion pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


def shown(example: Example, album: str) -> list[dict[str, Any]]:
    pictures: list[dict[str, Any]] = example.get(f"{album}.json").json["pictures"]
    return pictures


def complete(example: Example, album: str) -> dict[str, dict[str, Any]]:
    """The pictures of an album by name, once nothing is under way any more."""
    wait_until(lambda: all(each["finished"] for each in shown(example, album)), timeout=30)
    return {each["name"]: each for each in shown(example, album)}


def thumbnail(example: Example, address: str) -> Image.Image:
    answer = example.get(address)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/webp")
    return Image.open(io.BytesIO(answer.body)).convert("RGBA")


def close_to(pixel: Any, colour: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 25 for a, b in zip(pixel, colour, strict=False))


def test_uploaded_pictures_become_thumbnails_and_bad_files_are_refused(
    start_example: Callable[..., Example],
) -> None:
    example = start_example("thumbnails")
    photo = picture("JPEG", (3000, 2000), turned=True)
    page = example.upload(
        "/albums",
        "pictures",
        {
            "photo.jpg": photo,
            "../../<b>logo</b>.png": picture("PNG", (300, 200)),
            "notes.jpg": b"no picture at all",
            "bomb.png": bomb(),
            "cut.jpg": photo[: len(photo) // 2],
        },
    )
    assert page.status == 200
    found = complete(example, page.address)
    assert {name: each["state"] for name, each in found.items()} == {
        "photo.jpg": "done",
        "../../<b>logo</b>.png": "done",
        "notes.jpg": "refused",
        "bomb.png": "refused",
        "cut.jpg": "failed",
    }
    assert "JPEG, PNG, WEBP, GIF" in found["notes.jpg"]["why"]
    assert "40 million pixels" in found["bomb.png"]["why"]
    assert "cannot be decoded" in found["cut.jpg"]["why"]

    made = [thumbnail(example, each) for each in found["photo.jpg"]["thumbnails"]]
    assert [each.size for each in made] == [(1067, 1600), (533, 800), (266, 400), (106, 160)]
    for each in made:  # upright now: what was left is on top
        width, height = each.size
        assert close_to(each.getpixel((width // 2, height // 8)), RED)
        assert close_to(each.getpixel((width // 2, height * 7 // 8)), BLUE)
    small = [thumbnail(example, each) for each in found["../../<b>logo</b>.png"]["thumbnails"]]
    assert [each.size for each in small] == [(300, 200), (300, 200), (300, 200), (160, 107)]

    text = example.get(page.address).text
    assert found["photo.jpg"]["thumbnails"][2] in text
    assert "data-live" not in text
    assert "<b>logo" not in text
    assert example.get("/albums/none-of-this-name").status == 404
    assert example.get("/thumbnails/../albums/1600.webp").status == 404

    refused = example.upload("/albums", "pictures", {"notes.jpg": b"no picture at all"})
    assert refused.status == 400
    assert "notes.jpg: it is none of JPEG" in refused.text
    too_much = example.upload("/albums", "pictures", {"large.jpg": bytes(65 * 2**20)})
    assert (too_much.status, "more than 64 MiB" in too_much.text) == (413, True)


def test_an_album_is_completed_after_a_kill_in_the_middle(
    start_example: Callable[..., Example],
) -> None:
    example = start_example("thumbnails")
    files = {f"{n}.jpg": picture("JPEG", (2400, 1600 + n)) for n in range(4)}
    album = example.upload("/albums", "pictures", files).address
    assert "data-live" in example.get(album).text
    wait_until(lambda: any(each["done"] for each in shown(example, album)), timeout=30)
    example.server.kill()
    example.server.start()
    found = complete(example, album)
    assert [each["state"] for each in found.values()] == ["done"] * 4
    assert thumbnail(example, found["0.jpg"]["thumbnails"][0]).size == (1600, 1067)
    leftover = [path.name for path in example.data.rglob(".*")]
    assert len(leftover) <= 2, "a hidden file at most for each job that was killed"
