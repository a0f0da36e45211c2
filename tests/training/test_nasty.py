from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from defenses.errors import OptionError
from defenses.training.nasty import Nasty, divergence
from models.training.loop import fit
from models.training.objective import Batch
from tests.training.toys import assert_same_bits, network, plan, problem, quadrants, weights


def batch(done: float = 0.0) -> Batch:
    images, labels = quadrants(32, 1)
    return Batch(images.float() / 255, labels, done=done)


def test_the_divergence_is_that_of_the_published_code() -> None:
    torch.manual_seed(0)
    teacher, base = torch.randn(2, 16, 10, dtype=torch.float64)
    theirs = nn.KLDivLoss(reduction="batchmean")(
        functional.log_softmax(base / 4, dim=1), functional.softmax(teacher / 4, dim=1)
    )
    assert torch.allclose(divergence(teacher, base, 4.0), 16 * theirs)
    assert divergence(base, base, 4.0).item() == pytest.approx(0.0, abs=1e-12)
    teacher.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: divergence(z, base, 4.0), (teacher,))


def test_the_other_direction_swaps_the_arguments() -> None:
    torch.manual_seed(0)
    teacher, base = torch.randn(2, 16, 10, dtype=torch.float64)
    teacher *= 5
    swapped = divergence(teacher, base, 4.0, "base-teacher")
    assert torch.equal(swapped, divergence(base, teacher, 4.0))
    assert not torch.isclose(swapped, divergence(teacher, base, 4.0), rtol=1e-2)
    teacher.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: divergence(z, base, 4.0, "base-teacher"), (teacher,))
    given, victim = batch(), network(1).eval()
    losses = Nasty(victim, network(2), omega=0.5, direction="base-teacher").losses(given)
    expected = -0.5 * divergence(network(2).eval()(given.images), victim(given.images), 4.0)
    assert torch.allclose(losses["divergence"], expected)
    grown = [divergence(scale * teacher, base, 4.0, "base-teacher") for scale in (10.0, 1000.0)]
    assert grown[1] > 50 * grown[0]  # unbounded, unlike the direction of the code


def test_the_divergence_cannot_grow_without_bound() -> None:
    torch.manual_seed(1)
    base = torch.randn(4, 10)
    bound = -16 * base.div(4).log_softmax(dim=1).min(dim=1).values.mean()
    farthest = 1e4 * functional.one_hot(base.argmin(dim=1), 10).float()
    assert divergence(farthest, base, 4.0).item() == pytest.approx(bound.item(), rel=1e-5)
    for scale in (1.0, 100.0, 1e4):
        assert divergence(scale * torch.randn(4, 10), base, 4.0) <= bound + 1e-3


def test_a_step_goes_away_from_the_base_and_leaves_the_base_where_it_is() -> None:
    victim, base = network(1), network(2)
    before = weights({"base": base})
    given = batch()
    optimiser = torch.optim.SGD(victim.parameters(), lr=0.01)
    objective = Nasty(victim, base, omega=1.0)

    def distance() -> torch.Tensor:
        return -objective.losses(given)["divergence"]

    first = distance()
    (-first).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in base.parameters())
    optimiser.step()
    assert distance() > first
    assert_same_bits(weights({"base": base}), before)
    assert not base.training


def test_losses_are_the_paper_s_terms() -> None:
    victim, base = network(1).eval(), network(2)
    given = batch()
    losses = Nasty(victim, base, omega=0.5, tau=3.0).losses(given)
    logits = victim(given.images)
    assert torch.allclose(losses["cross_entropy"], functional.cross_entropy(logits, given.targets))
    expected = -0.5 * divergence(logits, base(given.images), 3.0)
    assert torch.allclose(losses["divergence"], expected)
    assert list(losses) == ["cross_entropy", "divergence"]


def test_omega_grows_over_the_ramp_and_then_stays() -> None:
    objective = Nasty(network(1).eval(), network(2), ramp_epochs=4)
    at = [objective.losses(batch(done))["divergence"].item() for done in (0.0, 1.0, 3.0, 4.0, 9.5)]
    full = at[-1]
    assert full < 0
    assert at == pytest.approx([0.0, full / 4, 3 * full / 4, full, full])


def test_training_keeps_the_accuracy_and_leaves_the_base_s_answers() -> None:
    base = network(2)
    fit(Nasty(base, network(3), omega=0.0), problem(count=400), plan(epochs=6))
    before = weights({"base": base})
    ends = {}
    for omega in (0.0, 0.2):
        victim = network(1)
        data = problem(count=400)
        fitted = fit(Nasty(victim, base, omega=omega), data, plan(epochs=6))
        accuracy = fitted.history[-1].accuracy
        assert accuracy is not None
        with torch.no_grad():
            images = data.images.float() / 255
            ends[omega] = (accuracy, divergence(victim(images), base(images), 4.0).item())
    assert ends[0.2][0] > 0.9
    assert ends[0.2][1] > 3 * ends[0.0][1]
    assert_same_bits(weights({"base": base}), before)


@pytest.mark.parametrize(
    ("option", "value"),
    [("omega", -1.0), ("omega", math.nan), ("tau", 0.0), ("tau", math.inf), ("ramp_epochs", -1.0)],
)
def test_options_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(OptionError, match=option):
        Nasty(network(1), network(2), **{option: value})  # type: ignore[arg-type]
    assert Nasty(network(1), network(2)).options() == {
        "omega": 0.04,
        "tau": 4.0,
        "ramp_epochs": 0.0,
        "direction": "teacher-base",
    }
    with pytest.raises(OptionError, match="direction: must be teacher-base or base-teacher"):
        Nasty(network(1), network(2), direction="both")  # type: ignore[arg-type]
