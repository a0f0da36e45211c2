"""``docs/reliability.md`` is what the results say."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.reliability_page import PAGE, reliability_page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reliability_page(), (
        "run: python -m benchmarks.reliability_page"
    )


def test_a_drill_without_a_result_is_left_out(tmp_path: Path) -> None:
    document = {
        "command": ["python", "-m", "x"],
        "environment": {"cpus": 2, "device_name": None},
        "rows": [
            {"workload": "w", "subject": "answered", "metric": "count", "value": 12345, "unit": "s"}
        ],
    }
    (tmp_path / "reliability-race.json").write_text(json.dumps(document))
    page = reliability_page(tmp_path)
    assert "## The budget race" in page
    assert "| answered | 12,345 | s |" in page
    assert "## Overload" not in page
