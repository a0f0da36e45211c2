"""Composite images beside standard mimicking in a matrix: Table 4 of the composite paper."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

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
        [f"{NAMES[kind]}, {labels}", f"{budget:,}", str(len(of)), *_cells(list(of.values()))]
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
) -> Iterator[tuple[Labels, int, dict[int, float]]]:
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
        yield labels, budget, by_seed


def _cells(of: Sequence[float]) -> tuple[str, str]:
    spread = f"{min(of):.1f} to {max(of):.1f}" if len(of) > 1 else "-"
    return f"{statistics.fmean(of):.1f} %", spread


def _finding(standard: Mapping[int, float], composite: Mapping[int, float]) -> str:
    """Seed by seed: both stole from the same victims, some of which leak more than others."""
    gaps = [composite[seed] - standard[seed] for seed in standard.keys() & composite.keys()]
    if len(gaps) < 2:
        return "one seed: no spread is known."
    least, most = sorted((min(gaps), max(gaps)), key=abs)
    if least * most <= 0:
        spread = f"{min(gaps):+.1f} to {max(gaps):+.1f} points"
        return f"blends were better with some seeds and worse with others ({spread})."
    word = "better" if most > 0 else "worse"
    spread = f"by {abs(least):.1f} to {abs(most):.1f} points"
    return f"blends were {word} with each of {len(gaps)} seeds, {spread}."
