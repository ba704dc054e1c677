"""A server's options as they stand in its ini file, without starting it.

Owns a reader for the part of uWSGI's ini language that configurations of one app use: comments,
repeated options, ``%d`` and its like, ``$(NAME)``, placeholders, ``if-env``, ``if-opt``,
``if-exists`` and their opposites, and ``ini`` or ``include`` for another file. Other logic it
refuses (`Unreadable`), because half an answer would be a wrong one.

uWSGI itself cannot be asked: it shows a configuration only on the way to starting it, and makes
directories meanwhile.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .._uwsgi import OFF

Option = tuple[str, str]

END: Final = ("end", "endif", "endfor", "end-if", "end-for")
LOOKED_AT: Final = frozenset(
    {
        *(
            "binary-path",
            "M",
            "chmod",
            "chmod-socket",
            "die-on-term",
            "enable-threads",
            "hook-accepting",
        ),
        *("hook-master-start", "i", "lazy", "lazy-apps", "master", "max-fd", "mount", "mule"),
        *("mules", "need-app", "p", "processes", "py-call-osafterfork"),
        *("py-call-uwsgi-fork-hooks", "single-interpreter", "spooler", "spooler-external"),
        *("spooler-freq", "spooler-frequency", "spooler-import", "spooler-ordered"),
        *("spooler-processes", "spooler-py-import", "spooler-pyimport"),
        *("spooler-python-import", "strict", "threads", "workers"),
        *("socket", "s", "uwsgi-socket", "puwsgi-socket", "suwsgi-socket", "ssl-socket"),
        *("http-socket", "http", "https", "https-socket", "fastcgi-socket", "scgi-socket"),
        "raw-socket",
    }
)
"""The options that checks ask for. Others stay out of notes: they may hold secrets."""

AT_ONCE: Final = ("spooler-processes",)
"""uWSGI takes these as soon as it reads them, before any placeholder has a value."""

DEEPEST: Final = 10
_PLACEHOLDER: Final = re.compile(r"%\(([^()]+)\)")
_VARIABLE: Final = re.compile(r"\$\(([^()]+)\)")
_LOGIC: Final = re.compile("if|for$|for-")
_MAGIC: Final = re.compile(r"%([a-zA-Z0-9])")


class Unreadable(Exception):
    """An ini file that this reader cannot follow."""


@dataclass(frozen=True)
class Options:
    """The options of one server, in the order in which uWSGI reads them.

    `complete` is False where of some options only the last of several is known.
    """

    pairs: tuple[Option, ...]
    complete: bool = True
    placeholders: frozenset[str] = frozenset()
    """The names that stand in values as ``%(name)``: not all of them are options."""

    def all(self, *names: str) -> list[str]:
        """Return every value of an option that has these names, all of them `LOOKED_AT`."""
        assert LOOKED_AT.issuperset(names), names
        return [value for option, value in self.pairs if option in names]

    def last(self, *names: str) -> str | None:
        """Return the value that counts, None where the option is not set."""
        return next(iter(reversed(self.all(*names))), None)

    def is_on(self, *names: str) -> bool:
        """Tell whether a switch is on; one that is not set is off."""
        value = self.last(*names)
        return value is not None and value.lower() not in OFF


def read_ini(path: str | os.PathLike[str], environment: Mapping[str, str]) -> Options:
    """Return the options in an ini file, read as uWSGI reads it in this environment.

    Raises `Unreadable` and `OSError`.
    """
    return _resolved(list(_lines(os.fspath(path), environment, 0)))


def read_command_line(words: list[str], directory: str, environment: Mapping[str, str]) -> Options:
    """Return the options of a uWSGI command line, its ini files included.

    `directory` is what relative paths are relative to. Raises `Unreadable` and `OSError`.
    """
    found: list[Option] = []
    given = iter(words[1:])
    before: str | None = None
    for word in given:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            before = None if equals else name
            found.append((name, value if equals else "true"))
        elif before is not None:
            found[-1] = (before, word)
            before = None
        elif word.endswith(".ini"):
            found.append(("ini", word))
    pairs: list[Option] = []
    for name, value in found:
        if name == "ini":
            pairs += _lines(os.path.join(directory, value), environment, 0)
        else:
            pairs.append(_option(name, value))
    return _resolved(pairs)


def _lines(path: str, environment: Mapping[str, str], depth: int) -> Iterator[Option]:
    """Yield the options of one file, logic and included files worked out."""
    if depth > DEEPEST:
        raise Unreadable(f"{path} is included by itself")
    file, _, section = path.partition(".ini:")
    file, section = (f"{file}.ini", section) if section else (path, "uwsgi")
    counts, data = True, None
    seen: list[Option] = []
    for name, raw in _section(file, section):
        value = _with_variables(_with_magic(raw, file), environment)
        if name in END:
            counts, data = True, None
        elif _LOGIC.match(name):
            counts, data = _condition(name, value, environment, seen, file)
        elif counts:
            given = value if data is None else value.replace("%(_)", data)
            if name in ("ini", "include"):
                found = list(_lines(_beside(file, given), environment, depth + 1))
            else:
                found = [_option(name, given)]
            seen += found
            yield from found


def _section(file: str, wanted: str) -> Iterator[Option]:
    section = ""
    for line in Path(file).read_text().splitlines():
        text = line.strip()
        if text.startswith("["):
            section = text[1:-1]
        elif section == wanted and text and text[0] not in ";#":
            name, equals, value = text.partition("=")
            yield name.strip(), value.strip() if equals else "true"


def _beside(file: str, other: str) -> str:
    # uWSGI takes it relative to where it was started, which is nearly always the ini's place.
    return other if Path(other.partition(".ini:")[0]).exists() else str(Path(file).parent / other)


def _option(name: str, value: str) -> Option:
    if name in ("set-placeholder", "set-ph", "set"):
        name, _, value = value.partition("=")
    return name, value


def _condition(
    name: str, value: str, environment: Mapping[str, str], seen: list[Option], file: str
) -> tuple[bool, str]:
    """Return whether the lines below this ``if-…`` count, and what ``%(_)`` is in them."""
    kind = name.removeprefix("if").removeprefix("-")
    negated = kind.startswith("not-")
    subject, equals, wanted = value.partition("=")
    match kind.removeprefix("not-"):
        case "env":
            found = environment.get(subject)
        case "opt":
            found = next((given for option, given in seen if option == subject), None)
        case "exists" | "file" | "dir" | "directory":
            found, equals = value if os.path.exists(value) else None, ""
        case _:
            raise Unreadable(f"{file}: {name} = {value} cannot be followed here")
    holds = found is not None and (not equals or found == wanted)
    return holds is not negated, found or subject


def _with_variables(value: str, environment: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda name: environment.get(name[1], ""), value)


def _with_magic(value: str, file: str) -> str:
    path = Path(file).absolute()
    magic = {
        "p": str(path),
        "s": path.name,
        "d": f"{path.parent}/",
        "c": path.parent.name,
        "n": path.stem,
        "e": path.suffix.removeprefix("."),
    }
    return _MAGIC.sub(lambda letter: magic.get(letter[1].lower(), letter[0]), value)


def _resolved(pairs: list[Option]) -> Options:
    """Put in the values of placeholders: of several with one name the first counts."""
    values = dict(reversed(pairs))

    def filled(value: str, depth: int = 0) -> str:
        if depth > DEEPEST:
            return value
        return _PLACEHOLDER.sub(
            lambda name: filled(values[name[1]], depth + 1) if name[1] in values else name[0], value
        )

    used = (name for _, value in pairs for name in _PLACEHOLDER.findall(value))
    return Options(
        tuple((name, value if name in AT_ONCE else filled(value)) for name, value in pairs),
        placeholders=frozenset(used),
    )
