from __future__ import annotations

import pytest
import torch
from torch import Tensor

from defenses.errors import OptionError
from defenses.reverse_sigmoid import MARGIN, ReverseSigmoid
from models.simplex import top1
from tests.defenses.toys import apply, material


def random(count: int, classes: int, *, sharpness: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(classes)
    return torch.softmax(sharpness * torch.randn(count, classes, generator=generator), dim=1)


def paper(v: Tensor, beta: float, gamma: float) -> Tensor:
    """The paper's form without a guard."""
    bent = v - beta * (torch.sigmoid(gamma * torch.log(v / (1 - v))) - 0.5)
    return bent / bent.sum(dim=1, keepdim=True)


def test_it_is_the_papers_form_where_the_guard_does_not_act() -> None:
    v = random(200, 10)
    torch.testing.assert_close(
        apply(ReverseSigmoid(beta=0.1, gamma=0.1), v), paper(v, 0.1, 0.1), atol=1e-6, rtol=0
    )


def test_gamma_of_one_is_affine_before_renormalising() -> None:
    v = random(200, 5)
    affine = (1 - 0.6) * v + 0.6 / 2
    torch.testing.assert_close(
        apply(ReverseSigmoid(beta=0.6, gamma=1.0), v),
        affine / affine.sum(dim=1, keepdim=True),
        atol=1e-6,
        rtol=0,
    )


def test_the_degenerate_corner_does_not_say_uniform_to_everything() -> None:
    v = random(200, 5)
    torch.testing.assert_close(paper(v, 1.0, 1.0), torch.full_like(v, 0.2), atol=1e-5, rtol=0)
    bent = apply(ReverseSigmoid(beta=1.0, gamma=1.0), v)
    assert torch.equal(top1(bent), top1(v))
    affine = (1 - MARGIN) * v + MARGIN / 2
    torch.testing.assert_close(bent, affine / affine.sum(dim=1, keepdim=True), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("beta", "gamma"), [(1.0, 0.1), (0.9, 0.2)])
def test_the_guard_acts_where_the_papers_form_flips_the_label(beta: float, gamma: float) -> None:
    v = random(2000, 100, sharpness=4.0)
    flipped = top1(paper(v, beta, gamma)) != top1(v)
    assert 0.05 < flipped.float().mean() < 0.4
    guarded = apply(ReverseSigmoid(beta=beta, gamma=gamma), v)
    assert torch.equal(top1(guarded), top1(v))
    # Shrunk, but not to nothing: what leaves is far from what the victim said.
    assert ((guarded - v).abs().sum(dim=1)[flipped] > 0.3).all()


def test_one_hot_gives_numbers_not_nan() -> None:
    v = torch.eye(10)
    bent = apply(ReverseSigmoid(beta=1.0, gamma=0.1), v)
    assert bent.isfinite().all()
    assert torch.equal(top1(bent), torch.arange(10))
    assert ((bent - v).abs().sum(dim=1) > 1.0).all()


def test_a_tie_stays_a_tie_and_a_hair_stays_a_lead() -> None:
    hair = torch.tensor([0.4, 0.2, 0.4], dtype=torch.float32)
    lead = hair.clone()
    lead[2] = torch.nextafter(lead[2], torch.ones(()))
    bent = apply(ReverseSigmoid(beta=1.0, gamma=0.2), torch.stack([hair, lead]))
    assert bent[0, 0] == bent[0, 2]
    assert top1(bent).tolist() == [0, 2]


def test_a_lead_of_one_float_survives_the_guard() -> None:
    # The guard leaves a twentieth of a lead, here far less than float32 can tell apart.
    generator = torch.Generator().manual_seed(0)
    v = torch.rand(500, 100, generator=generator) * 0.009
    v[:, 3] = v[:, 60] = 0.02
    v /= v.sum(dim=1, keepdim=True)
    v[:, 60] = torch.nextafter(v[:, 3], torch.ones(()))
    assert (top1(v) == 60).all()
    bent = apply(ReverseSigmoid(beta=1.0), v)
    assert (top1(bent) == 60).all()
    assert ((bent.double().sum(dim=1) - 1).abs() < 1e-6).all()


def test_the_row_that_bears_next_to_nothing_is_answered_with_its_label() -> None:
    classes = 100_000
    v = torch.full((1, classes), 1.0 / classes)
    v[0, 7] += 1e-8
    bent = apply(ReverseSigmoid(beta=2.0, gamma=0.2), v)
    assert bent[0, 7] == 1.0
    assert bent.sum() == 1.0


def test_the_default_strength_follows_the_number_of_classes() -> None:
    assert ReverseSigmoid.resolve({}, material(2)) == {"beta": 1.0}
    assert ReverseSigmoid.resolve({}, material(10)) == {"beta": 0.2}
    assert ReverseSigmoid.resolve({"beta": 0.5}, material(10)) == {"beta": 0.5}


@pytest.mark.parametrize("classes", [2, 10, 100, 256])
def test_the_default_moves_a_sure_answer_by_about_one(classes: int) -> None:
    beta = ReverseSigmoid.resolve({}, material(classes))["beta"]
    sure = torch.eye(classes)[:1]
    moved = (apply(ReverseSigmoid(beta=beta), sure) - sure).abs().sum()
    assert 0.9 < moved < 1.1


@pytest.mark.parametrize("beta", [0.0, -1.0, 2.1, float("nan")])
def test_beta_out_of_range_is_refused(beta: float) -> None:
    with pytest.raises(OptionError, match="beta: must be above 0 and at most 2"):
        ReverseSigmoid(beta=beta)


@pytest.mark.parametrize("gamma", [0.0, 1.1, float("nan")])
def test_gamma_out_of_range_is_refused(gamma: float) -> None:
    with pytest.raises(OptionError, match="gamma: must be above 0 and at most 1"):
        ReverseSigmoid(beta=0.1, gamma=gamma)
