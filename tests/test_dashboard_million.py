"""A million finished jobs: every page in time and in size, and what a search finds among them."""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_spooler import Spooler
from flask_spooler.ledger.search import Search
from flask_spooler.ledger.walks import LOOK_AT, Filter
from tests.filling import fill

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

NUMBER = 1_000_000
MOST_SECONDS = 0.1
MOST_BYTES = 100 * 1024
TOKEN = "the token of the tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}

PAGES = [
    "", "jobs", "jobs?before=500000", "jobs?state=succeeded", "jobs?state=dead",
    "jobs?state=queued", "jobs?state=running", "jobs?state=scheduled", "jobs?queue=reports",
    "jobs?task=shop.mail.welcome", "jobs?queue=mail&state=dead&task=shop.mail.welcome",
    "jobs?queue=mail&task=shop.images.resize", "jobs?queue=nowhere", "jobs?error=KeyError",
    "jobs?error=KeyError&queue=reports", "jobs?since=1h", "jobs?since=6d&until=5d&state=dead",
    "jobs?since=7d&queue=payments", "jobs?q={id}", "jobs?q={begin}", "jobs?q=shop.mail.welcome",
    "jobs?q=KeyError", "jobs?q=c-4711", "jobs?q=nowhere-to-be-found",
    "jobs?q=nowhere-to-be-found&before=500000", "jobs?q=upload-4711&state=dead", "jobs/{id}",
    "dead", "queues", "workers", "performance", "performance?span=24h", "system", "enqueue",
    "api/jobs", "api/jobs?q=nowhere-to-be-found", "api/jobs/{id}", "api/queues", "api/stats",
]  # fmt: skip


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """An app whose ledger has a past; on the disk, where there is room for it."""
    made = Flask("shop")
    made.config.update(
        SPOOLER_DIRECTORY=tmp_path_factory.mktemp("million") / "spool",
        SPOOLER_DURABILITY="process",
        SPOOLER_DASHBOARD_TOKEN=TOKEN,
    )
    Spooler(made)
    engine = made.extensions["spooler"].engine
    engine.prepare()
    fill(engine.ledger, NUMBER)
    return made


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def search(app: Flask) -> Search:
    return Search(app.extensions["spooler"].engine.ledger)


def listed(client: FlaskClient, query: str) -> Any:
    answer = client.get(f"/spooler/api/jobs?{query}", headers=BEARER)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.text)


def test_every_page_is_ready_in_time_and_small(
    client: FlaskClient, search: Search, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = search.page(Filter(state="dead"), limit=1).jobs[0].id
    rows, slow = [], []
    for path in PAGES:
        whole = "/spooler/" + path.format(id=dead, begin=dead[:18])
        assert client.get(whole, headers=BEARER).status_code == 200, whole
        took = []
        for _ in range(5):
            begun = time.perf_counter()
            answer = client.get(whole, headers=BEARER)
            took.append(time.perf_counter() - begun)
        rows.append((path or "overview", statistics.median(took), len(answer.data)))
        if rows[-1][1] > MOST_SECONDS or rows[-1][2] > MOST_BYTES:
            slow.append(rows[-1])
    with capsys.disabled():
        print(f"\n{NUMBER:,} finished jobs, median of 5\n{'page':<55} {'ms':>7} {'KB':>7}")
        for path, seconds, size in rows:
            print(f"{path:<55} {seconds * 1000:>7.1f} {size / 1024:>7.1f}")
    assert slow == []


def test_an_id_a_task_and_an_exception_are_found_exactly_wherever_they_are(
    client: FlaskClient, search: Search
) -> None:
    oldest = search.page(Filter(), before=2).jobs[0]
    assert [job["id"] for job in listed(client, f"q={oldest.id}")["jobs"]] == [oldest.id]
    found = listed(client, "q=shop.payments.capture&limit=200")
    assert {job["task"] for job in found["jobs"]} == {"shop.payments.capture"}
    assert found["total"] == search.count(Filter(task="shop.payments.capture"))
    found = listed(client, "q=shop.errors.ImageBroken&limit=200")
    assert {job["error"]["type"] for job in found["jobs"]} == {"shop.errors.ImageBroken"}
    assert found["next"] is not None


def test_text_is_searched_in_the_newest_jobs_and_further_when_asked(client: FlaskClient) -> None:
    new, old = '"order":995000', '"order":970001'
    assert [job["kwargs"]["order"] for job in listed(client, f"q={new}")["jobs"]] == [995_000]
    page = client.get(f"/spooler/jobs?q={old}", headers=BEARER).text
    assert f"Text is searched in the newest {LOOK_AT:,} jobs" in page
    assert "Search further" in page
    found = listed(client, f"q={old}")
    assert (found["jobs"], found["looked_at"], found["stopped"]) == ([], LOOK_AT, True)
    found = listed(client, f"q={old}&before={found['next']}")
    assert [job["kwargs"]["order"] for job in found["jobs"]] == [970_001]


def test_a_time_narrows_the_search_to_where_the_jobs_are(
    client: FlaskClient, search: Search
) -> None:
    middle = search.page(Filter(), before=500_001, limit=1).jobs[0]
    query = f"since={middle.enqueued_at - 60}&until={middle.enqueued_at + 0.001}&limit=200"
    found = listed(client, query)
    assert found["jobs"][0]["id"] == middle.id
    assert 90 < len(found["jobs"]) < 110
    assert found["looked_at"] < 10_000


def test_pages_by_filter_hold_every_job_once(client: FlaskClient, search: Search) -> None:
    query = "state=expired&task=shop.reports.nightly_sales&limit=200"
    expected = search.count(Filter(state="expired", task="shop.reports.nightly_sales"))
    found = listed(client, query)
    ids = [job["id"] for job in found["jobs"]]
    while found["next"] is not None:
        found = listed(client, f"{query}&before={found['next']}")
        ids += [job["id"] for job in found["jobs"]]
    assert len(ids) == len(set(ids)) == expected
    assert ids == sorted(ids, reverse=True)


def test_the_groups_of_dead_jobs_add_up(app: Flask, client: FlaskClient, search: Search) -> None:
    text = client.get("/spooler/dead", headers=BEARER).text
    dead = search.count(Filter(state="dead"))
    assert f'<span class="count">{dead:,}</span>' in text
