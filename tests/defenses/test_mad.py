from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from defenses.contract import Answers
from defenses.errors import OptionError
from defenses.mad import LEAD, Mad, Oracle, furthest_group, grown_group, least_likely_group
from defenses.surrogate import Gradients, LastLayer, imagined
from models.simplex import one_hot, top1
from tests.defenses.toys import apply, images, network, queries


def random(count: int, classes: int, *, sharpness: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(classes)
    return torch.softmax(sharpness * torch.randn(count, classes, generator=generator), dim=1)


def uniform(v: Tensor) -> LastLayer:
    return LastLayer(torch.full_like(v.double(), 1.0 / v.shape[1]))


def objective(candidate: Tensor, v: Tensor, gradients: Gradients) -> Tensor:
    """``|| a / |a| - b / |b| ||^2``, ``(B,)``."""
    pulled = gradients.times(v)
    lengths = (candidate * gradients.times(candidate)).sum(1) * (v * pulled).sum(1)
    return 2.0 - 2.0 * (candidate * pulled).sum(1) / lengths.sqrt()


def poison(v: Tensor, pictures: Tensor, jacobian: Tensor, epsilon: float, oracle: Oracle) -> Tensor:
    """The authors' procedure for one answer (K,), from the Jacobian (K, P), by enumeration."""
    del pictures
    classes = len(v)
    best, target = -1.0, v
    top = int(top1(v[None]))
    if oracle == "extreme":
        candidates = list(torch.eye(classes, dtype=v.dtype))
    else:
        candidates = []
        for bits in itertools.product([0.0, 1.0], repeat=classes):
            if bits[top]:
                group = torch.tensor(bits, dtype=v.dtype)
                group[top] += LEAD
                candidates.append(group / group.sum())
    b = jacobian.T @ v
    for candidate in candidates:
        a = jacobian.T @ candidate
        turned = float((a / a.norm() - b / b.norm()).square().sum())
        if turned > best + 1e-9:
            best, target = turned, candidate
    share = min(1.0, epsilon / float((v - target).abs().sum() + 1e-7))
    return (1 - share) * v + share * target


def rows_of(network: nn.Module, picture: Tensor) -> Tensor:
    """The Jacobian of the last (and only) linear layer, one backward pass per class."""
    weights = [weight.detach().requires_grad_() for weight in network.parameters()]
    chosen = dict(zip(dict(network.named_parameters()), weights, strict=True))
    log_probabilities = torch.log_softmax(
        torch.func.functional_call(network, chosen, (picture[None],))[0], dim=0
    )
    grads = [torch.autograd.grad(one, weights, retain_graph=True) for one in log_probabilities]
    return torch.stack([torch.cat([part.flatten() for part in parts]) for parts in grads])


@pytest.mark.parametrize("oracle", ["extreme", "argmax"])
@pytest.mark.parametrize("jacobian", ["last_layer", "full"])
def test_both_jacobians_give_the_naive_procedure_where_they_mean_the_same(
    oracle: Oracle, jacobian: str
) -> None:
    # One linear layer is the whole network: its last layer is all its weights.
    surrogate = network(6, seed=5)
    pictures, v = images(20), random(20, 6)
    defense = Mad(
        epsilon=0.7,
        surrogate=surrogate,
        oracle=oracle,
        jacobian="full" if jacobian == "full" else "last_layer",
    )
    served = defense.apply(queries(v, pictures=pictures), Answers(v)).probabilities
    for index in range(20):
        rows = rows_of(surrogate, pictures[index]).double()
        expected = poison(v[index].double(), pictures, rows, 0.7, oracle)
        torch.testing.assert_close(served[index].double(), expected, atol=1e-6, rtol=0)


def test_full_differs_from_the_last_layer_where_there_are_more_layers() -> None:
    torch.manual_seed(1)
    deep = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 6)).eval()
    deep.requires_grad_(False)
    pictures, v = images(64), random(64, 6, sharpness=1.0)
    asked = queries(v, pictures=pictures)
    last, full = (
        Mad(epsilon=1.0, surrogate=deep, oracle="argmax", jacobian=jacobian)
        .apply(asked, Answers(v))
        .probabilities
        for jacobian in ("last_layer", "full")
    )
    differs = (last - full).abs().amax(dim=1) > 1e-3
    assert differs.any()
    everything = imagined(deep, pictures, 6, all_weights=True)
    at = [objective(p.double(), v.double(), everything).mean() for p in (last, full)]
    assert at[1] >= at[0]


@pytest.mark.parametrize("oracle", ["extreme", "argmax"])
@pytest.mark.parametrize("epsilon", [0.0, 0.01, 0.5, 1.0, 1.7, 2.0])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_the_budget_is_kept(oracle: Oracle, epsilon: float, classes: int) -> None:
    v = torch.cat([random(200, classes), torch.eye(classes)])
    served = apply(Mad(epsilon=epsilon, oracle=oracle), v)
    moved = (served.double() - v.double()).abs().sum(dim=1)
    assert (moved <= epsilon + 1e-6).all()
    if oracle == "argmax":
        assert torch.equal(top1(served), top1(v))


def test_extreme_moves_toward_the_least_likely_class_and_may_change_the_label() -> None:
    v = torch.tensor([[0.9, 0.06, 0.04], [0.4, 0.35, 0.25]])
    served = apply(Mad(epsilon=1.0), v)
    share = 0.5 / 0.96
    expected = (1 - share) * v[0] + share * torch.tensor([0.0, 0.0, 1.0])
    torch.testing.assert_close(served[0], expected, atol=1e-6, rtol=0)
    assert top1(served).tolist() == [2, 2]
    sure = torch.eye(10)
    assert torch.equal(top1(apply(Mad(epsilon=0.99), sure)), top1(sure))
    assert (top1(apply(Mad(epsilon=1.01), sure)) != top1(sure)).all()


@pytest.mark.parametrize("classes", [3, 7, 10])
def test_with_the_uniform_surrogate_prefixes_are_as_good_as_every_group(classes: int) -> None:
    v = random(100, classes).double()
    top, gradients = top1(v), uniform(v)
    every = objective(furthest_group(v, top, gradients), v, gradients)
    prefixes = objective(least_likely_group(v, top, gradients), v, gradients)
    torch.testing.assert_close(prefixes, every, atol=1e-8, rtol=0)


def test_with_two_classes_and_the_label_kept_there_is_no_way_to_turn() -> None:
    v = random(100, 2)
    served = apply(Mad(epsilon=0.5, oracle="argmax"), v)
    # Every direction is the same or the opposite one: the answer is only made surer.
    sure = one_hot(top1(v), 2)
    assert ((served - sure).abs().sum(dim=1) <= (v - sure).abs().sum(dim=1)).all()
    assert torch.equal(top1(served), top1(v))


def test_growing_finds_what_enumeration_finds_or_little_less() -> None:
    v = random(200, 9).double()
    gradients = LastLayer(random(200, 9, sharpness=0.5).flip(0).double())
    top = top1(v)
    every = objective(furthest_group(v, top, gradients), v, gradients)
    grown = objective(grown_group(v, top, gradients), v, gradients)
    assert (grown <= every + 1e-8).all()
    assert (grown >= 0.9 * every).all()
    assert (grown > every - 1e-8).float().mean() > 0.5


def test_a_row_on_a_grid_of_the_simplex_is_no_better_than_the_target() -> None:
    # With four classes, every group against every answer that the label leads.
    steps = 10
    points = torch.tensor(
        [p for p in itertools.product(range(steps + 1), repeat=4) if sum(p) == steps]
    ).double()
    points = points / steps
    for v in random(20, 4).double():
        top = top1(v[None])
        led = points[points.gather(1, top.expand(len(points))[:, None])[:, 0] >= points.amax(1)]
        rows = v.expand(len(led), 4)
        best = objective(led, rows, uniform(rows)).max()
        found = objective(furthest_group(v[None], top, uniform(v[None])), v[None], uniform(v[None]))
        assert found >= best - 1e-4


def test_an_answer_that_says_nothing_stays_a_distribution() -> None:
    nothing = torch.full((1, 4), 0.25)
    for oracle in ("extreme", "argmax"):
        served = apply(Mad(epsilon=1.0, oracle=oracle), nothing)
        assert served.isfinite().all()
        torch.testing.assert_close(served.sum(dim=1), torch.ones(1))


def test_the_promise_follows_the_oracle() -> None:
    assert not Mad(epsilon=1.0).keeps_top1
    assert Mad(epsilon=1.0, oracle="argmax").keeps_top1


def test_constructor_refuses_what_makes_no_sense() -> None:
    with pytest.raises(OptionError, match="epsilon: must be an L1 distance"):
        Mad(epsilon=float("nan"))
    with pytest.raises(OptionError, match="oracle: must be extreme or argmax"):
        Mad(epsilon=1.0, oracle="random")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="jacobian: must be last_layer or full"):
        Mad(epsilon=1.0, jacobian="none")  # type: ignore[arg-type]


def test_a_sure_answer_with_a_surrogate_that_says_the_same() -> None:
    agreeing = LastLayer(one_hot(torch.tensor([1]), 4).double())
    v = one_hot(torch.tensor([1]), 4).double()
    for target in (
        furthest_group(v, top1(v), agreeing),
        grown_group(v, top1(v), agreeing),
    ):
        assert target.isfinite().all()
