"""A small shop whose jobs a browser watches: slow ones, failing ones, one that tries scripts."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from flask import Flask

from flask_spooler import Spooler, current_job

log = logging.getLogger("shop")

app = Flask("shop")
app.config.from_prefixed_env()
spooler = Spooler(app)


@app.get("/jobs/<job_id>")
def found(job_id: str) -> tuple[str, int]:
    """Answer as the server fixture expects of an app that is up."""
    return job_id, 404


@spooler.task(name="shop.import_catalogue", max_attempts=1, tags=["import", "catalogue:7"])
def import_catalogue(path: str, pages: int = 3, seconds: float = 0.3) -> str:
    """Read a catalogue page by page, and fail while its file is missing."""
    current_job.step("open the catalogue", str)
    for page in range(1, pages + 1):
        print(f"page {page} of {pages} read", flush=True)
        current_job.progress(page, pages, note=f"page {page}")
        time.sleep(seconds)
    if not Path(path).exists():
        raise FileNotFoundError(f"no catalogue at {path}")
    return f"{pages} pages imported"


@spooler.task(name="shop.send_invoice", queue="mail", timeout=120)
def send_invoice(order: int, copies: int = 1, api_key: str = "") -> dict[str, Any]:
    """Send an invoice."""
    return {"order": order, "copies": copies}


@spooler.task(name="shop.nightly_report", queue="reports", timeout=600)
def nightly_report(seconds: float = 60) -> None:
    """Take a long time, with progress."""
    steps = max(1, int(seconds * 4))
    for step in range(steps):
        current_job.progress(step, steps, note="summing up sales")
        log.info("day %d summed up", step)
        time.sleep(0.25)


@spooler.task(
    name="<script>alert('task')</script>", max_attempts=1, tags=["<script>alert('tag')</script>"]
)
def hostile(text: str) -> None:
    """Put a script everywhere that a page shows something."""
    print(f"<script>document.title='log'</script>{text}", flush=True)
    current_job.step("<script>document.title='step'</script>", str)
    current_job.progress(1, 2, note=f"<img src=x onerror=alert(1)>{text}")
    raise ValueError(f"<script>document.title='error'</script>{text}")
