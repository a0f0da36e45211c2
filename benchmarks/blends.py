"""Composite images beside standard mimicking in a matrix: Table 4 of the composite paper."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from attack_client.report.schema import Labels, Row
from benchmarks.markdown import table
from intaglio.leakage.matrix import Matrix

__all__ = ["blends"]

STANDARD, COMPOSITE = "knockoff", "composite"
HEADS = ("mimicking", "queries", "seeds", "clone, mean", "range, %")


def blends(matrix: Matrix, rows: Sequence[Row]) -> Iterator[str]:
    """The table, of the undefended victim at the budgets that both had, and what it comes to."""
    shares = {
        (kind, labels, budget): of
        for kind in (STANDARD, COMPOSITE)
        for labels, budget, of in _shares(matrix, rows, kind)
    }
    both = sorted({budget for kind, _, budget in shares if kind == COMPOSITE})
    both = [budget for budget in both if any((STANDARD, to, budget) in shares for to in KINDS)]
    if not both:
        return
    lines = [
        [f"{NAMES[kind]}, {labels}", f"{budget:,}", str(len(of)), *_cells(of)]
        for budget in both
        for kind in (STANDARD, COMPOSITE)
        for labels in KINDS
        if (of := shares.get((kind, labels, budget)))
    ]
    yield "Composite images and standard mimicking of the undefended victim, blends drawn once:"
    yield table(HEADS, lines)
    yield "\n".join(
        f"- {budget:,} queries, {labels} labels: {_finding(standard, composite)}"
        for budget in both
        for labels in KINDS
        if (standard := shares.get((STANDARD, labels, budget)))
        and (composite := shares.get((COMPOSITE, labels, budget)))
    )


KINDS: tuple[Labels, ...] = ("soft", "hard")
NAMES = {STANDARD: "standard", COMPOSITE: "composite"}


def _shares(
    matrix: Matrix, rows: Sequence[Row], kind: str
) -> Iterator[tuple[Labels, int, list[float]]]:
    plain = {
        name
        for name, entry in matrix.attacks.items()
        if (entry.attack or name) == kind
        and not (entry.adapt or entry.augment or entry.options or entry.pool)
    }
    found: dict[tuple[Labels, int], dict[int, float]] = {}
    for row in rows:
        if row.defense == "none" and row.attack in plain:
            found.setdefault((row.labels, row.budget), {})[row.seed] = 100 * row.clone_accuracy
    for (labels, budget), by_seed in found.items():
        yield labels, budget, list(by_seed.values())


def _cells(of: Sequence[float]) -> tuple[str, str]:
    spread = f"{min(of):.1f} to {max(of):.1f}" if len(of) > 1 else "-"
    return f"{statistics.fmean(of):.1f} %", spread


def _finding(standard: Sequence[float], composite: Sequence[float]) -> str:
    if min(len(standard), len(composite)) < 2:
        return "one seed: no spread is known."
    if min(composite) > max(standard):
        return "every clone of blends is better than every clone of the images themselves."
    if max(composite) < min(standard):
        return "every clone of blends is worse than every clone of the images themselves."
    return "too close to call."
