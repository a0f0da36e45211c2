"""A clone that is trained while its attack goes on, to choose what to ask next."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from attack_client.clone import CloneRecipe, untrained
from attack_client.objectives import Imitation
from attack_client.predictions import predict
from models.training.data import TrainingData
from models.training.loop import fit
from models.training.order import derive_seed
from models.training.plan import Constant, Cosine, Plan, Sgd

__all__ = ["Apprentice"]

OPTIMISER = Sgd(lr=0.1, weight_decay=5e-4)
"""Of InI's substitute in JBDA."""


class Apprentice:
    """Starts from drawn weights and keeps what it learnt from one lesson to the next.

    What it becomes is a function of its arguments and its lessons, on one kind of machine and with
    one number of threads: an attack that is run again over the same answers makes the same choices.

    Args:
        architecture: a registered name, or a factory that is allowed.
        like: ``(N, C, H, W)`` uint8, images such as it will see; it normalises by their mean and
            deviation.
        classes: number of logits K.
        seed: of its weights and of the order of its lessons.
        device: where it is trained.
        allow_factories: factories that may be called.

    Raises:
        ModelsError: it cannot be built.
    """

    def __init__(
        self,
        architecture: str,
        like: NDArray[np.uint8],
        *,
        classes: int,
        seed: int,
        device: torch.device | str = "cpu",
        allow_factories: Collection[str] = (),
    ) -> None:
        self.device = device
        self.classes = classes
        self._seed = seed
        self._lessons = 0
        self.network: nn.Module = untrained(
            like,
            classes,
            CloneRecipe(architecture=architecture, allow_factories=allow_factories),
            derive_seed(seed, "apprentice"),
        )
        self.network.to(device).eval()

    def learn(
        self,
        images: NDArray[np.uint8],
        targets: NDArray[np.float32] | NDArray[np.int64],
        *,
        epochs: int,
        optimiser: Sgd = OPTIMISER,
        constant: bool = False,
    ) -> None:
        """One more lesson.

        Args:
            images: ``(N, C, H, W)`` uint8.
            targets: answers ``(N, K)`` float32, or labels ``(N,)`` int64.
            epochs: passes over them.
            optimiser: begins without momentum in every lesson.
            constant: keep the learning rate, in place of half a cosine to zero.

        Raises:
            TrainingError: it diverged.
        """
        self._lessons += 1
        plan = Plan(
            epochs=epochs,
            batch_size=min(128, max(16, len(images) // 8)),
            seed=derive_seed(self._seed, "lesson", self._lessons),
            optimiser=optimiser,
            schedule=Constant() if constant else Cosine(),
            clip_norm=5.0,
            channels_last=True,  # as for the clones that are scored
        )
        data = TrainingData(images=torch.tensor(images), targets=torch.tensor(targets))
        fit(Imitation(self.network), data, plan, device=self.device)

    def answer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities ``(N, K)``."""
        return predict(self.network, images, device=self.device)
