"""What an add-on added is told beside the same attack without it."""

from __future__ import annotations

from attack_client.report.schema import Row
from intaglio.leakage.gains import cells_of_gain, gains
from intaglio.leakage.matrix import Matrix
from tests.intaglio.leakage.conftest import GOOD, row


def told(*rows: Row) -> list[tuple[str, ...]]:
    matrix = Matrix.model_validate(
        {
            **GOOD,
            "defenses": {"none": {"victim": "plain"}, "am": {"victim": "plain"}},
            "attacks": {
                "knockoff": {"budgets": [100, 1000]},
                "shifted": {"attack": "knockoff", "augment": "shift"},
                "sharp": {"attack": "knockoff", "adapt": ["sharpen"]},
                "near": {"attack": "knockoff", "adapt": ["near-distribution"]},
                "odd": {"attack": "composite", "adapt": ["sharpen"]},
            },
            "budgets": [100, 1000],
        }
    )
    return [cells_of_gain(gain) for gain in gains(matrix, rows)]


def test_the_better_labels_without_it_and_the_same_budget_are_what_it_is_beside() -> None:
    assert told(
        row("am", 0.4, attack="knockoff", budget=100),
        row("am", 0.5, attack="knockoff", budget=100, labels="hard"),
        row("am", 0.9, attack="knockoff", budget=1000),
        row("am", 0.8, attack="shifted", budget=100),
        row("am", 0.6, attack="sharp", budget=100),
        row("none", 0.9, attack="knockoff", budget=100),
    ) == [("am", "100", "50.0 hard", "sharp, soft", "60.0", "+10.0", "1")]


def test_add_ons_are_compared_by_what_they_added_and_not_by_their_means() -> None:
    # "near" is better in the mean only because it was tried on the victim that leaks most.
    assert told(
        row("am", 0.2, attack="knockoff", budget=100),
        row("am", 0.7, attack="knockoff", budget=100, seed=1),
        row("am", 0.4, attack="sharp", budget=100),
        row("am", 0.8, attack="sharp", budget=100, seed=1),
        row("am", 0.75, attack="near", budget=100, seed=1),
    ) == [("am", "100", "45.0 soft", "sharp, soft", "60.0", "+15.0", "2")]


def test_one_that_was_repeated_is_compared_where_the_others_were_tried() -> None:
    # "sharp" added more on the seed that both have, and little on the one that it alone has.
    assert told(
        row("am", 0.5, attack="knockoff", budget=100),
        row("am", 0.5, attack="knockoff", budget=100, seed=1),
        row("am", 0.7, attack="sharp", budget=100),
        row("am", 0.5, attack="sharp", budget=100, seed=1),
        row("am", 0.65, attack="near", budget=100),
    ) == [("am", "100", "50.0 soft", "sharp, soft", "60.0", "+10.0", "2")]


def test_one_that_made_it_worse_is_told_so_and_one_beside_nothing_has_no_gain() -> None:
    assert told(
        row("none", 0.9, attack="knockoff", budget=100),
        row("none", 0.8, attack="sharp", budget=100),
        row("am", 0.8, attack="odd", budget=100),
    ) == [
        ("none", "100", "90.0 soft", "sharp, soft", "80.0", "-10.0", "1"),
        ("am", "100", "-", "odd, soft", "80.0", "-", "1"),
    ]
