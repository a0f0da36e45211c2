"""The arithmetic that everybody relies on, for all inputs that hypothesis can think of."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.simplex import GRID, largest, one_hot, round_to_grid, top1

STEPS = [1, 2, 10, 100, 1000, 10_000, GRID, 1_000_000]


@st.composite
def simplex(draw: st.DrawFn, max_classes: int = 40) -> Tensor:
    """Rows ``(B, K)`` float32 that sum to 1 as well as float32 can, ties and zeros among them."""
    classes = draw(st.integers(2, max_classes))
    weight = st.one_of(
        st.sampled_from([0.0, 0.5, 1.0, 1e-7, 1e6]),
        st.floats(0.0, 1.0, allow_subnormal=False),
    )
    rows = draw(
        st.lists(
            st.lists(weight, min_size=classes, max_size=classes).filter(lambda row: sum(row) > 0),
            min_size=1,
            max_size=4,
        )
    )
    exact = torch.tensor(rows, dtype=torch.float64)
    return (exact / exact.sum(dim=1, keepdim=True)).to(torch.float32)


relaxed = settings(deadline=None, max_examples=150)


@relaxed
@given(simplex())
def test_top1_is_the_lowest_index_maximum(probabilities: Tensor) -> None:
    for row, winner in zip(probabilities.tolist(), top1(probabilities).tolist(), strict=True):
        assert winner == row.index(max(row))


def test_top1_of_no_rows() -> None:
    assert top1(torch.zeros(0, 5)).shape == (0,)


def test_one_hot_is_float() -> None:
    assert one_hot(torch.tensor([2, 0]), 3).tolist() == [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    assert one_hot(torch.zeros(0, dtype=torch.int64), 3).shape == (0, 3)
    assert one_hot(torch.tensor([1]), 2).dtype == torch.float32


@relaxed
@given(simplex(), st.data())
def test_the_largest_are_those_of_a_stable_sort(probabilities: Tensor, data: st.DataObject) -> None:
    classes = probabilities.shape[1]
    counts = [data.draw(st.integers(0, classes)) for _ in probabilities]
    per_row = largest(probabilities, torch.tensor(counts)[:, None])
    for row, count, chosen in zip(probabilities, counts, per_row, strict=True):
        values = row.tolist()
        stable = sorted(range(classes), key=lambda index: -values[index])[:count]
        assert sorted(stable) == chosen.nonzero().flatten().tolist()
        assert torch.equal(largest(row[None], count)[0], chosen)


@relaxed
@given(simplex(), st.sampled_from(STEPS))
def test_rounded_rows_are_multiples_that_sum_to_one(probabilities: Tensor, steps: int) -> None:
    rounded = round_to_grid(probabilities, steps)
    assert rounded.dtype == torch.float32
    units = (rounded.double() * steps).round()
    assert torch.equal((units / steps).float(), rounded)
    assert (units >= 0).all()
    assert (units.sum(dim=1) == steps).all()
    assert ((rounded.double().sum(dim=1) - 1).abs() <= 1e-6).all()


@relaxed
@given(simplex(), st.sampled_from(STEPS))
def test_no_entry_moves_by_a_whole_step(probabilities: Tensor, steps: int) -> None:
    moved = (round_to_grid(probabilities, steps) - probabilities).abs().max()
    assert moved < 1.0 / steps + 1e-6


@relaxed
@given(simplex(), st.sampled_from(STEPS))
def test_the_order_of_entries_is_kept_up_to_ties(probabilities: Tensor, steps: int) -> None:
    rounded = round_to_grid(probabilities, steps)
    larger = probabilities[:, :, None] > probabilities[:, None, :]
    assert (rounded[:, :, None] >= rounded[:, None, :])[larger].all()


@relaxed
@given(simplex(), st.sampled_from(STEPS))
def test_rounding_twice_is_rounding_once(probabilities: Tensor, steps: int) -> None:
    once = round_to_grid(probabilities, steps)
    assert torch.equal(round_to_grid(once, steps), once)


@relaxed
@given(simplex(), st.sampled_from([10, GRID]))
def test_a_row_is_rounded_alone_as_among_others(probabilities: Tensor, steps: int) -> None:
    together = round_to_grid(probabilities, steps)
    alone = torch.cat([round_to_grid(row[None], steps) for row in probabilities])
    assert torch.equal(together, alone)


def test_units_go_to_the_largest_remainders_lower_index_first() -> None:
    probabilities = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.04, 0.36, 0.24, 0.36]])
    expected = torch.tensor([[0.3, 0.3, 0.2, 0.2], [0.0, 0.4, 0.2, 0.4]])
    torch.testing.assert_close(round_to_grid(probabilities, 10), expected)


@pytest.mark.parametrize("error", [-9e-7, 9e-7])
def test_a_sum_that_is_off_by_float_error_does_not_move_the_top(error: float) -> None:
    # At a million steps the error is a whole unit, which must not be taken from the top.
    lead = 2e-6
    probabilities = torch.tensor([[0.5 - lead, 0.5 + lead + error, 0.0]], dtype=torch.float64)
    rounded = round_to_grid(probabilities, 1_000_000)
    assert top1(rounded).tolist() == [1]
    assert (rounded.double() * 1e6).round().sum() == 1_000_000


def test_more_classes_than_steps() -> None:
    probabilities = torch.full((1, 300), 1 / 300)
    rounded = round_to_grid(probabilities, 10)
    assert (rounded[0, :10] == 0.1).all()
    assert (rounded[0, 10:] == 0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none_and_harms_no_neighbour(value: float) -> None:
    probabilities = torch.tensor([[0.5, 0.5], [value, 0.5], [0.0, 0.0], [0.25, 0.75]])
    rounded = round_to_grid(probabilities, GRID)
    assert rounded[1].isnan().any()
    assert rounded[2].isnan().all()
    torch.testing.assert_close(rounded[[0, 3]], probabilities[[0, 3]])


def test_no_rows() -> None:
    assert round_to_grid(torch.zeros(0, 4), GRID).shape == (0, 4)
