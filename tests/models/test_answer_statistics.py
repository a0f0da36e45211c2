from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import kl_div

from models.answer_statistics import answer_statistics

DRAWS = torch.Generator().manual_seed(0)
LOGITS = torch.randn(12, 5, generator=DRAWS, dtype=torch.float64) * 4
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 4])


@pytest.mark.parametrize("temperature", [1.0, 30.0])
def test_divergence_is_the_mean_over_pairs_and_then_over_classes(temperature: float) -> None:
    answers = (LOGITS / temperature).softmax(1)
    means = []
    for label in (0, 1, 2):  # the class of a single image has no pair
        own = answers[label == LABELS]
        pairs = [
            kl_div(b.log(), a, reduction="sum")
            for i, a in enumerate(own)
            for j, b in enumerate(own)
            if i != j
        ]
        means.append(torch.stack(pairs).mean())
    found = answer_statistics(LOGITS, LABELS, temperature).within_class
    assert found == pytest.approx(float(torch.stack(means).mean()), rel=1e-9)


def test_entropy_is_in_base_ten_and_between_one_class_and_all() -> None:
    flat = answer_statistics(torch.zeros(3, 100), torch.arange(3), 20.0)
    assert flat.entropy == pytest.approx(2.0)
    assert (flat.spikes, flat.within_class) == (0.0, None)
    sure = answer_statistics(torch.eye(3) * 1e4, torch.arange(3), 1.0)
    assert sure.entropy == pytest.approx(0.0)
    assert (sure.spikes, sure.accuracy) == (1.0, 1.0)


def test_heat_flattens_and_changes_no_top_class() -> None:
    cold, hot = (answer_statistics(LOGITS, LABELS, t) for t in (1.0, 20.0))
    assert cold.accuracy == hot.accuracy
    assert cold.entropy < hot.entropy < math.log10(5)
    assert hot.within_class is not None
    assert cold.within_class is not None
    assert hot.within_class < cold.within_class


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
        answer_statistics(LOGITS, LABELS, wrong)
