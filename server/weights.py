"""Networks that are loaded, each of them once, however many models are made of it."""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary

import torch
from torch import nn

from models.bundle import Bundle, load_victim
from models.victim import Victim

__all__ = ["Weights"]

Key = tuple[str, str, str, str]


class Weights:
    """Loads networks onto one device, and remembers those that somebody still uses.

    A network is known by where it is and by what its card says of it, the SHA-256 of its file
    included: weights that were replaced on disk are loaded, unchanged ones are not loaded again.
    Nothing is kept alive: what no model is made of any more is freed.

    Thread-safe.

    Args:
        device: where the networks shall compute.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._loaded: WeakValueDictionary[Key, nn.Module] = WeakValueDictionary()

    def network(self, bundle: Bundle, role: str) -> nn.Module:
        """The network of ``role``, in evaluation mode with gradients off.

        Raises:
            BundleError: there is none, or its file is not what the card says.
        """
        card = bundle.card
        described = card.networks.get(role)
        if described is None:
            return bundle.load(role, self.device)  # which says so
        key = (
            str(bundle.path.resolve()),
            role,
            described.model_dump_json(),
            card.input.model_dump_json(),
        )
        with self._lock:
            network = self._loaded.get(key)
            if network is None:
                network = self._loaded[key] = bundle.load(role, self.device)
            return network

    def victim(self, bundle: Bundle) -> Victim:
        """What answers for ``bundle``: its one network, or its ensemble.

        Raises:
            BundleError: it has no victim, or a file of it is not what its card says.
        """
        return load_victim(bundle, load=lambda role: self.network(bundle, role))

    def __len__(self) -> int:
        """Networks that somebody still uses."""
        return len(self._loaded)
