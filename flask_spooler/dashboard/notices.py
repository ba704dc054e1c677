"""What an action tells its reader on the page that follows it, in a cookie for that one page.

Owns that cookie. It holds a sentence, and the address of what would undo the action. Whoever
forges one sees their own text, escaped like any other.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final, NamedTuple

from flask import after_this_request, request, url_for
from werkzeug.wrappers import Response

from .base import NAME, prefix

COOKIE: Final = "spooler_notice"


class Notice(NamedTuple):
    """A sentence, whether it tells of trouble, and a way back."""

    text: str
    is_trouble: bool = False
    undo: str | None = None
    """The path below the prefix that a POST goes to."""
    undo_label: str | None = None


def put(answer: Response, notice: Notice) -> Response:
    """Let the next page tell this."""
    text = base64.urlsafe_b64encode(json.dumps(notice).encode()).decode()
    answer.set_cookie(COOKIE, text, max_age=60, path=_path(), httponly=True, samesite="Strict")
    return answer


def take() -> Notice | None:
    """Return what is to be told on this page, once; a refresh in the background takes nothing."""
    text = request.cookies.get(COOKIE)
    if not text or "X-Spooler-Live" in request.headers:
        return None

    @after_this_request
    def forget(answer: Any) -> Any:
        answer.delete_cookie(COOKIE, path=_path())
        return answer

    try:
        notice = Notice(*json.loads(base64.urlsafe_b64decode(text.encode())))
    except (ValueError, TypeError):
        return None
    home = url_for(f"{NAME}.overview")
    is_ours = isinstance(notice.undo, str) and notice.undo.startswith(home)
    return notice if is_ours else notice._replace(undo=None)


def _path() -> str:
    return request.root_path + prefix() + "/"
