"""From a recipe to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from defenses.training.calibration import calibrate
from intaglio.base_network import check_split, find_base, with_adversarial
from intaglio.hash_network import prepare_hashing
from intaglio.layer_sensitivity import measure
from intaglio.networks import build_network, normalisation_of
from intaglio.objectives import trainable_of
from intaglio.output_directory import check_place
from intaglio.recipe import Recipe
from intaglio.run_state import announce, finished, forget, held, run_state, state_of
from intaglio.training_data import Prepared, prepare
from intaglio.versions import next_version, taken_versions
from models.bundle import Bundle, NetworkSource, open_bundle, write_bundle
from models.card import Calibration, Measurement, TrainingCard
from models.errors import RecipeError
from models.training.evaluate import accuracy, probabilities
from models.training.loop import fit
from models.training.metrics import Metrics
from models.training.objective import Objective
from models.training.progress import Reporter
from models.training.suitability import check_machine
from models.training.team import ALONE, Team

__all__ = ["train_recipe"]

_SEEN = "one process sees the bundle that this run has written and another does not"


def train_recipe(
    recipe: Recipe,
    *,
    out: Path,
    data_root: Path | None = None,
    device: torch.device | str = "cpu",
    reporter: Reporter | None = None,
    hash_reporter: Reporter | None = None,
    metrics: Sequence[Metrics] = (),
    restart: bool = False,
    allow_factories: Collection[str] = (),
    adversarial: Callable[[int, int], None] | None = None,
    remark: Callable[[str], None] | None = None,
    team: Team = ALONE,
) -> Path:
    """Train what ``recipe`` says and write the bundle ``out/NAME/VERSION``.

    A run that was interrupted goes on where it was when the same recipe is trained into the same
    directory again; its state lies under ``out/.training`` until the bundle is written. Where it
    was interrupted after that, the bundle is returned and nothing is trained.

    Args:
        recipe: everything that decides the result.
        out: where bundles are kept.
        data_root: where datasets are looked for.
        device: where to train.
        reporter: told of every step and epoch.
        hash_reporter: told of those of an ensemble's hash network, by default ``reporter``.
        metrics: where else the steps and epochs of the recipe's plan are written down.
        restart: forget an interrupted run of this recipe instead of going on with it.
        allow_factories: the user's own architectures that the recipe may name.
        adversarial: told how many images of an adversarial set are made, and of how many, while
            one is made.
        remark: told, before anything is spent, of strangers that had to be fitted to the input.
        team: the processes that train together, all called alike; ``out`` must be one directory
            for all of them. The leader writes the bundle.

    Returns:
        The directory of the bundle.

    Raises:
        RecipeError: the recipe cannot be trained; names the key. Nothing was spent.
        ModelsError: a dataset, architecture or bundle is not there or not right, or training
            cannot go on.
    """
    check_place(out)
    trainable = trainable_of(recipe)
    with team.in_turn():  # a dataset is downloaded once
        prepared = prepare(recipe, data_root=data_root, needs_ood=trainable.objective.needs_ood)
    _tell_of_strangers(recipe, prepared, remark)
    reference = _reference(recipe, prepared, allow_factories)
    normalisation = normalisation_of(recipe, prepared)
    base = None
    if trainable.base:
        base = find_base(recipe, prepared, normalisation, out, allow_factories=allow_factories)
        recipe = base.settled(recipe)
    place = state_of(recipe, out)
    written = None if restart else finished(place, recipe, out)
    team.require_same(int(written is not None), _SEEN)
    if written is not None:
        if team.leads:
            with held(place, out):
                forget(place)
        return written
    version = _version(recipe, out)  # refused now rather than when all is done
    roles = trainable.trained(recipe.objective)
    networks = {
        role: build_network(recipe, prepared, normalisation, index, allow_factories)
        for index, role in enumerate((*roles, *trainable.untrained))
    }
    if base is not None:
        networks["base"] = base.network
        if recipe.objective.warm_start:
            networks["victim"].load_state_dict(base.network.state_dict())
    hashing = None
    if trainable.ensemble:
        hashing = prepare_hashing(
            recipe, prepared, data_root=data_root, allow_factories=allow_factories
        )
        networks["hash"] = hashing.network
    objective = trainable.build(networks, recipe.objective)
    networks = {role: networks[role] for role in roles}
    data = prepared.training
    check_machine(objective, len(data.images), recipe.plan, torch.device(device), team)

    with run_state(recipe, out, restart, team, metrics) as state:
        unrelated: dict[str, NetworkSource] = {}
        if hashing is not None:
            with team.in_turn():
                unrelated["hash"] = hashing.train(
                    state / "hash", device=device, reporter=hash_reporter or reporter
                )
        if base is not None and trainable.objective.needs_paired:
            with team.in_turn():
                data = with_adversarial(
                    data, base, recipe, out, device=device, progress=adversarial
                )
        fitted = fit(
            objective,
            data,
            recipe.plan,
            state=state,
            reporter=reporter,
            metrics=metrics,
            device=device,
            team=team,
        )
        if not team.leads:
            return out / recipe.name / version
        said = {
            role: probabilities(network, prepared.validation[0], device=device)
            for role, network in networks.items()
        }
        training = TrainingCard(
            objective=recipe.objective.kind,
            data=recipe.data.train,
            ood=recipe.data.ood,
            ood_shape=prepared.ood_shape,
            seed=recipe.plan.seed,
            epochs=len(fitted.history),
            selection=recipe.plan.selection,
            deterministic=recipe.plan.deterministic,
            recipe=recipe.model_dump(mode="json"),
        )
        version = _version(recipe, out)
        announce(state, recipe, version)
        bundle = write_bundle(
            out,
            name=recipe.name,
            version=version,
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
            }
            | unrelated,
            calibrations=_calibrations(recipe, prepared, said, reference, device),
            measured=_together(recipe, prepared, objective, device) if trainable.ensemble else (),
            sensitivity=None
            if trainable.ensemble
            else measure(networks, recipe.data.train, prepared.validation[0], device),
        )
        forget(state)
    return bundle


def _tell_of_strangers(
    recipe: Recipe, prepared: Prepared, remark: Callable[[str], None] | None
) -> None:
    if remark is None or prepared.ood_shape is None:
        return
    shapes = (prepared.ood_shape, prepared.input.shape)
    theirs, ours = ("x".join(map(str, shape)) for shape in shapes)
    remark(f"data.ood: images of {recipe.data.ood} are {theirs} and are fitted to {ours}")


def _version(recipe: Recipe, out: Path) -> str:
    if recipe.version is None:
        return next_version(out, recipe.name)
    if recipe.version in taken_versions(out, recipe.name):
        raise RecipeError(
            f"version: {out / recipe.name / recipe.version} exists and is never overwritten: give "
            "another, or leave it out to get the next number"
        )
    return recipe.version


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
    if network.training is not None and network.training.objective != "plain":
        raise RecipeError(
            f"objective.reference: {path} was trained as {network.training.objective}, but what "
            "honest callers lose is measured against a plain model"
        )
    check_split("objective.reference", path, network, recipe)
    return bundle


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


def _together(
    recipe: Recipe, prepared: Prepared, objective: Objective, device: torch.device | str
) -> tuple[Measurement, ...]:
    """The same of an ensemble, each image answered by its own member, as it is served."""
    assert objective.evaluated is not None, "an ensemble can be evaluated"
    said = probabilities(objective.evaluated, prepared.validation[0], device=device)
    return _measured(recipe, prepared, objective.evaluated, said, device)


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
