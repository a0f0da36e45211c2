"""Relevance-CAM: its rules worked out by hand, and what they conserve."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from models.architectures import names
from models.errors import ExplanationError
from models.explain import RelevanceCam
from models.explain.relevance import RelevanceRules
from tests.models.explain.networks import images, network


def propagated(block: nn.Module, x: Tensor, relevance: Tensor) -> Tensor:
    """Relevance of ``x``, of which ``block`` makes something with ``relevance``."""
    rules, watched = RelevanceRules(), x.clone()
    rules.watch(watched)
    with rules:
        out = block(watched)
    return rules.propagated(out, relevance, watched)


def test_a_dense_layer_by_hand() -> None:
    layer = nn.Linear(2, 2, bias=True).requires_grad_(False)
    layer.weight.copy_(torch.tensor([[1.0, 2.0], [-3.0, 1.0]]))
    layer.bias.fill_(100.0)  # not counted
    x = torch.tensor([[2.0, -1.0]])
    # Positive shares: of output 0 only 2 * 1 (the other is -1 * 2); of output 1 none at all,
    # since 2 * -3 and -1 * 1 both speak against it.
    found = propagated(layer, x, torch.tensor([[0.6, 0.4]]))
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.0]]))


def test_a_convolutions_bias_is_counted_in_both_parts() -> None:
    layer = nn.Conv2d(1, 1, 1).requires_grad_(False)
    layer.weight.fill_(2.0)
    layer.bias.fill_(1.0)  # type: ignore[union-attr]
    x = torch.tensor([[[[3.0]]]])
    # Z = (3 * 2 + 1) + (0 + 1) = 8, of which the input gave 6.
    found = propagated(layer, x, torch.ones(1, 1, 1, 1))
    torch.testing.assert_close(found, torch.full((1, 1, 1, 1), 0.75))


class Shortcut(nn.Module):
    """``3 x + x``, in place where asked."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.triple = nn.Conv2d(1, 1, 1, bias=False).requires_grad_(False)
        self.triple.weight.fill_(3.0)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.triple(x)
        if self.in_place:
            out += x
            return out
        return out + x


@pytest.mark.parametrize("in_place", [False, True])
def test_an_addition_shares_by_what_each_gave(in_place: bool) -> None:
    # Both ways lead back to the one input, so nothing of its relevance is lost or doubled.
    found = propagated(
        Shortcut(in_place=in_place), torch.full((1, 1, 1, 1), 2.0), torch.ones(1, 1, 1, 1)
    )
    torch.testing.assert_close(found, torch.ones(1, 1, 1, 1))


def test_averages_by_activation_maxima_to_the_largest_and_others_pass() -> None:
    x = torch.tensor([[[[1.0, 3.0], [0.0, 4.0]]]])
    one = torch.ones(1, 1, 1, 1)
    for average in (nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)):
        torch.testing.assert_close(propagated(average, x, one), x / 8.0)
    largest = torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]])
    torch.testing.assert_close(propagated(nn.MaxPool2d(2), x, one), largest)
    relevance = torch.rand(1, 1, 2, 2)
    norm = nn.BatchNorm2d(1).eval().requires_grad_(False)
    norm.weight.fill_(-7.0)
    for passes in (nn.ReLU(), nn.ReLU(inplace=True), norm):
        torch.testing.assert_close(propagated(passes, x, relevance), relevance)


def test_nothing_is_given_where_nothing_was_there() -> None:
    found = propagated(nn.AvgPool2d(2), torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 1, 1))
    assert torch.equal(found, torch.zeros(1, 1, 2, 2))


LAYERS = {
    "cnn-small": ("features.2", "features.3", None),
    "cnn5": ("features.3", "features.7", None),
    "lenet": ("features.1", "features.2", None),
    "resnet18": ("layer1", "layer2", "layer3.0", "layer3.1.conv1", None),
    "resnet20": ("blocks.2", "blocks.6", "norm", None),
    "shufflenetv2": ("stage2", "stage3.2", None),
    "vgg16": ("features.10", None),
    "wrn-16-4": ("blocks.0", "blocks.3.conv1", None),
}


@pytest.mark.parametrize(("name", "layer"), [(n, at) for n, many in LAYERS.items() for at in many])
def test_relevance_is_conserved_without_bias_where_all_speaks_for_it(
    name: str, layer: str | None
) -> None:
    victim = network(name)
    for module in victim.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.abs_()
            if module.bias is not None:
                module.bias.zero_()
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_running_stats()
    pictures = images(name) + 0.5  # all above the mean that is subtracted
    activations, relevance = RelevanceCam(victim, layer).relevance(
        pictures, torch.tensor([0, 4, 2])
    )
    assert relevance.shape == activations.shape
    # 1 for the class and -1/K for each other: 1/K in all.
    total = relevance.sum(dim=(1, 2, 3))
    if layer is not None and layer.endswith("conv1"):
        # The shortcut around it carries its share.
        assert ((total > 0.0) & (total < 0.2)).all()
    else:
        torch.testing.assert_close(total, torch.full((3,), 0.2), atol=1e-4, rtol=0)


def test_every_architecture_has_rules_at_an_early_layer_of_its_own() -> None:
    assert set(LAYERS) | {"resnet32", "resnet34", "resnet50", "vgg16-composite"} == set(names())


def test_contrast_another_class_another_map() -> None:
    victim, pictures = network("resnet20"), images("resnet20", 1)
    explain = RelevanceCam(victim)
    first, second = (explain(pictures, torch.tensor([label])) for label in (0, 1))
    assert (first - second).abs().max() > 0.1 * first.abs().max()


@pytest.mark.parametrize("name", ["resnet18", "shufflenetv2", "wrn-16-4"])
def test_forward_values_are_those_of_the_network(name: str) -> None:
    inner, pictures = network(name).get_submodule("network"), images(name)
    with torch.no_grad():
        said = inner(pictures)
    rules = RelevanceRules()
    rules.watch(pictures)
    with rules:
        ruled = inner(pictures)
    torch.testing.assert_close(ruled.detach(), said, atol=1e-5, rtol=1e-5)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 3)

    def forward(self, pictures: Tensor) -> Tensor:
        said: Tensor = self.convolution(pictures).sigmoid().mean(dim=(2, 3))
        return said


def test_an_operation_without_a_rule_is_named() -> None:
    gated = Gated().eval().requires_grad_(False)
    with pytest.raises(ExplanationError, match=r"no rule for torch\.Tensor\.sigmoid"):
        RelevanceCam(gated)(torch.rand(1, 1, 5, 5), torch.zeros(1, dtype=torch.int64))


def small() -> nn.Module:
    """A convolution below the layer, and above it all that has a rule of its own."""
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 4),
    )
    return nn.Sequential(*layers).double().eval().requires_grad_(False)


def explained(network: nn.Module, weight: Tensor, image: Tensor, label: Tensor) -> Tensor:
    def call(images: Tensor) -> Tensor:
        said: Tensor = functional_call(network, {"2.weight": weight}, (images,))
        return said

    return RelevanceCam(network, "1").functional(call, image[None], label[None])[0]


def test_maps_are_differentiable_twice_by_weights() -> None:
    network = small()
    image = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    weight = network.get_parameter("2.weight").clone().requires_grad_()

    def told(value: Tensor) -> Tensor:
        return explained(network, value, image, torch.tensor(2))

    assert torch.autograd.gradcheck(told, (weight,))
    assert torch.autograd.gradgradcheck(told, (weight,))


def test_weights_of_queries_side_by_side_make_the_maps_that_each_makes_alone() -> None:
    network = small()
    draws = torch.Generator().manual_seed(1)
    pictures = torch.rand(3, 1, 8, 8, generator=draws).double()
    weights = network.get_parameter("2.weight") * (
        1 + 0.3 * torch.randn(3, 4, 3, 3, 3, generator=draws).double()
    )
    labels = torch.tensor([0, 3, 1])
    maps = torch.func.vmap(lambda w, x, y: explained(network, w, x, y))(weights, pictures, labels)
    for row in range(3):
        alone = explained(network, weights[row], pictures[row], labels[row])
        torch.testing.assert_close(maps[row], alone)
        with torch.no_grad():
            network.get_parameter("2.weight").copy_(weights[row])
            served = RelevanceCam(network, "1")(pictures[row : row + 1], labels[row : row + 1])
        torch.testing.assert_close(maps[row], served[0])
