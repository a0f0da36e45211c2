"""Grad-CAM and Gradient x Input against captum, and as functions that torch.func can use."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from models.architectures import names
from models.errors import ExplanationError
from models.explain import (
    GradCam,
    Tap,
    build_interpreter,
    cam_layer,
    grad_cam,
    gradient_x_input,
    interpreter_names,
)
from tests.models.explain.networks import images, network, state_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from captum.attr import InputXGradient, LayerGradCam

CLASSES = torch.tensor([0, 4, 2])


@pytest.mark.parametrize("name", ["cnn-small", "lenet", "resnet18", "resnet20", "shufflenetv2"])
def test_grad_cam_is_captums(name: str) -> None:
    victim, pictures = network(name), images(name)
    theirs = LayerGradCam(victim, cam_layer(victim)).attribute(
        pictures, CLASSES, relu_attributions=True
    )[:, 0]
    ours = GradCam(victim)(pictures, CLASSES)
    scale = theirs.abs().max()
    assert scale > 0
    torch.testing.assert_close(ours / scale, theirs / scale, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["cnn-small", "lenet", "resnet20"])
def test_gradient_x_input_is_captums_summed_over_channels(name: str) -> None:
    victim, pictures = network(name, channels=3), images(name, channels=3)
    theirs = InputXGradient(victim).attribute(pictures.clone().requires_grad_(), CLASSES)
    ours = build_interpreter("gradient-x-input", victim)(pictures, CLASSES)
    scale = theirs.abs().max()
    torch.testing.assert_close(ours / scale, theirs.detach().sum(dim=1) / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("interpreter", interpreter_names())
@pytest.mark.parametrize("name", ["cnn-small", "cnn5", "lenet", "resnet20", "wrn-16-4"])
def test_a_map_depends_on_no_neighbour(name: str, interpreter: str) -> None:
    victim, pictures = network(name), images(name, 6)
    classes = torch.tensor([0, 1, 2, 3, 4, 0])
    explain = build_interpreter(interpreter, victim)
    with torch.no_grad():
        together = explain(pictures, classes)
        alone = torch.cat(
            [explain(row[None], label[None]) for row, label in zip(pictures, classes, strict=True)]
        )
    assert together.dtype == torch.float32
    assert (together != together[:1]).any(), "maps that are all alike would prove nothing"
    moved = (together - alone).abs().flatten(1).amax(dim=1) / alone.abs().max()
    # Float noise may open or shut a ReLU whose input is next to nothing, and a gradient, which is
    # no continuous function of its image, moves with it. That is rare, and little.
    assert (moved > 1e-5).sum() <= 1
    assert moved.max() < 0.05


@pytest.mark.parametrize("interpreter", interpreter_names())
@pytest.mark.parametrize("name", sorted(set(names()) - {"resnet34", "resnet50"}))
def test_every_architecture_can_be_explained_and_is_left_as_it_was(
    name: str, interpreter: str
) -> None:
    victim, pictures = network(name), images(name, 2)
    before = dict(state_of(victim))
    maps = build_interpreter(interpreter, victim)(pictures, CLASSES[:2])
    assert maps.ndim == 3
    assert maps.isfinite().all()
    assert maps.shape[1] > 1, "a map of one place says nothing"
    assert not maps.requires_grad
    assert dict(state_of(victim)) == before


def forward_with(victim: nn.Module, weights: Mapping[str, Tensor]) -> Tap:
    return Tap(
        lambda pictures: torch.func.functional_call(victim, dict(weights), (pictures,)),
        cam_layer(victim),
    )


@pytest.mark.parametrize("functional", ["grad-cam", "gradient-x-input"])
def test_per_query_weights_side_by_side_are_as_one_at_a_time(functional: str) -> None:
    victim, pictures = network("lenet"), images("lenet")
    generator = torch.Generator().manual_seed(3)
    weights = {
        name: torch.stack(
            [value + 0.1 * torch.randn(value.shape, generator=generator) for _ in range(3)]
        )
        for name, value in victim.named_parameters()
    }

    def explained(own: Mapping[str, Tensor], picture: Tensor, label: Tensor) -> Tensor:
        forward = forward_with(victim, own)
        if functional == "grad-cam":
            return grad_cam(forward, picture[None], label[None], channels=50)[0]
        return gradient_x_input(forward, picture[None], label[None])[0]

    shared = dict(victim.named_parameters())
    together = torch.func.vmap(explained)(weights, pictures, CLASSES)
    for row in range(3):
        own = {name: value[row] for name, value in weights.items()}
        alone = explained(own, pictures[row], CLASSES[row])
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together[0], explained(shared, pictures[0], CLASSES[0]), atol=1e-4)


@pytest.mark.parametrize("functional", ["grad-cam", "gradient-x-input"])
def test_a_map_can_be_differentiated_by_the_weights(functional: str) -> None:
    victim = network("lenet").double()
    pictures = images("lenet").double()
    name = "network.classifier.0.weight"
    start = dict(victim.named_parameters())[name].detach()

    def loss(weight: Tensor) -> Tensor:
        forward = forward_with(victim, {name: weight})
        if functional == "grad-cam":
            return grad_cam(forward, pictures, CLASSES, channels=50).square().sum()
        return gradient_x_input(forward, pictures, CLASSES).square().sum()

    gradient = torch.func.grad(loss)(start)
    direction = torch.randn(
        start.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    step = 1e-6 * direction
    slope = (loss(start + step) - loss(start - step)) / 2e-6
    assert slope.abs() > 1e-8
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-4, atol=0)


def test_another_layer_gives_its_own_resolution() -> None:
    victim, pictures = network("resnet18"), images("resnet18", 1)
    sizes = [
        GradCam(victim, layer)(pictures, CLASSES[:1]).shape[1:] for layer in ("layer1", "layer3")
    ]
    assert sizes == [(32, 32), (8, 8)]


@pytest.mark.parametrize("interpreter", ["grad-cam", "relevance-cam"])
def test_what_cannot_be_explained_is_said(interpreter: str) -> None:
    with pytest.raises(ExplanationError, match=r"no layer 'features\.99'"):
        build_interpreter(interpreter, network("lenet"), layer="features.99")
    with pytest.raises(ExplanationError, match="no convolution"):
        build_interpreter(interpreter, nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    dense = build_interpreter(interpreter, network("lenet"), layer="classifier.0")
    with pytest.raises(ExplanationError, match=r"does not give \(B, N, h, w\)"):
        dense(images("lenet"), CLASSES)
    with pytest.raises(ExplanationError, match="there is no interpreter 'saliency'"):
        build_interpreter("saliency", network("lenet"))


class Twice(nn.Module):
    """Runs its one convolution two times."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        said: Tensor = self.convolution(self.convolution(pictures)).flatten(1)
        return said


def test_a_layer_that_runs_twice_is_refused_and_no_hook_stays() -> None:
    twice = Twice().eval().requires_grad_(False)
    before = dict(state_of(twice))
    with pytest.raises(ExplanationError, match="runs 2 times"):
        GradCam(twice)(torch.rand(1, 1, 4, 4), torch.zeros(1, dtype=torch.int64))
    assert dict(state_of(twice)) == before
