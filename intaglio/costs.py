"""What a recipe would cost: arithmetic, counted on the network itself and not on a clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from intaglio.recipe import Ensemble, Recipe
from models.adversarial.card import Attack
from models.architectures import build
from models.architectures.registry import is_built_in
from models.card import Normalisation

__all__ = ["flops_forward", "flops_of_training"]

FORWARD, BACKWARD = 1.0 / 3.0, 2.0 / 3.0
"""Of a network, in plain steps: a backward pass is two products where a forward pass is one."""


def _members(recipe: Recipe) -> int:
    return (recipe.objective.ensemble or Ensemble()).members


def _both(recipe: Recipe, usual: str) -> float:
    """Backward passes that two losses, on images and on strangers, take beyond that of their sum.

    None, if each has a forward pass of its own. ``usual`` is the objective's own ``ood_bn``.
    """
    together = recipe.objective.options.get("ood_bn", usual) == "concatenated"
    return 2.0 * BACKWARD if together else 0.0


def _ini(recipe: Recipe) -> tuple[float, float]:
    """Both passes of the victim, and those of the clone that the exact form of each term takes."""
    options = recipe.objective.options
    weights = {"gamma": 0.3, "delta": 1.0, "epsilon": 1000.0}
    induction, isolation, norm = (bool(options.get(name, weights[name])) for name in weights)
    # What the clone says, a pass back for the theft (and one for the truth), and one along.
    clone = (FORWARD + 3.0 * BACKWARD) * isolation + (FORWARD + 2.0 * BACKWARD) * norm
    clone += FORWARD * (not norm) * induction
    clone += (FORWARD + BACKWARD) * bool(options.get("theft", 0.0))
    if options.get("ood_bn") == "concatenated":
        return 2.0 + clone, 2.0 * BACKWARD * (induction + isolation + norm)
    return 2.0 + clone, BACKWARD * (isolation + (induction and norm))


COSTS: Mapping[str, Callable[[Recipe], tuple[float, float]]] = {
    "plain": lambda _: (1.0, 0.0),
    # As many strangers as images.
    "outlier-exposure": lambda recipe: (2.0, _both(recipe, "concatenated")),
    "am": lambda recipe: (4.0, _both(recipe, "concatenated")),  # the second network has one loss
    "edm": lambda recipe: (
        2.0 * _members(recipe),
        _members(recipe) * _both(recipe, "concatenated"),
    ),
    "nasty": lambda _: (1.0 + FORWARD, BACKWARD),  # and the base's forward pass
    "stt": lambda _: (1.0 + FORWARD, BACKWARD),
    "ast": lambda _: (1.0 + FORWARD, BACKWARD),
    "ini": _ini,
}
"""Of a step by objective, in plain steps (a forward and a backward pass), with the losses summed;
and what combiners add that need the gradient of each loss by itself."""


@cache
def _flops(name: str, arguments: tuple[tuple[str, object], ...], shape: tuple[int, ...]) -> int:
    channels, height, width, outputs = shape
    normalisation = Normalisation(mean=(0.5,) * channels, std=(0.5,) * channels)
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        network = build(
            name,
            channels=channels,
            size=(height, width),
            outputs=outputs,
            normalisation=normalisation,
            arguments=dict(arguments),  # type: ignore[arg-type]
        ).eval()
        network(torch.empty(1, channels, height, width))
    return int(counter.get_total_flops())


def flops_forward(recipe: Recipe, shape: tuple[int, int, int], classes: int) -> int | None:
    """Floating-point operations of one image's forward pass; None for a user's own architecture.

    Args:
        recipe: whose network it is; nothing is allocated.
        shape: ``(C, H, W)`` of what it is shown.
        classes: K.
    """
    choice = recipe.architecture
    if not is_built_in(choice.name):
        return None
    return _flops(choice.name, tuple(sorted(choice.arguments.items())), (*shape, classes))


def flops_of_training(
    recipe: Recipe, shape: tuple[int, int, int], classes: int, images: int
) -> float | None:
    """An estimate of all of a recipe's training; None where the network or objective is foreign.

    Three forward passes' worth for each image of each epoch, times the passes of the objective;
    and, for adversarial sets, two for each iteration on each image. A hash network, which is
    small, is left out, and ``second_order`` counts as the exact form that it stands in for.

    Args:
        recipe: the recipe.
        shape: ``(C, H, W)`` of what its network is shown.
        classes: K.
        images: that it trains on, those held out not counted.
    """
    forward = flops_forward(recipe, shape, classes)
    costs = COSTS.get(recipe.objective.kind)
    if forward is None or costs is None:
        return None
    summed, apart = costs(recipe)
    passes = summed if recipe.plan.combiner == "sum" else summed + apart
    total = 3.0 * forward * images * recipe.plan.epochs * passes
    if recipe.objective.kind == "ast":
        total += 2.0 * forward * images * (recipe.objective.adversarial or Attack()).iterations
    return total
