from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.errors import OptionError
from defenses.training.ensemble_of_diverse_models import (
    EnsembleOfDiverseModels,
    coherence_penalty,
)
from models.training.evaluate import accuracy, probabilities
from models.training.loop import fit
from models.training.objective import Batch
from tests.training.toys import (
    Interrupting,
    assert_same_bits,
    network,
    plan,
    problem,
    quadrants,
    strangers,
    weights,
)


def batch() -> Batch:
    images, labels = quadrants(6, 1)
    return Batch(images.float() / 255, labels, strangers(5, 2).float() / 255)


def members(count: int = 3) -> list[nn.Module]:
    return [network(seed) for seed in range(1, count + 1)]


def written_out(logits: Tensor) -> Tensor:
    """The penalty as the formula reads, an image and a pair at a time."""
    answers = logits.softmax(dim=2)
    rows = []
    for image in range(logits.shape[1]):
        cosines = [
            functional.cosine_similarity(answers[a, image], answers[b, image], dim=0)
            for a, b in itertools.combinations(range(len(logits)), 2)
        ]
        rows.append(torch.stack(cosines).exp().sum().log())
    return torch.stack(rows)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_penalty_and_its_gradient_are_those_of_the_formula(count: int) -> None:
    draws = torch.Generator().manual_seed(count)
    logits = 3 * torch.randn(count, 4, 6, generator=draws, dtype=torch.float64)
    logits.requires_grad_()
    ours, theirs = coherence_penalty(logits), written_out(logits)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    (mine,) = torch.autograd.grad(ours.sum(), logits)
    (naive,) = torch.autograd.grad(theirs.sum(), logits)
    torch.testing.assert_close(mine, naive, atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(coherence_penalty, (logits,))


def test_the_penalty_runs_from_all_different_to_all_alike() -> None:
    pairs = math.log(3)
    different = 60 * torch.eye(4)[:3, None]
    assert coherence_penalty(different).item() == pytest.approx(pairs, abs=1e-6)
    alike = torch.randn(1, 1, 4).expand(3, 1, 4)
    assert coherence_penalty(alike).item() == pytest.approx(pairs + 1, abs=1e-6)


def test_losses_are_the_paper_s_terms() -> None:
    networks = members()
    objective = EnsembleOfDiverseModels(network(9), *networks, lambda_d=0.5)
    asked = batch()
    assert asked.ood is not None
    known = [member(asked.images) for member in networks]  # in evaluation mode, as they were put
    strange = torch.stack([member(asked.ood) for member in networks])
    losses = objective.losses(asked)
    assert list(losses) == ["cross_entropy", "diversity"]
    errors = sum(functional.cross_entropy(logits, asked.targets) for logits in known)
    torch.testing.assert_close(losses["cross_entropy"], torch.as_tensor(errors))
    torch.testing.assert_close(losses["diversity"], 0.5 * written_out(strange).mean())


def test_a_step_is_two_plain_steps_per_member_and_none_of_the_hash() -> None:
    networks, hashing = members(4), network(9)
    passes: list[tuple[int, int]] = []
    for number, module in enumerate([*networks, hashing]):
        module.register_forward_hook(
            lambda _, inputs, output, number=number: passes.append((number, len(inputs[0])))
        )
    objective = EnsembleOfDiverseModels(hashing, *networks)
    sum(objective.losses(batch()).values(), start=torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    assert passes == [(0, 11), (1, 11), (2, 11), (3, 11)]  # images and strangers together
    assert all(parameter.grad is None for parameter in hashing.parameters())
    for module in networks:
        assert all(parameter.grad is not None for parameter in module.parameters())


def test_cross_entropy_couples_no_members_and_diversity_all() -> None:
    networks = members()
    losses = EnsembleOfDiverseModels(network(9), *networks).losses(batch())
    heads = [list(module.parameters())[-2] for module in networks]
    alone = [EnsembleOfDiverseModels(network(9), networks[0], other) for other in networks[1:]]
    gradients = [
        torch.autograd.grad(objective.losses(batch())["cross_entropy"], heads[0])[0]
        for objective in alone
    ]
    torch.testing.assert_close(gradients[0], gradients[1])
    for gradient in torch.autograd.grad(losses["diversity"], heads):
        assert gradient.abs().max() > 1e-4


def test_training_gives_members_that_agree_on_images_and_on_no_stranger() -> None:
    def trained(lambda_d: float) -> tuple[float, Tensor]:
        networks, hashing = members(), network(9)
        before = weights({"hash": hashing})
        objective = EnsembleOfDiverseModels(hashing, *networks, lambda_d=lambda_d)
        fit(objective, problem(ood=True, count=400), plan(epochs=8))
        assert_same_bits(weights({"hash": hashing}), before)
        images, labels = quadrants(200, 5)
        right = accuracy(probabilities(objective.evaluated, images), labels)
        answers = torch.stack([probabilities(module, strangers(200, 6)) for module in networks])
        alike = functional.normalize(answers, dim=2)
        pairs = itertools.combinations(range(3), 2)
        cosines = torch.stack([(alike[a] * alike[b]).sum(dim=1) for a, b in pairs])
        return right, cosines.amax(dim=0)

    accurate, diverse = trained(1.0)
    control, coherent = trained(0.0)
    assert accurate > 0.9
    assert control > 0.9
    assert diverse.median() < 0.3 < coherent.median()


def test_validation_judges_the_ensemble_as_it_is_served() -> None:
    networks, hashing = members(), network(9)
    objective = EnsembleOfDiverseModels(hashing, *networks)
    data, reporter = problem(ood=True), Interrupting()
    fit(objective, data, plan(epochs=1), reporter=reporter)
    assert data.validation_images is not None
    assert data.validation_targets is not None
    answers = torch.stack([probabilities(module, data.validation_images) for module in networks])
    routes = objective.evaluated.route(data.validation_images / 255.0)  # type: ignore[operator]
    assert len(set(routes.tolist())) > 1
    served = answers[routes, torch.arange(len(routes))]
    assert reporter.records[0].accuracy == accuracy(served, data.validation_targets)


def test_roles_and_options() -> None:
    networks, hashing = members(), network(9)
    objective = EnsembleOfDiverseModels(hashing, *networks, lambda_d=2, ood_bn="separate")
    assert objective.options() == {"lambda_d": 2.0, "ood_bn": "separate"}
    assert list(objective.networks) == ["victim", "member-1", "member-2"]
    assert list(objective.networks.values()) == networks
    assert dict(objective.frozen) == {"hash": hashing}
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(OptionError, match="lambda_d"):
            EnsembleOfDiverseModels(hashing, *networks, lambda_d=wrong)
    with pytest.raises(OptionError, match="ood_bn"):
        EnsembleOfDiverseModels(hashing, *networks, ood_bn="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 members"):
        EnsembleOfDiverseModels(hashing, networks[0])
