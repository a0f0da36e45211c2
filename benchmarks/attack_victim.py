"""The victim of a bundle in this process, answering as a service without a defense does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attack_client.callable_victim import CallableVictim
from models.bundle import Bundle, open_bundle
from models.explain import build_interpreter, canonical_maps
from models.simplex import GRID, round_to_grid, top1
from models.training.data import to_unit
from models.training.evaluate import probabilities

__all__ = ["RECIPE", "SHAPE", "in_process", "trained_victim"]

SHAPE = (1, 28, 28)
"""Of MNIST."""

RECIPE = "mnist-lenet"
"""Of its victim."""


def trained_victim(models: Path, *, epochs: int, data_root: Path | None) -> Bundle:
    """A plain LeNet below ``models``, trained by the command a user would type if need be."""
    train = ["train", RECIPE, "--out", str(models), "--set", f"plan.epochs={epochs}"]
    train += [] if data_root is None else ["--data-root", str(data_root)]
    if not (models / RECIPE / "1").is_dir():
        subprocess.run([str(Path(sys.executable).with_name("intaglio")), *train], check=True)
    return open_bundle(models / RECIPE / "1")


def in_process(
    bundle: Bundle, *, interpreter: str = "grad-cam", device: torch.device | str = "cpu"
) -> CallableVictim:
    """The ``victim`` of ``bundle``: probabilities on the service's grid, maps as it serves them."""
    network = bundle.load("victim").to(device)
    explainer = build_interpreter(interpreter, network)

    def answer(images: NDArray[np.uint8]) -> Tensor:
        said = probabilities(network, torch.tensor(images), device=device)
        return round_to_grid(said, GRID)

    def explain(images: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        said = answer(images)
        maps = explainer(to_unit(torch.tensor(images), device), top1(said).to(device))
        return said, canonical_maps(maps.detach()).cpu()

    _, shown = explain(np.zeros((1, *bundle.card.input.shape), dtype=np.uint8))
    return CallableVictim(
        answer,
        shape=bundle.card.input.shape,
        classes=bundle.card.classes,
        name=bundle.card.name,
        explain=explain,
        maps=(shown.shape[1], shown.shape[2]),
    )
