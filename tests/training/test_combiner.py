from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from defenses.training.adaptive_misinformation import AdaptiveMisinformation
from models.training.combiner import COMBINERS, PCGrad, PCGradSum, Sum
from models.training.inner_product import inner_product
from models.training.loop import fit
from models.training.order import generator
from models.training.plan import Plan
from tests.training.toys import network, plan, problem, weights


def towards(*directions: list[float]) -> tuple[dict[str, Tensor], nn.Parameter]:
    """Linear losses whose gradients are ``directions``."""
    parameter = nn.Parameter(torch.zeros(len(directions[0])))
    losses = {str(n): parameter @ torch.tensor(d) for n, d in enumerate(directions)}
    return losses, parameter


class Linear(torch.autograd.Function):
    """A loss whose gradient is handed over just as it lies in memory."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return (parameter * slope).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0], None


def merged(*directions: list[float], seed: int = 0) -> Tensor:
    losses, parameter = towards(*directions)
    PCGrad().backward(losses, [parameter], generator(seed, "combiner"))
    assert parameter.grad is not None
    return parameter.grad


def reference(directions: Tensor, draws: torch.Generator) -> Tensor:
    """The published algorithm, a vector at a time."""
    projected = directions.clone()
    for i in range(len(directions)):
        for j in torch.randperm(len(directions), generator=draws).tolist():
            dot = projected[i] @ directions[j]
            if j != i and dot < 0:
                projected[i] -= dot / (directions[j] @ directions[j]) * directions[j]
    return projected.mean(dim=0)


def test_two_opposed_gradients_are_made_orthogonal_and_averaged() -> None:
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([-3.0, 4.0])
    ours = merged(first.tolist(), second.tolist())
    without_second = first - (first @ second) / (second @ second) * second
    without_first = second - (second @ first) / (first @ first) * first
    assert (without_second @ second).item() == pytest.approx(0.0, abs=1e-6)
    assert (without_first @ first).item() == pytest.approx(0.0, abs=1e-6)
    assert torch.allclose(ours, (without_second + without_first) / 2)
    assert ours @ first > 0  # a step that hurts neither
    assert ours @ second > 0


def test_gradients_that_agree_are_only_averaged() -> None:
    assert torch.allclose(merged([1.0, 0.0], [1.0, 2.0]), torch.tensor([1.0, 1.0]))
    assert torch.allclose(merged([1.0, 0.0], [0.0, 2.0]), torch.tensor([0.5, 1.0]))


def test_exact_opposites_cancel_and_a_zero_gradient_is_no_obstacle() -> None:
    assert torch.equal(merged([1.0, 2.0], [-2.0, -4.0]), torch.zeros(2))
    assert torch.allclose(merged([1.0, 2.0], [0.0, 0.0]), torch.tensor([0.5, 1.0]))


def test_a_gradient_whose_square_underflows_loses_no_step() -> None:
    assert torch.equal(merged([1.0, 2.0], [-1e-30, 0.0]), torch.tensor([0.5, 1.0]))


def test_many_gradients_meet_as_in_the_published_algorithm() -> None:
    torch.manual_seed(4)
    directions = torch.randn(6, 5)
    assert (directions @ directions.T < 0).any()
    results = []
    for seed in range(5):
        expected = reference(directions.double(), generator(seed, "combiner"))
        results.append(merged(*directions.tolist(), seed=seed))
        assert torch.allclose(results[-1].double(), expected, atol=1e-5)
    assert any(not torch.allclose(results[0], other, atol=1e-3) for other in results[1:])


def test_the_published_merge_adds_up_what_the_code_averages() -> None:
    opposed = ([1.0, 0.0], [-3.0, 4.0], [0.5, 0.5])
    losses, parameter = towards(*opposed)
    PCGradSum().backward(losses, [parameter], generator(0, "combiner"))
    assert parameter.grad is not None
    assert torch.allclose(parameter.grad, 3 * merged(*opposed))
    losses, parameter = towards([1.0, 0.0], [1.0, 2.0])
    PCGradSum().backward(losses, [parameter], generator(0, "combiner"))
    assert parameter.grad is not None
    assert torch.equal(parameter.grad, torch.tensor([2.0, 2.0]))  # as Sum, where none is opposed


@pytest.mark.parametrize("turned", [False, True])
def test_gradients_in_any_memory_layout_meet_as_the_same_numbers(turned: bool) -> None:
    draws = torch.Generator().manual_seed(3)
    slopes = torch.randn(2, 3, 4, 5, 6, generator=draws)
    flat = merged(*slopes.flatten(1).tolist())
    parameter = nn.Parameter(torch.zeros(3, 4, 5, 6))
    laid = [slopes[0].contiguous(memory_format=torch.channels_last), slopes[1]]
    if turned:
        laid[1] = laid[1].contiguous(memory_format=torch.channels_last)
    assert inner_product(laid[:1], laid[1:]) == pytest.approx(
        (slopes[0] * slopes[1]).sum().item(), abs=1e-4
    )
    losses = {str(n): Linear.apply(parameter, slope) for n, slope in enumerate(laid)}
    PCGrad().backward(losses, [parameter], generator(0, "combiner"))
    assert parameter.grad is not None
    assert torch.allclose(parameter.grad.flatten(), flat, atol=1e-6)


def test_losses_that_share_no_parameter_are_only_averaged() -> None:
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    losses = {"a": first.sum(), "b": -2 * second.sum()}
    PCGrad().backward(losses, [first, second], torch.Generator())
    assert first.grad is not None
    assert second.grad is not None
    assert torch.equal(first.grad, torch.full((2,), 0.5))
    assert torch.equal(second.grad, torch.full((3,), -1.0))
    assert inner_product([None, torch.ones(2)], [torch.ones(2), None]) is None


def test_a_parameter_that_no_loss_reaches_gets_no_gradient() -> None:
    losses, parameter = towards([1.0, 0.0], [-1.0, 1.0])
    other, unreached = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(1))
    losses["0"] = losses["0"] + other.sum()
    PCGrad().backward(losses, [parameter, other, unreached], torch.Generator())
    assert unreached.grad is None
    assert other.grad is not None
    assert other.grad.shape == (2, 3)


def test_a_plan_names_exactly_the_combiners_there_are() -> None:
    assert set(get_args(Plan.model_fields["combiner"].annotation)) == set(COMBINERS)
    assert COMBINERS["sum"] is Sum


def test_a_run_is_trained_by_the_combiner_its_plan_names() -> None:
    ends = []
    for combiner in ("sum", "pcgrad", "pcgrad"):
        victim = network(1)
        objective = AdaptiveMisinformation(victim, network(2))
        fit(objective, problem(ood=True), plan(combiner=combiner, epochs=1))
        ends.append(weights({"victim": victim}))
    assert not torch.equal(ends[0]["victim/0.weight"], ends[1]["victim/0.weight"])
    assert torch.equal(ends[1]["victim/0.weight"], ends[2]["victim/0.weight"])
