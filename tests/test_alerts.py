"""The alert rules and the Grafana dashboard speak of metrics that exist, and the rules fire."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.test_metrics import LISTED

ROOT = Path(__file__).parents[1]
ALERTS = ROOT / "docs" / "deploy" / "alerts.yml"
DASHBOARD = ROOT / "docs" / "deploy" / "grafana.json"
PROMTOOL = shutil.which("promtool")

HISTOGRAMS = {"jobs_run_duration_seconds", "jobs_wait_duration_seconds"}
KNOWN = {*LISTED, *(f"{name}_{part}" for name in HISTOGRAMS for part in ("sum", "count"))}
SPECIAL = {"le", "instance", "job", "alertname"}


def expressions() -> dict[str, str]:
    """Every expression of both files, under a name that says where it stands."""
    board: dict[str, Any] = json.loads(DASHBOARD.read_text())
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel["targets"]
    }
    text = re.sub(r"^\s*#.*", "", ALERTS.read_text(), flags=re.MULTILINE)
    for alert, rest in re.findall(r"- alert: (\w+)\n(.*?)(?=\n\s*- alert:|\Z)", text, re.DOTALL):
        expression = re.search(r"expr: (.*?)\n        (?:for|labels):", rest, re.DOTALL)
        assert expression is not None, alert
        found[alert] = expression[1]
    return found


@pytest.mark.parametrize("where", expressions())
def test_an_expression_speaks_of_metrics_and_labels_that_exist(where: str) -> None:
    expression = expressions()[where]
    names = set(re.findall(r"\bjobs_\w+", expression))
    assert names
    assert names <= KNOWN
    labels = {label for name in names for label in LISTED.get(name, {"queue", "task"})} | SPECIAL
    assert set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", expression)) <= labels
    grouped = re.findall(r"\b(?:by|without|on)\s*\(([^)]*)\)", expression)
    assert {name.strip() for group in grouped for name in group.split(",")} <= labels


def test_every_metric_is_shown_or_watched() -> None:
    used = {name for text in expressions().values() for name in re.findall(r"\bjobs_\w+", text)}
    assert used >= set(LISTED)


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def promtool(*words: str | Path) -> None:
    done = subprocess.run(
        [str(PROMTOOL), *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (package prometheus)")
def test_prometheus_takes_the_rules_and_they_fire_when_they_should() -> None:
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", Path(__file__).with_name("alerts_test.yml"))


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (package prometheus)")
def test_prometheus_takes_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text())
    exprs = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    filled = [expr.replace("$__rate_interval", "5m") for expr in exprs]
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(filled)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", file)
