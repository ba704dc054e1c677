"""Thumbnails without a server: `spooler_jobs` runs the jobs when a test says so."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from PIL import Image
from thumbnails import create_app, images
from thumbnails.jobs import thumbnail
from thumbnails.store import keep_upload, thumbnails
from werkzeug.test import TestResponse

from flask_spooler.testing import SpoolerJobs


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    return create_app(TESTING=True, DATA_DIRECTORY=tmp_path)


def drawn(mode: str = "RGB", size: tuple[int, int] = (640, 480), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind)
    return file.getvalue()


def upload(app: Flask, *files: bytes) -> TestResponse:
    parts = [(io.BytesIO(content), f"{number}.png") for number, content in enumerate(files)]
    return app.test_client().post("/albums", data={"pictures": parts})


def album(app: Flask, answer: TestResponse) -> list[dict[str, Any]]:
    found = app.test_client().get(f"{answer.location}.json").get_json()
    pictures: list[dict[str, Any]] = found["pictures"]
    return pictures


def test_an_uploaded_picture_becomes_a_job_and_the_job_its_thumbnails(
    app: Flask, spooler_jobs: SpoolerJobs
) -> None:
    answer = upload(app, drawn())
    assert answer.status_code == 303
    assert [each["state"] for each in album(app, answer)] == ["waits"]
    job = spooler_jobs.assert_enqueued(thumbnail)
    spooler_jobs.run_pending()
    assert job.result == ["1600.webp", "800.webp", "400.webp", "160.webp"]
    assert job.progress == {"done": 4.0, "total": 4.0, "note": "160 px"}
    assert [each["state"] for each in album(app, answer)] == ["done"]


def test_the_same_picture_twice_is_one_job(app: Flask, spooler_jobs: SpoolerJobs) -> None:
    answers = [upload(app, drawn(), drawn()), upload(app, drawn())]
    assert len(spooler_jobs.run_pending()) == 1
    assert [each["state"] for answer in answers for each in album(app, answer)] == ["done"] * 3


def test_what_is_no_picture_is_refused_before_it_is_a_job(
    app: Flask, spooler_jobs: SpoolerJobs
) -> None:
    answer = upload(app, b"<svg/>")
    assert answer.status_code == 400
    assert "it is none of JPEG, PNG, WEBP, GIF" in answer.text
    assert upload(app).status_code == 400
    spooler_jobs.refute_enqueued(thumbnail)


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(
    app: Flask, spooler_jobs: SpoolerJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MOST_PIXELS", 640 * 480 - 1)
    assert "640 × 480 pixels, more than" in upload(app, drawn()).text
    spooler_jobs.refute_enqueued(thumbnail)


def test_a_picture_that_ends_too_early_is_given_up_at_once(
    app: Flask, spooler_jobs: SpoolerJobs
) -> None:
    whole = drawn(size=(2000, 2000))
    answer = upload(app, whole[: len(whole) // 2])
    (job,) = spooler_jobs.run_pending(expected=images.BadPicture)
    assert (job.state, job.attempt) == ("dead", 1)
    assert "cannot be decoded" in album(app, answer)[0]["why"]


def test_a_full_disk_is_tried_again_and_leaves_nothing_half(
    app: Flask, spooler_jobs: SpoolerJobs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(self: Image.Image, file: Any, *_: Any, **__: Any) -> None:
        file.write(b"half of it")
        raise OSError("No space left on device")

    answer = upload(app, drawn())
    with monkeypatch.context() as broken:
        broken.setattr(Image.Image, "save", full)
        (job,) = spooler_jobs.run_pending(expected=OSError)
    assert job.state == "retrying"
    assert not [path for path in (tmp_path / "thumbnails").rglob("*") if path.is_file()]
    spooler_jobs.run_pending(until="all")
    assert (job.state, job.attempt) == ("succeeded", 2)
    assert album(app, answer)[0]["state"] == "done"


def test_a_second_run_makes_the_same_files(app: Flask, spooler_jobs: SpoolerJobs) -> None:
    with app.app_context():
        picture = keep_upload(io.BytesIO(drawn()))
        made = []
        for _ in range(2):
            spooler_jobs.perform(thumbnail, picture)
            made.append([path.read_bytes() for path in sorted(thumbnails(picture).iterdir())])
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "JPEG"), ("CMYK", "JPEG"), ("P", "GIF"), ("1", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP")],
)
def test_every_kind_of_picture_is_taken_and_stays_transparent(
    app: Flask, spooler_jobs: SpoolerJobs, mode: str, kind: str
) -> None:
    with app.app_context():
        picture = keep_upload(io.BytesIO(drawn(mode, kind=kind)))
        spooler_jobs.perform(thumbnail, picture)
        with Image.open(thumbnails(picture) / "160.webp") as made:
            assert made.size == (160, 120)
            assert (made.mode == "RGBA") == (mode in ("LA", "RGBA"))
