"""From a transfer set with maps to a clone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attack_client.adaptive.contract import Harvest
from attack_client.adaptive.image_places import places
from attack_client.attacks.attribution_objective import (
    MapMatching,
    MapMatchingObjective,
    as_pictures,
)
from attack_client.clone import CloneRecipe, train_clone
from attack_client.objectives import Imitation
from attack_client.report.schema import Labels
from attack_client.scoring import clone_seed, learnable
from attack_client.transfer_set import TransferSet
from models.training.objective import Objective
from models.training.progress import Reporter

__all__ = ["train_attribution_clone"]


def train_attribution_clone(
    stolen: TransferSet,
    *,
    budget: int,
    labels: Labels,
    recipe: CloneRecipe,
    matching: MapMatching,
    seed: int = 0,
    device: torch.device | str = "cpu",
    reporter: Reporter | None = None,
    harvest: Harvest | None = None,
) -> nn.Module:
    """Train a clone on the first ``budget`` answers and maps of ``stolen``.

    With a lambda of 0 it is the clone that ``train_and_score`` trains, so that what the maps add is
    the difference between two rows.

    Args:
        stolen: open for reading; must keep maps and hold that many answers.
        budget: the prefix.
        labels: the answers as they are, or their argmax.
        recipe: of the clone; its augmentation moves a map as it moves the image.
        matching: lambda and the interpreter of the clone.
        seed: of the attack; the clone's own is derived from it.
        device: where to train; the clone stays there.
        reporter: told of the training.
        harvest: what add-ons made of that prefix, of images that were asked about.

    Raises:
        TransferSetError: there are fewer answers than ``budget``, or no maps.
        ModelsError: the clone cannot be built, explained or trained.
    """
    images, answers = stolen.prefix(budget)
    pictures: NDArray[np.uint8] | None = None
    objective: Callable[[nn.Module], Objective] = Imitation
    harvest = Harvest.of(images, answers) if harvest is None else harvest
    if matching.weight > 0.0:
        told = stolen.maps(0, budget)[places(harvest.images, images)]
        pictures = as_pictures(told, stolen.provenance.shape)
        objective = partial(MapMatchingObjective, matching=matching)
    return train_clone(
        harvest.images,
        learnable(harvest, labels),
        classes=stolen.provenance.classes,
        recipe=recipe,
        seed=clone_seed(seed),
        device=device,
        reporter=reporter,
        objective=objective,
        paired=pictures,
    )
