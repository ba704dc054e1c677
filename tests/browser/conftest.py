"""A real browser in front of a real server; skipped where Chromium is missing, and it says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from server import ROOT, Server

from tests.uwsgi.conftest import servers_in

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
TOKEN = "a token for the browser"

Open = Callable[..., Page]

expect.set_options(timeout=15_000)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of a process."""
    if not Path(CHROMIUM).exists():
        pytest.skip("needs chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shop(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The shop's server, with a token."""
    with servers_in(tmp_path_factory.mktemp("shop")) as start:
        yield start(
            ini=str(Path(__file__).with_name("shop.ini").relative_to(ROOT)),
            spooler_import="shop",
            processes=3,
            environment={"FLASK_SPOOLER_DASHBOARD_TOKEN": TOKEN},
        )


@pytest.fixture
def open_page(chromium: Browser, shop: Server) -> Iterator[Open]:
    """Open a page of the dashboard, with the token; nothing may go to the console as an error."""
    contexts: list[BrowserContext] = []
    said: list[str] = []

    def open_one(path: str = "", **options: Any) -> Page:
        options.setdefault("viewport", {"width": 1280, "height": 900})
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.goto(f"http://127.0.0.1:{shop.port}/spooler/{path}?token={TOKEN}")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert said == []
