"""From a transfer set to a clone."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attack_client.checked_numbers import whole_number
from attack_client.errors import AttackError
from attack_client.objectives import Imitation
from models import architectures
from models.card import Normalisation
from models.training.data import TrainingData
from models.training.loop import fit
from models.training.objective import Objective
from models.training.plan import Adam, Augment, Cosine, Plan, Schedule, Sgd
from models.training.progress import Reporter

__all__ = ["CloneRecipe", "build_clone", "default_epochs", "normalisation_of", "train_clone"]

PRESENTATIONS = 300_000
"""Images shown during training by default: the epochs follow from the budget."""

SCHEDULE = Cosine()

OPTIMISER = Sgd(lr=0.1, nesterov=True, weight_decay=5e-4)
"""Of four candidates the one whose clones agree best with held-out answers."""


def default_epochs(samples: int, presentations: int = PRESENTATIONS) -> int:
    """Epochs that show a clone ``presentations`` images, but at least 5 and at most 100 epochs.

    A fixed number of epochs would starve small budgets of optimiser steps and waste hours on
    large ones; then a curve over budgets would show the recipe, not the leak.
    """
    return min(100, max(5, math.ceil(presentations / samples)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneRecipe:
    """How clones are trained; one for all defenses of a table, or they are not comparable.

    Attributes:
        architecture: a registered name, or a factory that is allowed.
        epochs: passes over the transfer set; None for ``default_epochs``.
        presentations: images shown in all, where ``epochs`` is None.
        batch_size: samples per step.
        least_steps: steps per epoch below which a small transfer set gets smaller batches, down to
            16; 1 leaves ``batch_size`` alone.
        clip_norm: bound on a gradient's norm; one wild batch must not cost a whole table its row.
        per_epoch: answers of one epoch, for an attack that makes new images for every epoch: in
            the order in which they were asked, each is shown in one epoch only. The number of
            epochs follows from the budget.
        optimiser: the default was chosen by agreement with held-out answers, see
            ``benchmarks/clone_optimiser.py``.
        schedule: of its learning rate; a cosine to zero by default.
        augment: as in ``models.training.plan.Plan``; InI's attacker uses none.
        holdout: share of the transfer set held out to choose the best epoch by, in [0, 0.5]; 0
            takes the last epoch. The test set never chooses.
        allow_factories: factories that may be called.
    """

    architecture: str
    epochs: int | None = None
    presentations: int = PRESENTATIONS
    batch_size: int = 128
    least_steps: int = 8
    clip_norm: float | None = 5.0
    per_epoch: int | None = None
    optimiser: Sgd | Adam = OPTIMISER
    schedule: Schedule = SCHEDULE
    augment: Augment = "none"
    holdout: float = 0.0
    allow_factories: Collection[str] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.holdout <= 0.5:
            raise ValueError(f"holdout must be in [0, 0.5], not {self.holdout}")
        for name in ("epochs", "presentations", "batch_size", "least_steps", "per_epoch"):
            value = getattr(self, name)
            if value is not None or name not in {"epochs", "per_epoch"}:
                whole_number(name, value, least=1)
        if self.per_epoch is not None and self.holdout:
            raise ValueError(
                "per_epoch goes without a holdout: epochs of different images cannot be "
                "chosen among"
            )

    def held(self, answers: int) -> int:
        """How many of ``answers`` are held out."""
        return int(answers * self.holdout)

    def plan(self, samples: int, seed: int) -> Plan:
        """The plan for a transfer set of ``samples`` answers."""
        shown = samples if self.per_epoch is None else self.per_epoch
        epochs = self.epochs or default_epochs(samples, self.presentations)
        return Plan(
            epochs=epochs if self.per_epoch is None else samples // shown,
            batch_size=min(self.batch_size, max(16, shown // self.least_steps)),
            seed=seed,
            optimiser=self.optimiser,
            schedule=self.schedule,
            augment=self.augment,
            clip_norm=self.clip_norm,
            selection="best-on-validation" if self.holdout else "last",
            channels_last=True,  # a third less time for small networks on a CPU
        )


def build_clone(
    recipe: CloneRecipe,
    *,
    shape: tuple[int, int, int],
    classes: int,
    normalisation: Normalisation,
    seed: int,
) -> nn.Module:
    """A clone before training, drawn from ``seed``; torch's own random state is left alone.

    Args:
        recipe: names its architecture.
        shape: ``(C, H, W)`` of its images.
        classes: number of logits K.
        normalisation: applied to pixels in [0, 1].
        seed: of the weights.

    Raises:
        ModelsError: an unknown architecture, or one that does not fit the images.
    """
    channels, height, width = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architectures.build(
            recipe.architecture,
            channels=channels,
            size=(height, width),
            outputs=classes,
            normalisation=normalisation,
            allow_factories=recipe.allow_factories,
        )


def train_clone(
    images: NDArray[np.uint8],
    targets: NDArray[np.float32] | NDArray[np.int64],
    *,
    classes: int,
    recipe: CloneRecipe,
    seed: int,
    device: torch.device | str = "cpu",
    reporter: Reporter | None = None,
    objective: Callable[[nn.Module], Objective] = Imitation,
    unlabelled: NDArray[np.uint8] | None = None,
    paired: NDArray[np.uint8] | None = None,
) -> nn.Module:
    """Train a clone on what was stolen.

    The clone normalises by the mean and deviation of ``images``: the victim's constants are not
    an attacker's to know.

    Args:
        images: ``(N, C, H, W)`` uint8.
        targets: answers ``(N, K)`` float32, or their argmax ``(N,)`` int64.
        classes: number of logits K.
        recipe: how.
        seed: of initialisation, order, augmentation and held-out answers.
        device: where to train; the clone stays there.
        reporter: told of every step and epoch.
        objective: what the clone minimises; decides what ``targets`` are.
        unlabelled: ``(L, C, H, W)`` uint8, images of which the objective sees a batch at every
            step, where it asks for that.
        paired: another picture ``(N, C, H, W)`` uint8 beside each image, where the objective wants
            one.

    Returns:
        The clone, in evaluation mode.

    Raises:
        AttackError: a share is to be held out, and it holds out no answer.
        ModelsError: an unknown architecture, or one that does not fit the images.
        TrainingError: training diverged, or the answers do not fill the recipe's epochs.
    """
    count = len(images)
    held = recipe.held(count)
    if recipe.holdout and held == 0:
        raise AttackError(
            f"a holdout of {recipe.holdout:g} of the {count} answers that are left holds out no "
            "answer: raise --holdout or --budget, or hold out nothing"
        )
    order = np.random.default_rng(seed).permutation(count) if held else np.arange(count)
    pixels = torch.from_numpy(np.ascontiguousarray(images[order]))
    answers = torch.from_numpy(np.ascontiguousarray(targets[order]))
    data = TrainingData(
        images=pixels[held:],
        targets=answers[held:],
        validation_images=pixels[:held] if held else None,
        validation_targets=answers[:held] if held else None,
        per_epoch=recipe.per_epoch,
        ood=None if unlabelled is None else torch.from_numpy(np.ascontiguousarray(unlabelled)),
        paired=None if paired is None else torch.from_numpy(paired[order])[held:],
    )
    channels, height, width = images.shape[1:]
    network = build_clone(
        recipe,
        shape=(channels, height, width),
        classes=classes,
        normalisation=normalisation_of(images),
        seed=seed,
    )
    fit(objective(network), data, recipe.plan(count - held, seed), reporter=reporter, device=device)
    return network.eval()


def normalisation_of(images: NDArray[np.uint8]) -> Normalisation:
    """Mean and deviation per channel of pixels in [0, 1], from counts of the 256 values."""
    mean, std = [], []
    levels = np.arange(256) / 255.0
    for channel in range(images.shape[1]):
        share = np.bincount(images[:, channel].ravel(), minlength=256) / images[:, channel].size
        centre = float(share @ levels)
        mean.append(centre)
        # A pool of one colour has no deviation; 1/255 is the least that uint8 can show.
        std.append(max(math.sqrt(float(share @ (levels - centre) ** 2)), 1 / 255))
    return Normalisation(mean=tuple(mean), std=tuple(std))
