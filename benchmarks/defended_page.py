"""The results of ``benchmarks.defended_training``: rows, means and spreads, the papers' figures."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from attack_client.report import Row, describe_environment
from benchmarks.defended_picture import draw_trade_off
from benchmarks.defended_pieces import Piece, Scale
from benchmarks.defended_published import PUBLISHED
from benchmarks.defended_teachers_picture import draw_teachers
from benchmarks.defended_verdicts import against_control, worth_of_teachers
from benchmarks.envelope import IMAGES, RESULTS

__all__ = ["Finding", "result", "worth_by_teacher", "write_results"]

NAMES = {"mnist": "defended-training", "fashion": "defended-teachers"}
"""Results by family."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one piece came to with one seed.

    Attributes:
        piece: what was stolen.
        seed: of training and theft.
        rows: one per clone.
        validation: accuracy of the victim on the images that its recipe holds out.
        verdict: of ``distillation.json``; None for KnockoffNets.
    """

    piece: Piece
    seed: int
    rows: tuple[Row, ...]
    validation: float
    verdict: Mapping[str, Any] | None

    def accuracy(self, labels: str) -> float | None:
        """Of the clone trained on those labels, on the test set."""
        found = [row.clone_accuracy for row in self.rows if row.labels == labels]
        return found[0] if found else None


def write_results(
    findings: Sequence[Finding],
    curve: Sequence[Finding],
    *,
    command: Sequence[str],
    training: Callable[[Piece], Sequence[str]],
    weights: Mapping[str, float],
    scale: Scale,
) -> None:
    """Write a result for each family that there is, and their pictures.

    Args:
        findings: of every piece and seed.
        curve: InI at every weight.
        command: that found all of it.
        training: the command that trains a piece.
        weights: chosen for InI, by form.
        scale: of everything.
    """
    RESULTS.mkdir(exist_ok=True)
    for family, name in NAMES.items():
        own = _of(findings, family)
        if not own:
            continue
        trained = {finding.piece.name: finding.piece for finding in own}
        document = result(
            family,
            own,
            curve,
            commands=[command, *map(training, trained.values())],
            weights=weights,
            scale=scale,
        )
        text = json.dumps(document, indent=2) + "\n"
        (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
    teachers = worth_by_teacher(_of(findings, "fashion"))
    if teachers:
        draw_teachers(teachers, IMAGES / f"{NAMES['fashion']}.png")
    if curve:
        mnist = [row for finding in _of(findings, "mnist") for row in finding.rows]
        draw_trade_off(
            mnist,
            [row for finding in curve for row in finding.rows],
            IMAGES / f"{NAMES['mnist']}.png",
        )


def result(
    family: str,
    findings: Sequence[Finding],
    curve: Sequence[Finding],
    *,
    commands: Sequence[Sequence[str]],
    weights: Mapping[str, float],
    scale: Scale,
) -> dict[str, Any]:
    """The document of a family, without writing it."""
    notes = [f"Scale: {json.dumps(asdict(scale))}."]
    if family == "mnist":
        tables = [_stolen(findings), _trade_off(curve, findings)]
        notes += [*_said_of_weights(weights), *_against_control(findings)]
    else:
        tables = [_distilled(findings)]
        notes += [
            "The attacker owns the images that the victim was trained on, with their labels.",
            "A distillation is worth the better of its student and of one trained on the labels "
            "alone; alpha and T are chosen on a tenth of the attacker's images, which are held "
            "out. Probabilities leave on a grid of 1e-5, so what a teacher says below that is lost "
            "to every student.",
            *_worth_of_teachers(findings),
        ]
    return {
        "schema": 1,
        "command": [list(command) for command in commands],
        "environment": describe_environment(),
        "notes": notes,
        "tables": [*(table for table in tables if table["rows"]), PUBLISHED[family]],
        "rows": [row.model_dump(mode="json") for finding in findings for row in finding.rows],
    }


def _said_of_weights(weights: Mapping[str, float]) -> list[str]:
    if not weights:
        return []
    chosen = ", ".join(f"`{name}` {weight:g}" for name, weight in weights.items())
    return [
        "InI's weights are gamma 0.3, delta 1, epsilon 40 times a factor: the largest that "
        "with the first seed cost at most half a point of accuracy on validation images, "
        f"against the plain model: {chosen}. No clone and no test image chose it. `ini` is the "
        "isolation loss of the published code, KL(C || V); `ini-ce_vc` the paper's equation 4."
    ]


def _of(findings: Iterable[Finding], family: str) -> list[Finding]:
    return [finding for finding in findings if finding.piece.family == family]


def _grouped(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.piece.defense, []).append(finding)
    return groups


def _against_control(findings: Sequence[Finding]) -> list[str]:
    return against_control(
        {
            name: [max(row.clone_accuracy for row in finding.rows) for finding in group]
            for name, group in _grouped(findings).items()
        }
    )


def _worth_of_teachers(findings: Sequence[Finding]) -> list[str]:
    distilled: dict[str, list[float | None]] = {}
    scratch: list[float] = []
    for name, group in _grouped(findings).items():
        verdicts = [finding.verdict for finding in group if finding.verdict is not None]
        distilled[name] = [(verdict["taught"] or {}).get("accuracy") for verdict in verdicts]
        if name == "none":
            scratch = [verdict["students"][0]["accuracy"] for verdict in verdicts]
    return worth_of_teachers(distilled, scratch)


def worth_by_teacher(findings: Sequence[Finding]) -> dict[str, dict[str, list[float]]]:
    """What ``draw_teachers`` shows."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, group in _grouped(findings).items():
        verdicts = [finding.verdict for finding in group if finding.verdict is not None]
        served = [finding.rows[0].benign_accuracy for finding in group]
        taught = [(verdict["taught"] or {}).get("accuracy") for verdict in verdicts]
        found[name] = {
            "teacher": [share for share in served if share is not None],
            "student of the labels alone": [
                verdict["students"][0]["accuracy"] for verdict in verdicts
            ],
            "student of the teacher": [share for share in taught if share is not None],
        }
    return found


def _stolen(findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "title": "MNIST stolen with Fashion-MNIST by KnockoffNets: mean and standard deviation "
        "over seeds, in percent",
        "header": ["defense", "seeds", "benign", "benign cost", "clone soft", "clone hard"],
        "rows": [
            [
                name,
                str(len(group)),
                spread(finding.rows[0].benign_accuracy for finding in group),
                spread(finding.rows[0].benign_cost for finding in group),
                spread(finding.accuracy("soft") for finding in group),
                spread(finding.accuracy("hard") for finding in group),
            ]
            for name, group in _grouped(findings).items()
        ],
    }


def _trade_off(curve: Sequence[Finding], findings: Sequence[Finding]) -> dict[str, Any]:
    plain = {
        finding.seed: finding.validation
        for finding in findings
        if finding.piece.name == "mnist-none"
    }
    return {
        "title": "InI's trade-off, one seed: all three weights times a factor (behind the x), in "
        "percent",
        "header": ["form", "validation cost", "benign cost", "clone soft", "clone hard"],
        "rows": [
            [
                finding.piece.defense,
                spread([plain[finding.seed] - finding.validation]),
                spread([finding.rows[0].benign_cost]),
                spread([finding.accuracy("soft")]),
                spread([finding.accuracy("hard")]),
            ]
            for finding in curve
        ],
    }


def _distilled(findings: Sequence[Finding]) -> dict[str, Any]:
    rows = []
    for name, group in _grouped(findings).items():
        verdicts = [finding.verdict for finding in group if finding.verdict is not None]
        taught = [verdict["taught"] or {} for verdict in verdicts]
        worst = [
            min(student["accuracy"] for student in verdict["students"][1:]) for verdict in verdicts
        ]
        rows.append(
            [
                name,
                str(len(group)),
                spread(finding.rows[0].benign_accuracy for finding in group),
                spread(verdict["students"][0]["accuracy"] for verdict in verdicts),
                spread(student.get("accuracy") for student in taught),
                spread(worst),
                spread(verdict["value"] for verdict in verdicts),
            ]
        )
    return {
        "title": "Fashion-MNIST distilled with the victim's own images: mean and standard "
        "deviation over seeds, in percent",
        "header": [
            "defense",
            "seeds",
            "benign",
            "scratch",
            "distilled, alpha and T chosen",
            "distilled, worst alpha and T",
            "max(distilled, scratch)",
        ],
        "rows": rows,
    }


def spread(shares: Iterable[float | None]) -> str:
    """Mean and standard deviation in percent; a dash where a share is not known."""
    figures = list(shares)
    known = [100 * share for share in figures if share is not None]
    if not known or len(known) < len(figures):
        return "-"
    mean = f"{statistics.fmean(known):.2f}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.2f}"
