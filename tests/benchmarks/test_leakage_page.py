"""What the results page says of a matrix is what its report says."""

from __future__ import annotations

import json
from pathlib import Path

from attack_client.report import read_json
from benchmarks.envelope import RESULTS
from benchmarks.leakage_page import findings, leakage_parts
from benchmarks.markdown import folded, table
from intaglio.leakage.matrix import load_matrix


def test_a_matrix_that_was_run_in_part_says_so() -> None:
    document = json.loads((RESULTS / "leakage-digits.json").read_text())
    done = [cell for cell in document["leakage"]["cells"] if cell["state"] == "done"]
    counted, strongest, verdicts = leakage_parts(document)[:3]
    assert counted.startswith(f"{len(done)} of {len(document['leakage']['cells'])} cells are done")
    assert "(leakage-digits.html)" in counted
    assert (Path(__file__).parents[2] / "docs" / "leakage-digits.html").is_file()
    for defense in document["leakage"]["matrix"]["defenses"]:
        assert f"| {defense} | " in strongest
    assert len(verdicts.splitlines()) == len(document["leakage"]["verdicts"])


def test_who_has_to_choose_reads_what_the_matrix_found() -> None:
    document = json.loads((RESULTS / "leakage-mnist.json").read_text())
    page = (Path(__file__).parents[2] / "docs" / "defenses.md").read_text()
    said = findings(document)
    assert f"<!-- matrix:begin -->\n{said}\n<!-- matrix:end -->" in page
    assert "| yardstick |" in said
    for verdict in document["leakage"]["verdicts"]:
        table_of_findings, _, settings = said.partition("<details>")
        (line,) = [
            one
            for one in table_of_findings.splitlines()
            if one.startswith(f"| {verdict['defense']} |")
        ]
        shown = "not measured enough" if verdict["finding"] == "unknown" else verdict["finding"]
        assert line.endswith(f"| {shown} |")
        assert f"| {verdict['defense']} | " in settings


def test_a_table_that_fills_a_screen_is_closed() -> None:
    rows = [[str(number)] for number in range(31)]
    assert folded("Few", table(["n"], rows[:30]), 30).startswith("Few:\n\n| n |")
    closed = folded("Many", table(["n"], rows), 31)
    assert closed.startswith("<details>\n<summary>Many (31 rows)</summary>\n\n| n |")
    assert closed.endswith("| 30 |\n\n</details>")


def test_the_strongest_add_on_of_each_defense_is_repeated_with_every_seed() -> None:
    matrix = load_matrix("mnist")
    first = matrix.seeds[0]
    tried: dict[str, dict[str, float]] = {}
    for row in read_json(RESULTS / "leakage-mnist.json").rows:
        entry = matrix.attacks.get(row.attack)
        if entry is not None and entry.adapt and row.seed == first and row.defense is not None:
            own = tried.setdefault(row.defense, {})
            own[row.attack] = max(own.get(row.attack, 0.0), row.clone_accuracy)
    assert tried.keys() == matrix.defenses.keys()
    for defense, accuracies in tried.items():
        strongest = max(accuracies, key=accuracies.__getitem__)
        entry = matrix.attacks[strongest]
        seeds = {*(entry.seeds or matrix.seeds), *entry.more_seeds.get(defense, ())}
        assert seeds == set(matrix.seeds), f"{strongest} on {defense}"
