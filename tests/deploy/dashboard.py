"""The panels of the Grafana dashboard, as queries that a Prometheus can be asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["DASHBOARD", "panel_queries", "panels"]

DASHBOARD = Path(__file__).parents[2] / "docker/grafana/dashboards/intaglio.json"

VARIABLES = {"$instance": ".*", "$model": ".*", "$__rate_interval": "1m"}
"""What Grafana would put in their place."""


def panels() -> Iterator[dict[str, Any]]:
    """Every panel that shows something."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        if panel["type"] != "row":
            yield panel


def panel_queries() -> list[tuple[str, str]]:
    """Title and query of every target of every panel."""
    found = []
    for panel in panels():
        for target in panel["targets"]:
            query = target["expr"]
            for variable, value in VARIABLES.items():
                query = query.replace(variable, value)
            found.append((f"{panel['title']} {target['refId']}", query))
    return found
