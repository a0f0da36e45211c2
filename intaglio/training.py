"""From a recipe to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from intaglio.base_network import Base, check_split, find_base, with_adversarial
from intaglio.bundle_of_run import write_run
from intaglio.errors import RecipeError
from intaglio.hash_network import Hashing, prepare_hashing
from intaglio.networks import build_network, normalisation_of
from intaglio.objectives import Trainable, trainable_of
from intaglio.output_directory import check_place
from intaglio.recipe import Recipe
from intaglio.run_state import announce, finished, forget, held, run_state, state_of
from intaglio.training_data import Prepared, prepare
from intaglio.versions import next_version, taken_versions
from models.bundle import Bundle, NetworkSource, open_bundle
from models.card import Normalisation
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
    assembled = _assembled(
        recipe,
        prepared,
        trainable,
        normalisation,
        base,
        data_root=data_root,
        allow_factories=allow_factories,
    )
    data = prepared.training
    check_machine(assembled.objective, len(data.images), recipe.plan, torch.device(device), team)

    with run_state(recipe, out, restart, team, metrics) as state:
        unrelated: dict[str, NetworkSource] = {}
        if assembled.hashing is not None:
            with team.in_turn():
                unrelated["hash"] = assembled.hashing.train(
                    state / "hash", device=device, reporter=hash_reporter or reporter
                )
        if base is not None and trainable.objective.needs_paired:
            with team.in_turn():
                data = with_adversarial(
                    data, base, recipe, out, device=device, progress=adversarial
                )
        fitted = fit(
            assembled.objective,
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
        version = _version(recipe, out)
        announce(state, recipe, version)
        bundle = write_run(
            recipe,
            prepared,
            assembled.networks,
            assembled.objective,
            normalisation=normalisation,
            unrelated=unrelated,
            reference=reference,
            ensemble=trainable.ensemble,
            epochs=len(fitted.history),
            out=out,
            version=version,
            device=device,
        )
        forget(state)
    return bundle


@dataclass(frozen=True, slots=True, eq=False)
class _Assembled:
    """What is trained.

    Attributes:
        networks: by role, those that the objective trains.
        objective: over those, and over companions that it does not change.
        hashing: the hash network of an ensemble, trained first; None for anything else.
    """

    networks: Mapping[str, nn.Module]
    objective: Objective
    hashing: Hashing | None


def _assembled(
    recipe: Recipe,
    prepared: Prepared,
    trainable: Trainable,
    normalisation: Normalisation,
    base: Base | None,
    *,
    data_root: Path | None,
    allow_factories: Collection[str],
) -> _Assembled:
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
    return _Assembled({role: networks[role] for role in roles}, objective, hashing)


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
