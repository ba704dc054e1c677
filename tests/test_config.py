"""The configuration: every key with right and wrong values, and where values come from."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_spooler import ConfigError, Spooler
from flask_spooler.config import CHECKS, Config, read_config
from flask_spooler.errors import UnknownConfigKey
from flask_spooler.queues import Queues

ROOT = Path("/srv/app")


def access(request: object) -> str | None:
    return None


def read(values: dict[str, Any] | None = None, **environment: str) -> Config:
    return read_config(values or {}, environment, ROOT)


RIGHT: list[tuple[str, Any, str, Any]] = [
    ("SPOOLER_DIRECTORY", "spool", "directory", ROOT / "spool"),
    ("SPOOLER_DIRECTORY", "/var/spool/x", "directory", Path("/var/spool/x")),
    ("SPOOLER_DIRECTORY", Path("/var/spool/x"), "directory", Path("/var/spool/x")),
    ("SPOOLER_KEY", "k" * 16, "key", b"k" * 16),
    ("SPOOLER_KEY", b"\xff" * 32, "key", b"\xff" * 32),
    ("SPOOLER_KEY", "ü" * 8, "key", "ü".encode() * 8),
    ("SPOOLER_DURABILITY", "power", "durability", "power"),
    ("SPOOLER_DURABILITY", "process", "durability", "process"),
    ("SPOOLER_PROCESSES", 1, "processes", 1),
    ("SPOOLER_QUEUES", ["mail", "default"], "queues", Queues(order=("mail", "default"))),
    ("SPOOLER_QUEUES", (), "queues", Queues()),
    ("SPOOLER_QUEUES", {"mail": 3}, "queues", Queues(weights={"mail": 3.0})),
    ("SPOOLER_MAX_ATTEMPTS", 1, "max_attempts", 1),
    ("SPOOLER_MAX_ATTEMPTS", 1_000_000, "max_attempts", 1_000_000),
    ("SPOOLER_MAX_CRASHES", 7, "max_crashes", 7),
    ("SPOOLER_GRACE", 0, "grace", 0.0),
    ("SPOOLER_GRACE", 2.5, "grace", 2.5),
    ("SPOOLER_GRACE", timedelta(minutes=1), "grace", 60.0),
    ("SPOOLER_RETENTION", timedelta(days=1), "retention", 86_400.0),
    ("SPOOLER_RETENTION", 0.0, "retention", 0.0),
    ("SPOOLER_MAX_PAYLOAD", 100, "max_payload", 100),
    ("SPOOLER_FOREIGN_PACKETS", "uwsgi_tasks", "foreign_packets", frozenset({"uwsgi_tasks"})),
    ("SPOOLER_FOREIGN_PACKETS", [], "foreign_packets", frozenset()),
    (
        "SPOOLER_FOREIGN_PACKETS",
        ("uwsgi_tasks", "uwsgidecorators"),
        "foreign_packets",
        frozenset({"uwsgi_tasks", "uwsgidecorators"}),
    ),
    ("SPOOLER_EAGER", True, "eager", True),
    ("SPOOLER_EAGER", False, "eager", False),
    ("SPOOLER_TRACING", True, "tracing", True),
    ("SPOOLER_DASHBOARD_TOKEN", "secret", "dashboard_token", "secret"),
    ("SPOOLER_DASHBOARD_READ_TOKEN", "secret", "dashboard_read_token", "secret"),
    ("SPOOLER_DASHBOARD_PREFIX", "/ops/jobs/", "dashboard_prefix", "/ops/jobs"),
    ("SPOOLER_DASHBOARD_PREFIX", "/.well-known/..jobs", "dashboard_prefix", "/.well-known/..jobs"),
    ("SPOOLER_DASHBOARD_ACCESS", access, "dashboard_access", access),
]

WRONG: dict[str, list[Any]] = {
    "SPOOLER_DIRECTORY": ["", 5, b"", ["spool"], True],
    "SPOOLER_KEY": ["short", b"short", "", 5, ["k" * 16]],
    "SPOOLER_DURABILITY": ["Power", "", "none", True, 1],
    "SPOOLER_PROCESSES": [0, -1, 1.5, "3", True],
    "SPOOLER_QUEUES": [
        "mail",
        [1],
        {"mail": 0},
        {"mail": "3"},
        {"mail": {"limit": 0}},
        5,
        ["a/b"],
        [".mail"],
        ["x" * 101],
        ["a\nb"],
        [""],
        {"a/b": 1},
        {"": 1},
        [{"name": "a/b"}],
        {5: 1},
    ],
    "SPOOLER_MAX_ATTEMPTS": [0, -1, 1.0, "3", False, True, 1_000_001],
    "SPOOLER_MAX_CRASHES": [0, "3", 3.0, True],
    "SPOOLER_GRACE": [-1, float("nan"), float("inf"), "30", True, timedelta(seconds=-1), 1e11],
    "SPOOLER_RETENTION": [-0.1, "7d", float("nan"), [7]],
    "SPOOLER_MAX_PAYLOAD": [0, "16 MiB", 1e6, True],
    "SPOOLER_FOREIGN_PACKETS": ["celery", ["uwsgi_tasks", "celery"], True, 5, {"uwsgi_tasks": 1}],
    "SPOOLER_EAGER": ["true", 1, 0, "no"],
    "SPOOLER_TRACING": ["true", 1, "otlp"],
    "SPOOLER_DASHBOARD_TOKEN": ["", 5, b"secret"],
    "SPOOLER_DASHBOARD_READ_TOKEN": ["", 5, b"secret"],
    "SPOOLER_DASHBOARD_PREFIX": [
        "spooler",
        "",
        "/",
        5,
        "/a b",
        "//a",
        "/a//b",
        "/<a>",
        "/a?b",
        "/ü",
        "/a/..",
        "/./a",
        "/a\n",
        "/a%20b",
    ],
    "SPOOLER_DASHBOARD_ACCESS": ["view", 5, True],
}


def test_every_key_has_right_and_wrong_values_here() -> None:
    assert {key for key, *_ in RIGHT} == set(WRONG) == set(CHECKS)


@pytest.mark.parametrize(("key", "value", "field", "expected"), RIGHT)
def test_a_right_value_is_kept_in_its_final_form(
    key: str, value: Any, field: str, expected: Any
) -> None:
    found = getattr(read({key: value}), field)
    assert found == expected
    assert type(found) is type(expected) or isinstance(found, Path)


@pytest.mark.parametrize(("key", "value"), [(key, each) for key in WRONG for each in WRONG[key]])
def test_a_wrong_value_stops_the_start_and_says_what_was_expected(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^expected {key} to be .+, got: "):
        read({key: value})


def test_the_defaults_are_the_documented_ones() -> None:
    assert read() == Config(
        directory=ROOT / "my_spools",
        key=None,
        durability="power",
        processes=10,
        queues=Queues(),
        max_attempts=5,
        max_crashes=3,
        grace=30.0,
        retention=7 * 86_400.0,
        max_payload=16 * 2**20,
        foreign_packets=frozenset(),
        eager=False,
        dashboard_token=None,
        dashboard_read_token=None,
        dashboard_prefix="/spooler",
        dashboard_access=None,
    )


@pytest.mark.parametrize("key", sorted(CHECKS))
def test_none_means_the_default(key: str) -> None:
    assert read({key: None}) == read()


def test_keys_of_others_are_left_alone() -> None:
    assert read({"SECRET_KEY": "x", "spooler_grace": 1, "DEBUG": True}, SPOOL="x") == read()


@pytest.mark.parametrize("key", ["SPOOLER_MAX_ATEMPTS", "SPOOLER_", "SPOOLER_max_attempts"])
def test_an_unknown_key_stops_the_start_and_the_known_ones_are_named(key: str) -> None:
    with pytest.raises(UnknownConfigKey, match="SPOOLER_MAX_ATTEMPTS") as caught:
        read({key: 3})
    assert key in str(caught.value)
    with pytest.raises(UnknownConfigKey):
        read(**{f"FLASK_{key}": "3"})


def test_a_key_that_is_a_secret_is_never_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        read({"SPOOLER_KEY": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).endswith("at least 16 bytes, got: 7 bytes")


def test_the_long_form_in_the_environment_sets_any_key() -> None:
    found = read(
        FLASK_SPOOLER_MAX_ATTEMPTS="7",
        FLASK_SPOOLER_GRACE="2.5",
        FLASK_SPOOLER_EAGER="true",
        FLASK_SPOOLER_QUEUES='["mail"]',
        FLASK_SPOOLER_DURABILITY="process",
    )
    assert (found.max_attempts, found.grace, found.eager) == (7, 2.5, True)
    assert (found.queues, found.durability) == (Queues(order=("mail",)), "process")


@pytest.mark.parametrize("form", ["SPOOLER_{}", "FLASK_SPOOLER_{}"])
def test_three_keys_have_a_short_form_too(form: str) -> None:
    found = read(
        **{
            form.format("DIRECTORY"): "123",
            form.format("PROCESSES"): "4",
            form.format("KEY"): "1234567890123456",
        }
    )
    assert found.directory == ROOT / "123"
    assert found.processes == 4
    assert found.key == b"1234567890123456"


def test_other_keys_have_no_short_form() -> None:
    assert read(SPOOLER_MAX_ATTEMPTS="7", SPOOLER_NONSENSE="1") == read()


def test_the_same_value_in_both_forms_is_fine() -> None:
    assert read(SPOOLER_PROCESSES="4", FLASK_SPOOLER_PROCESSES="4").processes == 4


@pytest.mark.parametrize(
    ("key", "short", "long"),
    [
        ("SPOOLER_DIRECTORY", "one", "two"),
        ("SPOOLER_PROCESSES", "4", "5"),
        ("SPOOLER_KEY", "k" * 16, "l" * 16),
    ],
)
def test_two_different_values_stop_the_start(key: str, short: str, long: str) -> None:
    got = "two different values" if key == "SPOOLER_KEY" else f"'{short}' and '{long}'"
    both = f"the same in {key} and FLASK_{key}, or set in one of them only, got: {got}$"
    with pytest.raises(ConfigError, match=both):
        read(**{key: short, f"FLASK_{key}": long})


def test_two_different_keys_stop_the_start_without_being_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        read(SPOOLER_KEY="s3cret" * 3, FLASK_SPOOLER_KEY="an0ther" * 3)
    assert "s3cret" not in str(caught.value)
    assert "an0ther" not in str(caught.value)
    assert str(caught.value).endswith(", got: two different values")


@pytest.mark.parametrize(("name", "text"), [("PROCESSES", "many"), ("PROCESSES", "")])
def test_a_wrong_value_in_the_environment_stops_the_start(name: str, text: str) -> None:
    for form in (f"SPOOLER_{name}", f"FLASK_SPOOLER_{name}"):
        with pytest.raises(ConfigError, match="positive integer"):
            read(**{form: text})


def test_a_directory_that_is_a_file_or_below_one_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "file/spool", "file/a/b"):
        sentence = f"while '{tmp_path}/file' is a file, got: '{tmp_path}/{name}'$"
        with pytest.raises(ConfigError, match=sentence):
            read({"SPOOLER_DIRECTORY": tmp_path / name})
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("link", "link/a/b", "a/b"):
        assert read({"SPOOLER_DIRECTORY": tmp_path / name}).directory == tmp_path / name


def test_the_two_tokens_may_not_be_the_same_and_are_not_shown() -> None:
    tokens = {"SPOOLER_DASHBOARD_TOKEN": "hunter2", "SPOOLER_DASHBOARD_READ_TOKEN": "hunter2"}
    with pytest.raises(ConfigError, match=r"READ_TOKEN to be another one than .* the same$") as e:
        read(tokens)
    assert "hunter2" not in str(e.value)
    assert read({**tokens, "SPOOLER_DASHBOARD_TOKEN": "hunter3"}).dashboard_read_token


def test_the_app_has_the_last_word() -> None:
    assert read({"SPOOLER_PROCESSES": 3}, SPOOLER_PROCESSES="4").processes == 3


def test_the_configuration_is_frozen() -> None:
    with pytest.raises(AttributeError):
        read().grace = 5.0  # type: ignore[misc]


def test_a_wrong_value_stops_init_app() -> None:
    app = Flask("wrong")
    app.config["SPOOLER_MAX_ATTEMPTS"] = "3"
    sentence = "^expected SPOOLER_MAX_ATTEMPTS to be a whole number from 1 to 1,000,000, got: '3'$"
    with pytest.raises(ConfigError, match=sentence):
        Spooler(app)


def test_a_relative_directory_is_beside_the_apps_module_and_not_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPOOLER_DIRECTORY", raising=False)
    plain = Flask("plain", root_path=str(tmp_path / "project"))
    Spooler(plain)
    assert directory_of(plain) == tmp_path / "project" / "my_spools"
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    packaged = Flask("packaged", root_path=str(tmp_path / "package"))
    Spooler(packaged)
    assert directory_of(packaged) == tmp_path / "my_spools"


def directory_of(app: Flask) -> Path:
    found: Path = app.extensions["spooler"].config.directory
    return found


def test_reading_the_configuration_touches_no_disk(app: Flask, memory: Path) -> None:
    assert list(memory.iterdir()) == []


def test_every_field_of_the_configuration_has_its_key() -> None:
    fields = set(Config.__dataclass_fields__) - {"directory_is_passing"}  # found out, not given
    assert {f"SPOOLER_{name.upper()}" for name in fields} == set(CHECKS)
