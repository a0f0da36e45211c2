"""The plain network that some defended ones are trained against, and what it is used for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from intaglio.errors import RecipeError
from intaglio.recipe import Architecture, Recipe
from intaglio.training_data import Prepared
from models.adversarial.card import AdversarialSource, Attack
from models.adversarial.stored import adversarial_set, images_digest
from models.architectures import all_arguments
from models.bundle import open_bundle, resolve_bundle
from models.card import NetworkCard, Normalisation
from models.errors import BundleNotFound
from models.training.data import TrainingData

__all__ = ["Base", "check_choice", "check_split", "find_base", "with_adversarial"]


@dataclass(frozen=True, slots=True)
class Base:
    """A plain network that is consulted and not changed.

    Attributes:
        name: NAME/VERSION of its bundle.
        said: what the recipe calls it from now on: the same, or its directory.
        sha256: of its weights.
        network: in evaluation mode, without gradients.
    """

    name: str
    said: str
    sha256: str
    network: nn.Module

    def settled(self, recipe: Recipe) -> Recipe:
        """``recipe`` with the very version of its base."""
        objective = recipe.objective.model_copy(update={"base": self.said})
        return recipe.model_copy(update={"objective": objective})


def check_choice(
    recipe: Recipe, *, needs_base: bool, needs_paired: bool, ensemble: bool = False
) -> None:
    """Refuse an objective that lacks its base, or is given what it has no use for.

    Raises:
        RecipeError: names the key.
    """
    choice = recipe.objective
    if needs_base and choice.base is None:
        raise RecipeError(
            f"objective.base: the objective {choice.kind} needs the bundle of a plain model of "
            "the same architecture"
        )
    for key, useful in (
        ("base", needs_base),
        ("warm_start", needs_base),
        ("reference", choice.kind == "am"),
        ("adversarial", needs_paired),
        ("ensemble", ensemble),
    ):
        if getattr(choice, key) and not useful:
            raise RecipeError(f"objective.{key}: the objective {choice.kind} has no use for it")


def find_base(
    recipe: Recipe,
    prepared: Prepared,
    normalisation: Normalisation,
    out: Path,
    *,
    allow_factories: Collection[str] = (),
) -> Base:
    """Open the base of ``recipe`` and see that it is a plain model of the same kind.

    Raises:
        BundleError: it cannot be read.
        RecipeError: it is not there, or of another architecture, input, normalisation, other
            labels, or another split of the data.
    """
    wanted = recipe.objective.base
    assert wanted is not None, "check_choice refuses a recipe without one"
    path, said = _found(wanted, out)
    bundle = open_bundle(path, allow_factories=allow_factories)
    card = bundle.card
    network = card.networks.get("victim")
    if network is None:
        raise RecipeError(f"objective.base: {path} holds no victim")
    if not _alike(network, recipe.architecture, allow_factories):
        theirs = _named(network.architecture, network.arguments)
        ours = _named(recipe.architecture.name, recipe.architecture.arguments)
        raise RecipeError(f"objective.base: {path} is a {theirs}, this recipe trains a {ours}")
    for what, theirs_, ours_ in (
        ("labels", card.labels, prepared.labels),
        ("input size", card.input.shape, prepared.input.shape),
        ("normalisation", network.normalisation, normalisation),
    ):
        if theirs_ != ours_:
            raise RecipeError(f"objective.base: {path} and this recipe differ in their {what}")
    if network.training is not None and network.training.objective != "plain":
        raise RecipeError(
            f"objective.base: {path} was trained as {network.training.objective}, not plain"
        )
    check_split("objective.base", path, network, recipe)
    return Base(f"{card.name}/{card.version}", said, network.sha256, bundle.load("victim"))


def check_split(key: str, path: Path, network: NetworkCard, recipe: Recipe) -> None:
    """Refuse a network that may have been trained on the validation images of ``recipe``.

    Raises:
        RecipeError: its card tells of another split; begins with ``key``.
    """
    if network.training is None:
        return
    theirs = network.training.recipe.get("data")
    ours = recipe.data.model_dump(mode="json")
    for choice in ("train", "validation_fraction", "split_seed"):
        if isinstance(theirs, dict) and choice in theirs and theirs[choice] != ours[choice]:
            raise RecipeError(
                f"{key}: {path} was trained with data.{choice} {theirs[choice]!r}, this recipe "
                f"says {ours[choice]!r}: it may have seen the images it would be judged on"
            )


def with_adversarial(
    data: TrainingData,
    base: Base,
    recipe: Recipe,
    out: Path,
    *,
    device: torch.device | str,
    progress: Callable[[int, int], None] | None,
) -> TrainingData:
    """``data`` with every training image paired to an adversarial version that fools ``base``.

    The set lies under ``out/.adversarial`` and is shared by all recipes that want the same one.

    Raises:
        TrainingError: the set is damaged, or another process is making it.
    """
    source = AdversarialSource(
        base=base.name,
        base_sha256=base.sha256,
        dataset=recipe.data.train,
        images_sha256=images_digest(data.images, data.targets),
        attack=recipe.objective.adversarial or Attack(),
        seed=recipe.plan.seed,
    )
    paired = adversarial_set(
        out / ".adversarial",
        source,
        base.network,
        data.images,
        data.targets,
        device=device,
        progress=progress,
    )
    return replace(data, paired=paired)


def _alike(theirs: NetworkCard, ours: Architecture, allow_factories: Collection[str]) -> bool:
    """Whether both are one network: an argument that is left out is its default."""
    if theirs.architecture != ours.name:
        return False
    own, other = (
        all_arguments(ours.name, arguments, allow_factories=allow_factories)
        for arguments in (ours.arguments, theirs.arguments)
    )
    return own == other


def _found(wanted: str, out: Path) -> tuple[Path, str]:
    if (Path(wanted) / "card.json").is_file():
        return Path(wanted), wanted
    try:
        path = resolve_bundle(out, wanted)
    except BundleNotFound as error:
        raise RecipeError(
            f"objective.base: {error}: train it first, or give the directory of a bundle"
        ) from error
    return path, f"{path.parent.name}/{path.name}"


def _named(architecture: str, arguments: object) -> str:
    return f"{architecture} {arguments}" if arguments else architecture
