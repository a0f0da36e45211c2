"""In words: which defenses leave a thief no more than plain labels do, and which do not.

A defense that does not beat label-only output under its strongest attack costs something and
protects nothing that a one-line change would not. Ranges over seeds that overlap are no finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from attack_client.report.schema import Row
from intaglio.leakage.strongest import Line, Rival, Status, Strongest, strongest_of

__all__ = ["YARDSTICKS", "Finding", "Verdict", "verdicts_of"]

NONE, LABEL_ONLY = "none", "label-only"
YARDSTICKS = (NONE, LABEL_ONLY)

ENOUGH_SEEDS = 3
MARGIN = 0.05
"""By how much fewer seeds than enough must be ahead: one tells no spread and two tell little, and
seeds were seen to differ so much."""

Finding = Literal["beats label-only", "too close to call", "does not beat label-only", "unknown"]

_WORDS = {
    "beats label-only": "beats label-only",
    "too close to call": "is too close to label-only to call",
    "does not beat label-only": "does not beat label-only",
    "unknown": "is not measured enough",
}


class Verdict(BaseModel):
    """What is to be said of one defense.

    Attributes:
        defense: name in the table.
        finding: in three words.
        sentence: with the figures.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    defense: str
    finding: Finding
    sentence: str


def verdicts_of(
    lines: Sequence[Line],
    rows: Sequence[Row],
    statuses: Sequence[Status] = (),
    ways: Mapping[str, str] | None = None,
) -> tuple[Verdict, ...]:
    """One for every defense but the yardsticks, at the most queries that it was attacked with.

    Args:
        lines: of the table.
        rows: of all finished cells: label-only output is asked at the defense's own budget.
        statuses: of all cells, by which it is known how label-only output is to be attacked.
        ways: what an attack is by its name, where several names are one attack.
    """
    known = ways or {}

    def way(attack: str) -> str:
        name = attack.partition(": ")[0]
        return known.get(name, name)

    plain = [row for row in rows if row.defense == LABEL_ONLY]
    meant = {way(status.attack) for status in statuses if status.defense == LABEL_ONLY}
    found = []
    for line in lines:
        if line.defense in YARDSTICKS:
            continue
        had = {way(row.attack) for row in plain if row.budget <= line.reach}
        own = {way(row.attack): row.attack for row in rows if row.defense == line.defense}
        lacking = sorted(own[one] for one in (own.keys() & meant) - had)
        found.append(_verdict(line, plain, lacking))
    return tuple(found)


def _verdict(line: Line, plain: Sequence[Row], lacking: Sequence[str]) -> Verdict:
    """``lacking`` are attacks that the defense had to bear and label-only output has not yet."""
    name, strongest = line.defense, line.largest
    if strongest is None:
        return Verdict(defense=name, finding="unknown", sentence=f"{name}: no cell is done.")
    # A defense too slow to be asked more is compared with as few queries of plain labels.
    yardstick = strongest_of(plain, line.reach)
    if yardstick is None:
        return Verdict(
            defense=name,
            finding="unknown",
            sentence=f"{name} leaves {_told(strongest)}; there is no label-only output at that "
            "budget to compare it with.",
        )
    finding = _finding(strongest, yardstick)
    alike = strongest_of(plain, strongest.budget)
    unequal = finding == "beats label-only" and strongest.budget < yardstick.budget
    if unequal:
        # Nobody knows what that attack gets with more: it may not win by having had less.
        finding = "unknown" if alike is None else _finding(strongest, alike)
    spared = bool(lacking) and finding != "beats label-only"
    if spared or (finding == "beats label-only" and line.untried):
        finding = "unknown"
    said = f"leaves {_told(strongest)}; label-only output leaves {_told(yardstick)}."
    sentence = f"{name} {_WORDS[finding]}: it {said}"
    if unequal:
        sentence += " That attack was tried with no more queries, and with as many "
        sentence += (
            "label-only output was not attacked."
            if alike is None
            else f"label-only output leaves {_told(alike)}."
        )
    if spared:
        sentence += (
            f" Label-only output was not attacked with {', '.join(lacking)} at that budget, which "
            "may leave more of it too."
        )
    elif finding == "unknown" and line.untried:
        sentence += f" {line.untried} of its attacks were not tried, which may leave more."
    if line.done < line.cells:
        sentence += f" {line.cells - line.done} of its {line.cells} cells are missing."
    if min(strongest.seeds, yardstick.seeds) == 1:
        sentence += " One seed: no spread is known."
    elif min(strongest.seeds, yardstick.seeds) < ENOUGH_SEEDS:
        sentence += " Two seeds: little is known of the spread."
    for of, found in (("", strongest.rival), (" of label-only output", yardstick.rival)):
        sentence += "" if found is None else _told_rival(found, of)
    return Verdict(defense=name, finding=finding, sentence=sentence)


def _finding(strongest: Strongest, yardstick: Strongest) -> Finding:
    if strongest.accuracy >= yardstick.accuracy:
        more = yardstick.rival.ahead if yardstick.rival else 0.0
        even = strongest.accuracy >= yardstick.accuracy + more
        return "does not beat label-only" if even else "too close to call"
    margin = MARGIN if min(strongest.seeds, yardstick.seeds) < ENOUGH_SEEDS else 0.0
    ahead = strongest.rival.ahead if strongest.rival else 0.0
    clear = yardstick.low - strongest.high - ahead > margin
    return "beats label-only" if clear else "too close to call"


def _told_rival(rival: Rival, of: str) -> str:
    if not rival.seeds:
        return (
            f" With other seeds than these{of} {rival.attack} with {rival.labels} labels came to "
            f"{100 * rival.accuracy:.1f} %, {100 * rival.ahead:.1f} points more."
        )
    return (
        f" On {rival.seeds} of these seeds{of} {rival.attack} with {rival.labels} labels did "
        f"better by {100 * rival.ahead:.1f} points ({100 * rival.accuracy:.1f} %); it was not "
        "tried on the others."
    )


def _told(found: Strongest) -> str:
    spread = ""
    if found.seeds > 1:
        spread = f" ({100 * found.low:.1f} to {100 * found.high:.1f} over {found.seeds} seeds)"
    return (
        f"clones of {100 * found.accuracy:.1f} %{spread} to {found.attack} with {found.labels} "
        f"labels and {found.budget:,} queries"
    )
