"""What Prometheus, Alertmanager and the dashboard see of the stack."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.deploy.dashboard import panel_queries
from tests.deploy.stack import Stack, eventually

ONLY_WITH_MAPS = ("intaglio_explanation_seconds",)
"""Not served by the demo model; tests/project/test_dashboard.py has them answered."""


@pytest.fixture(scope="module", autouse=True)
def asked(stack: Stack, images: NDArray[np.uint8]) -> int:
    """Queries, over longer than the shortest rate that a panel shows."""
    before = sum(float(row["value"][1]) for row in stack.measure("sum(intaglio_samples_total)"))
    for start in range(0, 120, 12):
        stack.probabilities(images[start : start + 12])

    def counted() -> bool:
        return stack.value("sum(intaglio_samples_total)") >= before + 120

    eventually(counted, within_s=60)
    # A rate needs two scrapes with a difference between them.
    stack.probabilities(images[:10])
    eventually(lambda: stack.value("sum(rate(intaglio_samples_total[1m]))") > 0, within_s=60)
    return 130


def test_every_target_is_up(stack: Stack) -> None:
    eventually(lambda: stack.value("min(up)") == 1, within_s=60)
    assert {row["metric"]["job"] for row in stack.measure("up")} == {
        *("intaglio", "prometheus", "alertmanager")
    }


def test_every_rule_is_evaluated_without_an_error(stack: Stack) -> None:
    answer = httpx.get(f"{stack.url('prometheus', 9090)}/api/v1/rules").json()
    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    assert len(rules) > 30
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    firing = {rule["name"] for rule in rules if rule.get("state") == "firing"}
    assert firing == {"IntaglioWatchdog"}


def test_alerts_reach_alertmanager(stack: Stack) -> None:
    def names() -> set[str]:
        alerts = httpx.get(f"{stack.url('alertmanager', 9093)}/api/v2/alerts").json()
        return {alert["labels"]["alertname"] for alert in alerts}

    eventually(lambda: "IntaglioWatchdog" in names(), within_s=60)


@pytest.mark.parametrize(("title", "query"), panel_queries(), ids=lambda value: value[:40])
def test_every_panel_shows_something(stack: Stack, title: str, query: str) -> None:
    del title
    if any(name in query for name in ONLY_WITH_MAPS):
        stack.measure(query)  # at least no error
    else:
        eventually(lambda: stack.measure(query), within_s=30)
