"""What comes back from the device is under its own name, however much else is packed with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from defenses.chain import Outcome
from defenses.contract import Answers
from server.transfer import bring_back

VICTIM = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.0, 0.0, 1.0]])
LEAVES = torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.1, 0.3], [1 / 3, 1 / 3, 1 / 3]])
FAILED = torch.tensor([False, False, True])


@pytest.mark.parametrize("explained", [False, True])
@pytest.mark.parametrize("links", [0, 1, 3])
def test_every_figure_comes_back_under_its_own_name(
    device: torch.device, explained: bool, links: int
) -> None:
    # Every figure is another one, so that none can stand for its neighbour.
    maps = torch.arange(10.0, 28.0).reshape(3, 2, 3) if explained else None
    moved = torch.arange(100.0, 100.0 + 3 * links).reshape(3, links)
    outcome = Outcome(
        answers=Answers(LEAVES.to(device), None if maps is None else maps.to(device)),
        failed=FAILED.to(device),
        seconds=(0.0,) * links,
        moved=moved.to(device),
    )

    returned = bring_back(VICTIM.to(device), outcome)

    assert returned.failed.dtype == np.bool_
    assert returned.failed.tolist() == FAILED.tolist()
    np.testing.assert_array_equal(returned.probabilities, LEAVES.numpy())
    np.testing.assert_allclose(returned.confidence, [0.7, 0.6, 1.0])
    np.testing.assert_allclose(returned.distortion, [0.4, 1.0, 4 / 3], rtol=1e-6)
    np.testing.assert_array_equal(returned.changed, [0.0, 1.0, 1.0])
    np.testing.assert_array_equal(returned.moved, moved.numpy())
    if maps is None:
        assert returned.maps is None
    else:
        assert returned.maps is not None
        np.testing.assert_array_equal(returned.maps, maps.numpy())
