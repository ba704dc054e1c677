"""What is shown of arguments, results and tracebacks: masked, cut, folded. Pure.

Owns what a secret is. A value under a key that sounds like one is replaced, and so is a password
within an address; what a task prints or raises is its own affair.
"""

from __future__ import annotations

import json
import os
import re
import sysconfig
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

MASK: Final = "•••"
LONGEST: Final = 65_536
"""Characters of one value on the page of a job; there is a link to all of it."""

LONGEST_PREVIEW: Final = 140

_SECRET = re.compile(
    r"pass(word|wd|phrase|code)|pwd|secret|token(?!s)|apikey|authorization|credential"
    r"|privatekey|accesskey|signingkey|cookie|session(id|key)|cvv|cvc|cardnumber|^auth$|^pin$",
    re.IGNORECASE,
)
_IN_ADDRESS = re.compile(r"(\w://[^/\s:@]*:)[^@/\s]+(@)")
_FRAME = re.compile(r'  File "(?P<file>[^"\n]*)", line \d+')
_LIBRARIES = tuple(
    {
        sysconfig.get_path(name) + "/"
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
        if sysconfig.get_path(name)
    }
    | {str(Path(__file__).resolve().parents[1]) + "/"}
)


def masked(value: Any) -> Any:
    """Return a JSON value with everything that sounds like a secret replaced.

    >>> masked({"user": "ann", "api_key": "x", "db": "pg://u:pw@host/", "max_tokens": 5})
    {'user': 'ann', 'api_key': '•••', 'db': 'pg://u:•••@host/', 'max_tokens': 5}
    """
    if isinstance(value, dict):
        return {
            key: MASK if is_secret(key) and item not in (None, "", True, False) else masked(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [masked(item) for item in value]
    if isinstance(value, str):
        return _IN_ADDRESS.sub(rf"\g<1>{MASK}\g<2>", value)
    return value


def is_secret(name: str) -> bool:
    """Tell whether what has this name is nobody's business.

    >>> is_secret("X-Api-Key"), is_secret("tokens"), is_secret("author")
    (True, False, False)
    """
    return _SECRET.search(re.sub(r"[^a-zA-Z]", "", name)) is not None


def shown(data: bytes | None) -> Any:
    """Return stored JSON as a value that may be shown; None where nothing is stored."""
    return None if data is None else masked(msgspec.json.decode(data))


def pretty(value: Any) -> str:
    """Return a JSON value on several lines, for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def preview(kwargs: bytes | None, size: int) -> str:
    """Return arguments on one line, cut; only their size where there are too many.

    >>> preview(b'{"path": "a.png", "width": 200}', 31), preview(None, 5000)
    ('path="a.png", width=200', '5,000 bytes')
    """
    if kwargs is None:
        return f"{size:,} bytes"
    values = shown(kwargs)
    text = ", ".join(f"{name}={_line(value)}" for name, value in values.items())
    return cut(text, LONGEST_PREVIEW)


def preview_all(kwargs: bytes | None) -> str:
    """Return arguments as they are stored, but masked; empty where there are too many."""
    return "" if kwargs is None else msgspec.json.encode(shown(kwargs)).decode()


def cut(text: str, longest: int = LONGEST) -> str:
    """Return a text, at most so many characters of it."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _line(value: Any) -> str:
    return cut(json.dumps(value, ensure_ascii=False), LONGEST_PREVIEW)


class Frames(NamedTuple):
    """Neighbouring lines of a traceback: the app's own, or those of libraries."""

    of_app: bool
    number: int
    text: str


def folded(traceback: str) -> list[Frames]:
    """Return a traceback in stretches; what is not a frame counts as the app's."""
    pieces: list[tuple[bool, bool, list[str]]] = []  # of the app, a frame, its lines
    for line in traceback.splitlines():
        frame = _FRAME.match(line)
        if frame:
            of_app = not os.path.normpath(frame["file"]).startswith(_LIBRARIES)
            pieces.append((of_app, True, [line]))
        elif pieces and pieces[-1][1] and line.startswith(("    ", "  [Previous line")):
            pieces[-1][2].append(line)
        else:
            pieces.append((True, False, [line]))
    stretches: list[Frames] = []
    for of_app, is_frame, lines in pieces:
        last = stretches[-1] if stretches else None
        if last is not None and last.of_app == of_app:
            text = f"{last.text}\n" + "\n".join(lines)
            stretches[-1] = Frames(of_app, last.number + is_frame, text)
        else:
            stretches.append(Frames(of_app, int(is_frame), "\n".join(lines)))
    return stretches
