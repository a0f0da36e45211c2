"""What a training run leaves behind: its networks, and what was measured of them, as a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from defenses.training.calibration import calibrate
from intaglio.layer_sensitivity import measure
from intaglio.recipe import Recipe
from intaglio.training_data import Prepared
from models.bundle import Bundle, NetworkSource, write_bundle
from models.card import Calibration, Measurement, Normalisation, TrainingCard
from models.training.evaluate import accuracy, probabilities
from models.training.objective import Objective

__all__ = ["write_run"]


def write_run(
    recipe: Recipe,
    prepared: Prepared,
    networks: Mapping[str, nn.Module],
    objective: Objective,
    *,
    normalisation: Normalisation,
    unrelated: Mapping[str, NetworkSource],
    reference: Bundle | None,
    ensemble: bool,
    epochs: int,
    out: Path,
    version: str,
    device: torch.device | str,
) -> Path:
    """Measure the networks of a run that is over and write the bundle ``out/NAME/VERSION``.

    Args:
        recipe: what was trained.
        prepared: the images it was trained and is measured on.
        networks: by role, trained; on ``device``.
        objective: that trained them.
        normalisation: that they apply.
        unrelated: networks by role that were trained otherwise, with all that is to be said.
        reference: a plain model's bundle, by which a calibration tells what honest callers lose;
            None: the victim itself.
        ensemble: whether the networks answer together, each image by its own member.
        epochs: that were trained.
        out: where bundles are kept.
        version: of the bundle, not taken yet.
        device: where to measure.

    Returns:
        The directory of the bundle.

    Raises:
        BundleError: it cannot be written.
    """
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
        epochs=epochs,
        selection=recipe.plan.selection,
        deterministic=recipe.plan.deterministic,
        recipe=recipe.model_dump(mode="json"),
    )
    sources = {
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
    return write_bundle(
        out,
        name=recipe.name,
        version=version,
        description=recipe.description,
        input=prepared.input,
        labels=prepared.labels,
        networks={**sources, **unrelated},
        calibrations=_calibrations(recipe, prepared, said, reference, device),
        measured=_together(recipe, prepared, objective, device) if ensemble else (),
        sensitivity=None
        if ensemble
        else measure(networks, recipe.data.train, prepared.validation[0], device),
    )


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
