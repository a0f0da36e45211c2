"""From a recipe to a bundle."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from defenses.training.calibration import calibrate
from intaglio.base_network import check_choice, check_split, find_base, with_adversarial
from intaglio.objectives import OBJECTIVES
from intaglio.recipe import Recipe
from intaglio.training_data import Prepared, prepare
from models.architectures import build
from models.bundle import Bundle, NetworkSource, find_bundles, open_bundle, write_bundle
from models.card import Calibration, Measurement, Normalisation, TrainingCard
from models.errors import RecipeError
from models.normalisation import preset, preset_for
from models.training.evaluate import accuracy, probabilities
from models.training.lock import locked
from models.training.loop import fit
from models.training.order import derive_seed
from models.training.progress import Reporter

__all__ = ["train_recipe"]


def train_recipe(
    recipe: Recipe,
    *,
    out: Path,
    data_root: Path | None = None,
    device: torch.device | str = "cpu",
    reporter: Reporter | None = None,
    restart: bool = False,
    allow_factories: Collection[str] = (),
    adversarial: Callable[[int, int], None] | None = None,
) -> Path:
    """Train what ``recipe`` says and write the bundle ``out/NAME/VERSION``.

    A run that was interrupted goes on where it was when the same recipe is trained into the same
    directory again; its state lies under ``out/.training`` until the bundle is written.

    Args:
        recipe: everything that decides the result.
        out: where bundles are kept.
        data_root: where datasets are looked for.
        device: where to train.
        reporter: told of every step and epoch.
        restart: forget an interrupted run of this recipe instead of going on with it.
        allow_factories: the user's own architectures that the recipe may name.
        adversarial: told how many images of an adversarial set are made, and of how many, while
            one is made.

    Returns:
        The directory of the bundle.

    Raises:
        RecipeError: the recipe cannot be trained; names the key. Nothing was spent.
        ModelsError: a dataset, architecture or bundle is not there or not right, or training
            cannot go on.
    """
    _version(recipe, out)  # refused now rather than when all is done
    trainable = OBJECTIVES.get(recipe.objective.kind)
    if trainable is None:
        raise RecipeError(
            f"objective.kind: there is no objective {recipe.objective.kind!r}: there are "
            f"{', '.join(OBJECTIVES)}"
        )
    trainable.check(recipe.objective.options)
    check_choice(recipe, needs_base=trainable.base, needs_paired=trainable.objective.needs_paired)
    prepared = prepare(recipe, data_root=data_root, needs_ood=trainable.objective.needs_ood)
    reference = _reference(recipe, prepared, allow_factories)
    normalisation = _normalisation(recipe, prepared)
    base = None
    if trainable.base:
        base = find_base(recipe, prepared, normalisation, out, allow_factories=allow_factories)
        recipe = base.settled(recipe)
    networks = {
        role: _network(recipe, prepared, normalisation, index, allow_factories)
        for index, role in enumerate((*trainable.roles, *trainable.untrained))
    }
    if base is not None:
        networks["base"] = base.network
        if recipe.objective.warm_start:
            networks["victim"].load_state_dict(base.network.state_dict())
    objective = trainable.build(networks, recipe.objective.options)
    networks = {role: networks[role] for role in trainable.roles}

    with _state(recipe, out, restart) as state:
        data = prepared.training
        if base is not None and trainable.objective.needs_paired:
            data = with_adversarial(data, base, recipe, out, device=device, progress=adversarial)
        fitted = fit(objective, data, recipe.plan, state=state, reporter=reporter, device=device)
        said = {
            role: probabilities(network, prepared.validation[0], device=device)
            for role, network in networks.items()
        }
        training = TrainingCard(
            objective=recipe.objective.kind,
            data=recipe.data.train,
            ood=recipe.data.ood,
            seed=recipe.plan.seed,
            epochs=len(fitted.history),
            selection=recipe.plan.selection,
            recipe=recipe.model_dump(mode="json"),
        )
        bundle = write_bundle(
            out,
            name=recipe.name,
            version=_version(recipe, out),
            description=recipe.description,
            input=prepared.input,
            labels=prepared.labels,
            networks={
                role: NetworkSource(
                    module=network,
                    architecture=recipe.architecture.name,
                    arguments=recipe.architecture.arguments,
                    normalisation=normalisation,
                    training=training,
                    measured=_measured(recipe, prepared, network, said[role], device),
                )
                for role, network in networks.items()
            },
            calibrations=_calibrations(recipe, prepared, said, reference, device),
        )
        shutil.rmtree(state)
    return bundle


def _version(recipe: Recipe, out: Path) -> str:
    taken = {path.name for path in find_bundles(out) if path.parent.name == recipe.name}
    if recipe.version is None:
        return str(1 + max((int(name) for name in taken if name.isdecimal()), default=0))
    if recipe.version in taken:
        raise RecipeError(
            f"version: {out / recipe.name / recipe.version} exists and is never overwritten: give "
            "another, or leave it out to get the next number"
        )
    return recipe.version


def _normalisation(recipe: Recipe, prepared: Prepared) -> Normalisation:
    channels = prepared.input.channels
    given = recipe.normalisation
    if isinstance(given, Normalisation):
        return given
    return preset(given or preset_for(recipe.data.train, channels), channels)


def _network(
    recipe: Recipe,
    prepared: Prepared,
    normalisation: Normalisation,
    index: int,
    allow_factories: Collection[str],
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.plan.seed, "initialisation", index))
        return build(
            recipe.architecture.name,
            channels=prepared.input.channels,
            size=(prepared.input.height, prepared.input.width),
            outputs=len(prepared.labels),
            normalisation=normalisation,
            arguments=recipe.architecture.arguments,
            allow_factories=allow_factories,
        )


def _reference(
    recipe: Recipe, prepared: Prepared, allow_factories: Collection[str]
) -> Bundle | None:
    """The plain model's bundle, if it was kept from the validation images of this recipe."""
    path = recipe.objective.reference
    if path is None:
        return None
    bundle = open_bundle(path, allow_factories=allow_factories)
    card = bundle.card
    if card.labels != prepared.labels or card.input.shape != prepared.input.shape:
        raise RecipeError(f"objective.reference: {path} has other labels or another input size")
    network = card.networks.get("victim")
    if network is None:
        raise RecipeError(f"objective.reference: {path} holds no victim")
    check_split("objective.reference", path, network, recipe)
    return bundle


@contextmanager
def _state(recipe: Recipe, out: Path, restart: bool) -> Iterator[Path]:
    """The directory of this recipe's interrupted run, kept from other processes meanwhile."""
    identity = recipe.model_dump_json(exclude={"version", "description"})
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    state = out / ".training" / f"{recipe.name}-{digest}"
    with locked(state, f"another process is training this recipe in {state}"):
        if restart:
            for file in state.iterdir():
                file.unlink()
        yield state


def _measured(
    recipe: Recipe,
    prepared: Prepared,
    network: nn.Module,
    validation: Tensor,
    device: torch.device | str,
) -> tuple[Measurement, ...]:
    """Accuracy on the images held out, and on the test set, which decided nothing.

    Some datasets come without a test set; then there is no figure for it.
    """
    test_images, test_labels = prepared.test
    said: list[tuple[Literal["validation", "test"], Tensor, Tensor]] = [
        ("validation", validation, prepared.validation[1])
    ]
    if len(test_images):
        answers = probabilities(network, test_images, device=device)
        said.append(("test", answers, test_labels))
    return tuple(
        Measurement(
            dataset=recipe.data.train,
            split=split,
            samples=len(answers),
            accuracy=accuracy(answers, labels),
        )
        for split, answers, labels in said
    )


def _calibrations(
    recipe: Recipe,
    prepared: Prepared,
    said: Mapping[str, Tensor],
    reference: Bundle | None,
    device: torch.device | str,
) -> dict[str, Calibration]:
    if recipe.objective.kind != "am":
        return {}
    images, labels = prepared.validation
    plain = said["victim"]
    if reference is not None:
        plain = probabilities(reference.load("victim", device), images, device=device)
    table = calibrate(
        said["victim"],
        said["misinformation"],
        labels,
        dataset=recipe.data.train,
        reference=accuracy(plain, labels),
    )
    return {"am": table}
