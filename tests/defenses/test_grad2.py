from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from defenses.contract import Answers
from defenses.errors import OptionError
from defenses.grad2 import Grad2
from defenses.redirection import redirected
from defenses.surrogate import along_ones, inner_products
from models.simplex import top1
from tests.defenses.toys import apply, images, queries


def random(count: int, classes: int, *, sharpness: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(classes)
    return torch.softmax(sharpness * torch.randn(count, classes, generator=generator), dim=1)


def deep(classes: int) -> nn.Module:
    torch.manual_seed(1)
    layers = (nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, classes))
    return nn.Sequential(*layers).eval().requires_grad_(False)


def least_cost(v: Tensor, cost: Tensor, epsilon: float) -> float:
    """What an LP solver finds, over v' and the absolute differences."""
    classes = len(v)
    eye, said = np.eye(classes), v.numpy()
    nothing = np.zeros(classes)
    found = linprog(
        np.concatenate([cost.numpy(), nothing]),
        A_ub=np.block([[eye, -eye], [-eye, -eye], [nothing, np.ones(classes)]]),
        b_ub=np.concatenate([said, -said, [epsilon]]),
        A_eq=np.concatenate([np.ones(classes), nothing])[None],
        b_eq=[said.sum()],
        bounds=(0, None),
    )
    assert found.success
    return float(found.fun)


@pytest.mark.parametrize("classes", [2, 3, 10, 40])
def test_no_solver_finds_a_cheaper_answer(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    v = random(50, classes).double()
    v /= v.sum(dim=1, keepdim=True)
    v[:5] = torch.eye(classes, dtype=torch.float64)[torch.arange(5) % classes]
    cost = torch.randn(50, classes, generator=generator, dtype=torch.float64)
    cost[5:15] = cost[5:15].round()  # ties
    for index in range(50):
        epsilon = 2.0 * float(torch.rand((), generator=generator))
        found = redirected(v[[index]], cost[[index]], epsilon)[0]
        assert float((found - v[index]).abs().sum()) <= epsilon + 1e-12
        assert abs(float(found.sum()) - 1.0) < 1e-9
        assert (found >= 0).all()
        best = least_cost(v[index], cost[index], epsilon)
        assert abs(float(found @ cost[index]) - best) < 1e-8


def test_a_worked_example() -> None:
    v = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64)
    cost = torch.tensor([[0.0, 3.0, 2.0, -1.0]], dtype=torch.float64)
    expected = torch.tensor([[0.5, 0.0, 0.05, 0.45]], dtype=torch.float64)
    torch.testing.assert_close(redirected(v, cost, 0.8), expected)
    assert torch.equal(redirected(v, cost, 0.0), v)
    torch.testing.assert_close(redirected(v, cost, 2.0), torch.eye(4, dtype=torch.float64)[[3]])


def test_with_the_uniform_surrogate_mass_goes_from_the_likeliest_to_the_least_likely() -> None:
    v = torch.tensor([[0.6, 0.25, 0.1, 0.05]])
    served = apply(Grad2(epsilon=0.5), v)
    torch.testing.assert_close(served, torch.tensor([[0.35, 0.25, 0.1, 0.3]]))
    assert top1(apply(Grad2(epsilon=1.0), v)).tolist() == [3]


def test_away_from_the_gradient_is_the_least_inner_product_with_it() -> None:
    surrogate, pictures, v = deep(6), images(30), random(30, 6)
    asked = queries(v, pictures=pictures)
    products = inner_products(surrogate, pictures, 6)
    cost = (products @ v.double()[..., None])[..., 0]
    full = Grad2(epsilon=0.6, surrogate=surrogate, jacobian="full")
    served = full.apply(asked, Answers(v)).probabilities
    for index in range(30):
        best = least_cost(v[index].double(), cost[index], 0.6)
        assert abs(float(served[index].double() @ cost[index]) - best) < 1e-5
    # With a small network the thief's step turns back on itself for most queries.
    before = (v.double() * cost).sum(dim=1)
    assert ((served.double() * cost).sum(dim=1) < before).all()


def test_along_ones_is_the_greatest_push_on_every_weight() -> None:
    surrogate, pictures, v = deep(6), images(30), random(30, 6)
    defense = Grad2(epsilon=0.6, surrogate=surrogate, jacobian="full", target="all-ones")
    served = defense.apply(queries(v, pictures=pictures), Answers(v)).probabilities
    push = along_ones(surrogate, pictures, 6)
    for index in range(30):
        best = -least_cost(v[index].double(), -push[index], 0.6)
        assert abs(float(served[index].double() @ push[index]) - best) < 1e-5


def test_constructor_refuses_what_makes_no_sense() -> None:
    with pytest.raises(OptionError, match="target: all-ones is the same for every class"):
        Grad2(epsilon=1.0, target="all-ones")
    with pytest.raises(OptionError, match="target: must be anti-gradient or all-ones"):
        Grad2(epsilon=1.0, target="watermark")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="jacobian: full differentiates a network"):
        Grad2(epsilon=1.0, jacobian="full")
