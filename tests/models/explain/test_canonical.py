"""The form in which maps leave."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.explain import MAP_GRID, canonical_maps


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6),
    st.floats(0.0009765625, 1000.0, width=32),
)
def test_neither_scale_nor_offset_leaves_and_the_grid_is_kept(
    values: list[float], scale: float
) -> None:
    field = torch.tensor(values, dtype=torch.float64).reshape(1, 2, 3)
    leaving = canonical_maps(field)
    assert leaving.dtype == torch.float32
    assert leaving.shape == field.shape
    steps = leaving.double() * MAP_GRID
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    spread = field.max() - field.min()
    if spread > 1e-3 * field.abs().max():
        assert leaving.min() == 0.0
        assert leaving.max() == 1.0
        moved = canonical_maps(field * scale)
        assert (moved - leaving).abs().max() < 1.5 / MAP_GRID


def test_a_flat_map_is_all_zeros_even_if_floats_wobble() -> None:
    flat = torch.full((2, 4, 4), 3.0)
    flat[1] += torch.rand(4, 4) * 1e-6
    assert torch.equal(canonical_maps(flat), torch.zeros(2, 4, 4))
    assert torch.equal(canonical_maps(torch.zeros(1, 2, 2)), torch.zeros(1, 2, 2))


def test_each_map_by_itself_and_what_is_not_finite_stays_so() -> None:
    maps = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    for wrong in ("nan", "inf", "-inf"):
        maps[1, 0, 0] = float(wrong)
        leaving = canonical_maps(maps)
        assert not leaving[1].isfinite().all(), wrong
        for row in (0, 2):
            assert torch.equal(leaving[row], canonical_maps(maps[row : row + 1])[0])


def test_no_maps_at_all() -> None:
    assert canonical_maps(torch.zeros(0, 4, 4)).shape == (0, 4, 4)
