"""The pytest plugin: the fixture `spooler_jobs`, and nothing else.

Stands outside the package, because pytest imports every installed plugin at its start: importing
the package there would take its time in everybody's tests, and hide its lines from coverage. No
options, no hooks, no output; ``-p no:flask_spooler`` leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flask import Flask

    from flask_spooler.testing import SpoolerJobs


@pytest.fixture
def spooler_jobs(request: pytest.FixtureRequest) -> Iterator[SpoolerJobs]:
    """Give the jobs of the fixture `app`, or of the current app, into the hand of the test."""
    from flask_spooler.testing import spooler_jobs

    with spooler_jobs(_app(request)) as jobs:
        yield jobs


def _app(request: pytest.FixtureRequest) -> Flask:
    from flask import Flask, current_app, has_app_context

    try:
        app = request.getfixturevalue("app")
    except pytest.FixtureLookupError as error:
        if error.argname != "app":
            raise
        app = current_app._get_current_object() if has_app_context() else None  # type: ignore[attr-defined]
    if not isinstance(app, Flask):
        expected = "a fixture named app that returns the Flask app, or an app context"
        pytest.fail(f"spooler_jobs: expected {expected}, got: {app!r}", pytrace=False)
    return app
