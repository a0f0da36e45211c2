"""What maps added is read from the rows of a theft with them."""

from __future__ import annotations

import json

from benchmarks.envelope import RESULTS
from benchmarks.map_theft_page import is_of_maps, map_parts


def row(budget: int, subject: str, value: float, unit: str = "of test images") -> dict[str, object]:
    return {
        "benchmark": "map-theft",
        "workload": f"mnist-from-fashion-{budget}",
        "subject": subject,
        "metric": "share",
        "value": value,
        "unit": unit,
    }


def test_only_a_pair_is_compared_and_ranges_are_over_budgets() -> None:
    rows = [
        row(2500, "mad: answers", 0.50),
        row(2500, "mad: answers and maps", 0.62),
        row(2500, "mad: answers and maps", 0.02, "largest less smallest of 3 seeds"),
        row(5000, "mad: answers", 0.70),
        row(5000, "mad: answers and maps", 0.69),
        row(5000, "dd-i: answers and maps", 0.80),
        row(500, "none", 0.99, "of labels right"),
    ]
    assert is_of_maps(rows)
    lines, ranges = map_parts(rows)
    assert "| mad | 2,500 | 50.0 | 62.0 | +12.0 |" in lines
    assert "| mad | 5,000 | 70.0 | 69.0 | -1.0 |" in lines
    assert "dd-i" not in lines
    assert ranges.endswith("- Behind `mad`: -1.0 to +12.0 points.")


def test_what_changes_maps_alone_is_beside_undefended_answers() -> None:
    rows = [row(500, "none: answers", 0.70), row(500, "dd-i: answers and maps", 0.75)]
    assert "| dd-i | 500 | 70.0 | 75.0 | +5.0 |" in map_parts(rows)[0]


def test_the_committed_results_are_told() -> None:
    for name in ("map-theft", "map-theft-budgets"):
        document = json.loads((RESULTS / f"{name}.json").read_text())
        assert is_of_maps(document["rows"])
        assert "| mad | 3,000 | 49.6 | 63.0 | +13.4 |" in map_parts(document["rows"])[0]
