"""The gate: what fails a release, and what the CI server is told."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from intaglio.leakage.entries import Gate
from intaglio.leakage.gate import Outcome, judge, told_passed, write_junit
from intaglio.leakage.strongest import Status, lines_of
from tests.intaglio.leakage.conftest import row

ROWS = (row("none", 0.97), row("label-only", 0.9), row("am", 0.5), row("mad", 0.9), row("edm", 0.2))


def status(defense: str, state: str = "done", reason: str | None = None) -> Status:
    return Status.model_validate(
        {
            "defense": defense,
            "attack": "knockoff",
            "labels": "soft",
            "budget": 1000,
            "seed": 0,
            "state": state,
            "reason": reason,
        }
    )


def outcomes(gate: Gate, *, edm: str = "done") -> dict[str, Outcome]:
    asked = [status(str(one.defense)) for one in ROWS[:-1]]
    asked.append(status("edm", edm, None if edm == "done" else "the server did not start"))
    rows = ROWS if edm == "done" else ROWS[:-1]
    return {one.defense: one for one in judge(gate, lines_of(rows, asked, [1000]), asked)}


def test_the_strongest_attack_over_the_victim_decides() -> None:
    found = outcomes(Gate(fail_above=0.8))
    assert {name for name, one in found.items() if not one.passed} == {"mad"}
    assert found["none"].threshold is None, "a yardstick always leaks"
    assert "0.918 of the victim's accuracy, above 0.8" in str(found["mad"].failure)


def test_a_rival_counts_for_as_much_as_it_is_ahead() -> None:
    rows = [row("am", one, seed=seed) for seed, one in enumerate((0.7, 0.83, 0.84))]
    rows.append(row("am", 0.79, attack="recovered"))
    asked = [status("am")]

    def found(threshold: float) -> Outcome:
        return judge(Gate(fail_above=threshold), lines_of(rows, asked, [1000]), asked)[0]

    failed = found(0.82)
    assert failed.measured == pytest.approx((0.79 + 0.09) / 0.98)
    assert "recovered with soft labels, ahead of knockoff on the seeds" in str(failed.failure)
    assert found(0.9).passed


def test_single_defenses_have_thresholds_of_their_own() -> None:
    found = outcomes(Gate(fail_above=0.8, defenses={"mad": None, "am": 0.4, "label-only": 0.9}))
    assert {name for name, one in found.items() if not one.passed} == {"am", "label-only"}


def test_a_gate_that_passes_says_which_threshold_was_nearest() -> None:
    def said(gate: Gate, *, edm: str = "done") -> str | None:
        return told_passed(list(outcomes(gate, edm=edm).values()))

    assert said(Gate(fail_above=0.95, defenses={"am": 0.52})) == (
        "PASSED am: knockoff with soft labels and 1,000 queries makes clones of 0.510 of the "
        "victim's accuracy, not above 0.52; of 3 with a threshold it is the nearest"
    )
    assert str(said(Gate(defenses={"mad": 0.95}))).endswith(
        "0.918 of the victim's accuracy, not above 0.95"
    )
    assert said(Gate()) is None, "there is no gate"
    assert said(Gate(fail_above=0.8)) is None, "it fails"
    assert said(Gate(fail_above=0.95), edm="failed") is None, "a cell is missing"


def test_what_was_not_measured_is_not_passed() -> None:
    found = outcomes(Gate(fail_above=0.95), edm="failed")
    assert {name for name, one in found.items() if not one.passed} == {"edm"}
    assert outcomes(Gate(), edm="failed")["edm"].passed, "without a threshold there is no gate"


def test_junit_tells_failures_from_errors(tmp_path: Path) -> None:
    found = outcomes(Gate(fail_above=0.8), edm="failed")
    write_junit("toys", list(found.values()), 1.5, tmp_path / "new" / "junit.xml")
    suite = ElementTree.parse(tmp_path / "new" / "junit.xml").getroot()[0]
    counts = ("tests", "failures", "errors", "skipped", "time")
    assert [suite.get(name) for name in counts] == ["5", "1", "1", "2", "1.500"]
    cases = {case.get("name"): case for case in suite}
    assert cases["mad"].find("failure") is not None
    assert "did not start" in str(cases["edm"].findtext("error"))
    assert cases["none"].find("skipped") is not None
    assert "0.5102" in str(cases["am"].findtext("system-out"))
