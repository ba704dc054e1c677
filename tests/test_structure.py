"""How the package hangs together: imports point down, and some things stand in one place only."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import flask_spooler

PACKAGE = Path(flask_spooler.__file__).parent

# The modules of design.md from the ground up. A module imports from lower layers only, or from
# those that stand before it in its own layer.
LAYERS = [
    ["callables", "failpoints", "interrupts", "members", "errors", "_uwsgi"],
    ["retry", "schedule", "packets", "times", "endings", "queues", "job", "record", "signals"],
    ["options", "arguments", "outcome", "admission", "config", "tidy"],
    ["result", "steps", "current"],
    ["threads"],
    ["databases", "contexts", "coroutines", "after_commit"],
    ["log", "capture"],
    ["spool", "private", "ledger"],
    ["window", "engine", "operations", "upkeep", "lifecycle"],
    ["handle", "task", "tasks", "perform", "aside"],
    ["taken", "worker", "dispatch", "eager", "tracing", "state"],
    ["survey", "housekeeper", "doctor", "development"],
    ["dashboard"],
    ["extension"],
    ["__init__"],
    ["tables", "watch", "metrics", "health", "matching", "testing", "completion", "cli"],
]
ORDER = [name for layer in LAYERS for name in layer]
EDGES = LAYERS[-1]

LONG_MODULES = {
    "_uwsgi": "whatever is asked of uWSGI stands in it, in short functions",
    "dashboard.routes": "one short function for each page and action",
    "doctor.server": "one short function for each thing that can be wrong with a server's options",
    "errors": "every sentence that an error says stands in it",
    "ledger.__init__": "one short method for each question that is asked of it",
    "cli": "one short function for each word of the command line",
    "options": "one short check for each option",
    "ledger.transaction": "every change of rows stands in it, most of it SQL",
    "spool.__init__": "every move of a job's file stands in it, and says what a crash leaves",
    "worker": "the steps of one attempt read as one story",
}
LONGEST = 300


def modules() -> dict[str, Path]:
    """Every module of the package by its name below the package."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def layer_of(name: str) -> str:
    """A package within the package stands in one place, whatever modules it has."""
    return name.partition(".")[0]


def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text())


def absolute(name: str, node: ast.ImportFrom) -> str:
    """The absolute module that a `from … import` in module `name` speaks of."""
    package = ["flask_spooler", *name.split(".")]
    if package[-1] == "__init__":
        package.pop()
        base = package[: len(package) - node.level + 1]
    else:
        base = package[: len(package) - node.level]
    return ".".join([*(base if node.level else []), *([node.module] if node.module else [])])


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Walk all but what stands under `TYPE_CHECKING`: what no process imports, binds nobody."""
    yield node
    for child in ast.iter_child_nodes(node):
        types_only = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not types_only:
            yield from running(child)


def imported(name: str) -> set[str]:
    """Every absolute module that `name` imports, within functions too, but not for types only."""
    found: set[str] = set()
    for node in running(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = absolute(name, node)
            known = {f"flask_spooler.{each}" for each in modules()}
            inner = {f"{module}.{alias.name}" for alias in node.names} & known
            found |= inner or {module}
    return found


def own_imports(name: str) -> set[str]:
    """The modules of this package that `name` imports, by their place in `ORDER`."""
    inside = {each for each in imported(name) if each.partition(".")[0] == "flask_spooler"}
    return {layer_of(each.partition(".")[2] or "__init__") for each in inside} - {layer_of(name)}


def test_the_imports_are_found() -> None:
    assert own_imports("handle") >= {"current", "engine", "errors", "job", "record"}
    assert "msgspec" in imported("job")
    assert "uwsgi" in imported("_uwsgi")
    assert "extension" in own_imports("__init__")


@pytest.mark.parametrize("name", modules())
def test_every_module_has_a_place_in_the_order(name: str) -> None:
    assert layer_of(name) in ORDER, f"give {name} its layer in LAYERS"


@pytest.mark.parametrize("name", modules())
def test_imports_point_down_only(name: str) -> None:
    place = ORDER.index(layer_of(name))
    upwards = {each for each in own_imports(name) if ORDER.index(each) >= place}
    assert not upwards, f"{name} imports {', '.join(sorted(upwards))}, which stand above it"


def test_nobody_imports_the_edges_but_other_edges() -> None:
    importers = {name for name in modules() if own_imports(name) & set(EDGES)}
    assert {layer_of(name) for name in importers} <= set(EDGES)


def test_background_threads_stand_alone() -> None:
    assert own_imports("threads") <= {"_uwsgi"}
    assert [name for name in modules() if "threads" in own_imports(name)] == []


def test_only_one_module_imports_uwsgi() -> None:
    uwsgis = {"uwsgi", "uwsgidecorators"}
    assert [name for name in modules() if imported(name) & uwsgis] == ["_uwsgi"]


def test_only_one_module_imports_the_database() -> None:
    importers = {layer_of(name) for name in modules() if {"apsw", "sqlite3"} & imported(name)}
    assert importers == {"ledger"}


SQL = re.compile(
    r"\b(SELECT\s.+\sFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM"
    r"|CREATE\s+(TABLE|INDEX|UNIQUE)|PRAGMA\s|BEGIN\s+IMMEDIATE)\b",
    re.DOTALL,
)


def test_only_the_ledger_contains_sql() -> None:
    speaking = {
        layer_of(name)
        for name in modules()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    }
    assert speaking == {"ledger"}
    assert {path.parent.name for path in PACKAGE.rglob("*.sql")} == {"ledger"}


BELOW_THE_ROOT = re.compile(r"\.root[\])}]*\s*/|\b(join|joinpath)\(.*\.root\b|\.root\.joinpath\(")


def test_only_the_spool_builds_paths_below_its_root() -> None:
    building = {layer_of(name) for name, path in modules().items()
                if BELOW_THE_ROOT.search(path.read_text())}  # fmt: skip
    assert building == {"spool"}


@pytest.mark.parametrize("name", modules())
def test_nothing_is_ever_unpickled_or_evaluated(name: str) -> None:
    assert not imported(name) & {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    called = {
        node.func.id
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"eval", "exec", "compile"}


@pytest.mark.parametrize("name", modules())
def test_no_module_is_longer_than_it_has_a_reason_to_be(name: str) -> None:
    lines = len(modules()[name].read_text().splitlines())
    assert lines <= LONGEST or name in LONG_MODULES, f"{name} has {lines} lines"


@pytest.mark.parametrize("name", modules())
def test_every_module_opens_with_a_docstring(name: str) -> None:
    assert ast.get_docstring(tree(name))


@pytest.mark.parametrize("name", modules())
def test_no_exception_is_caught_without_naming_it(name: str) -> None:
    bare = [node for node in ast.walk(tree(name)) if isinstance(node, ast.ExceptHandler)]
    assert all(node.type is not None for node in bare)


def test_the_package_can_be_imported_in_a_bare_interpreter() -> None:
    program = (
        "import sys; before = set(sys.modules); import flask_spooler, flask_spooler.cli,"
        " flask_spooler.threads; print(sorted({'uwsgi', 'uwsgidecorators', 'uwsgi_tasks'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd="/",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_a_wheel_has_every_package_that_is_in_the_checkout() -> None:
    listed = (PACKAGE.parent / "pyproject.toml").read_text()
    folders = (path.parent.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("__init__.py"))
    packages = [".".join(folder.parts) for folder in folders]
    assert len(packages) > 1
    assert [name for name in packages if f'"{name}"' not in listed] == []


def test_everything_that_is_offered_exists() -> None:
    assert sorted(flask_spooler.__all__, key=str) == sorted(set(flask_spooler.__all__))
    assert all(hasattr(flask_spooler, name) for name in flask_spooler.__all__)
