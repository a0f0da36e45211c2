"""Networks by name: the published shapes, any image size, and sentences for mistakes."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest
import torch
from torch import nn

from models import architectures
from models.architectures import registry
from models.card import Normalisation
from models.errors import ArchitectureError, FactoryRefused
from models.normalisation import PRESETS, preset, preset_for


def build(name: str, shape: tuple[int, int, int], outputs: int = 10, **arguments: Any) -> nn.Module:
    channels, height, width = shape
    return architectures.build(
        name,
        channels=channels,
        size=(height, width),
        outputs=outputs,
        normalisation=preset("half", channels),
        arguments=arguments,
    )


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# Counted by hand from the layers the papers name.
LENET = (20 * 25 + 20) + (50 * 20 * 25 + 50) + (800 * 500 + 500) + (500 * 10 + 10)
CNN5 = (
    sum(inner * outer * 9 + 3 * outer for inner, outer in ((3, 32), (32, 64), (64, 128)))
    + (2048 * 128 + 128 + 2 * 128)
    + (128 * 10 + 10)
)
VGG16 = sum(
    inner * outer * 9 + 3 * outer  # bias, and scale and shift of the batch normalisation
    for inner, outer in (
        (3, 64),
        (64, 64),
        (64, 128),
        (128, 128),
        (128, 256),
        *[(256, 256)] * 2,
        (256, 512),
        *[(512, 512)] * 5,
    )
)


def torchvision(published: int, features: int, stem: int) -> int:
    """torchvision's own figure for ImageNet, with 10 classes for 1000 and another stem."""
    return published - 990 * (features + 1) + stem


def pre_activation(blocks: int, widths: tuple[int, int, int]) -> int:
    total, width = 3 * 16 * 9, 16
    for filters in widths:
        total += 0 if width == filters else width * filters  # the shortcut
        for _ in range(blocks):
            total += 2 * width + width * filters * 9 + 2 * filters + filters * filters * 9
            width = filters
    return total + 2 * width + width * 10 + 10


SMALL_STEM = 64 * 3 * (9 - 49)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("resnet18", (3, 32, 32), 11_173_962),
        ("lenet", (1, 28, 28), LENET),
        ("cnn5", (3, 32, 32), CNN5),
        ("resnet34", (3, 32, 32), torchvision(21_797_672, 512, SMALL_STEM)),
        ("resnet50", (3, 32, 32), torchvision(25_557_032, 2048, SMALL_STEM)),
        ("shufflenetv2", (3, 32, 32), torchvision(2_278_604, 1024, 0)),
        ("resnet20", (3, 32, 32), pre_activation(3, (16, 32, 64))),
        ("resnet32", (3, 32, 32), pre_activation(5, (16, 32, 64))),
        ("wrn-16-4", (3, 32, 32), pre_activation(2, (64, 128, 256))),
        ("vgg16", (3, 32, 32), VGG16 + 512 * 10 + 10),
        ("vgg16-composite", (3, 32, 32), VGG16 - 2 * 4224 + 2 * (512 * 512 + 512) + 5130),
    ],
)
def test_the_papers_networks_have_the_papers_number_of_parameters(
    name: str, shape: tuple[int, int, int], expected: int
) -> None:
    assert parameters(build(name, shape)) == expected


@pytest.mark.parametrize(("name", "millions"), [("resnet20", "0.27"), ("resnet32", "0.46")])
def test_the_small_resnets_are_as_large_as_published_but_for_their_shortcuts(
    name: str, millions: str
) -> None:
    # He et al., CVPR 2016, Table 6, where shortcuts have no parameters.
    shortcuts = 16 * 32 + 32 * 64
    assert f"{(parameters(build(name, (3, 32, 32))) - shortcuts) / 1e6:.2f}" == millions


def test_batch_normalisation_of_vgg_is_a_choice() -> None:
    normalised = 2 * 4224  # scale and shift of thirteen layers
    for name, default in (("vgg16", True), ("vgg16-composite", False)):
        counts = [parameters(build(name, (3, 32, 32), bn=bn)) for bn in (False, True)]
        assert counts[1] - counts[0] == normalised
        assert parameters(build(name, (3, 32, 32))) == counts[default]


def test_the_resnet_keeps_the_resolution_that_an_imagenet_stem_would_lose() -> None:
    network = build("resnet18", (1, 16, 16)).eval()
    seen: list[torch.Size] = []
    last = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1]
    last.register_forward_hook(lambda _module, _input, output: seen.append(output.shape))
    with torch.no_grad():
        network(torch.zeros(1, 1, 16, 16))
    assert seen[0][-2:] == (2, 2)


@pytest.mark.parametrize(
    "name", ["cnn-small", "cnn5", "lenet", "resnet20", "shufflenetv2", "wrn-16-4"]
)
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 17, 23), (1, 40, 28)])
def test_any_size_gives_one_logit_per_class(name: str, shape: tuple[int, int, int]) -> None:
    network = build(name, shape, outputs=7).eval()
    with torch.no_grad():
        logits = network(torch.rand(2, *shape))
    assert logits.shape == (2, 7)
    assert bool(torch.isfinite(logits).all())


@pytest.mark.parametrize("name", ["vgg16", "vgg16-composite", "resnet34", "resnet50"])
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 33, 40)])
def test_deep_networks_give_one_logit_per_class(name: str, shape: tuple[int, int, int]) -> None:
    network = build(name, shape, outputs=7).eval()
    with torch.no_grad():
        logits = network(torch.rand(2, *shape))
    assert logits.shape == (2, 7)
    assert bool(torch.isfinite(logits).all())


@pytest.mark.parametrize("name", ["resnet20", "wrn-16-4"])
def test_a_shortcut_starts_where_its_family_s_does(name: str) -> None:
    network = build(name, (3, 8, 8)).eval()
    block = next(m for m in network.modules() if getattr(m, "shortcut", None) is not None)
    features = torch.randn(2, 16, 8, 8)
    nn.init.zeros_(block.conv2.weight)  # type: ignore[union-attr,arg-type]
    with torch.no_grad():
        start = block.bn1(features).relu() if name == "wrn-16-4" else features  # type: ignore[operator]
        assert torch.allclose(block(features), block.shortcut(start))  # type: ignore[operator]


def test_normalisation_is_inside_and_not_among_the_weights() -> None:
    constants = Normalisation(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    network = architectures.build(
        "cnn-small", channels=3, size=(8, 8), outputs=2, normalisation=constants
    ).eval()
    images = torch.rand(4, 3, 8, 8)
    by_hand = (images - torch.tensor(constants.mean).view(3, 1, 1)) / torch.tensor(
        constants.std
    ).view(3, 1, 1)
    with torch.no_grad():
        assert torch.equal(network(images), network.network(by_hand))
    assert not {"mean", "std"} & network.state_dict().keys()
    assert network.double().mean.dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "shape", "arguments", "sentence"),
    [
        ("alexnet", (1, 28, 28), {}, "cnn-small, cnn5, lenet, resnet18"),
        ("vgg16", (3, 28, 32), {}, "at least 32x32, not 28x32"),
        ("vgg16-composite", (3, 32, 32), {"bn": 1}, "bn must be true or false, not 1"),
        ("lenet", (1, 15, 28), {}, "at least 16x16, not 15x28"),
        ("cnn5", (1, 7, 7), {}, "at least 8x8"),
        ("cnn-small", (1, 3, 8), {}, "at least 4x4"),
        ("cnn-small", (1, 8, 8), {"width": 0}, "width must be a positive integer, not 0"),
        ("cnn-small", (1, 8, 8), {"width": True}, "not True"),
        ("cnn-small", (1, 8, 8), {"depth": 3}, "it takes width"),
        ("lenet", (1, 28, 28), {"depth": 3}, "it takes none"),
        ("lenet", (1, 28, 28), {"outputs": 3}, "wrong arguments"),
    ],
)
def test_mistakes_get_a_sentence(
    name: str, shape: tuple[int, int, int], arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ArchitectureError, match=sentence):
        architectures.build(
            name,
            channels=shape[0],
            size=shape[1:],
            outputs=10,
            normalisation=preset("half", shape[0]),
            arguments=arguments,
        )


def test_normalisation_must_have_the_images_channels() -> None:
    with pytest.raises(ArchitectureError, match="1 channels but images have 3"):
        architectures.build(
            "lenet", channels=3, size=(28, 28), outputs=2, normalisation=preset("mnist", 1)
        )


def test_a_plug_in_is_found_but_cannot_take_the_name_of_a_built_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = f"{__name__}:plug_in"
    points = EntryPoints(EntryPoint(name, target, registry.GROUP) for name in ("flat", "lenet"))
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))
    assert "flat" in architectures.names()
    assert parameters(build("flat", (1, 4, 4), outputs=3)) == 16 * 3 + 3
    assert parameters(build("lenet", (1, 28, 28))) == LENET
    assert parameters(build("flat", (1, 4, 4), outputs=3, bias=False)) == 16 * 3


def plug_in(*, channels: int, size: tuple[int, int], outputs: int, bias: bool = True) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], outputs, bias=bias))


def test_check_builds_nothing() -> None:
    architectures.check("resnet18")
    with pytest.raises(ArchitectureError, match="there is no architecture 'vgg'"):
        architectures.check("vgg")
    with pytest.raises(FactoryRefused, match=r"--allow-factory no\.such\.module:f"):
        architectures.check("no.such.module:f")
    architectures.check("no.such.module:f", allow_factories=["no.such.module:f"])


def test_presets_fit_their_datasets() -> None:
    assert preset("mnist", 3).mean == (0.1307,) * 3
    assert preset("cifar", 3).std == (0.2023, 0.1994, 0.2010)
    with pytest.raises(ArchitectureError, match="is for 3 channels, not 1"):
        preset("cifar", 1)
    with pytest.raises(ArchitectureError, match="there is no normalisation 'cats'"):
        preset("cats", 3)
    assert [preset_for(*pair) for pair in (("kmnist_t10k", 1), ("cifar100", 3), ("cats", 3))] == [
        "mnist",
        "cifar",
        "half",
    ]
    assert preset_for("cifar10", 1) == "half"
    assert all(len(constants.mean) in {1, 3} for constants in PRESETS.values())
