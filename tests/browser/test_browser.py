"""What a person does at the dashboard, done in Chromium: by mouse, by keyboard, without scripts."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from server import Server, wait_until

from .conftest import TOKEN, Open

PAGES = ["", "jobs", "dead", "queues", "workers", "performance", "system", "enqueue"]
HOSTILE = "<script>alert('task')</script>"


def call(shop: Server, path: str, body: dict[str, Any] | None = None) -> Any:
    """Ask the operations API."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{shop.port}/spooler/api/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def enqueue(shop: Server, task: str, **kwargs: Any) -> str:
    made: str = call(shop, "jobs", {"task": task, "kwargs": kwargs})["id"]
    return made


def until(shop: Server, job_id: str, state: str) -> None:
    wait_until(lambda: call(shop, f"jobs/{job_id}")["state"] == state, timeout=60)


def faster(page: Page) -> None:
    """Let the page refresh every two seconds, as a reader may choose."""
    page.locator(".menu summary").click()
    page.get_by_role("link", name="2 s", exact=True).click()


def state(page: Page) -> Any:
    return page.locator(".job-head .state")


def test_by_mouse_a_job_is_enqueued_watched_read_and_retried(
    open_page: Open, tmp_path: Path
) -> None:
    catalogue = tmp_path / "spring.csv"
    page = open_page()
    faster(page)
    page.get_by_role("link", name="Enqueue a job").first.click()
    page.get_by_label("Task").select_option("shop.import_catalogue")
    expect(page.get_by_label("Arguments")).to_have_value(re.compile('"path": ""'))
    page.get_by_label("Arguments").fill('{"path": 5}')
    page.get_by_role("button", name="Enqueue").click()
    expect(page.locator("#wrong-arguments")).to_contain_text("expected path to be a str")
    expect(page.get_by_label("Arguments")).to_have_value('{"path": 5}')
    page.get_by_label("Arguments").fill(
        json.dumps({"path": str(catalogue), "pages": 20, "seconds": 0.3})
    )
    page.get_by_role("button", name="Enqueue").click()
    expect(page.get_by_role("status")).to_contain_text("The job is enqueued")

    # Nobody reloads: the page itself shows it running, with progress and its log.
    expect(state(page)).to_have_text("running")
    expect(page.locator("progress")).to_have_attribute("max", "20")
    expect(page.get_by_label("Log", exact=True)).to_contain_text("page 3 of 20 read")
    expect(state(page)).to_have_text("dead", timeout=60_000)
    expect(page.locator(".fault h2")).to_have_text("FileNotFoundError")
    expect(page.locator(".traceback")).to_contain_text("in import_catalogue")

    catalogue.touch()
    page.get_by_role("button", name="Retry").click()
    expect(state(page)).to_have_text("succeeded", timeout=60_000)
    expect(page.get_by_label("Result")).to_contain_text("20 pages imported")
    expect(page.locator(".deeds")).to_contain_text("retry by token")


def test_by_keyboard_a_job_is_enqueued_watched_read_and_retried(
    open_page: Open, tmp_path: Path
) -> None:
    catalogue = tmp_path / "autumn.csv"
    page = open_page()
    keys = page.keyboard
    keys.press("n")
    expect(page.get_by_label("Task")).to_be_focused()
    keys.type("shop.imp")
    keys.press("Tab")
    expect(page.get_by_label("Arguments")).to_be_focused()
    keys.press("Control+a")
    keys.type(json.dumps({"path": str(catalogue), "pages": 2}))
    for _ in range(5):
        keys.press("Tab")
    keys.press("Enter")
    expect(state(page)).to_have_text("dead", timeout=60_000)
    expect(page.locator(".traceback")).to_contain_text("in import_catalogue")
    catalogue.touch()
    keys.press("r")
    expect(state(page)).to_have_text("succeeded", timeout=60_000)


def test_by_mouse_a_running_job_is_cancelled(open_page: Open, shop: Server) -> None:
    job_id = enqueue(shop, "shop.nightly_report")
    page = open_page(f"jobs/{job_id}")
    until(shop, job_id, "running")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_contain_text("Stop this running job for good?")
    page.get_by_role("button", name="Keep").click()
    assert call(shop, f"jobs/{job_id}")["state"] == "running"
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(state(page)).to_have_text("cancelled", timeout=60_000)


def test_by_keyboard_a_running_job_is_cancelled_from_the_list(
    open_page: Open, shop: Server
) -> None:
    job_id = enqueue(shop, "shop.nightly_report")
    until(shop, job_id, "running")
    page = open_page()
    keys = page.keyboard
    keys.press("g")
    keys.press("j")
    expect(page).to_have_url(re.compile("/spooler/jobs$"))
    keys.press("/")
    keys.type(job_id)
    keys.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    keys.press("j")
    keys.press("Enter")
    expect(page).to_have_url(re.compile(f"/jobs/{job_id}$"))
    keys.press("c")
    expect(page.get_by_role("dialog")).to_be_visible()
    keys.press("Tab")
    keys.press("Enter")
    expect(state(page)).to_have_text("cancelled", timeout=60_000)


def test_by_mouse_a_queue_is_paused_and_goes_on(open_page: Open, shop: Server) -> None:
    enqueue(shop, "shop.send_invoice", order=1)
    page = open_page("queues")
    faster(page)
    page.get_by_role("button", name="Pause mail").click()
    expect(page.get_by_role("row", name="mail")).to_contain_text("paused")
    job_id = enqueue(shop, "shop.send_invoice", order=2)
    expect(page.get_by_role("row", name="mail").locator("td").first).to_have_text("1")
    assert call(shop, f"jobs/{job_id}")["state"] == "queued"
    page.get_by_role("status").get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause mail")).to_be_visible()
    until(shop, job_id, "succeeded")


def test_by_keyboard_a_queue_is_paused_and_goes_on(open_page: Open, shop: Server) -> None:
    until(shop, enqueue(shop, "shop.send_invoice", order=1), "succeeded")
    page = open_page()
    keys = page.keyboard
    keys.press("g")
    keys.press("q")
    expect(page).to_have_url(re.compile("/spooler/queues$"))
    names = page.locator("tbody th a").all_inner_texts()
    for _ in range(names.index("mail") + 1):
        keys.press("j")
    expect(page.get_by_role("link", name="mail", exact=True)).to_be_focused()
    keys.press("Tab")
    keys.press("Enter")
    expect(page.get_by_role("button", name="Resume mail")).to_be_visible()
    for _ in range(names.index("mail") + 1):
        keys.press("j")
    keys.press("Tab")
    keys.press("Enter")
    expect(page.get_by_role("button", name="Pause mail")).to_be_visible()


def test_scripts_in_names_arguments_errors_and_logs_are_shown_and_not_run(
    open_page: Open, shop: Server
) -> None:
    text = "</script></pre><img src=x onerror=\"document.title='arguments'\">"
    job_id = enqueue(shop, HOSTILE, text=text)
    until(shop, job_id, "dead")
    for path in [*PAGES, f"jobs/{job_id}"]:
        page = open_page(path)
        assert "·" in page.title()
        assert page.locator("main img, main script").count() == 0
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    expect(page.locator(".message")).to_have_text(f"<script>document.title='error'</script>{text}")
    expect(page.get_by_label("Arguments")).to_contain_text("onerror=")
    expect(page.get_by_label("Log", exact=True)).to_contain_text("document.title='log'")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_axe_finds_nothing_serious_and_nothing_scrolls_sideways(
    open_page: Open, shop: Server, theme: str, width: int
) -> None:
    dead = enqueue(shop, HOSTILE, text="long" * 200)
    running = enqueue(shop, "shop.nightly_report")
    until(shop, dead, "dead")
    until(shop, running, "running")
    found = []
    page = open_page(color_scheme=theme, viewport={"width": width, "height": 800})
    for path in [*PAGES, "jobs?q=nothing+fits", f"jobs/{dead}", f"jobs/{running}"]:
        page.goto(f"http://127.0.0.1:{shop.port}/spooler/{path}")
        broad = page.evaluate("document.documentElement.scrollWidth")
        assert broad <= width, (path, broad)
        for violation in Axe().run(page).response["violations"]:
            if violation["impact"] in ("serious", "critical", "moderate"):
                found.append((path, violation["id"], [n["html"][:200] for n in violation["nodes"]]))
    call(shop, f"jobs/{running}/cancel", {})
    assert found == []


def test_rows_stay_where_they_are_while_new_jobs_come(open_page: Open, shop: Server) -> None:
    mine = enqueue(shop, "shop.nightly_report")
    page = open_page("jobs")
    faster(page)
    row = page.locator(f'tr[data-key="{mine}"]')
    before = row.bounding_box()
    shown = page.locator("tbody tr").evaluate_all("rows => rows.map(row => row.dataset.key)")
    for order in range(5):
        enqueue(shop, "shop.send_invoice", order=order)
    expect(page.locator(".fresh")).to_have_text("5 new")
    call(shop, f"jobs/{mine}/cancel", {})
    expect(row.locator(".state")).to_have_text("cancelled", timeout=60_000)
    after = page.locator("tbody tr").evaluate_all("rows => rows.map(row => row.dataset.key)")
    assert after == shown
    assert before is not None
    page.get_by_role("link", name="5 new").click()
    expect(page.locator("tbody tr").nth(5)).to_have_attribute("data-key", mine)


def test_a_row_that_fits_no_more_is_dimmed_and_does_not_vanish(
    open_page: Open, shop: Server
) -> None:
    jobs = [enqueue(shop, "shop.nightly_report") for _ in range(2)]
    for job_id in jobs:
        until(shop, job_id, "running")
    page = open_page("jobs")
    faster(page)
    page.get_by_role("link", name=re.compile("^Running")).click()
    expect(page.locator("tbody tr")).to_have_count(2)
    call(shop, f"jobs/{jobs[1]}/cancel", {})
    expect(page.locator(f'tr[data-key="{jobs[1]}"]')).to_have_class(re.compile("gone"))
    expect(page.locator("tbody tr")).to_have_count(2)
    call(shop, f"jobs/{jobs[0]}/cancel", {})


def test_ticked_rows_hold_the_page_still_and_are_acted_on_by_keyboard(
    open_page: Open, shop: Server
) -> None:
    jobs = [enqueue(shop, "shop.import_catalogue", path="/none", pages=1) for _ in range(3)]
    for job_id in jobs:
        until(shop, job_id, "dead")
    page = open_page("jobs")
    keys = page.keyboard
    for _ in range(2):
        keys.press("j")
        keys.press("x")
    expect(page.locator("[data-ticked]")).to_have_text("2 ticked")
    keys.press("#")
    expect(page.get_by_role("heading", level=1)).to_have_text("Delete 2 jobs?")
    page.get_by_role("button", name="Delete 2 jobs").focus()
    keys.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("2 jobs deleted")
    assert call(shop, f"jobs/{jobs[0]}")["state"] == "dead"


def test_a_group_of_dead_jobs_is_retried_together(open_page: Open, shop: Server) -> None:
    jobs = [enqueue(shop, "shop.import_catalogue", path="/none", pages=1) for _ in range(3)]
    for job_id in jobs:
        until(shop, job_id, "dead")
    page = open_page("dead")
    page.get_by_role("button", name="Retry FileNotFoundError of shop.import_catalogue").click()
    page.locator("main").get_by_role("button", name=re.compile("^Retry [0-9]+ jobs$")).click()
    expect(page.get_by_role("status")).to_contain_text("retried")
    for job_id in jobs:
        until(shop, job_id, "dead")
        assert call(shop, f"jobs/{job_id}")["attempt"] == 2


def test_without_scripts_everything_can_be_done_too(open_page: Open, shop: Server) -> None:
    page = open_page("enqueue", java_script_enabled=False)
    page.get_by_label("Task").select_option("shop.import_catalogue")
    page.get_by_label("Arguments").fill('{"path": "/none", "pages": 1}')
    page.get_by_role("button", name="Enqueue").click()
    job_id = page.url.rpartition("/")[2]
    until(shop, job_id, "dead")
    page.reload()
    page.get_by_role("button", name="Retry").click()
    until(shop, job_id, "dead")
    page.goto(f"http://127.0.0.1:{shop.port}/spooler/jobs?q={job_id}")
    page.get_by_label("Tick shop.import_catalogue").check()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Delete 1 job?")
    page.get_by_role("button", name="Delete 1 job").click()
    expect(page.get_by_role("status")).to_contain_text("1 job deleted")


def test_a_theme_is_kept_and_help_is_one_key_away(open_page: Open) -> None:
    page = open_page()
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Pause live updates")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("p")
    expect(page.locator("[data-live-word]")).to_have_text("Paused")
