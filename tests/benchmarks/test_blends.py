"""Composite images beside standard mimicking, from the rows of a matrix."""

from __future__ import annotations

from benchmarks.blends import blends
from intaglio.leakage.matrix import Matrix
from tests.intaglio.leakage.conftest import GOOD, row

MATRIX = Matrix.model_validate(
    {
        **GOOD,
        "attacks": {
            "knockoff": {},
            "few": {"attack": "knockoff", "budgets": [100]},
            "composite": {},
            "thirds": {"attack": "composite", "options": {"parts": 3}},
        },
    }
)


def test_only_budgets_that_both_had_are_compared_and_seed_by_seed() -> None:
    rows = [
        row("none", share, attack=attack, seed=seed, budget=budget, labels="hard")
        for attack, budget, shares in (
            ("few", 100, (0.70, 0.75)),
            ("composite", 100, (0.72, 0.80)),
            ("knockoff", 300, (0.80, 0.82)),
            ("composite", 300, (0.79, 0.90)),
            ("thirds", 300, (0.1, 0.1)),
            ("knockoff", 900, (0.95, 0.96)),
        )
        for seed, share in enumerate(shares)
    ]
    _, lines, findings = blends(MATRIX, rows)
    assert "| standard, hard | 100 | 2 | 72.5 % | 70.0 to 75.0 |" in lines
    assert "| composite, hard | 300 | 2 | 84.5 % | 79.0 to 90.0 |" in lines
    assert "900" not in lines
    assert findings.splitlines() == [
        "- 100 queries, hard labels: blends were better with each of 2 seeds, by 2.0 to 5.0 "
        "points.",
        "- 300 queries, hard labels: blends were better with some seeds and worse with others "
        "(-1.0 to +8.0 points).",
    ]


def test_without_blends_nothing_is_said() -> None:
    assert not list(blends(MATRIX, [row("none", 0.9, attack="knockoff", budget=100)]))
