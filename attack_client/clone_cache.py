"""Clones by what they were trained on: equal answers make equal clones."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from attack_client.adaptive.contract import PLAIN, Tuition
from attack_client.clone import CloneRecipe, train_clone, untrained
from models.training.atomic import write_atomically
from models.training.progress import Reporter

__all__ = ["CloneCache", "CloneShelf"]

FORMAT = 1
"""Raised when clones that earlier versions kept are to be trained again."""


class CloneCache:
    """Clones kept in memory.

    Defenses that keep the top-1 leave the hard labels as they were, so a table of defenses holds
    many clones that are the same one.

    Attributes:
        seconds: that the last call of ``train`` spent on training; None where it had the clone.
    """

    def __init__(self) -> None:
        self.seconds: float | None = None
        self._clones: dict[str, nn.Module] = {}

    def __len__(self) -> int:
        """Distinct clones so far."""
        return len(self._clones)

    def train(
        self,
        images: NDArray[np.uint8],
        targets: NDArray[np.float32] | NDArray[np.int64],
        *,
        classes: int,
        recipe: CloneRecipe,
        seed: int,
        device: torch.device | str,
        reporter: Reporter | None,
        tuition: Tuition = PLAIN,
    ) -> nn.Module:
        """As ``train_clone``, unless that was done already."""
        about = (FORMAT, recipe, seed, classes, str(device), tuition.name)
        digest = hashlib.sha256(repr(about).encode())
        seen = (images, targets, tuition.unlabelled)
        for array in (array for array in seen if array is not None):
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        key = digest.hexdigest()
        self.seconds = None
        if key not in self._clones:
            with self._alone(key):
                clone = self._find(key, lambda: untrained(images, classes, recipe, seed), device)
                if clone is None:
                    began = time.monotonic()
                    clone = train_clone(
                        images,
                        targets,
                        classes=classes,
                        recipe=recipe,
                        seed=seed,
                        device=device,
                        reporter=reporter,
                        objective=tuition.objective,
                        unlabelled=tuition.unlabelled,
                    )
                    self.seconds = time.monotonic() - began
                    self._keep(key, clone)
            self._clones[key] = clone
        return self._clones[key]

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Nobody else trains ``key`` meanwhile."""
        del key
        yield

    def _find(
        self, key: str, build: Callable[[], nn.Module], device: torch.device | str
    ) -> nn.Module | None:
        """The clone ``key`` from an earlier run: its weights, put into what ``build`` makes."""
        del key, build, device
        return None

    def _keep(self, key: str, clone: nn.Module) -> None:
        """Keep it for later ones."""


class CloneShelf(CloneCache):
    """Clones kept in a directory as well, for later runs and for other processes.

    Two processes that need the same clone at once train it once, where the file system has locks;
    where it has none, they train it twice.

    Args:
        path: the directory, which is made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._lock(handle)
            yield
        finally:
            os.close(handle)

    @staticmethod
    def _lock(handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            # Equal work, done twice at worst: what is kept is written whole or not at all.
            return

    def _find(
        self, key: str, build: Callable[[], nn.Module], device: torch.device | str
    ) -> nn.Module | None:
        file = self.path / f"{key}.safetensors"
        if not file.is_file():
            return None
        clone = build()
        try:
            clone.load_state_dict(load_file(file))
        except (SafetensorError, RuntimeError, OSError):
            # Damaged, or of an older version of the architecture: it is trained again.
            return None
        return clone.eval().to(device)

    def _keep(self, key: str, clone: nn.Module) -> None:
        tensors = {name: value.contiguous().cpu() for name, value in clone.state_dict().items()}
        write_atomically(self.path / f"{key}.safetensors", save(tensors))
