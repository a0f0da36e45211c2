"""What Prometheus, Alertmanager and the dashboard see of the stack."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.deploy.dashboard import panel_queries
from tests.deploy.stack import Stack, eventually

ONLY_WITH_MAPS = ("intaglio_explanation_seconds",)
"""Not served by the demo model; tests/project/test_dashboard.py has them answered."""


@pytest.fixture(scope="module", autouse=True)
def traffic(stack: Stack, images: NDArray[np.uint8]) -> Iterator[None]:
    """Somebody who asks all the time: a rate over a minute is empty where nobody does."""
    stop = threading.Event()
    failures: list[str] = []

    def ask() -> None:
        start = 0
        while not stop.wait(0.5):
            answer = stack.ask(images[start : start + 12])
            if answer.status_code != 200:
                failures.append(answer.text)
            start = (start + 12) % 360

    caller = threading.Thread(target=ask)
    caller.start()
    try:
        eventually(lambda: stack.value("sum(rate(intaglio_samples_total[1m]))") > 0, within_s=90)
        yield
    finally:
        stop.set()
        caller.join()
    assert not failures


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


def test_counters_add_up_to_what_was_answered(stack: Stack) -> None:
    def equal() -> bool:
        rows = stack.measure(
            "sum(intaglio_samples_total) == sum(intaglio_served_distortion_l1_count)"
        )
        return bool(rows)

    eventually(equal, within_s=60)


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
