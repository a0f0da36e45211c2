"""Rules, alerts, dashboard: about metrics that exist; every alert has a run-book."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from server.answer_cache_metrics import AnswerCacheMetrics
from server.callers.metrics import CallerMetrics
from server.metrics import Metrics
from server.monitor_metrics import MonitorMetrics
from server.repository_metrics import RepositoryMetrics
from tests.deploy.dashboard import DASHBOARD, panel_queries, panels

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "docker/prometheus"
NAME = re.compile(r"\bintaglio_[a-z0-9_]+")
RECORDED = re.compile(r"\b[a-z0-9_]+:intaglio_[a-z0-9_]+:[a-z0-9_]+")
SUFFIXES = ("", "_total", "_bucket", "_sum", "_count")


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / name).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def exposed() -> set[str]:
    """Names of the samples of a server that has everything switched on."""
    registry = Metrics().registry
    MonitorMetrics(registry)
    CallerMetrics(registry, redis=True)
    AnswerCacheMetrics(registry)
    RepositoryMetrics(registry)
    families = {
        name
        for collector in registry._collector_to_names
        for name in registry._collector_to_names[collector]
    }
    described = {family.name for family in _described(registry)}
    return families | {name + suffix for name in described for suffix in SUFFIXES}


def _described(registry: CollectorRegistry) -> list[Any]:
    return [
        family
        for collector in registry._collector_to_names
        if hasattr(collector, "describe")
        for family in collector.describe()
    ]


EXPRESSIONS = [
    *((rule["record"], rule["expr"]) for rule in rules("recording.yml")),
    *((rule["alert"], rule["expr"]) for rule in rules("alerts.yml")),
    *panel_queries(),
]


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=lambda value: value[:40])
def test_every_query_is_about_something_that_exists(where: str, expression: str) -> None:
    del where
    recorded = set(RECORDED.findall(expression))
    assert recorded <= {rule["record"] for rule in rules("recording.yml")}
    plain = set(NAME.findall(RECORDED.sub("", expression)))
    assert plain <= exposed()


def test_every_recording_rule_is_used() -> None:
    text = "".join(expression for _, expression in EXPRESSIONS)
    names = [rule["record"] for rule in rules("recording.yml")]
    assert len(set(names)) == len(names)
    unused = {name for name in names if name not in text}
    assert unused <= {
        # For whoever writes a dashboard or an alert of their own.
        "route_status:intaglio_requests:rate5m",
        "model:intaglio_samples:rate5m",
        "reason:intaglio_refused_requests:rate5m",
        "job:intaglio_request_seconds:p50_5m",
        "job:intaglio_queue_seconds:p99_5m",
        "model:intaglio_forward_seconds:mean_5m",
        "defense:intaglio_defense_seconds:mean_5m",
        "defense:intaglio_defense_distortion_l1:mean_5m",
        "job:intaglio_batch_samples:mean_5m",
    }


def test_every_alert_has_a_severity_a_summary_and_a_run_book_of_its_own() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    headings = {line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")}
    names = [rule["alert"] for rule in rules("alerts.yml")]
    assert len(set(names)) == len(names)
    for rule in rules("alerts.yml"):
        name = rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info", "none"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert name in headings
    assert {heading for heading in headings if heading.startswith("Intaglio")} == set(names)


def test_every_alert_and_every_ratio_is_tested() -> None:
    tests = (PROMETHEUS / "tests.yml").read_text()
    for rule in rules("alerts.yml"):
        assert re.search(rf"alertname: {rule['alert']}\n\s+exp_alerts", tests), rule["alert"]


def test_no_alert_and_no_panel_names_a_caller() -> None:
    text = json.dumps(EXPRESSIONS) + (PROMETHEUS / "alerts.yml").read_text()
    assert not re.search(r"\b(caller|key|identity|client)\s*(=|=~|!=|\))", text)


def test_the_dashboard_is_whole() -> None:
    board = json.loads(DASHBOARD.read_text())
    identifiers = [panel["id"] for panel in board["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    provisioned = yaml.safe_load(
        (ROOT / "docker/grafana/provisioning/datasources/prometheus.yml").read_text()
    )
    sources = {source["uid"] for source in provisioned["datasources"]}
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in panels():
        assert panel["description"], panel["title"]
        assert panel["datasource"]["uid"] in sources
        for target in panel["targets"]:
            assert target["datasource"]["uid"] in sources
            assert target["expr"].count("(") == target["expr"].count(")")
            # What has labels is never matched by what has none, which would show beside it.
            if " by (" in target["expr"]:
                assert " or vector(" not in target["expr"], panel["title"]
                assert " or sum(" not in target["expr"], panel["title"]
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$([a-z]+)\b", DASHBOARD.read_text()))
    assert used <= variables


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name} here; the Debian packages prometheus and "
                    "prometheus-alertmanager have it")  # fmt: skip
    return found


def test_prometheus_reads_its_configuration(tmp_path: Path) -> None:
    for name in ("recording.yml", "alerts.yml"):
        shutil.copy(PROMETHEUS / name, tmp_path)
    config = (PROMETHEUS / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(config.replace("/etc/prometheus", str(tmp_path)))
    subprocess.run(
        [program("promtool"), "check", "config", str(tmp_path / "prometheus.yml")], check=True
    )


def test_rules_fire_when_they_should_and_not_before() -> None:
    subprocess.run([program("promtool"), "test", "rules", "tests.yml"], cwd=PROMETHEUS, check=True)


def test_alertmanager_reads_its_configuration() -> None:
    path = ROOT / "docker/alertmanager/alertmanager.yml"
    subprocess.run([program("amtool"), "check-config", str(path)], check=True)


def test_the_balancer_reads_its_configuration() -> None:
    path = ROOT / "docker/haproxy/haproxy.cfg"
    subprocess.run([program("haproxy"), "-c", "-f", str(path)], check=True)
