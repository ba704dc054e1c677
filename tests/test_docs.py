"""What the documentation says works: every block of every page is run, and every link leads on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from blinker import NamedSignal
from sphinx.util.inventory import InventoryFile

import flask_spooler
from flask_spooler import errors, signals, testing, threads
from flask_spooler.config import CHECKS
from tests.pages import Block, Reader, a_reader, blocks, compare, says

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if "_build" not in page.parts and page.name != "quickstart.md"  # in test_quickstart.py
]
LINK = re.compile(r'(?:href|src)="([^"#:?]*)(?:\?[^"#]*)?(?:#([^"]*))?"')
NOT_RUN = 12
"""More blocks than this that are not run would make the others hard to believe."""


def read_all(reader: Reader, found: Iterable[Block]) -> None:
    for block in found:
        reader.read(block)


def page_id(page: Path) -> str:
    return str(page.relative_to(DOCS))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_block_of_a_page_works_as_it_stands_there(page: Path, tmp_path: Path) -> None:
    with a_reader(tmp_path) as reader:
        read_all(reader, blocks(page))


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left_out = [block for page in PAGES for block in blocks(page) if block.not_run]
    for block in left_out:
        print(f"{block.place} is not run: {block.not_run}")
    assert len(left_out) <= NOT_RUN


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as `make docs` builds them."""
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-n", "-q", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(folder / "doctrees"), str(DOCS), str(folder / "html")],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), "the pages do not build without a warning"
    return folder / "html"


def test_every_link_between_the_built_pages_leads_somewhere(built: Path) -> None:
    assert dead_links(built) == []


def test_every_page_stands_once_in_the_table_of_contents() -> None:
    trees = re.findall(r"```{toctree}\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    named = [line for tree in trees for line in tree.split() if not line.startswith(":")]
    twice = {name for name in named if named.count(name) > 1 and (DOCS / f"{name}.md").exists()}
    assert trees
    assert twice == set()


def offered() -> list[tuple[str, Any]]:
    """Every public name, with what it stands for."""
    modules = [flask_spooler, errors, signals, testing, threads]
    found = []
    for module in modules:
        names = getattr(module, "__all__", None) or [
            name
            for name, thing in vars(module).items()
            if isinstance(thing, NamedSignal)
            or (isinstance(thing, type) and thing.__module__ == module.__name__)
        ]
        found += [(f"{module.__name__}.{name}", getattr(module, name)) for name in names]
    return found


def test_every_public_name_stands_in_the_reference(built: Path) -> None:
    with (built / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, name: name)
    documented = {name for kind, names in inventory.items() for name in names}
    missing = {
        name
        for name, thing in offered()
        if name not in documented
        and f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"
        not in documented
    }
    assert missing == set()


def dead_links(built: Path) -> list[str]:
    """Links within the built pages that lead to no file, or to no place in it."""
    dead = []
    # What is shown at any address has absolute links.
    for page in set(built.rglob("*.html")) - {built / "404.html"}:
        for name, fragment in LINK.findall(page.read_text()):
            file = (page.parent / name).resolve() if name else page
            if not file.exists():
                dead.append(f"{page.name}: {name}")
            elif fragment and file.suffix == ".html" and f'id="{fragment}"' not in file.read_text():
                dead.append(f"{page.name}: {name}#{fragment}")
    return dead


def test_every_setting_stands_in_the_reference_and_no_other() -> None:
    text = (DOCS / "configuration.md").read_text()
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `SPOOLER_")]
    assert {name for row in rows for name in re.findall(r"SPOOLER_\w+", row)} == set(CHECKS)


def test_every_request_of_the_operations_api_stands_in_the_reference_and_no_other() -> None:
    description = Path(flask_spooler.__file__).parent / "dashboard" / "openapi.json"
    paths = json.loads(description.read_text())["paths"]
    offered = set()
    for path, methods in paths.items():
        for method, said in methods.items():
            asked = [each["name"] for each in said.get("parameters", []) if each["in"] == "query"]
            offered.add((method.upper(), path, tuple(asked)))
    rows = re.findall(r"^\| `(GET|POST) ([^`?]+)\??([^`]*)`", (DOCS / "http.md").read_text(), re.M)
    shown = {
        (method, path, tuple(name.rstrip("=") for name in query.split("&") if name))
        for method, path, query in rows
    }
    assert shown == offered


def a_page(folder: Path, text: str) -> list[Block]:
    page = folder / "page.md"
    page.write_text(text)
    return list(blocks(page))


@pytest.mark.parametrize(
    "wrong",
    [
        "```python\nassert 1 == 2\n```",
        "```python\n>>> 1 + 1\n3\n```",
        "```sh\nexit 3\n```",
        "```console\n$ echo one\ntwo\n```",
        "```sh\necho one\n```\n\n```output\ntwo\n```",
        "```json\n{\n```",
        "```ini\n[a\n```",
        "<!-- check:\nassert False\n-->",
        "<!-- not run: it is another system's -->\n```python\ndef f(:\n```",
        "```\nno language\n```",
        "```python\nwait_until(lambda: True)\n```",
    ],
    ids=str,
)
def test_a_block_that_does_not_hold_is_found(wrong: str, tmp_path: Path) -> None:
    found = a_page(tmp_path, wrong)
    with a_reader(tmp_path) as reader, pytest.raises(AssertionError, match=r"page\.md:\d"):
        read_all(reader, found)


def test_a_command_that_names_an_id_of_the_page_means_the_job_that_was_there(
    tmp_path: Path,
) -> None:
    shown, real = "1" + "a" * 28, "1" + "b" * 28
    text = f"$ job={real}; echo started $job\nstarted {shown}\n$ [ {shown} = $job ] || exit 3\n"
    with a_reader(tmp_path) as reader:
        read_all(reader, a_page(tmp_path, f"```console\n{text}```"))


def test_what_a_server_is_said_to_print_is_looked_for_line_by_line() -> None:
    log = "starting\n * jobs run in process 17\nready\n"
    assert says(log, " * jobs run in process 4711\nready")
    assert not says(log, " * jobs run in process 4711\nsteady")


def test_what_is_compared_may_leave_things_open() -> None:
    compare("id …, state succeeded\n…\nend", "id 17, state succeeded \n1\n2\nend\n")
