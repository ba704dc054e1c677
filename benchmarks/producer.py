"""The one process that enqueues: a small Flask app, the same for all systems.

For those on uWSGI it runs in a web worker, where their users enqueue; for the others in a Python
process of its own (``python -m benchmarks.producer PORT``). It imports the module of `apps` that
`BENCH_APP` names, and times each call there and then, so that no request is part of a figure.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from types import ModuleType
from typing import Any, Final

from flask import Flask, request

VARIABLE: Final = "BENCH_APP"


def make_app(module: ModuleType) -> Flask:
    """Return the app that enqueues through this module."""
    app = Flask("benchmarks.producer")
    if hasattr(module, "set_up"):
        module.set_up(app)

    @app.get("/")
    def ready() -> dict[str, Any]:
        return {"pid": os.getpid()}

    @app.get("/enqueue")
    def enqueue() -> dict[str, Any]:
        first, count = int(request.args["first"]), int(request.args["count"])
        seconds = timed(module, first, count)
        return {"total": sum(seconds), "each": seconds if "each" in request.args else []}

    @app.get("/call/<name>")
    def call(name: str) -> dict[str, Any]:
        arguments = {key: json.loads(value) for key, value in request.args.items()}
        return {"answer": getattr(module, name)(**arguments)}

    return app


def timed(module: ModuleType, first: int, count: int) -> list[float]:
    """Enqueue jobs one after the other; return the seconds of each call."""
    sent, clock, now, enqueue = module.MARKS.sent, time.perf_counter, time.time, module.enqueue
    seconds = []
    for n in range(first, first + count):
        sent[n] = now()
        before = clock()
        enqueue(n)
        seconds.append(clock() - before)
    return seconds


if VARIABLE in os.environ:
    app = make_app(importlib.import_module(os.environ[VARIABLE]))

if __name__ == "__main__":
    from werkzeug.serving import WSGIRequestHandler, run_simple

    class Quiet(WSGIRequestHandler):
        """Writes no line for each request."""

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None: ...

    run_simple("127.0.0.1", int(sys.argv[1]), app, request_handler=Quiet)
