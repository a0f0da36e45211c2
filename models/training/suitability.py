"""Whether objective, data, plan and machine go together: found out before a step is spent."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.errors import TrainingError
from models.training.data import TrainingData
from models.training.evaluate import probabilities
from models.training.objective import Objective
from models.training.plan import Cosine, Plan
from models.training.precision import check_precision
from models.training.schedule import drop_beyond
from models.training.team import Team

__all__ = ["check", "check_labels", "check_machine"]


def check(
    objective: Objective, data: TrainingData, plan: Plan, device: torch.device, team: Team
) -> nn.Module | None:
    """Refuse what cannot work.

    Returns:
        The network to evaluate, if there are images to evaluate it on.

    Raises:
        TrainingError: says what does not go with what.
    """
    _check_images(objective, data)
    check_machine(objective, data.shown, plan, device, team)
    if data.validation_images is None:
        if plan.selection == "best-on-validation":
            raise TrainingError("selection is best-on-validation but there is no validation data")
        return None
    if objective.evaluated is None:
        raise TrainingError(
            f"the objective {objective.kind!r} trains no network called victim or clone, so there "
            "is none to evaluate on the validation data"
        )
    return objective.evaluated


def check_labels(objective: Objective, data: TrainingData, device: torch.device) -> None:
    """Refuse labels and soft targets for other classes than the evaluated network has.

    Args:
        objective: its networks are on ``device``.
        data: of the run.
        device: where one image is looked at.

    Raises:
        TrainingError: a label lies outside [0, K), or a soft target has another K.
    """
    network = objective.evaluated
    if network is None:
        return
    classes = probabilities(network, data.images[:1], device=device).shape[1]
    for name, targets in (
        ("targets", data.targets),
        ("validation targets", data.validation_targets),
    ):
        if targets is None:
            continue
        if targets.ndim == 2:
            if targets.shape[1] != classes:
                raise TrainingError(
                    f"{name} have {targets.shape[1]} classes but the network has {classes}"
                )
        elif (low := int(targets.min())) < 0 or (high := int(targets.max())) >= classes:
            raise TrainingError(
                f"{name} must lie in [0, {classes}), the classes of the network, but "
                f"{low if low < 0 else high} is among them"
            )


def _check_images(objective: Objective, data: TrainingData) -> None:
    if objective.needs_ood and data.ood is None:
        raise TrainingError(f"the objective {objective.kind!r} needs out-of-distribution images")
    if data.ood is not None and not objective.needs_ood:
        raise TrainingError(
            f"the objective {objective.kind!r} has no use for out-of-distribution images"
        )
    if objective.needs_paired != (data.paired is not None):
        state = "needs" if objective.needs_paired else "has no use for"
        raise TrainingError(f"the objective {objective.kind!r} {state} paired images")


def check_machine(
    objective: Objective, samples: int, plan: Plan, device: torch.device, team: Team
) -> None:
    """Refuse what ``objective`` and ``plan`` cannot do: at all, on ``device``, or in ``team``.

    Args:
        objective: what is to be trained.
        samples: training images.
        plan: how.
        device: of this process.
        team: the processes that train together.

    Raises:
        TrainingError: names what has to change.
    """
    if isinstance(plan.schedule, Cosine) and plan.schedule.warmup_epochs >= plan.epochs:
        raise TrainingError(
            f"schedule.warmup_epochs is {plan.schedule.warmup_epochs:g} but the run has only "
            f"{plan.epochs} epochs"
        )
    beyond = drop_beyond(plan.schedule, plan.epochs)
    if beyond is not None:
        option, drop = beyond
        raise TrainingError(
            f"plan.schedule.{option}: the learning rate is to drop after {drop} epochs, but "
            f"plan.epochs is {plan.epochs}: bring it forward, or choose another plan.schedule"
        )
    check_precision(objective, plan, device)
    smallest = samples // plan.steps(samples)
    if team.size > 1:
        _check_team(objective, smallest, plan, team)
    if smallest // team.size == 1 and any(map(_normalises, objective.networks.values())):
        alone = "one image" if team.size == 1 else f"one image for one of {team.size} processes"
        raise TrainingError(
            f"plan.batch_size: of {samples} images in batches of {plan.batch_size} at most, some "
            f"batch would be {alone}, over which batch normalisation has nothing to normalise"
        )


def _normalises(network: nn.Module) -> bool:
    """Whether it computes statistics over its batch."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def _check_team(objective: Objective, smallest: int, plan: Plan, team: Team) -> None:
    if not objective.mean_over_samples:
        raise TrainingError(
            f"the objective {objective.kind!r} is trained by one process, not by {team.size}: its "
            "losses on a batch are not the mean of those on parts of it"
        )
    if plan.combiner != "sum":
        raise TrainingError(
            f"combiner: {plan.combiner} needs the gradient of each loss by itself, which "
            f"{team.size} processes do not keep: use sum, or one process"
        )
    if smallest < team.size:
        raise TrainingError(
            f"batch_size: a batch of {smallest} cannot be shared among {team.size} processes"
        )
