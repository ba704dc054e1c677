"""Two apps of one factory in one server, with one `Spooler` and a spool each."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, current_app, g, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_spooler import Spooler, Tasks

spooler = Spooler()
tasks = Tasks("shared")


@tasks.task
def where(again: bool = False) -> dict[str, Any]:
    """Say in which app and from which spool this runs, and enqueue the same there once more."""
    assert "seen" not in g
    g.seen = True
    following = where.enqueue().id if again else None
    spool = spooler.engine.spool.root.name
    return {"app": current_app.name, "spool": spool, "following": following}


def create_app(name: str, directory: str) -> Flask:
    app = Flask(name)
    app.config["SPOOLER_DIRECTORY"] = directory
    spooler.init_app(app)

    @app.get("/enqueue")
    def enqueue() -> dict[str, str]:
        delay = float(request.args.get("delay", 0))
        return {"id": where.using(delay=delay).enqueue(again=True).id}

    @app.get("/jobs/<job_id>")
    def job(job_id: str) -> dict[str, Any]:
        return spooler.get(job_id).as_dict()

    return app


spooler.register(tasks)
first = create_app("first", os.environ["FIRST_DIRECTORY"])
second = create_app("second", os.environ["SECOND_DIRECTORY"])
for each in (first, second):
    each.register_error_handler(LookupError, lambda error: (str(error), 404))
app = DispatcherMiddleware(first, {"/second": second})
