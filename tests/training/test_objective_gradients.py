from __future__ import annotations

import pytest
import torch
from torch import nn

from intaglio.objectives import OBJECTIVES as NAMED
from models.training.combiner import Sum
from models.training.objective import Batch, Objective
from tests.training.objectives import FORMS, OBJECTIVES, in_float64
from tests.training.toys import quadrants, strangers

STEP = 1e-6


def batch() -> Batch:
    images, labels = quadrants(9, 1)
    return Batch(
        images.double() / 255,
        labels,
        strangers(7, 2).double() / 255,
        strangers(9, 3).double() / 255,
        done=1.0,
    )


def test_every_objective_that_a_recipe_may_name_is_tried() -> None:
    assert set(OBJECTIVES) == set(NAMED)


@pytest.mark.parametrize("kind", [*OBJECTIVES, *FORMS])
def test_the_gradient_of_each_loss_is_how_the_loss_changes(kind: str) -> None:
    """In float64, every loss along random directions of all weights of all networks."""
    objective = in_float64({**OBJECTIVES, **FORMS}[kind]())
    assert objective.kind == kind.partition(",")[0]
    for network in objective.networks.values():
        network.train()
    given = batch()
    parameters = list(_parameters(objective))
    losses = objective.losses(given)
    draws = torch.Generator().manual_seed(1)
    found = {
        name: torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        for name, loss in losses.items()
    }
    for name, slopes in found.items():
        assert max(slope.abs().max() for slope in slopes) > 1e-6, name
        for _ in range(3):
            along = [torch.randn(p.shape, generator=draws, dtype=p.dtype) for p in parameters]
            expected = sum(
                float((slope * way).sum()) for slope, way in zip(slopes, along, strict=True)
            )
            ends = [_moved(objective, parameters, along, h, given, name) for h in (STEP, -STEP)]
            assert (ends[0] - ends[1]) / (2 * STEP) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_frozen_networks_get_no_gradient(kind: str) -> None:
    objective = OBJECTIVES[kind]()
    images, labels = quadrants(9, 1)
    given = Batch(
        images.float() / 255, labels, strangers(7, 2).float() / 255, strangers(9, 3).float() / 255
    )
    parameters = list(_parameters(objective))
    Sum().backward(objective.losses(given), parameters, torch.Generator())
    assert all(parameter.grad is not None for parameter in parameters)
    assert all(p.grad is None for n in objective.frozen.values() for p in n.parameters())


def _parameters(objective: Objective) -> tuple[nn.Parameter, ...]:
    return tuple(p for network in objective.networks.values() for p in network.parameters())


def _moved(
    objective: Objective,
    parameters: list[nn.Parameter],
    along: list[torch.Tensor],
    step: float,
    given: Batch,
    name: str,
) -> float:
    """The loss ``name`` with the weights moved, which are put back."""
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, way in zip(parameters, along, strict=True):
            parameter.add_(way, alpha=step)
    value = objective.losses(given)[name].item()
    with torch.no_grad():
        for parameter, kept in zip(parameters, before, strict=True):
            parameter.copy_(kept)
    return value
