from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import kl_div

from models.answer_statistics import answer_statistics, class_statistics

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


def test_a_class_s_figures_are_those_worked_out_by_hand() -> None:
    """Two images of a class, answered one half each and by three quarters; one of another."""
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0], [0.0, 50.0]])
    labels = torch.tensor([0, 0, 1])
    flat = math.log10(2.0)
    sure = -(0.75 * math.log10(0.75) + 0.25 * math.log10(0.25))
    to_sure = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    to_flat = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    drawn = set()
    for seed in range(8):
        first, second = class_statistics(logits, labels, 1.0, seed=seed)
        assert (first.label, second.label) == (0, 1)
        far = first.divergence.largest
        drawn.add(round(far, 6))
        assert far == pytest.approx(to_sure) or far == pytest.approx(to_flat)
        assert first.divergence.least == 0.0  # the reference is among them
        assert first.divergence.mean == pytest.approx(far / 2)
        assert first.divergence.variance == pytest.approx(far**2 / 4)
        assert first.entropy.mean == pytest.approx((flat + sure) / 2)
        assert first.entropy.variance == pytest.approx((flat - sure) ** 2 / 4)
        assert (first.entropy.least, first.entropy.largest) == pytest.approx((sure, flat))
        assert second.divergence.largest == 0.0
        assert second.entropy.mean == pytest.approx(0.0, abs=1e-9)
    assert len(drawn) == 2  # another seed, another reference
    assert class_statistics(logits, labels, 1.0, seed=3) == class_statistics(
        logits, labels, 1.0, seed=3
    )
    with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
        class_statistics(logits, labels, 0.0)
