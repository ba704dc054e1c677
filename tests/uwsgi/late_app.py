"""An app of its own whose task imports other spooler libraries when it runs, not before."""

from __future__ import annotations

import importlib

from flask import Flask

from flask_spooler import Spooler

app = Flask(__name__)
spooler = Spooler(app)


@spooler.task
def imports(module: str) -> str:
    importlib.import_module(module)
    return module


@spooler.task
def works() -> str:
    return "worked"
