"""An app that sets up its `Spooler` first and imports other spooler libraries after that."""

from __future__ import annotations

from late_app import app, spooler

import uwsgi_tasks  # isort: skip
import uwsgidecorators  # isort: skip

__all__ = ["app", "spooler", "uwsgi_tasks", "uwsgidecorators"]
