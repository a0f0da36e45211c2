from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from defenses.errors import OptionError
from defenses.label_bound import redirected_keeping_label
from defenses.modelguard_w import FLOOR, MARGIN, ModelGuardW
from models.simplex import GRID, round_to_grid, top1
from tests.defenses.toys import apply


def cases(count: int, classes: int) -> Tensor:
    """Answers on the canonical grid, sure and unsure, some with ties at the top or below."""
    generator = torch.Generator().manual_seed(classes)
    sharpness = torch.linspace(0.1, 8.0, count)[:, None]
    said = torch.softmax(sharpness * torch.randn(count, classes, generator=generator), dim=1)
    eye = torch.eye(classes)
    said[0], said[1], said[2] = eye[0], eye[-1], 1.0 / classes
    said[3] = (eye[0] + eye[-1]) / 2
    said[4], said[4, 0] = 1.0 / classes, 0.0
    said[4] /= said[4].sum()
    said[5::7] = round_to_grid(said[5::7], 10)
    v = round_to_grid(said, GRID).double()
    return v / v.sum(dim=1, keepdim=True)


def least_cost(v: Tensor, cost: Tensor, epsilon: float, top: int, margin: float) -> float:
    """What an LP solver finds, over v' and the absolute differences."""
    classes = len(v)
    eye, said, nothing = np.eye(classes), v.numpy(), np.zeros(classes)
    behind = np.delete(eye - eye[top], top, axis=0)
    found = linprog(
        np.concatenate([cost.numpy(), nothing]),
        A_ub=np.block(
            [
                [eye, -eye],
                [-eye, -eye],
                [nothing, np.ones(classes)],
                [behind, np.zeros_like(behind)],
            ]
        ),
        b_ub=np.concatenate([said, -said, [epsilon], np.full(classes - 1, -margin)]),
        A_eq=np.concatenate([np.ones(classes), nothing])[None],
        b_eq=[1.0],
        bounds=(0, None),
    )
    assert found.success, found.message
    return float(found.fun)


@pytest.mark.parametrize("log", [True, False], ids=["logarithms", "any-costs"])
@pytest.mark.parametrize(("classes", "count"), [(2, 40), (3, 40), (10, 40), (40, 40), (100, 40)])
def test_no_solver_finds_a_cheaper_answer(classes: int, count: int, log: bool) -> None:
    generator = torch.Generator().manual_seed(7)
    v = cases(count, classes)
    top = top1(v)
    others = v.scatter(1, top[:, None], 0.0).amax(dim=1)
    lead = (v.gather(1, top[:, None])[:, 0] - others).clamp(min=0.0, max=MARGIN)
    cost = (
        torch.log(v + FLOOR)
        if log
        else torch.randn(v.shape, generator=generator, dtype=torch.float64)
    )
    for epsilon in (0.0, 0.3, 1.0, 2.0):
        found = redirected_keeping_label(v, cost, epsilon, top=top, margin=MARGIN)
        assert ((found - v).abs().sum(dim=1) <= epsilon + 1e-9).all()
        assert ((found.sum(dim=1) - 1.0).abs() < 1e-9).all()
        assert (found >= 0).all()
        rivals = found.scatter(1, top[:, None], -1.0).amax(dim=1)
        assert (found.gather(1, top[:, None])[:, 0] - rivals >= lead - 1e-9).all()
        for index in range(count):
            best = least_cost(
                v[index], cost[index], epsilon, int(top[index]), float(lead[index]) - 1e-12
            )
            spent = float(found[index] @ cost[index])
            assert abs(spent - best) < 1e-7, (index, epsilon)


def test_a_worked_example() -> None:
    v = torch.tensor([[0.8, 0.15, 0.05]])
    served = apply(ModelGuardW(epsilon=0.4), v)
    torch.testing.assert_close(served, torch.tensor([[0.6, 0.15, 0.25]]), atol=1e-6, rtol=0)
    served = apply(ModelGuardW(epsilon=2.0), v)
    # Half and half would cost more: what the label gives up counts too.
    thirds = torch.tensor([[1 + 2 * MARGIN, 1 - MARGIN, 1 - MARGIN]]) / 3
    torch.testing.assert_close(served, thirds, atol=1e-6, rtol=0)


@pytest.mark.parametrize("classes", [2, 10, 200])
def test_the_label_and_the_budget_are_kept(classes: int) -> None:
    v = cases(60, classes).float()
    for epsilon in (0.1, 1.0, 2.0):
        served = apply(ModelGuardW(epsilon=epsilon), v)
        assert torch.equal(top1(served), top1(v))
        assert ((served.double() - v.double()).abs().sum(dim=1) <= epsilon + 1e-6).all()


def test_budget_out_of_range_is_refused() -> None:
    with pytest.raises(OptionError, match="epsilon: must be an L1 distance between 0 and 2"):
        ModelGuardW(epsilon=-0.1)
