from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.errors import OptionError
from defenses.training.outlier_exposure import OutlierExposure
from defenses.training.two_streams import OodBatchNorm, logits_of_both
from models.training.evaluate import accuracy, probabilities
from models.training.loop import fit
from models.training.objective import Batch
from tests.training.toys import network, plan, problem, quadrants, strangers


def mixed(images: int = 6, others: int = 5) -> Batch:
    known, labels = quadrants(images, 1)
    return Batch(known.float() / 255, labels, strangers(others, 2).float() / 255)


def remembered(victim: nn.Module) -> tuple[Tensor, int]:
    """The running mean, and how often it was updated."""
    state = victim.state_dict()
    return state["1.running_mean"], int(state["1.num_batches_tracked"])


def test_what_batch_normalisation_remembers_of_strangers() -> None:
    batch = mixed()
    assert batch.ood is not None
    once, twice, mix = network(1), network(1), network(1)
    once(batch.images)
    twice(batch.images)
    twice(batch.ood)
    mix(torch.cat([batch.images, batch.ood]))

    expected: dict[OodBatchNorm, nn.Module] = {
        "separate": twice,
        "concatenated": mix,
        "frozen": once,
    }
    for ood_bn, reference in expected.items():
        victim = network(1)
        logits_of_both(victim, batch, ood_bn)
        mean, updates = remembered(victim)
        assert torch.equal(mean, remembered(reference)[0]), ood_bn
        assert updates == (2 if ood_bn == "separate" else 1)
        assert all(module.training for module in victim.modules())


def test_frozen_strangers_are_normalised_as_in_service() -> None:
    victim, batch = network(1), mixed()
    assert batch.ood is not None
    _, strange = logits_of_both(victim, batch, "frozen")
    assert torch.allclose(strange, victim.eval()(batch.ood), atol=1e-6)


@pytest.mark.parametrize("ood_bn", ["separate", "concatenated", "frozen"])
def test_losses_are_cross_entropy_to_the_label_and_to_uniform(ood_bn: OodBatchNorm) -> None:
    victim, batch = network(1).eval(), mixed()
    assert batch.ood is not None
    losses = OutlierExposure(victim, lambda_oe=0.5, ood_bn=ood_bn).losses(batch)
    flat = torch.full((5, 4), 0.25)
    expected = {
        "cross_entropy": functional.cross_entropy(victim(batch.images), batch.targets),
        "outlier_exposure": 0.5 * functional.cross_entropy(victim(batch.ood), flat),
    }
    assert list(losses) == list(expected)
    for name, value in expected.items():
        assert torch.allclose(losses[name], value, atol=1e-6), name


def test_training_gives_a_victim_unsure_of_strangers_only() -> None:
    victim = network(1)
    fit(OutlierExposure(victim), problem(ood=True, count=400), plan(epochs=8))
    images, labels = quadrants(200, 5)
    known = probabilities(victim, images)
    strange = probabilities(victim, strangers(200, 6)).max(dim=1).values
    assert accuracy(known, labels) > 0.9
    assert known.max(dim=1).values.median() > strange.quantile(0.9)
    assert strange.median() < 0.5


def test_options_out_of_range_are_refused_and_effective_ones_told() -> None:
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(OptionError, match="lambda_oe"):
            OutlierExposure(network(), lambda_oe=wrong)
    with pytest.raises(OptionError, match="ood_bn: must be separate, concatenated or frozen"):
        OutlierExposure(network(), ood_bn="both")  # type: ignore[arg-type]
    options = OutlierExposure(network(), lambda_oe=2).options()
    assert options == {"lambda_oe": 2.0, "ood_bn": "concatenated"}
