"""What answers for a bundle: its one network, or an ensemble of several."""

from __future__ import annotations

import torch

from models.bundle.reading import Bundle
from models.ensemble import RoutedEnsemble
from models.victim import SingleVictim, Victim

__all__ = ["load_victim"]


def load_victim(bundle: Bundle, device: torch.device | str = "cpu") -> Victim:
    """The victim of ``bundle``, in evaluation mode with gradients off, on ``device``.

    A bundle with a network of role ``hash`` holds an ensemble: its members are what it was trained
    to be, and none of them is served alone.

    Raises:
        BundleError: the bundle has no victim, or a file of it is not what its card says.
    """
    members = [bundle.load(role, device) for role in bundle.card.members]
    if len(members) == 1:
        return SingleVictim(members[0])
    return RoutedEnsemble(bundle.load("hash", device), members)
