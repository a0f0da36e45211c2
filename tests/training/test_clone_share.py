"""InI's clone terms, estimated on part of each batch."""

from __future__ import annotations

import pytest
import torch

from models.training.objective import Batch
from tests.training.test_isolation_induction import objective
from tests.training.test_isolation_induction_gradients import gradients
from tests.training.toys import assert_same_bits, mixed, network, quadrants, strangers


@pytest.mark.parametrize("second_order", [False, True])
def test_a_share_takes_the_clone_s_terms_of_the_first_images_only(second_order: bool) -> None:
    batch = mixed()  # 7 images, 6 strangers
    assert batch.ood is not None
    part = Batch(batch.images[:4], batch.targets[:4], batch.ood[:3])
    victim = network(1).double().eval()
    whole = objective(victim, network(2).double()).losses(batch)
    first = objective(victim, network(2).double()).losses(part)
    ours = objective(
        victim, network(2).double(), clone_share=0.5, second_order=second_order
    ).losses(batch)
    assert list(ours) == list(whole) == ["cross_entropy", "isolation", "induction", "gradient_norm"]
    expected = {**whole, "isolation": first["isolation"], "gradient_norm": first["gradient_norm"]}
    parameters = list(victim.parameters())
    slopes, found = gradients(expected, parameters), gradients(dict(ours), parameters)
    for name, value in expected.items():
        assert torch.allclose(ours[name], value, atol=1e-12), name
        for one, other in zip(found[name], slopes[name], strict=True):
            assert torch.allclose(one, other, atol=1e-10), name


def test_a_share_of_one_is_no_estimate_and_the_smallest_share_is_one_image() -> None:
    batch = mixed(torch.float32)
    ends = []
    for options in ({}, {"clone_share": 1}, {"clone_share": 1e-9}):
        victim = network(1)
        losses = objective(victim, network(2), **options).losses(batch)
        slopes = gradients(dict(losses), list(victim.parameters()))
        ends.append({f"{n}{i}": s for n, found in slopes.items() for i, s in enumerate(found)})
        ends[-1].update(losses)
    assert_same_bits(ends[0], ends[1])
    assert not torch.equal(ends[0]["isolation"], ends[2]["isolation"])
    assert ends[2]["gradient_norm"].isfinite()
    one = Batch(batch.images[:1], batch.targets[:1], batch.ood)
    alone = objective(network(1).eval(), network(2)).losses(one)["isolation"]
    smallest = objective(network(1).eval(), network(2), clone_share=1e-9).losses(batch)
    assert torch.allclose(smallest["isolation"], alone, atol=1e-6)


def test_an_estimated_gradient_norm_errs_upwards() -> None:
    victim, clone = network(1).double().eval(), network(2).double()
    known, labels = quadrants(64, 1)
    others = strangers(64, 2).double() / 255
    whole = objective(victim, clone)
    quarter = objective(victim, clone, clone_share=0.25)
    ratios = []
    for start in range(0, 64, 16):
        order = torch.roll(torch.arange(64), start)
        batch = Batch(known[order].double() / 255, labels[order], others[order])
        exact = whole.losses(batch)["gradient_norm"]
        ratios.append((quarter.losses(batch)["gradient_norm"] / exact).item())
    assert 1.0 < sum(ratios) / 4 < 2.0
