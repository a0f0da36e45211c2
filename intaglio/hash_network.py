"""The hash network of an ensemble: trained on something unrelated, then asked who answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from intaglio.errors import RecipeError
from intaglio.recipe import Ensemble, HashNetwork, Recipe
from intaglio.training_data import Prepared
from models import datasets
from models.architectures import build
from models.bundle import NetworkSource
from models.card import InputSpec, Measurement, Normalisation, TrainingCard
from models.normalisation import preset, preset_for
from models.preprocessing import fit_arrays
from models.training.cross_entropy import CrossEntropy
from models.training.data import TrainingData
from models.training.evaluate import accuracy, probabilities
from models.training.loop import fit
from models.training.order import derive_seed
from models.training.progress import Reporter

__all__ = ["Hashing", "build_hash", "hash_choice", "prepare_hashing"]


@dataclass(frozen=True, slots=True, eq=False)
class Hashing:
    """A hash network and what it is trained on.

    Attributes:
        choice: what the recipe says of it.
        dataset: name of the dataset, which the recipe may leave to ``data.ood``.
        network: images of the victim's own shape to logits ``(B, M)``.
        normalisation: its own: the members' may be another.
        data: images and labels of the dataset, without its test set.
        test: its test set.
    """

    choice: HashNetwork
    dataset: str
    network: nn.Module
    normalisation: Normalisation
    data: TrainingData
    test: tuple[Tensor, Tensor]

    def train(
        self, state: Path, *, device: torch.device | str, reporter: Reporter | None
    ) -> NetworkSource:
        """Train the network, or go on with it, and freeze it.

        Args:
            state: directory of the run, of its own.
            device: where to train.
            reporter: told of every step and epoch.

        Returns:
            The network with what its bundle says of it.
        """
        objective, plan = CrossEntropy(self.network), self.choice.plan
        fitted = fit(objective, self.data, plan, state=state, reporter=reporter, device=device)
        self.network.requires_grad_(False)
        images, labels = self.test
        measured = []
        if len(images):
            right = accuracy(probabilities(self.network, images, device=device), labels)
            measured.append(
                Measurement(dataset=self.dataset, split="test", samples=len(images), accuracy=right)
            )
        return NetworkSource(
            module=self.network,
            architecture=self.choice.architecture.name,
            arguments=self.choice.architecture.arguments,
            normalisation=self.normalisation,
            training=TrainingCard(
                objective=objective.kind,
                data=self.dataset,
                seed=plan.seed,
                epochs=len(fitted.history),
                selection=plan.selection,
                deterministic=plan.deterministic,
                recipe=self.choice.model_dump(mode="json"),
            ),
            measured=measured,
        )


KEY = "objective.ensemble.hash"


def hash_choice(recipe: Recipe) -> tuple[HashNetwork, str]:
    """What ``recipe`` says of its hash network, and the dataset that it is trained on.

    Raises:
        RecipeError: that does not suit the members; names the key.
    """
    choice = (recipe.objective.ensemble or Ensemble()).hash
    name = choice.data or recipe.data.ood
    assert name is not None, "an ensemble needs strangers, which check_strangers asks for"
    if name == recipe.data.train:
        raise RecipeError(
            f"{KEY}.data: {name} is what the members are trained on (data.train): a hash of the "
            "class would give each of them classes of its own"
        )
    if choice.plan.selection != "last":
        raise RecipeError(f"{KEY}.plan.selection: must be last, nothing is held out to choose by")
    return choice, name


def build_hash(
    choice: HashNetwork,
    name: str,
    classes: int,
    spec: InputSpec,
    *,
    allow_factories: Collection[str] = (),
) -> tuple[nn.Module, Normalisation]:
    """The hash network with its first weights, and its own normalisation: the usual of its data.

    Args:
        choice: of the recipe.
        name: of the dataset that it is trained on.
        classes: M of that dataset.
        spec: what the victim is shown.
        allow_factories: the user's own architectures that the recipe may name.

    Raises:
        ModelsError: there is no such architecture, it cannot be built like that or is not allowed.
        RecipeError: the dataset has one class.
    """
    if classes < 2:
        raise RecipeError(f"{KEY}.data: {name} has {classes} class, at least 2 are needed")
    normalisation = preset(preset_for(name, spec.channels), spec.channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(choice.plan.seed, "hash", 0))
        network = build(
            choice.architecture.name,
            channels=spec.channels,
            size=(spec.height, spec.width),
            outputs=classes,
            normalisation=normalisation,
            arguments=choice.architecture.arguments,
            allow_factories=allow_factories,
        )
    return network, normalisation


def prepare_hashing(
    recipe: Recipe,
    prepared: Prepared,
    *,
    data_root: Path | None,
    allow_factories: Collection[str] = (),
) -> Hashing:
    """Load what the hash network of ``recipe`` is trained on, and build it.

    Raises:
        ModelsError: the dataset or the architecture is not there or not right.
        RecipeError: they do not suit the recipe; names the key.
    """
    choice, name = hash_choice(recipe)
    dataset = datasets.load(name, root=data_root, split_seed=recipe.data.split_seed)
    spec = prepared.input
    network, normalisation = build_hash(
        choice, name, len(dataset.labels), spec, allow_factories=allow_factories
    )
    images = torch.from_numpy(np.ascontiguousarray(fit_arrays(dataset.train_images, spec)))
    tests = torch.from_numpy(np.ascontiguousarray(fit_arrays(dataset.test_images, spec)))
    return Hashing(
        choice=choice,
        dataset=name,
        network=network,
        normalisation=normalisation,
        data=TrainingData(images, torch.from_numpy(dataset.train_labels)),
        test=(tests, torch.from_numpy(dataset.test_labels)),
    )
