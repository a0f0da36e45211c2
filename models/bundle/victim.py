"""What answers for a bundle: its one network, or an ensemble of several."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from models.bundle.reading import Bundle
from models.ensemble import RoutedEnsemble
from models.victim import SingleVictim, Victim

__all__ = ["load_victim"]


def load_victim(
    bundle: Bundle,
    device: torch.device | str = "cpu",
    *,
    load: Callable[[str], nn.Module] | None = None,
) -> Victim:
    """The victim of ``bundle``, in evaluation mode with gradients off, on ``device``.

    A bundle with a network of role ``hash`` holds an ensemble: its members are what it was trained
    to be, and none of them is served alone.

    Args:
        bundle: opened.
        device: where it shall compute.
        load: gives the network of a role, where somebody else has loaded some; default: all are
            loaded here.

    Raises:
        BundleError: the bundle has no victim, or a file of it is not what its card says.
    """
    given = load or (lambda role: bundle.load(role, device))
    members = [given(role) for role in bundle.card.members]
    if len(members) == 1:
        return SingleVictim(members[0])
    return RoutedEnsemble(given("hash"), members)
