"""The pages: upload, and an album that fills while its jobs run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, abort, redirect, render_template, request, send_from_directory, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import FileStorage

from flask_spooler import JobHandle

from . import store
from .images import EDGES, BadPicture, check
from .jobs import spooler, thumbnail

MOST_PICTURES = 50
FINAL = ("succeeded", "dead", "cancelled", "expired")
WORDS = {
    "scheduled": "waits",
    "queued": "waits",
    "running": "in work",
    "retrying": "failed, is tried again",
    "succeeded": "done, but its files are gone",
    "dead": "failed",
    "cancelled": "cancelled",
    "expired": "failed",
}

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
def index() -> ResponseReturnValue:
    """Show the form."""
    return render_template("index.html", most=MOST_PICTURES)


@blueprint.post("/albums")
def upload() -> ResponseReturnValue:
    """Keep the pictures, enqueue a job for each, and lead to their album."""
    files = [file for file in request.files.getlist("pictures") if file.filename]
    if not 0 < len(files) <= MOST_PICTURES:
        return refusal(f"Choose from 1 to {MOST_PICTURES} pictures.", 400)
    album = store.new_album()
    pictures = [_accepted(file, album) for file in files]
    if not any("job" in each for each in pictures):
        reasons = "; ".join(f"{each['name']}: {each['refused']}" for each in pictures)
        return refusal(f"No picture among these. {reasons}.", 400)
    store.keep_album(album, pictures)
    return redirect(url_for(".show", album=album), 303)


@blueprint.get("/albums/<album>")
def show(album: str) -> ResponseReturnValue:
    """Show an album as far as it is; the page's script asks for it again until it is complete."""
    page = render_template("album.html", pictures=_pictures(album))
    return page, {"Cache-Control": "no-store"}


@blueprint.get("/albums/<album>.json")
def album_as_json(album: str) -> ResponseReturnValue:
    """Return the same for programs."""
    return {"pictures": _pictures(album)}, {"Cache-Control": "no-store"}


@blueprint.get("/thumbnails/<picture>/<int:edge>.webp")
def image(picture: str, edge: int) -> ResponseReturnValue:
    """Return a thumbnail; its address holds the hash of the picture, so it never changes."""
    if not store.PICTURE.fullmatch(picture) or edge not in EDGES:
        abort(404)
    answer = send_from_directory(store.thumbnails(picture), f"{edge}.webp", max_age=31_536_000)
    answer.cache_control.immutable = True
    return answer


def refusal(message: str, status: int) -> ResponseReturnValue:
    """Return the form with what was wrong."""
    return render_template("index.html", most=MOST_PICTURES, error=message), status


def _accepted(file: FileStorage, album: str) -> dict[str, Any]:
    # The name is shown and used for nothing else.
    name = (file.filename or "")[-80:]
    try:
        check(file.stream)
    except BadPicture as error:
        return {"name": name, "refused": str(error)}
    picture = store.keep_upload(file.stream)
    # Whoever presses the button twice, or uploads a picture twice, gets the job that is under way.
    job = thumbnail.using(unique=f"thumbnail:{picture}", tags=[f"album:{album}"]).enqueue(picture)
    return {"name": name, "picture": picture, "job": job.id}


@dataclass(frozen=True)
class Picture:
    """One picture of an album, as it is shown."""

    name: str
    state: str
    why: str | None = None
    done: int = 0
    total: int = len(EDGES)
    finished: bool = True
    thumbnails: tuple[str, ...] = ()
    """The addresses, the largest first."""


def _pictures(album: str) -> list[Picture]:
    entries = store.read_album(album)
    if entries is None:
        abort(404)
    jobs = {job.id: job for job in spooler.get_many([e["job"] for e in entries if "job" in e])}
    return [_shown(entry, jobs.get(entry.get("job", ""))) for entry in entries]


def _shown(entry: dict[str, Any], job: JobHandle | None) -> Picture:
    name = entry["name"]
    if "refused" in entry:
        return Picture(name, "refused", entry["refused"])
    picture = entry["picture"]
    folder = store.thumbnails(picture)
    if all((folder / f"{edge}.webp").exists() for edge in EDGES):
        addresses = tuple(url_for("pages.image", picture=picture, edge=edge) for edge in EDGES)
        return Picture(name, "done", done=len(EDGES), thumbnails=addresses)
    if job is None:
        return Picture(name, "failed", "its job is forgotten; upload it again")
    known = job.as_dict()
    why = known["error"]["message"] if known["error"] else None
    done = known["progress"]["done"] if known["progress"] else 0
    return Picture(name, WORDS[known["state"]], why, int(done), finished=known["state"] in FINAL)
