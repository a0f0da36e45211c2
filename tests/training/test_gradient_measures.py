from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from defenses.training.gradient_measures import CosineTo, EuclideanNorm, MeanAbsolute, Measure


def gradient(seed: int) -> tuple[Tensor, ...]:
    draws = torch.Generator().manual_seed(seed)
    made = [
        torch.randn(shape, generator=draws, dtype=torch.float64)
        for shape in ((3, 2, 3, 3), (4,), (2, 4), ())
    ]
    made[0] = made[0].contiguous(memory_format=torch.channels_last)
    made[1][2] = 0.0  # where |g| has no derivative
    return tuple(made)


MEASURES: dict[str, Measure] = {
    "mean-abs": MeanAbsolute(),
    "l2": EuclideanNorm(),
    "cosine": CosineTo(gradient(9)),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_the_closed_form_is_autograd_s_derivative(measure: Measure) -> None:
    given = tuple(part.requires_grad_() for part in gradient(1))
    value = measure.value(given)
    expected = torch.autograd.grad(value, given)
    slope = measure.slope(gradient(1))
    assert torch.allclose(slope.value, value, atol=1e-12)
    for part, wanted in zip(slope.direction, expected, strict=True):
        assert torch.allclose(slope.scale * part, wanted, atol=1e-12)


def test_values_are_what_they_are_called() -> None:
    flat = torch.cat([part.flatten() for part in gradient(1)])
    other = torch.cat([part.flatten() for part in gradient(9)])
    expected = {
        "mean-abs": flat.abs().mean(),
        "l2": flat.norm(),
        "cosine": functional.cosine_similarity(flat, other, dim=0),
    }
    for name, measure in MEASURES.items():
        assert measure.value(gradient(1)).item() == pytest.approx(expected[name].item()), name


def test_a_gradient_of_zero_has_no_direction_and_gives_no_nan() -> None:
    nothing = tuple(torch.zeros_like(part) for part in gradient(1))
    for name, measure in MEASURES.items():
        slope = measure.slope(nothing)
        assert slope.value.item() == 0.0, name
        assert all((slope.scale * part).isfinite().all() for part in slope.direction), name
    assert MEASURES["l2"].slope(nothing).scale.item() == 0.0
