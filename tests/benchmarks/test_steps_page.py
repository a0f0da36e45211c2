"""Every objective that was timed is in the table, with its ratio and its peak of memory."""

from __future__ import annotations

import json

import pytest

from benchmarks.envelope import RESULTS
from benchmarks.result_tables import measured
from benchmarks.steps_page import SPREAD


@pytest.mark.parametrize("name", ["training", "training-cuda"])
def test_every_objective_shows_time_memory_and_their_ratios(name: str) -> None:
    path = RESULTS / f"{name}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    (shown,) = measured(rows, path)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()]
    cells = {(line[0], line[1]): line[2:] for line in lines}
    timed = [row for row in rows if row["metric"] == "time" and SPREAD not in row["subject"]]
    assert len(timed) == 20
    for row in timed:
        took, _, ratio, peak, more = cells[row["workload"], row["subject"]]
        assert float(took) == pytest.approx(row["value"], rel=1e-3)
        assert ratio == ("-" if row["ratio"] is None else f"{row['ratio']:.2f}")
        assert int(peak.replace(",", "")) > 0
        assert (more == "-") == (row["subject"] == "plain")
