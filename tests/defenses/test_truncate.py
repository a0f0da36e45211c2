"""Label only, top-k, Stingy and rounding, against answers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from defenses.errors import OptionError
from defenses.label_only import LabelOnly
from defenses.rounding import Rounding
from defenses.stingy import Stingy
from defenses.top_k import TopK
from models.simplex import top1
from tests.defenses.toys import apply


def rows(*values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def test_label_only_names_the_lowest_of_equals() -> None:
    given = rows([0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [1 / 3, 1 / 3, 1 / 3])
    assert apply(LabelOnly(), given).tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0]]


def test_top_k_keeps_the_largest_over_their_sum() -> None:
    given = rows([0.1, 0.5, 0.3, 0.1])
    torch.testing.assert_close(apply(TopK(k=2), given), rows([0.0, 0.625, 0.375, 0.0]))


def test_top_k_keeps_the_lower_index_of_equals() -> None:
    given = rows([0.1, 0.3, 0.3, 0.3], [0.25, 0.25, 0.25, 0.25])
    kept = apply(TopK(k=2), given)
    assert kept.tolist() == [[0.0, 0.5, 0.5, 0.0], [0.5, 0.5, 0.0, 0.0]]


def test_top_k_of_one_is_label_only_and_of_all_changes_nothing() -> None:
    given = torch.softmax(torch.randn(50, 7, generator=torch.Generator().manual_seed(0)), dim=1)
    assert torch.equal(apply(TopK(k=1), given), apply(LabelOnly(), given))
    torch.testing.assert_close(apply(TopK(k=7), given), given)


def test_top_k_does_not_let_the_division_create_a_tie_at_the_top() -> None:
    # Just below 1/4 floats lie twice as close as above it, where the division takes them.
    generator = torch.Generator().manual_seed(0)
    low = 0.245 + 0.004 * torch.rand(2000, generator=generator)
    high = torch.nextafter(low, torch.ones(()))
    third = torch.full_like(low, 0.24)
    rest = (1 - low - high - third) / 2
    given = torch.stack([low, high, third, rest, rest], dim=1)
    plain = given / given[:, :3].sum(dim=1, keepdim=True)
    assert (plain[:, 0] == plain[:, 1]).any()
    kept = apply(TopK(k=3), given)
    assert (top1(kept) == 1).all()
    assert ((kept.double().sum(dim=1) - 1).abs() < 1e-6).all()


@pytest.mark.parametrize("k", [0, -1])
def test_top_k_refuses_less_than_one(k: int) -> None:
    with pytest.raises(OptionError, match=f"k: must be at least 1, not {k}"):
        TopK(k=k)


@pytest.mark.parametrize(
    ("ratio", "classes", "count"),
    [
        (0.2, 10, 2),
        (0.1, 100, 10),
        (0.07, 100, 7),
        (0.29, 100, 29),
        (0.57, 100, 57),
        (0.01, 10, 1),
        (1.0, 10, 10),
        (0.1, 2, 1),
    ],
)
def test_stingy_reveals_a_rounded_share(ratio: float, classes: int, count: int) -> None:
    given = torch.softmax(
        torch.randn(4, classes, generator=torch.Generator().manual_seed(0)), dim=1
    )
    kept = apply(Stingy(ratio=ratio), given)
    assert ((kept > 0).sum(dim=1) == count).all()
    assert torch.equal(kept, apply(TopK(k=count), given))


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.1, float("nan")])
def test_stingy_refuses_a_ratio_out_of_range(ratio: float) -> None:
    with pytest.raises(OptionError, match="ratio: must be above 0 and at most 1"):
        Stingy(ratio=ratio)


def test_rounding_by_largest_remainder() -> None:
    given = rows([0.334, 0.333, 0.333], [0.126, 0.126, 0.748])
    rounded = apply(Rounding(decimals=2), given)
    torch.testing.assert_close(rounded, rows([0.34, 0.33, 0.33], [0.13, 0.12, 0.75]))


def test_rounding_breaks_a_tie_at_the_top_toward_the_given_top() -> None:
    # Both are .3 with one decimal; the second was larger.
    given = rows([0.295, 0.305, 0.2, 0.2])
    rounded = apply(Rounding(decimals=1), given)
    assert top1(rounded).tolist() == [1]
    torch.testing.assert_close(rounded, rows([0.2, 0.4, 0.2, 0.2]))


def test_rounding_keeps_every_top_among_many_classes() -> None:
    # With 200 classes near uniform, two decimals leave half of them nothing.
    logits = 0.3 * torch.randn(500, 200, generator=torch.Generator().manual_seed(0))
    given = torch.softmax(logits, dim=1)
    rounded = apply(Rounding(decimals=2), given)
    assert torch.equal(top1(rounded), top1(given))
    assert ((rounded * 100).round() / 100 == rounded).all()


@pytest.mark.parametrize("decimals", [1, 2, 3, 4])
def test_rounding_leaves_the_grid_nowhere_not_even_where_it_broke_a_tie(decimals: int) -> None:
    torch.manual_seed(0)
    # Two leaders that differ by less than a step: most of them tie, half the wrong way round.
    close = torch.rand(4000, 10)
    close[:, :2] = close[:, 2:].max(dim=1, keepdim=True).values + 1e-4 * torch.rand(4000, 2)
    close /= close.sum(dim=1, keepdim=True)
    served = apply(Rounding(decimals=decimals), close)
    steps = 10**decimals
    assert torch.equal(served, (torch.round(served.double() * steps) / steps).float())
    assert torch.equal(top1(served), top1(close))


def test_rounding_to_no_decimals_is_label_only() -> None:
    given = torch.softmax(torch.randn(200, 7, generator=torch.Generator().manual_seed(0)), dim=1)
    assert torch.equal(apply(Rounding(decimals=0), given), apply(LabelOnly(), given))


@pytest.mark.parametrize("decimals", [-1, 7])
def test_rounding_refuses_decimals_out_of_range(decimals: int) -> None:
    with pytest.raises(OptionError, match=f"decimals: must be between 0 and 6, not {decimals}"):
        Rounding(decimals=decimals)
