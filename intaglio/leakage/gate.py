"""A threshold that fails a release: exit status and JUnit XML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from intaglio.leakage.entries import Gate
from intaglio.leakage.strongest import Line, Status, Strongest
from intaglio.leakage.verdict import YARDSTICKS
from models.training.atomic import write_atomically

__all__ = ["Outcome", "judge", "told_passed", "write_junit"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one defense fares.

    Attributes:
        defense: name in the table.
        threshold: the most that its strongest attack may reach; None where none is set.
        measured: relative accuracy of the strongest attack, with what a rival is ahead of it; None
            where nothing is known.
        failure: why the release fails; None where it does not.
        missing: why cells are missing; a gate that was not measured is not passed.
        attack: the strongest one, and that it makes clones; None where nothing is known.
    """

    defense: str
    threshold: float | None
    measured: float | None
    failure: str | None
    missing: tuple[str, ...]
    attack: str | None = None

    @property
    def passed(self) -> bool:
        """Whether a release may go out as far as this defense is concerned."""
        return self.threshold is None or (self.failure is None and not self.missing)


def judge(gate: Gate, lines: Sequence[Line], asked: Sequence[Status]) -> tuple[Outcome, ...]:
    """One for each defense that was asked for.

    Args:
        gate: thresholds.
        lines: of the table.
        asked: cells that this run was to have.
    """
    by_name = {line.defense: line for line in lines}
    missing: Mapping[str, list[str]] = {status.defense: [] for status in asked}
    for status in asked:
        if status.state != "done":
            cell = f"{status.attack}, {status.labels}, {status.budget:,}, seed {status.seed}"
            missing[status.defense].append(f"{cell}: {status.reason}")
    return tuple(
        _outcome(name, _threshold(gate, name), by_name[name], tuple(lacking))
        for name, lacking in missing.items()
    )


def _threshold(gate: Gate, defense: str) -> float | None:
    if defense in gate.defenses:
        return gate.defenses[defense]
    return None if defense in YARDSTICKS else gate.fail_above


def _outcome(
    defense: str, threshold: float | None, line: Line, missing: tuple[str, ...]
) -> Outcome:
    worst = line.largest
    measured = None if worst is None else _relative(worst, line)
    failure = None
    if threshold is not None and worst is not None:
        if measured is None:
            failure = "relative accuracy is not known: give the matrix a reference"
        elif measured > threshold:
            failure = (
                f"{_told(worst)} clones of {measured:.3f} of the victim's accuracy, above "
                f"{threshold:g}"
            )
    attack = None if worst is None else _told(worst)
    return Outcome(defense, threshold, measured, failure, missing, attack)


def _relative(worst: Strongest, line: Line) -> float | None:
    """Clone over plain victim; over what is served where the plain model is not at hand.

    A rival may turn out to be as far ahead on the seeds that it was not tried on.
    """
    relative = worst.relative
    if relative is None and line.benign_accuracy:
        relative = worst.accuracy / line.benign_accuracy
    if relative is None or worst.rival is None or not worst.accuracy:
        return relative
    return relative * (worst.accuracy + worst.rival.ahead) / worst.accuracy


def _told(worst: Strongest) -> str:
    if worst.rival is None:
        return f"{worst.attack} with {worst.labels} labels and {worst.budget:,} queries makes"
    return (
        f"{worst.rival.attack} with {worst.rival.labels} labels, ahead of {worst.attack} on the "
        "seeds that it was tried on, may make"
    )


def told_passed(outcomes: Sequence[Outcome]) -> str | None:
    """Which defense is nearest to its threshold; None where there is no gate or it fails."""
    held = [outcome for outcome in outcomes if outcome.threshold is not None]
    known = [
        (one.threshold - one.measured, one)
        for one in held
        if one.threshold is not None and one.measured is not None
    ]
    if not known or not all(outcome.passed for outcome in held):
        return None
    nearest = min(known, key=lambda pair: pair[0])[1]
    said = (
        f"PASSED {nearest.defense}: {nearest.attack} clones of {nearest.measured:.3f} of the "
        f"victim's accuracy, not above {nearest.threshold:g}"
    )
    return said if len(held) == 1 else f"{said}; of {len(held)} with a threshold it is the nearest"


def write_junit(name: str, outcomes: Sequence[Outcome], seconds: float, path: Path) -> None:
    """Write ``outcomes`` as JUnit XML: a test case per defense.

    A defense over its threshold is a failure, one whose cells are missing an error, one without
    a threshold is skipped.
    """
    held = [outcome for outcome in outcomes if outcome.threshold is not None]
    counts = {
        "tests": len(outcomes),
        "failures": sum(outcome.failure is not None for outcome in held),
        "errors": sum(outcome.failure is None and bool(outcome.missing) for outcome in held),
        "skipped": len(outcomes) - len(held),
    }
    totals = {key: str(value) for key, value in counts.items()} | {"time": f"{seconds:.3f}"}
    root = ElementTree.Element("testsuites", {"name": "intaglio leakage", **totals})
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **totals})
    for outcome in outcomes:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": f"leakage.{name}", "name": outcome.defense}
        )
        if outcome.threshold is None:
            ElementTree.SubElement(case, "skipped", {"message": "no threshold is set"})
        elif outcome.failure is not None:
            ElementTree.SubElement(case, "failure", {"message": outcome.failure})
        elif outcome.missing:
            error = ElementTree.SubElement(
                case, "error", {"message": f"{len(outcome.missing)} cells are missing"}
            )
            error.text = "\n".join(outcome.missing)
        if outcome.measured is not None:
            said = ElementTree.SubElement(case, "system-out")
            said.text = f"relative accuracy of the strongest attack: {outcome.measured:.4f}"
    ElementTree.indent(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
