"""What an ini file names that is not there: options, modules, and the app in a module.

Owns the question to uWSGI which options it has, and the search for a module where a server would
search. Nothing is imported, since an app may do anything when it is: finders say where a module
lies, and its source which names it has. What cannot be told counts as right.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Set
from difflib import get_close_matches
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Final

from .finding import Finding, right, some, wrong
from .ini import Option, Options
from .note import IMPORTS

CLOSE: Final = 0.8
"""How alike two names must be for one to be a typing error: plugins bring options of their own."""

PATIENCE: Final = 5.0

APPS: Final = ("module", "wsgi", "w")
HOMES: Final = ("home", "virtualenv", "venv", "pyhome", "H")
PATHS: Final = ("pythonpath", "python-path", "pp")

_OPTION: Final = re.compile(r"^\s+(?:-(\S)\|)?--(\S+)", re.MULTILINE)

Found = Iterator[Finding]


def known_options() -> frozenset[str]:
    """Return the options that uWSGI says it has; none where there is no uWSGI to ask."""
    beside = Path(sys.executable).with_name("uwsgi")
    command = str(beside) if beside.exists() else shutil.which("uwsgi")
    if command is None:
        return frozenset()
    try:
        answer = subprocess.run(
            [command, "--help"], capture_output=True, text=True, timeout=PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(name for pair in _OPTION.findall(answer.stdout) for name in pair if name)


def examine_options(options: Options, known: Set[str]) -> Found:
    """Look for options that uWSGI does not have, and which read like one that it has."""
    asked = {name for name, _ in options.pairs} - known - options.placeholders
    meant = {name: get_close_matches(name, known, 1, CLOSE) for name in sorted(asked)}
    mistaken = [f"{name} (for {close[0]})" for name, close in meant.items() if close]
    if mistaken:
        problem = f"uWSGI has no such option: {some(mistaken)}"
        yield wrong("options", problem, "mend the name of the option")
    else:
        yield right("options", "no option reads like a typing error")


def examine_modules(options: Options, ini: Path) -> Found:
    """Look for the modules that a server would import, and the app in the first of them."""
    directories = _directories(options, ini)
    may_lie_elsewhere = any(Path(home).resolve() != Path(sys.prefix).resolve()
                            for home in _values(options, HOMES))  # fmt: skip
    missing, nameless = [], []
    for option, module, name in _asked(options):
        spec = _find(module, directories)
        if spec is None:
            missing.append(option)
        elif name and _lacks(spec, name):
            nameless.append(option)
    if missing and not may_lie_elsewhere:
        problem = f"no such module for uWSGI to import: {some(missing)}"
        fix = "mend the name, or set chdir or pythonpath to the directory in which it lies"
        yield wrong("modules", problem, fix)
    if nameless:
        problem = f"the module is there, and nothing of that name in it: {some(nameless)}"
        yield wrong("modules", problem, "mend the name behind the colon, or set callable")
    if not nameless and (not missing or may_lie_elsewhere):
        yield right("modules", "what uWSGI is to import is there")


def _values(options: Options, names: tuple[str, ...]) -> list[str]:
    return [value for option, value in options.pairs if option in names]


def _asked(options: Options) -> Iterator[tuple[str, str, str]]:
    """Yield how an option reads, the module that it names, and what is to be in that module."""
    called = _values(options, ("callable",))
    for pair in options.pairs:
        option, value = pair
        module, colon, name = value.partition(":")
        if not _is_module(pair, module):
            continue
        if option in APPS:
            name = name or (called[-1] if called else "application")
            yield f"{option} = {value}", module, re.split(r"[(.]", name)[0]
        elif option in IMPORTS or (option == "mule" and colon):
            yield f"{option} = {value}", module, name


def _is_module(pair: Option, module: str) -> bool:
    """Tell a module from a file, and from what depends on what is not known here."""
    return bool(re.fullmatch(r"[^\s/%$]+", module)) and not module.endswith(".py")


def _directories(options: Options, ini: Path) -> list[str]:
    """Return where a server that is started beside its ini looks first, as it is or from here."""
    starts = [ini.absolute().parent, Path.cwd()]
    moved = _values(options, ("chdir",))
    places = [start / moved[-1] for start in starts] if moved else starts
    paths = [start / path for path in _values(options, PATHS) for start in starts]
    return list(dict.fromkeys(os.path.abspath(place) for place in [*places, *paths]))


def _find(module: str, directories: list[str]) -> ModuleSpec | None:
    """Return where a module lies. Its parents are not imported either."""
    spec: ModuleSpec | None = None
    path = [*directories, *sys.path]
    for part in module.split("."):
        # By its last name alone: with the whole one, the finder would want its parent imported.
        spec = PathFinder.find_spec(part, path) or (_installed(part) if spec is None else None)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return spec


def _installed(name: str) -> ModuleSpec | None:
    """Ask the other finders of this process, which know what is installed in other ways."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _lacks(spec: ModuleSpec, name: str) -> bool:
    """Tell whether a module's source shows that it has nothing of this name."""
    if spec.origin is None or not spec.origin.endswith(".py"):
        return False
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    bound = {name for node in ast.walk(tree) for name in _bound(node)}
    return not bound & {name, "*", "__getattr__", "globals", "setattr"}


def _bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node may bind, wherever it stands: rather too many than too few."""
    match node:
        case ast.Name(id=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.alias(name=name, asname=other):
            yield other or name.partition(".")[0]
