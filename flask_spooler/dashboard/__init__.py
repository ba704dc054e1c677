"""The dashboard and the operations API: what people and their scripts look at and act through.

Owns everything under `SPOOLER_DASHBOARD_PREFIX`, in every app that has the extension, and closed
until somebody configures an access (`access`). Pages are made on the server and work without
scripts; one small script keeps them up to date and adds the keyboard. Nothing here has SQL: the
questions stand in `ledger.search`, the actions in `operations`, and each action is written down
in `ledger.deeds`.

It is imported by `extension`, which is found again in ``current_app.extensions``.
"""

from .routes import mount

__all__ = ["mount"]
