from __future__ import annotations

import pytest
import torch

from defenses.training.calibration import calibrate
from models.simplex import GRID

CONFIDENCES = torch.tensor([0.99, 0.9, 0.8, 0.6])


def victim() -> torch.Tensor:
    """Right, right, wrong, right, at falling confidence."""
    rest = (1 - CONFIDENCES) / 2
    said = torch.stack([CONFIDENCES, rest, rest], dim=1)
    said[2] = said[2, [1, 0, 2]]
    return said


def test_rows_are_what_the_switch_serves() -> None:
    misleading = torch.tensor([[0.0, 1.0, 0.0]]).repeat(4, 1)
    misleading[2] = torch.tensor([1.0, 0.0, 0.0])
    table = calibrate(victim(), misleading, torch.zeros(4).long(), dataset="toy", reference=1.0)
    assert table.samples == 4
    assert table.dataset == "toy"
    assert table.reference == 1.0
    assert table.thresholds == pytest.approx((0.0, 0.6, 0.8, 0.9, 0.99, 1.0), abs=1e-5)
    assert table.rejected == pytest.approx((0, 0, 0.25, 0.5, 0.75, 1.0))
    # The image at 0.8 is wrong until the other network answers it, which happens to be right.
    assert table.accuracies[0] == 0.75
    assert table.accuracies[-1] == 0.25


def test_a_larger_threshold_never_rejects_less() -> None:
    torch.manual_seed(4)
    said = torch.randn(2000, 10).mul(3).softmax(dim=1)
    other = torch.randn(2000, 10).softmax(dim=1)
    labels = torch.randint(0, 10, (2000,))
    table = calibrate(said, other, labels, dataset="toy", reference=0.5)
    assert 512 <= len(table.thresholds) <= 514
    assert list(table.rejected) == sorted(table.rejected)
    assert table.thresholds[0] == 0.0
    assert table.thresholds[-1] == 1.0
    assert table.rejected[0] == 0.0
    steps = torch.tensor(table.rejected).diff()
    assert steps.max() < 2.5 / 512


def test_decisions_are_taken_on_canonical_probabilities() -> None:
    said = torch.tensor([[0.7000049, 0.2999951]])
    table = calibrate(said, said.flip(1), torch.tensor([0]), dataset="toy", reference=1.0)
    inside = table.thresholds[1]
    assert inside == pytest.approx((70_000 - 0.5) / GRID, abs=1e-9)


def test_between_the_networks_the_mixture_counts() -> None:
    # At a threshold this close to the confidence the other network's certain answer outweighs.
    said = torch.tensor([[0.6, 0.4, 0.0]])
    other = torch.tensor([[0.0, 0.0, 1.0]])
    table = calibrate(said, other, torch.tensor([0]), dataset="toy", reference=1.0)
    by_threshold = dict(zip(table.thresholds, table.accuracies, strict=True))
    assert by_threshold[table.thresholds[1]] == 0.0
    assert table.rejected[1] == 0.0
    hard = calibrate(said, other, torch.tensor([0]), dataset="toy", reference=1.0, steepness=1e7)
    assert hard.accuracies[1] == 1.0
