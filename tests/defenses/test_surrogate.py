from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from defenses.surrogate import (
    AllWeights,
    LastLayer,
    along_ones,
    imagined,
    inner_products,
    returned_products,
)
from tests.defenses.toys import images

CLASSES = 5


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    )
    return nn.Sequential(body, nn.Linear(12, CLASSES)).eval().requires_grad_(False)


def naive(network: nn.Module, picture: Tensor, only: nn.Module) -> Tensor:
    """G ``(K, P)`` of one image, one backward pass per class, in float64."""
    weights = [weight.detach().requires_grad_() for weight in only.parameters()]
    names = [name for name, _ in only.named_parameters()]
    chosen = dict(zip(names, weights, strict=True))
    prefix = "" if only is network else "1."
    logits = torch.func.functional_call(
        network, {prefix + name: weight for name, weight in chosen.items()}, (picture[None],)
    )
    rows = []
    for log_probability in torch.log_softmax(logits[0], dim=0):
        parts = torch.autograd.grad(log_probability, weights, retain_graph=True)
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


def answers(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.softmax(2 * torch.randn(count, CLASSES, generator=generator), dim=1).double()


def test_the_closed_form_is_the_jacobian_of_the_last_layer_up_to_a_factor() -> None:
    network, pictures, said = convolutional().double(), images(6).double(), answers(6)
    posteriors = torch.softmax(network(pictures), dim=1)
    closed = LastLayer(posteriors)
    assert isinstance(network, nn.Sequential)
    for index, picture in enumerate(pictures):
        rows = naive(network, picture, network[1])
        products = rows @ rows.T
        entering = network[0](picture[None])
        factor = (entering * entering).sum() + 1.0
        torch.testing.assert_close(
            closed.times(said)[index] * factor, products @ said[index], atol=1e-9, rtol=0
        )
        torch.testing.assert_close(
            closed.norms[index] * factor, products.diagonal(), atol=1e-9, rtol=0
        )


def test_inner_products_are_those_of_the_naive_jacobian() -> None:
    network, pictures, said = convolutional(), images(4), answers(4)
    expected = torch.stack(
        [rows @ rows.T for rows in (naive(network, p, network).double() for p in pictures)]
    )
    found = inner_products(network, pictures, CLASSES)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    applied = AllWeights(expected).times(said)
    torch.testing.assert_close(
        returned_products(network, pictures, said), applied, atol=1e-5, rtol=1e-5
    )


def test_one_answer_or_several_per_image() -> None:
    said = answers(4)
    for gradients in (
        LastLayer(answers(4)),
        AllWeights(inner_products(convolutional(), images(4), CLASSES)),
    ):
        several = torch.stack([said, said.flip(1)], dim=1)
        torch.testing.assert_close(gradients.times(several)[:, 0], gradients.times(said))
        torch.testing.assert_close(gradients.times(several)[:, 1], gradients.times(said.flip(1)))


def test_the_way_of_all_ones_is_the_sum_of_each_row() -> None:
    network, pictures = convolutional(), images(4)
    expected = torch.stack([naive(network, p, network).double().sum(dim=1) for p in pictures])
    torch.testing.assert_close(
        along_ones(network, pictures, CLASSES), expected, atol=1e-5, rtol=1e-5
    )


def test_the_last_layer_alone_cannot_tell_the_way_of_all_ones() -> None:
    network = convolutional().double()
    assert isinstance(network, nn.Sequential)
    rows = naive(network, images(1).double()[0], network[1])
    torch.testing.assert_close(
        rows.sum(dim=1), torch.zeros(CLASSES, dtype=torch.float64), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("all_weights", [False, True])
def test_the_network_stays_as_it_was(all_weights: bool) -> None:
    network = convolutional()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        imagined(network, images(3), CLASSES, all_weights=all_weights)
        along_ones(network, images(3), CLASSES)
        returned_products(network, images(3), answers(3))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(
        weight.requires_grad or weight.grad is not None for weight in network.parameters()
    )


def test_memory_is_bounded_and_the_answer_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network, pictures = convolutional(), images(5)
    at_once = inner_products(network, pictures, CLASSES)
    monkeypatch.setattr("defenses.surrogate.FLOATS", 1)
    torch.testing.assert_close(
        inner_products(network, pictures, CLASSES), at_once, atol=1e-5, rtol=1e-5
    )
