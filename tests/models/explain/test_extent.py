"""A map is laid where its positions look."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.explain import Extent, build_interpreter, extent_of_layer
from tests.models.explain.networks import network


@pytest.mark.parametrize(
    ("layers", "extent"),
    [
        # Each position is centred on the pixel that has its number, and the padding on one side.
        ([nn.Conv2d(1, 2, 3, padding=1)], Extent(0, 0, 20, 24)),
        ([nn.Conv2d(1, 2, 3)], Extent(1, 1, 19, 23)),
        ([nn.Conv2d(1, 2, 5), nn.MaxPool2d(2)], Extent(2, 2, 18, 22)),
        ([nn.Conv2d(1, 2, 5, stride=2, padding=2)], Extent(-0.5, -0.5, 19.5, 23.5)),
        # One position that sees everything covers everything.
        ([nn.AdaptiveAvgPool2d(1), nn.Conv2d(1, 2, 1)], Extent(0, 0, 20, 24)),
    ],
)
def test_geometry_by_hand(layers: list[nn.Module], extent: Extent) -> None:
    whole = nn.Sequential(*layers).eval().requires_grad_(False)
    found = extent_of_layer(whole, whole[-1], (1, 20, 24))
    assert found == pytest.approx(extent)


def test_a_network_without_padding_leaves_a_margin() -> None:
    victim = network("lenet")
    # Fourteen pixels seen every two: the first centred at 7, the map one pixel more.
    for interpreter in ("grad-cam", "relevance-cam"):
        found = build_interpreter(interpreter, victim).extent((1, 20, 20))
        assert found == pytest.approx(Extent(6, 6, 14, 14))
    pixels = build_interpreter("gradient-x-input", victim).extent((1, 20, 20))
    assert pixels == Extent(0, 0, 20, 20)


def test_a_bright_dot_is_found_where_it_is() -> None:
    layer = nn.Conv2d(1, 1, 7, stride=2).eval().requires_grad_(False)
    layer.weight.fill_(1.0)
    image = torch.zeros(1, 1, 31, 31)
    image[0, 0, 11, 19] = 1.0
    heat = layer(image)[0, 0] - layer.bias
    top, left, bottom, right = extent_of_layer(layer, layer, (1, 31, 31))
    rows, columns = heat.sum(dim=1), heat.sum(dim=0)
    place = torch.arange(13) + 0.5
    row = (rows * place).sum() / rows.sum() / 13 * (bottom - top) + top
    column = (columns * place).sum() / columns.sum() / 13 * (right - left) + left
    assert abs(row - 11.5) <= 1.0
    assert abs(column - 19.5) <= 1.0
