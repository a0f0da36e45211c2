from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from defenses.errors import OptionError
from defenses.training.adaptive_misinformation import (
    AdaptiveMisinformation,
    reverse_cross_entropy,
    uniform_cross_entropy,
)
from models.training.evaluate import accuracy, probabilities
from models.training.loop import fit
from models.training.objective import Batch
from tests.training.toys import CLASSES, network, plan, problem, quadrants, strangers


def test_reverse_cross_entropy_is_the_published_form_up_to_a_constant() -> None:
    torch.manual_seed(0)
    logits = torch.randn(64, 10, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 10, (64,))
    ours = reverse_cross_entropy(logits, labels).mean()
    complement = torch.log(1 - logits.softmax(dim=1) + 1e-7)
    theirs = functional.cross_entropy(complement, labels)
    assert (theirs - ours).item() == pytest.approx(math.log(10 - 1), abs=1e-5)
    (mine,) = torch.autograd.grad(ours, logits)
    (published,) = torch.autograd.grad(theirs, logits)
    assert torch.allclose(mine, published, atol=1e-8)


def test_gradients_of_both_terms_are_right() -> None:
    torch.manual_seed(1)
    logits = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 5, 2, 2, 1])
    assert torch.autograd.gradcheck(lambda z: reverse_cross_entropy(z, labels), (logits,))
    assert torch.autograd.gradcheck(uniform_cross_entropy, (logits,))


def test_reverse_cross_entropy_stays_finite_where_the_network_is_certain() -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    losses = reverse_cross_entropy(logits, torch.tensor([0, 0]))
    assert losses[0].item() == pytest.approx(-math.log(1e-7), rel=0.1)
    assert losses[1].item() == pytest.approx(0.0, abs=1e-6)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert torch.isfinite(gradient).all()


def test_uniform_cross_entropy_is_least_where_logits_are_equal() -> None:
    flat = uniform_cross_entropy(torch.full((1, 7), 3.0))
    assert flat.item() == pytest.approx(math.log(7), abs=1e-6)
    uniform = torch.full((8, 7), 1 / 7)
    logits = torch.randn(8, 7, generator=torch.Generator().manual_seed(2))
    expected = functional.cross_entropy(logits, uniform, reduction="none")
    assert torch.allclose(uniform_cross_entropy(logits), expected, atol=1e-6)
    assert (uniform_cross_entropy(logits) > flat).all()


def test_losses_are_the_paper_s_terms() -> None:
    victim, misleading = network(1).eval(), network(2).eval()
    images, labels = quadrants(6, 1)
    batch = Batch(images.float() / 255, labels, strangers(5, 2).float() / 255)
    assert batch.ood is not None
    losses = AdaptiveMisinformation(victim, misleading, lambda_oe=0.5).losses(batch)
    known, strange = victim(batch.images), victim(batch.ood)
    avoid = torch.cat([labels, strange.argmax(dim=1)])
    misled = misleading(torch.cat([batch.images, batch.ood]))
    wrong = -torch.log(1 - misled.softmax(dim=1)[torch.arange(11), avoid] + 1e-7).mean()
    expected = {
        "cross_entropy": functional.cross_entropy(known, labels),
        "outlier_exposure": 0.5 * (strange.logsumexp(dim=1) - strange.mean(dim=1)).mean(),
        "misinformation": wrong,
    }
    assert list(losses) == list(expected)
    for name, value in expected.items():
        assert torch.allclose(losses[name], value, atol=1e-5), name


def test_neither_network_learns_from_the_other_s_loss() -> None:
    victim, misleading = network(1), network(2)
    images, labels = quadrants(6, 1)
    batch = Batch(images.float() / 255, labels, strangers(6, 2).float() / 255)
    losses = AdaptiveMisinformation(victim, misleading).losses(batch)
    torch.autograd.backward(losses["misinformation"], retain_graph=True)
    assert all(parameter.grad is None for parameter in victim.parameters())
    misleading.zero_grad(set_to_none=True)
    torch.autograd.backward(losses["cross_entropy"] + losses["outlier_exposure"])
    assert all(parameter.grad is None for parameter in misleading.parameters())


def test_batch_normalisation_sees_images_and_strangers_together() -> None:
    victim = network(1)
    passes: list[int] = []
    victim.register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
    images, labels = quadrants(6, 1)
    batch = Batch(images.float() / 255, labels, strangers(5, 2).float() / 255)
    AdaptiveMisinformation(victim, network(2)).losses(batch)
    assert passes == [11]


def test_training_gives_a_sure_victim_and_a_misleading_network() -> None:
    victim, misleading = network(1), network(2)
    objective = AdaptiveMisinformation(victim, misleading)
    fit(objective, problem(ood=True, count=400), plan(epochs=8))
    images, labels = quadrants(200, 5)
    known = probabilities(victim, images)
    strange = probabilities(victim, strangers(200, 6)).max(dim=1).values
    assert accuracy(known, labels) > 0.9
    assert accuracy(probabilities(misleading, images), labels) < 0.5 / CLASSES
    confidence = known.max(dim=1).values
    assert confidence.median() > strange.quantile(0.9)


def test_lambda_out_of_range_is_refused() -> None:
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(OptionError, match="lambda_oe"):
            AdaptiveMisinformation(network(1), network(2), lambda_oe=wrong)
    options = AdaptiveMisinformation(network(1), network(2), lambda_oe=2).options()
    assert options == {"lambda_oe": 2.0}
