"""What ``benchmarks.training`` compares: a step of every objective, one network, one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from defenses.training.adaptive_misinformation import AdaptiveMisinformation
from defenses.training.ensemble_of_diverse_models import EnsembleOfDiverseModels
from defenses.training.isolation_induction import IsolationInduction
from defenses.training.nasty import Nasty
from defenses.training.outlier_exposure import OutlierExposure
from defenses.training.sparse_teacher import AdversarialSparseTeacher, SparseTeacher
from models.architectures import build
from models.card import Normalisation
from models.training.combiner import COMBINERS
from models.training.cross_entropy import CrossEntropy
from models.training.finite import require_finite_gradients
from models.training.objective import Batch, Objective
from models.training.order import generator

__all__ = ["MEMBERS", "SUBJECTS", "Step", "Subject", "Workload"]

CLASSES = 10
MEMBERS = 3


@dataclass(frozen=True, slots=True)
class Workload:
    """A network and the batch that it is trained on.

    Attributes:
        architecture: a registered name.
        shape: ``(C, H, W)`` of the images.
        batch: how many of them; as many strangers, and as many adversarial versions.
    """

    architecture: str
    shape: tuple[int, int, int]
    batch: int

    def named(self, device: torch.device) -> str:
        """For instance ``resnet18-32x32-b16-cpu``."""
        _, height, width = self.shape
        return f"{self.architecture}-{height}x{width}-b{self.batch}-{device.type}"

    def network(self, seed: int, device: torch.device) -> nn.Module:
        """With seeded random weights: what a step costs does not depend on them."""
        channels, height, width = self.shape
        torch.manual_seed(seed)
        network = build(
            self.architecture,
            channels=channels,
            size=(height, width),
            outputs=CLASSES,
            normalisation=Normalisation(mean=(0.5,) * channels, std=(0.5,) * channels),
        )
        return network.to(device)

    def data(self, device: torch.device) -> Batch:
        """Noise, and labels drawn at random."""
        draws = torch.Generator().manual_seed(0)
        images, ood, paired = (
            torch.rand(self.batch, *self.shape, generator=draws).to(device) for _ in range(3)
        )
        labels = torch.randint(0, CLASSES, (self.batch,), generator=draws).to(device)
        # Far into the run, so that no term is still at weight zero.
        return Batch(images, labels, ood, paired, done=100.0)


@dataclass(frozen=True, slots=True)
class Subject:
    """An objective to measure.

    Attributes:
        networks: how many it is built from.
        objective: called with those.
        combiner: a key of ``COMBINERS``.
    """

    networks: int
    objective: Callable[[Sequence[nn.Module]], Objective]
    combiner: str = "sum"


class Step:
    """A step that can be taken again and again, as the loop takes it.

    Args:
        subject: what is minimised.
        workload: on what.
        device: where.
    """

    def __init__(self, subject: Subject, workload: Workload, device: torch.device) -> None:
        networks = [workload.network(seed, device) for seed in range(subject.networks)]
        self._objective = subject.objective(networks)
        self._combiner = COMBINERS[subject.combiner]()
        self._batch = workload.data(device)
        trained = self._objective.networks.values()
        for network in trained:
            network.train()
        self._parameters = [parameter for network in trained for parameter in network.parameters()]
        self._optimiser = torch.optim.SGD(self._parameters, 1e-4, momentum=0.9, weight_decay=5e-4)

    def __call__(self) -> None:
        """Losses, one transfer of their values, gradients, a look at them, update."""
        losses = self._objective.losses(self._batch)
        torch.stack([loss.detach() for loss in losses.values()]).tolist()
        self._optimiser.zero_grad(set_to_none=True)
        self._combiner.backward(losses, self._parameters, generator(0, "combiner"))
        require_finite_gradients(self._objective, self._batch, self._parameters, 1, 1)
        self._optimiser.step()


def _ini(*, second_order: bool = False) -> Callable[[Sequence[nn.Module]], Objective]:
    def build_objective(networks: Sequence[nn.Module]) -> Objective:
        # What a term weighs does not change what it costs; 1000 would lose random weights.
        return IsolationInduction(networks[0], networks[1], epsilon=1.0, second_order=second_order)

    return build_objective


SUBJECTS: Mapping[str, Subject] = {
    "plain": Subject(1, lambda networks: CrossEntropy(networks[0])),
    "outlier exposure": Subject(1, lambda networks: OutlierExposure(networks[0])),
    "am": Subject(2, lambda networks: AdaptiveMisinformation(networks[0], networks[1])),
    "nasty": Subject(2, lambda networks: Nasty(networks[0], networks[1])),
    "stt": Subject(2, lambda networks: SparseTeacher(networks[0], networks[1])),
    "ast, set given": Subject(2, lambda nets: AdversarialSparseTeacher(nets[0], nets[1])),
    f"edm, {MEMBERS} members": Subject(
        MEMBERS + 1, lambda networks: EnsembleOfDiverseModels(networks[0], *networks[1:])
    ),
    "ini": Subject(2, _ini()),
    "ini, pcgrad": Subject(2, _ini(), "pcgrad"),
    "ini, double backward": Subject(2, _ini(second_order=True)),
}
"""Objectives by their name in the table; ``plain`` is what the others are compared with."""
