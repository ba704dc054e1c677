"""The reference app with notifications that take their time, and a look at its threads."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import tasks
from app import app

TAKES = 0.04

deliver = tasks.notify.function


def slowly(notification: dict[str, Any]) -> None:
    time.sleep(TAKES)
    deliver(notification)


tasks.notify.function = slowly


@app.get("/threads")
def threads() -> dict[str, Any]:
    return {"pid": os.getpid(), "names": [thread.name for thread in threading.enumerate()]}
