"""Fifty values of every type go through a real server and arrive as what they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typed_jobs
from conftest import servers_in
from server import client, wait_until

from flask_spooler.job import FINAL
from tests.samples import HOW_MANY, MAKERS, sample
from tests.shapes import canon


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """What the server's tasks say that they were given, for each type."""
    with servers_in(tmp_path_factory.mktemp("types")) as start:
        server = start(
            spooler_import="typed_jobs", environment={"FLASK_SPOOLER_DURABILITY": "process"}
        )
        settings = {"SPOOLER_DURABILITY": "process"}
        with client(typed_jobs.spooler, server.directory, **settings) as state:
            jobs = {
                name: task.enqueue_many([(value,) for value in sample(name).values])
                for name, task in typed_jobs.TASKS.items()
            }
            job_ids = [job.id for each in jobs.values() for job in each]
            states = state.engine.ledger.states
            wait_until(lambda: FINAL.issuperset(states(job_ids).values()), timeout=90, every=0.2)
            yield {name: [job.result for job in each] for name, each in jobs.items()}


@pytest.mark.parametrize("name", MAKERS)
def test_fifty_values_of_a_type_arrive_at_a_server_as_they_were(
    answers: dict[str, list[str]], name: str
) -> None:
    assert answers[name] == [repr(canon(value)) for value in sample(name).values]
    assert len(answers[name]) == HOW_MANY


def test_the_values_differ() -> None:
    few = {"none", "bool", "enum", "int enum", "str enum", "flag", "literal", "annotated"}
    for name in set(MAKERS) - few:
        assert len({repr(canon(value)) for value in sample(name).values}) >= 5, name
